"""The code that each stage depends on, derived from the imports; `make deps` writes it.

All code of the package that a stage's module imports, at the top of a file or inside its functions,
and what that imports in turn, is a dependency of the stage. Left out is what cannot decide a
result: the exceptions, the progress bars, and the names of paths, which the stages' outs hold.
"""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "src" / "custom_gaze"
# The module whose `run` each stage's command calls, where it has another name.
MODULE = {"prepare_further": "prepare", "index": "dataset", "pretrain": "pretrain.run"}
DECIDES_NOTHING = ("errors.py", "progress.py", "paths.py")
# Files that a stage's code reads and no import shows.
DATA = {"fetch": ("weights/embedded_base.json", "weights/embedded_base.pt")}
PIPELINES = (REPOSITORY / "dvc.yaml", REPOSITORY / "pretrain" / "dvc.yaml")


def module_file(module: str) -> set[Path]:
    """The file of a module of ours by its dotted name, foo.py or foo/__init__.py; else nothing."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return {found} if found.exists() else set()


def imports_of(path: Path) -> set[Path]:
    """The package's files that one file imports, their packages' __init__.py among them."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("custom_gaze"):
            modules.add(str(node.module))
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {a.name for a in node.names if a.name.startswith("custom_gaze")}
    parents = {m.rsplit(".", n)[0] for m in modules for n in range(1, m.count(".") + 1)}
    return {file for module in modules | parents for file in module_file(module)}


def code_of(stage: str) -> list[str]:
    """The deps of a stage that are code and data of the package, as dvc.yaml names them, sorted."""
    (start,) = module_file(f"custom_gaze.{MODULE.get(stage, stage)}")
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in seen or path in [PACKAGE / name for name in DECIDES_NOTHING]:
            continue
        seen.add(path)
        waiting.extend(imports_of(path))
    code = {path for path in seen if path.name != "__init__.py" or "import" in path.read_text()}
    data = {PACKAGE / name for name in DATA.get(stage, ())}
    return sorted(path.relative_to(REPOSITORY).as_posix() for path in code | data)


def listed(stages: dict[str, Any], stage: str) -> list[str]:
    """The deps of a stage below src/ as its dvc.yaml has them."""
    return [dep for dep in stages[stage].get("deps", []) if dep.startswith("src/")]


def rewritten(text: str, wanted: Callable[[str], list[str]] = code_of) -> str:
    """A dvc.yaml's text with the deps below src/ replaced by `wanted`; all else is kept."""
    lines: list[str] = []
    stage, in_deps = "", False
    for line in text.splitlines():
        if line.startswith("  ") and line[2:3].isalpha():
            stage = line.strip().split(":")[0]
        if line.startswith("    ") and line[4:5].isalpha():
            if in_deps:  # the deps end here
                lines += [f"      - {dep}" for dep in wanted(stage)]
            in_deps = line.strip() == "deps:"
        if not (in_deps and line.startswith("      - src/")):
            lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> None:
    for path in PIPELINES:
        text = path.read_text(encoding="utf-8")
        path.write_text(rewritten(text), encoding="utf-8")
        for stage in yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]:
            print(f"{path.relative_to(REPOSITORY)}: {stage}: {len(code_of(stage))} files")


if __name__ == "__main__":
    main()
