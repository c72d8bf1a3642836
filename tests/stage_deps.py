"""The code that each stage depends on, derived from the imports; `make deps` writes it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from custom_gaze.common import provenance
from custom_gaze.common.provenance import PACKAGE

REPOSITORY = Path(__file__).parent.parent
# The module whose `run` each stage's command calls, where it has another name.
MODULE = {
    "prepare_cross_session": "stages.prepare",
    "pretrain": "demo.pretrain.run",
}
# Files that a stage's code reads and no import shows.
DATA = {
    "fetch": ("weights/embedded_base.json", "weights/embedded_base.pt"),
    "evaluate": tuple(
        f"evaluation/page/{name}.j2" for name in ("page.html", "pictures.html", "style.css")
    ),
}
PIPELINES = (REPOSITORY / "dvc.yaml", REPOSITORY / "pretrain" / "dvc.yaml")


def module_of(stage: str) -> str:
    """The dotted name of a stage's module in the package."""
    return MODULE.get(stage, f"stages.{stage}")


def code_of(stage: str) -> list[str]:
    """The deps of a stage that are code and data of the package, as dvc.yaml names them, sorted."""
    code = provenance.code_of(module_of(stage))
    data = [PACKAGE / name for name in DATA.get(stage, ())]
    return sorted(f"src/{path.relative_to(PACKAGE.parent).as_posix()}" for path in [*code, *data])


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
