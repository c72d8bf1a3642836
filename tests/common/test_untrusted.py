"""What the user, a file or a peer names: opened, joined and printed only where it is harmless."""

import os
from pathlib import Path

import pytest

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import inside, printable, read_file, read_text


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1234")
    assert read_file(tmp_path / "a", 4) == b"1234"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "not found; see there"),
        (Path.mkdir, "is a folder, not a file; see there"),
        (fifo, "is no regular file; see there"),
        (loop, r"cannot be read \(Too many levels of symbolic links\); see there"),
        (large, "has 3221225472 bytes, more than the 100 that such a file can have; see there"),
        (lambda path: path.symlink_to("/dev/zero"), "is no regular file; see there"),
    ],
)
def test_what_is_no_file_is_refused_in_one_line(tmp_path: Path, make, reason: str) -> None:
    make(tmp_path / "x")
    with pytest.raises(InputError, match=f"^{tmp_path}/x: {reason}$"):
        read_file(tmp_path / "x", 100, "see there")


@pytest.mark.parametrize("name", ["a\0b", "n" * 300, "a\nb"])
def test_a_name_that_cannot_be_a_path_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        read_file(tmp_path / name, 100)
    assert str(caught.value).isprintable()


def test_text_has_to_be_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(InputError, match="no UTF-8 text \\(byte 2\\)"):
        read_text(tmp_path / "a")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "a/../../b", "/etc/passwd", "a//b", "a\\b", "a\0", "out/b"]
)
def test_a_path_out_of_a_file_stays_inside(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"inside this folder|leads out of this folder"):
        inside(tmp_path / "in", name)
    assert inside(tmp_path / "in", "a/b.jpg") == tmp_path / "in" / "a" / "b.jpg"


def test_foreign_words_are_one_harmless_line() -> None:
    assert printable("a\x1b[31m\n\tb\u202e°") == "a\\x1b[31m b\\u202e°"
    assert printable("x" * 1000, 10) == "xxxxxxxxx…"
