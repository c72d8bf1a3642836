"""dvc.yaml against the code: what each stage runs, reads, writes and is steered by."""

import ast
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY
from custom_gaze.params import Params
from custom_gaze.paths import Paths

PACKAGE = REPOSITORY / "src" / "custom_gaze"
PIPELINE: dict[str, Any] = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
STAGES: dict[str, Any] = PIPELINE["stages"]
# The module whose `run` each stage's command calls.
MODULE = {"prepare_further": "prepare", "index": "dataset"}
# What decides nothing about a stage's output: errors, files, names of paths, bars, versions.
PLUMBING = {
    *("__init__", "errors", "files", "params", "paths", "progress", "tables", "version"),
    *("methods", "tracking", "onnx_files", "runtime"),
}


def module_files(module: str) -> set[Path]:
    """The files of one module: foo.py, or all of the package foo."""
    parts = module.split(".")[1:]
    path = PACKAGE.joinpath(*parts)
    if path.is_dir():
        return {path / "__init__.py"}
    return {path.with_suffix(".py")} if path.with_suffix(".py").exists() else set()


def imports_of(path: Path) -> set[Path]:
    """The package's files that one file imports, at the top or inside its functions."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("custom_gaze"):
            found |= module_files(str(node.module))
            for alias in node.names:
                found |= module_files(f"{node.module}.{alias.name}")
    return found


def closure(start: Path) -> set[str]:
    """Every module that `start` runs, itself included, as deps of dvc.yaml name them."""
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in seen or path.stem in PLUMBING - {"__init__"}:
            continue
        seen.add(path)
        waiting.extend(imports_of(path))
    return {str(path.relative_to(REPOSITORY)) for path in seen if path.stem != "__init__"}


def listed(stage: str, key: str) -> list[str]:
    entries = STAGES[stage].get(key, [])
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_depends_on_the_code_it_runs(stage: str) -> None:
    code = {dep for dep in listed(stage, "deps") if dep.startswith("src/")}
    assert code == closure(PACKAGE / f"{MODULE.get(stage, stage)}.py")


def test_further_sessions_are_prepared_like_the_others() -> None:
    one, other = dict(STAGES["prepare"]), dict(STAGES["prepare_further"])
    assert one.pop("matrix") == {"session": "${sessions}"}
    assert other.pop("matrix") == {"session": "${evaluate.sessions}"}
    assert one == other


def test_every_parameter_is_used_and_every_used_one_exists() -> None:
    used = {name for stage in STAGES for name in listed(stage, "params")}
    sections = {entry.name for entry in dataclasses.fields(Params)}
    assert {name.split(".")[0] for name in used} == sections
    parts = {
        f"{section.name}.{entry.name}"
        for section in dataclasses.fields(Params)
        if dataclasses.is_dataclass(getattr(Params(), section.name))
        for entry in dataclasses.fields(getattr(Params(), section.name))
    }
    assert used <= sections | parts
    # Where a section is shared out among stages, nothing of it is forgotten.
    exported = {name for name in used if name.startswith("export.")}
    assert exported == {name for name in parts if name.startswith("export.")}


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_depends_on_the_parameters_its_code_reads(stage: str) -> None:
    """`params.<section>` in the stage's own module, and in MLflow's for evaluate, is declared."""
    modules = [MODULE.get(stage, stage), *(["tracking"] if stage == "evaluate" else [])]
    read = {
        node.attr
        for module in modules
        for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "params"
        and node.attr in {entry.name for entry in dataclasses.fields(Params)}
    }
    declared = {name.split(".")[0] for name in listed(stage, "params")}
    assert read == declared


def test_paths_are_those_of_the_code() -> None:
    paths = Paths(Path())
    outs = {
        "fetch": [paths.faces, paths.base],
        "prepare": [paths.dataset / "${item.session}"],
        "prepare_further": [paths.dataset / "${item.session}"],
        "index": [paths.index, paths.index_manifests],
        "train": [*(paths.checkpoint, paths.last_checkpoint, paths.candidates, paths.training_log)],
        "export": [paths.model],
        "quantise": [paths.int8_model.parent, paths.int8_report],
        "evaluate": [
            *(paths.predictions, paths.screen_plot, paths.error_plot, paths.loss_plot),
            *(paths.report, paths.session_metrics, paths.metrics),
        ],
    }
    for stage in STAGES:
        written = listed(stage, "outs") + listed(stage, "metrics")
        assert [str(path) for path in outs[stage]] == written, stage
    made = {str(path) for some in outs.values() for path in some}
    known = made | {"data/sessions/${item.session}", "data/dataset_clean"}
    for stage in STAGES:
        for dep in listed(stage, "deps"):
            assert dep in known or (REPOSITORY / dep).exists(), f"{stage} depends on {dep}"


def test_the_model_is_an_artifact() -> None:
    artifact = PIPELINE["artifacts"]["custom-gaze"]
    assert artifact["path"] == str(Paths(Path()).model)
    assert artifact["type"] == "model"


def test_only_the_command_line_knows_the_stages() -> None:
    """Imports point one way: stages use parts, parts never use stages."""
    stages = {PACKAGE / f"{MODULE.get(stage, stage)}.py" for stage in STAGES} - {
        PACKAGE / "dataset.py"  # a part too: the index is read by every later stage
    }
    for path in PACKAGE.rglob("*.py"):
        if path.name not in ("cli.py", "commands.py"):
            assert not imports_of(path) & (stages - {path}), path
