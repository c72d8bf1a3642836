"""Files that one stage leaves for the next, damaged by hand: one line that says what to do."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Project, write_synthetic
from custom_gaze.cli import main
from custom_gaze.common.errors import InputError
from custom_gaze.data.index import read_index, read_manifests
from custom_gaze.data.prepared import read_labels, read_manifest
from custom_gaze.evaluation.results import TrainingLog, read_metrics, read_training_log
from custom_gaze.stages import index

Change = Callable[[str], str]
Reader = Callable[[Path], Any]


def cell(line: int, column: int, value: str) -> Change:
    """A table with another value in one of its cells."""

    def change(text: str) -> str:
        rows = [row.split(",") for row in text.split("\n")]
        rows[line - 1][column] = value
        return "\n".join(",".join(row) for row in rows)

    return change


# What may happen to any table, with the words that the message must have.
TABLE_DAMAGES: dict[str, tuple[Change, str]] = {
    "empty": (lambda text: "", "line 1: its header is nothing, not "),
    "header only": (lambda text: text.partition("\n")[0] + "\n", "no line behind its header"),
    "other header": (lambda text: "a,b\n1,2\n", "line 1: its header is a,b, not "),
    "cut in a line": (lambda text: text[:-3], "is cut off|has . cells"),
    "cut in the first line": (lambda text: text[: text.index("\n") + 4], "has . cells|cut off"),
    "a cell too many": (lambda text: text.replace("\n", ",1\n", 3), "line 1: its header"),
    "one too few": (lambda text: text.rsplit(",", 1)[0] + "\n", "cells, not"),
    "blank line": (lambda text: text + "\n", "has 0 cells"),
    "open quote": (lambda text: text + '"', "no line of a table|cells, not"),
    "NUL": (cell(3, 0, "a\0b"), "line 3: (the cell 'a.x00b' is no plain text|no line of a table)"),
    "escape code": (cell(3, 0, "a\x1b[31m"), r"line 3: the cell 'a.x1b\[31m' is no plain text"),
    "huge cell": (cell(2, 0, "9" * 5000), "line 2: the cell '9+…? is too long"),
    "larger cell": (cell(2, 0, "9" * 200_000), "line 2: no line of a table"),
    "line end in a cell": (cell(2, 0, '"a\nb"'), "line 3: the cell 'a.nb' is no plain text"),
}


def numbers(line: int, column: int) -> dict[str, tuple[Change, str]]:
    """What is no number that a table of ours can have."""
    values = (
        "nan",
        "NaN",
        "inf",
        "-Infinity",
        "1e999",
        "1e308",
        "",
        " 1",
        "1_0",
        "0x10",
        "one",
        "١",
    )
    return {
        f"{value!r} in {column}": (cell(line, column, value), f"line {line}: .* but must be")
        for value in values
    }


def words(line: int, column: int, values: tuple[str, ...]) -> dict[str, tuple[Change, str]]:
    return {
        f"{value!r} in {column}": (cell(line, column, value), f"line {line}: ") for value in values
    }


NAMES = ("", ".", "..", "../x.jpg", "/etc/passwd", "a/b.jpg", "a\\b.jpg", ".hidden", "x" * 300)
IDS = ("", "..", "../one", "/one", "a b", "one;touch x", "-S", "x" * 65)


def swapped(text: str) -> str:
    """The table with its second line there twice."""
    lines = text.splitlines(keepends=True)
    return "".join([*lines, lines[1]])


def half(text: str) -> str:
    lines = text.splitlines(keepends=True)
    return "".join(lines[: len(lines) // 2])


LABELS = {
    **TABLE_DAMAGES,
    **{name: d for column in (1, 2, 4, 5, 6, 7) for name, d in numbers(3, column).items()},
    **words(4, 0, NAMES),
    **words(4, 3, IDS),
    "an angle of 200 degrees": (cell(5, 1, "200"), "yaw is '200', but must be a number from -180"),
    "a score of 2": (cell(5, 6, "2"), "line 5: face_score is '2'"),
    "a line twice": (swapped, "stands there twice"),
}
INDEX = {
    **TABLE_DAMAGES,
    **{name: d for column in (2, 3, 4, 5) for name, d in numbers(3, column).items()},
    **words(4, 0, IDS),
    **words(4, 1, NAMES),
    **words(4, 6, ("-1", "1.0", "", "nan", "9" * 400, "+1", "٣")),
    **words(4, 7, ("", "Train", "all")),
    **words(4, 8, ("", "0" * 63, "0" * 65, "G" * 64, "A" * 64)),
    "a line twice": (swapped, "stands there twice"),
    "half of it": (half, "index.csv: is not the one that .*index.json was written with"),
    "a target on two sides": (
        lambda text: cell(2, 7, "test" if text.split("\n")[1].split(",")[7] != "test" else "train")(
            text
        ),
        "is on two sides of the split",
    ),
}
LOG = {
    **TABLE_DAMAGES,
    **{name: d for column in (1, 2, 3) for name, d in numbers(3, column).items()},
    **words(3, 0, ("2", "-1", "", "1.0", "nan")),
    **words(3, 4, ("2", "", "yes")),
    "two exported": (lambda text: cell(2, 4, "1")(cell(3, 4, "1")(text)), "more than one epoch"),
}
TRAINING = (
    "epoch,train_loss,validation_loss,validation_error_deg,exported\n"
    "0,90.5,95.25,12.5,0\n1,4.0,5.5,2.75,0\n2,1e-05,5.0,2.5,1\n"
)


def key(path: str, value: Any) -> Change:
    """A JSON file with another value under one of its keys; ... takes the key away."""

    def change(text: str) -> str:
        content = json.loads(text)
        *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        inside = content
        for parent in parents:
            inside = inside[parent]
        if value is ...:
            del inside[last]
        else:
            inside[last] = value
        return json.dumps(content)

    return change


JSON_DAMAGES: dict[str, tuple[Change, str]] = {
    "empty": (lambda text: "", "Invalid JSON"),
    "half": (lambda text: text[: len(text) // 2], "Invalid JSON"),
    "a list": (lambda text: "[1]", "should be an? (object|valid dictionary)"),
    "null": (lambda text: "null", "should be an? (object|valid dictionary)"),
    "deep": (lambda text: "[" * 100_000, "Invalid JSON|recursion"),
    "a NUL": (lambda text: text[:-2] + "\0" + text[-2:], "Invalid JSON"),
    "two documents": (lambda text: text + text, "Invalid JSON"),
}


def keys(damages: dict[str, Any], *paths: str) -> dict[str, tuple[Change, str]]:
    """Every value under every path, and each path gone."""
    found: dict[str, tuple[Change, str]] = {}
    for path in paths:
        found[f"no {path}"] = (key(path, ...), path.replace(".", r"\."))
        for name, value in damages.items():
            found[f"{path} {name}"] = (key(path, value), path.replace(".", r"\."))
    return found


NO_FIGURE = {
    "NaN": float("nan"),
    "infinite": float("inf"),
    "text": "1",
    "null": None,
    "negative": -1,
    "huge": 10**400,
    "list": [1.0],
}
NO_TEXT = {"number": 1, "null": None, "list": []}
MANIFEST = {
    **JSON_DAMAGES,
    **keys(NO_TEXT, "code", "session", "detector.kind", "crop_from"),
    **keys({"short": "0" * 63, "path": "/etc/passwd", **NO_TEXT}, "detector.sha256"),
    **keys(NO_FIGURE, "format", "detector.min_score", "jpeg_quality", "counts.used"),
    **keys({"text": "x", "number": 1}, "counts"),
    **keys(NO_TEXT, "left_out.0.reason"),
    **keys({"text": "x", **NO_TEXT, "list": [1]}, "suspects"),
    "another session": (key("session", "two"), "session: is not one"),
    "a key more": (key("extra", 1), "extra"),
    "left_out of another length": (key("left_out", []), "counts.left_out"),
}
METRICS = {
    **JSON_DAMAGES,
    **keys(NO_FIGURE, "headline.error_deg", "headline.frames"),
    "half an interval": (key("headline.low_deg", ...), "headline: .*go together"),
    **keys({"unknown": "guessed", **NO_TEXT}, "headline.measured"),
    **keys(NO_FIGURE, "test.error_deg", "test.frames", "train.error_px", "test.constant_deg"),
    **keys({"unknown": "best", **NO_TEXT}, "choice.exported"),
    **keys(NO_TEXT, "choice.reason", "test"),
    "a key more": (key("test.x", 1.0), r"test\.x"),
}
FIGURES = {
    **{name: 1.5 for name in ("error_deg", "median_deg", "p95_deg", "error_px", "constant_deg")},
    **{"frames": 6, "targets": 3, "low_deg": 1.0, "high_deg": 2.0},
}
HEADLINE = {
    **{"measured": "held-out targets", "error_deg": 1.5, "error_px": 1.5},
    **{"frames": 6, "targets": 3, "low_deg": 1.0, "high_deg": 2.0},
}
CHOICE = {"exported": "base", "reason": "it is the only one", "held_out_base_deg": 2.0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Reader]]:
    """Each kind of file as it should be, and its reader."""
    from conftest import make_project

    project = make_project(tmp_path_factory.mktemp("stage_files") / "project")
    write_synthetic(project, "one", 4, 4)
    index.run(project.params, project.paths)
    folder = project.paths.dataset / "one"
    written = {
        "training": (project.paths.training_log, TRAINING),
        "metrics": (
            project.paths.figures,
            json.dumps({"headline": HEADLINE, "choice": CHOICE, "test": FIGURES, "train": FIGURES}),
        ),
    }
    for path, content in written.values():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return {
        "labels": (folder / "labels.csv", lambda path: read_labels(path, "one")),
        "manifest": (folder / "manifest.json", lambda path: read_manifest(path, "one")),
        "index": (project.paths.index, read_index),
        "manifests": (project.paths.index_manifests, read_manifests),
        "training": (project.paths.training_log, read_training_log),
        "metrics": (project.paths.figures, read_metrics),
    }


@pytest.mark.parametrize(
    ("kind", "damages"),
    {
        "labels": LABELS,
        "manifest": MANIFEST,
        "index": INDEX,
        "manifests": {
            **JSON_DAMAGES,
            **keys(NO_TEXT, "manifests.0.code", "index_sha256"),
            "of no hash": (key("index_sha256", "0" * 63), "index_sha256"),
            "none": (key("manifests", []), "manifests"),
        },
        "training": LOG,
        "metrics": METRICS,
    }.items(),
)
def test_a_damaged_file_is_one_line(
    kind: str, damages: dict[str, tuple[Change, str]], whole: dict[str, tuple[Path, Reader]]
) -> None:
    """Every damage of every kind of file: its name, what is wrong, what to do, and no more."""
    path, read = whole[kind]
    before = path.read_text()
    assert refusal(read, path) is None
    wrong = []
    try:
        for name, (change, wanted) in damages.items():
            path.write_text(change(before), newline="")
            said = refusal(read, path)
            if said is None or not re.search(wanted, said) or not one_line(said, path):
                wrong.append((name, wanted, said))
        path.write_bytes(before.encode() + b"\xff\n")
        assert "no UTF-8 text" in str(refusal(read, path))
        path.unlink()
        assert re.search("not found; .*custom-gaze ", str(refusal(read, path)))
        os.mkfifo(path)  # would hang
        assert "is no regular file" in str(refusal(read, path))
    finally:
        path.unlink()
        path.write_text(before)
    assert wrong == []


def refusal(read: Reader, path: Path) -> str | None:
    """What a reader says of a file; None where it takes it."""
    try:
        read(path)
    except InputError as error:
        return str(error)
    return None


def one_line(said: str, path: Path) -> bool:
    return said.isprintable() and path.stem in said and "custom-gaze " in said and len(said) < 600


def test_labels_have_to_be_those_of_their_targets(project: Project) -> None:
    """What a schema cannot tell: an edited angle, a line too few at the end."""
    write_synthetic(project, "one", 4, 4)
    path = project.paths.dataset / "one" / "labels.csv"
    before = path.read_text()
    for change, wanted in (
        (cell(7, 1, "3.5"), "labels.csv: line 7: its angles are not those of its target"),
        (cell(7, 4, "103.5"), "labels.csv: line 7: its angles are not those of its target"),
        (half, r"labels.csv: has 15 lines behind its header, and manifest.json counts 32 frames"),
    ):
        path.write_text(change(before))
        with pytest.raises(InputError, match=wanted):
            index.run(project.params, project.paths)
        assert not project.paths.index.exists()


def test_a_verb_says_it_in_one_line_and_exits_2(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    write_synthetic(project, "one", 4, 4)
    path = project.paths.dataset / "one" / "labels.csv"
    path.write_text(cell(3, 1, "nan")(path.read_text()))
    assert main(["index"]) == 2
    project.paths.figures.parent.mkdir()
    project.paths.figures.write_text(json.dumps({"headline": HEADLINE, "choice": 1}))
    assert main(["report"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "labels.csv: line 3: yaw is 'nan', but must be a number from -180 to 180" in first
    assert first.endswith("prepare the session again: custom-gaze prepare one")
    assert "figures.json: choice: " in second


def test_the_log_s_columns_are_those_that_training_writes() -> None:
    import dataclasses

    from custom_gaze.calibration.recipe import Epoch

    columns = [entry.name for entry in dataclasses.fields(TrainingLog)]
    assert [*(entry.name for entry in dataclasses.fields(Epoch)), "exported"] == columns


def test_a_figure_that_there_is_none_of_is_a_dash(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two targets have no interval, and a base without heads has no correction."""
    few = {k: v for k, v in FIGURES.items() if k not in ("low_deg", "high_deg")}
    project.paths.figures.parent.mkdir()
    content = {"headline": HEADLINE, "choice": CHOICE, "test": {**few, "targets": 2}}
    project.paths.figures.write_text(json.dumps({**content, "train": FIGURES}))
    assert main(["report"]) == 0
    said = capsys.readouterr().out.splitlines()
    cells = {line[:15].strip(): line[15:].split() for line in said}
    assert cells["exported"] == ["1.50°", "1.50°"]
    assert cells["95 % interval"] == ["–", "1.00–2.00°"]
    assert cells["pixels"] == ["2", "2"]
    for name in ("best correction", "probe", "fine-tuned"):
        assert cells[name] == ["–", "–"]
