"""data/sessions/ID.yaml: what is written is read, and what a hand got wrong is named."""

import re
from pathlib import Path

import pytest

from custom_gaze.common.errors import InputError
from custom_gaze.data.session_file import (
    NOTHING_SAID,
    Exclusion,
    SessionFile,
    read_session_file,
    session_file,
    write_session_file,
)
from custom_gaze.geometry import ScreenGeometry

ONE = "{frame: img_1.jpg, because: x}"
NOT_FINITE = "{center_x_px: 9, center_y_px: .nan, deg_per_pixel: 0.1}"
WIDE = ScreenGeometry(1280.0, 720.0, 0.0229)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A session's, whose frames need not be there."""
    return tmp_path / "mon-1"


def test_what_is_written_is_read(folder: Path) -> None:
    why = ["eyes closed", "on", "3", "a: b # „so“", "- {x}"]  # words that YAML takes for others
    excluded = tuple(
        Exclusion(frame=f"img_{10 ** (5 - n)}.jpg", because=text) for n, text in enumerate(why)
    )
    path = write_session_file(folder, SessionFile(excluded=excluded, geometry=WIDE))
    assert path == folder.with_name("mon-1.yaml")
    assert "mon-1" not in path.read_text()  # renamed, it stays as it is
    read = read_session_file(folder)
    assert [entry.because for entry in read.excluded] == why[::-1]  # by time
    assert read.geometry == read.geometry_or(ScreenGeometry()) == WIDE
    content = path.read_bytes()
    write_session_file(folder, read)
    assert path.read_bytes() == content


def test_without_a_file_nothing_is_said(folder: Path) -> None:
    assert read_session_file(folder) == NOTHING_SAID
    assert NOTHING_SAID.geometry_or(WIDE) == WIDE
    write_session_file(folder, NOTHING_SAID)
    assert read_session_file(folder) == NOTHING_SAID


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "object"),
        ("excluded: [\n", "no valid YAML"),
        ("excluded: []\n", "geometry: Field required"),
        ("excluded: []\ngeometry: null\nmore: 1\n", "more: Extra inputs"),
        ("excluded: [img_1.jpg]\ngeometry: null\n", r"excluded\.0: .*object"),
        ("excluded: [{frame: ../img_1.jpg, because: x}]\ngeometry: null\n", "0.frame: .*pattern"),
        ("excluded: [{frame: img_1.jpg, because: 5}]\ngeometry: null\n", "0.because: .*string"),
        ("excluded: [{frame: img_1.jpg, because: ''}]\ngeometry: null\n", "0.because: .*at least"),
        ('excluded: [{frame: img_1.jpg, because: "a\\tb"}]\ngeometry: null\n', "one line of"),
        (f"excluded: [{ONE}, {ONE}]\ngeometry: null\n", "names img_1.jpg twice"),
        ("excluded: []\ngeometry: {center_x_px: 1.5}\n", "must have the keys center_x_px, "),
        (f"excluded: []\ngeometry: {NOT_FINITE}\n", "center_y_px: .*finite"),
        ("? [1, 2]\n: 3\n", "no valid YAML|no word"),
    ],
)  # fmt: skip
def test_what_a_hand_got_wrong_is_named_in_a_line(folder: Path, text: str, reason: str) -> None:
    session_file(folder).write_text(text)
    with pytest.raises(InputError, match=rf"mon-1\.yaml: .*(?:{reason})") as error:
        read_session_file(folder)
    assert re.fullmatch(r"[ -~…„“]+", str(error.value))
