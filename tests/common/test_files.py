"""What appears whole or not at all: killed, refused, on several file systems, and who may read."""

import errno
import itertools
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from custom_gaze.common import files, temporary
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import (
    exchange,
    no_more_open_than,
    whole_file,
    whole_folder,
    write_bytes,
)
from killed import comes_to_its_end

OLD, NEW = {"a": "old", "gone": "old"}, {"a": "new", "b": "new"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that DVC's commands would take for a project."""
    (tmp_path / "project" / ".dvc").mkdir(parents=True)
    return tmp_path / "project"


def fill(folder: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (folder / name).write_text(text)


def read(folder: Path) -> dict[str, str] | None:
    return {p.name: p.read_text() for p in folder.iterdir()} if folder.is_dir() else None


def replace(folder: Path, content: dict[str, str]) -> None:
    with whole_folder(folder) as temporary:
        fill(temporary, content)


def left_over(root: Path) -> list[str]:
    """All that is in the project beside the folder `data/it` itself."""
    expected = {".dvc", ".dvc/tmp", ".dvc/tmp/custom-gaze", "data", "data/it"}
    found = (str(path.relative_to(root)) for path in root.rglob("*"))
    return sorted(name for name in found if name not in expected and "data/it/" not in name)


@contextmanager
def no_exchange(monkeypatch: pytest.MonkeyPatch, where: bool = True) -> Iterator[None]:
    """As on a file system that cannot swap two paths."""
    with monkeypatch.context() as patch:
        if where:
            patch.setattr(files, "exchange", lambda *_: False)
        yield


def test_exchange_swaps_and_says_what_is_wrong(tmp_path: Path) -> None:
    for name, content in (("one", OLD), ("other", NEW)):
        (tmp_path / name).mkdir()
        fill(tmp_path / name, content)
    if not exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this file system cannot swap two paths")
    assert (read(tmp_path / "one"), read(tmp_path / "other")) == (NEW, OLD)
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "one", tmp_path / "nothing")
    assert read(tmp_path / "one") == NEW


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside threads
@pytest.mark.parametrize("swaps", [True, False], ids=["exchange", "two renames"])
def test_a_folder_killed_at_any_step_is_the_old_or_the_new(
    root: Path, monkeypatch: pytest.MonkeyPatch, swaps: bool
) -> None:
    folder = root / "data" / "it"
    seen = []
    with no_exchange(monkeypatch, where=not swaps):
        for step in itertools.count(1):
            replace(folder, OLD)
            if comes_to_its_end(lambda: replace(folder, NEW), step, root):
                break
            seen.append(read(folder))
            # The next use begins by clearing up, whatever comes of it.
            with suppress(ZeroDivisionError), whole_folder(folder):
                _ = 1 // 0
            assert read(folder) in (OLD, NEW)
            assert left_over(root) == []
    assert read(folder) == NEW
    assert left_over(root) == []
    assert seen[0] == OLD
    assert seen[-1] == NEW
    assert swaps == (None not in seen)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("where", ["project", "elsewhere"])
def test_a_file_killed_at_any_step_is_the_old_or_the_new(tmp_path: Path, where: str) -> None:
    if where == "project":
        (tmp_path / ".dvc").mkdir()
    path = tmp_path / "data" / "file.txt"
    for step in itertools.count(1):
        write_bytes(path, b"old")
        if comes_to_its_end(lambda: write_bytes(path, b"new"), step, tmp_path):
            break
        assert path.read_bytes() in (b"old", b"new")
    assert step > 4
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]
    assert list((tmp_path / temporary.FOLDER).glob("*")) == []


def test_what_is_in_use_is_not_swept(root: Path) -> None:
    """Many at once, in one folder: each keeps its own until it is done."""
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        with whole_folder(root / f"folder{number}") as new:
            barrier.wait(20)
            fill(new, {"a": str(number)})
            barrier.wait(20)
        write_bytes(root / "folder0.txt", b"x" * 1000)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [read(root / f"folder{n}") for n in range(8)] == [{"a": str(n)} for n in range(8)]
    assert (root / "folder0.txt").stat().st_size == 1000
    assert list((root / temporary.FOLDER).iterdir()) == []


def test_only_errors_of_writing_are_said_to_be_such(root: Path) -> None:
    path = root / "data" / "out.bin"

    def fails(error: OSError, copying: bool = False) -> None:
        with whole_file(path) as new:
            new.write_bytes(b"half")
            if copying:  # as shutil says it
                error.filename, error.filename2 = "source", str(new)
            raise error

    for error in (
        FileNotFoundError(errno.ENOENT, "No such file", str(root / "input")),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError("what a library calls an OSError"),
    ):
        with pytest.raises(type(error)) as caught:
            fails(error)
        assert caught.value is error
    for copying in (False, True):
        full = OSError(errno.ENOSPC, "No space left on device")
        with pytest.raises(CustomGazeError, match=r"out\.bin: cannot be written \(No space") as e:
            fails(full, copying)
        assert "custom-gaze/" not in str(e.value)
    with (
        pytest.raises(CustomGazeError, match=r"it: cannot be written \(No such .* at b/c\)"),
        whole_folder(root / "data" / "it") as new,
    ):
        (new / "b" / "c").write_bytes(b"")
    assert left_over(root) == []
    (root / "plain").write_bytes(b"")
    with pytest.raises(CustomGazeError, match=r"x: cannot be written \(.+ at .*plain\)"):
        write_bytes(root / "plain" / "x", b"")


def test_the_same_file_system_mounted_twice(root: Path) -> None:
    """Between two mounts nothing can be renamed, though the device is the same."""
    (root / "data").mkdir()
    command = ["mount", "--bind", str(root / "data"), str(root / "data")]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount, and not everywhere")
    try:
        for content in (OLD, NEW):
            replace(root / "data" / "it", content)
            assert read(root / "data" / "it") == content
        write_bytes(root / "data" / "it" / "a", b"whole")
    finally:
        subprocess.run(["umount", str(root / "data")], check=True)
    assert read(root / "data" / "it") == {**NEW, "a": "whole"}
    assert left_over(root) == []


def test_modes_follow_the_umask_and_what_a_file_is_made_of(root: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(root / "plain", b"")
        replace(root / "folder", {"a": ""})
        private, public = root / "private", root / "public"
        for source, mode in ((private, 0o400), (public, 0o664)):
            source.touch()
            source.chmod(mode)
            write_bytes(root / f"of_{source.name}", b"", made_of=[source])
        closed = root / "closed"
        closed.mkdir(0o700)
        with whole_folder(root / "copy") as new:
            no_more_open_than(new, closed)
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (*root.iterdir(), root / "folder" / "a")}
    assert modes["plain"] == modes["a"] == modes["of_public"] == 0o640
    assert modes["folder"] == 0o750
    assert modes["of_private"] == 0o600
    assert modes["copy"] == 0o700


def test_a_folder_that_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    with (
        pytest.raises(CustomGazeError, match=r"/sys/x: cannot be written"),
        whole_file(Path("/sys/x")),
    ):
        raise AssertionError("the work has begun")
