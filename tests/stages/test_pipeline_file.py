"""dvc.yaml against the code: what each stage runs, reads, writes and is steered by."""

import ast
import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY
from custom_gaze.common.provenance import PACKAGE, imports_of
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from stage_deps import DATA, PIPELINES, code_of, module_of

PIPELINE: dict[str, Any] = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
STAGES: dict[str, Any] = PIPELINE["stages"]


def listed(stage: str, key: str) -> list[str]:
    entries = STAGES[stage].get(key, [])
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.parent.name)
def test_each_stage_depends_on_the_code_it_runs(path: Path) -> None:
    """Changed code reruns what it decides; `make deps` writes the lists."""
    stages: dict[str, Any] = yaml.safe_load(path.read_text())["stages"]
    for stage in stages:
        code = [dep for dep in stages[stage]["deps"] if dep.startswith("src/")]
        assert code == code_of(stage), f"{stage}: run `make deps`"


def test_what_decides_answers_is_among_the_code() -> None:
    assert "src/custom_gaze/models/onnx_runtime.py" in code_of("evaluate")
    assert "src/custom_gaze/weights/embedded_base.pt" in code_of("fetch")
    # The exported file says which code trained and prepared, nothing of the code at its export.
    assert "src/custom_gaze/common/provenance.py" not in code_of("export")
    other = {path for path in PACKAGE.rglob("*") if path.suffix not in (".py", ".pyc", "")}
    other = {path for path in other if path.parent.name != "static"}  # pages, no stage's
    assert {str(path.relative_to(PACKAGE)) for path in other} == {
        name for data in DATA.values() for name in data
    }
    assert not any("remote/" in file for stage in STAGES for file in code_of(stage))


def test_no_calibration_pretrains() -> None:
    """`fetch` reads what pretraining wrote; not frozen, it would be brought up to date first."""
    pretrain = yaml.safe_load((REPOSITORY / "pretrain" / "dvc.yaml").read_text())
    assert pretrain["stages"]["pretrain"]["frozen"] is True


def test_cross_session_folders_are_prepared_like_the_others() -> None:
    one, other = dict(STAGES["prepare"]), dict(STAGES["prepare_cross_session"])
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
    modules = [module_of(stage)]
    if stage == "evaluate":
        modules.append("evaluation.tracking.record")
    read = {
        node.attr
        for module in modules
        for node in ast.walk(ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "params"
        and node.attr in {entry.name for entry in dataclasses.fields(Params)}
    }
    declared = {name.split(".")[0] for name in listed(stage, "params")}
    assert read == declared


def test_what_prepare_applied_is_not_a_parameter_of_later_stages() -> None:
    """prepare.max_unusable_share and the like rerun `prepare`, and more only where a crop changes:
    the screen and the crops' rule come with the index."""
    for stage in STAGES:
        if not stage.startswith("prepare"):
            assert not {"prepare", "geometry"} & set(listed(stage, "params")), stage
    assert "data/specification.json" in listed("train", "deps")
    assert "data/index.json" not in listed("train", "deps")  # it names the frames left out


def test_paths_are_those_of_the_code() -> None:
    paths = Paths(Path())
    outs = {
        "fetch": [paths.faces, paths.base],
        "prepare": [paths.dataset / "${item.session}"],
        "prepare_cross_session": [paths.dataset / "${item.session}"],
        "index": [paths.index, paths.specification, paths.index_manifests],
        "train": [*(paths.checkpoint, paths.last_checkpoint, paths.candidates, paths.training_log)],
        "export": [paths.model],
        "quantise": [paths.int8_model.parent, paths.int8_report],
        "evaluate": [
            *(paths.predictions, paths.screen_plot, paths.error_plot, paths.loss_plot),
            *(
                paths.report,
                paths.shared_report,
                paths.figures,
                paths.session_metrics,
                paths.metrics,
            ),
        ],
    }
    for stage in STAGES:
        written = listed(stage, "outs") + listed(stage, "metrics")
        assert [str(path) for path in outs[stage]] == written, stage
    made = {str(path) for some in outs.values() for path in some}
    session = "data/sessions/${item.session}"
    known = made | {session, f"{session}.yaml", "data/dataset_clean"}
    for stage in STAGES:
        for dep in listed(stage, "deps"):
            assert dep in known or (REPOSITORY / dep).exists(), f"{stage} depends on {dep}"


def test_git_ignores_what_dvc_keeps_and_every_face() -> None:
    """From the start, by committed files: killed at any moment, nothing of it is untracked."""
    kept, in_git = [], ["data/sessions/one.dvc", "models/custom_gaze.int8.onnx"]
    in_git.append("data/sessions/one.yaml")
    for stage in STAGES.values():
        for entry in [*stage.get("outs", []), *stage.get("metrics", [])]:
            name = next(iter(entry)) if isinstance(entry, dict) else entry
            cached = not isinstance(entry, dict) or entry[name].get("cache", True)
            (kept if cached else in_git).append(name.replace("${item.session}", "one"))
    shown = [
        *("crop.png", "crop_boxes.png", "predict.png", "seen.mp4", "Frame.JPG", "photo.jpeg"),
        *("reports/sheet_one.png", "img_1.jpg", "elsewhere/img_1.json", "calibration_data/x"),
        *("data/sessions/one/img_1.jpg", "data/dataset_clean/one/img_1.jpg", "data/some.jpg"),
        *("out/predict.png", "docs/me.jpg", "Monday/Film.MP4", "notes/clip.mov", "a/b.webp"),
        *("data/sessions/.one.old/img_1.jpg", "mlpending/1/x.png", "reports/worst.html"),
        *("src/.data.a1b2.part/new/img_1.jpg", "src/.faces.old/x", "models/custom_gaze_l2cs.onnx"),
    ]
    found = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        input="\n".join([*kept, *in_git, *shown]),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(found.stdout.splitlines()) == {*kept, *shown}


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_depends_on_the_files_its_code_reads(stage: str) -> None:
    """Every `paths.<name>` in the stage's code is a dep or an out of it."""
    named = {path.removesuffix("/${item.session}") for path in listed(stage, "deps")}
    named |= {path.removesuffix("/${item.session}") for path in listed(stage, "outs")}
    named |= {*listed(stage, "metrics"), "data/dataset_clean"}  # crops: the index has their SHA-256
    for file in code_of(stage):
        if not file.endswith(".py"):
            continue
        for node in ast.walk(ast.parse((REPOSITORY / file).read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("paths"):
                read = getattr(Paths(Path()), node.attr, Path())
                inside = str(read) in named or str(read.parent) in named
                of_the_project = node.attr in ("root", "main_root", "params", "unfinished")
                assert inside or of_the_project, f"{stage}: {file}: {node.attr}"


def test_the_model_is_an_artifact() -> None:
    artifact = PIPELINE["artifacts"]["custom-gaze"]
    assert artifact["path"] == str(Paths(Path()).model)
    assert artifact["type"] == "model"


def test_only_the_command_line_knows_the_stages() -> None:
    """Imports point one way: stages use parts, parts never use stages."""
    stages = set((PACKAGE / "stages").glob("[a-z]*.py"))
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "cli":
            assert not imports_of(path) & (stages - {path}), path
