"""Importing sessions into a real git and DVC repository."""

import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from conftest import REPOSITORY
from custom_gaze.cli import main
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.temporary import FOLDER
from custom_gaze.config.paths import Paths
from custom_gaze.data.dvc_sessions import sessions_lock
from custom_gaze.data.importing import import_session
from custom_gaze.data.sessions import read_session
from custom_gaze.geometry import ScreenGeometry
from killed import code_of, comes_to_its_end
from project_files import run, tree
from session_frames import jpeg, put

pytest_plugins = ["import_fixtures"]

GEOMETRY = ScreenGeometry()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What the app left behind: six frames of three targets, one of them broken, and the rest."""
    folder = tmp_path / "calibration_data"
    for stamp, x_px in ((1, 100.0), (2, 110.5), (3, 900.0), (4, 905.0), (5, 1600.0), (6, 10.0)):
        put(folder, stamp, {"screen_x": x_px, "screen_y": 200.0 + stamp, "extra": stamp})
    (folder / "img_6.jpg").write_bytes(jpeg(6)[:-30])
    (folder / "reports" / "2025").mkdir(parents=True)
    (folder / "reports" / "2025" / "report.json").write_bytes(b'{"any": "thing"}\r\n')
    (folder / "calibration.json").write_bytes(b"{}")
    (folder / "dataset.csv").write_bytes(b"a,b\r\n")
    (folder / "notes.txt").write_bytes(b"no part of a session")
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "reports" / "link.json").symlink_to(tmp_path / "secret")
    return folder


def test_import_copies_byte_for_byte_and_tracks(source: Path, paths: Paths) -> None:
    before = tree(source)
    result = import_session(source, "mon-1", paths, GEOMETRY)
    assert (result.session_id, result.folder) == ("mon-1", paths.sessions / "mon-1")
    assert (result.frames, result.targets) == (5, 3)
    assert result.extent_px == (100.0, 201.0, 1600.0, 205.0)  # the broken frame's 10.0 is not seen
    assert [entry.filename for entry in result.left_out] == ["img_6.jpg"]
    assert result.left_out[0].reason.startswith("is damaged")
    del before["notes.txt"]
    assert tree(result.folder) == before  # with the broken frame, without the link's target
    assert tree(source).keys() - before.keys() == {"notes.txt"}
    staged_lines = run("git", "status", "--short", cwd=paths.root).split("\n")
    staged = run("git", "diff", "--cached", "--name-only", cwd=paths.root).split()
    assert {"data/sessions/mon-1.dvc", "data/sessions/mon-1.yaml"} <= set(staged)
    assert run("git", "check-ignore", "data/sessions/mon-1", cwd=paths.root)
    status = run(sys.executable, "-m", "dvc", "status", "--json", cwd=paths.root)
    assert json.loads(status) == {}
    assert len(read_session(result.folder, GEOMETRY).frames) == 6  # not decoded when only read

    again = import_session(source, "mon-1", paths, GEOMETRY)
    assert (again.again, result.again) == (True, False)
    assert run("git", "status", "--short", cwd=paths.root).split("\n") == staged_lines
    assert tree(result.folder) == before
    tracked = tree(result.folder)
    os.rename(result.folder, paths.root / "elsewhere")
    with pytest.raises(InputError, match="'mon-1' exists already"):  # its .dvc file is there
        import_session(source, "mon-1", paths, GEOMETRY)
    assert tree(paths.root / "elsewhere") == tracked

    put(source, 9)
    (paths.root / ".dvc" / "config").write_text("[core\nbroken")
    sessions_before = tree(paths.sessions)
    with pytest.raises(
        CustomGazeError, match=r"dvc add failed \(.+\); put that right and run"
    ) as e:
        import_session(source, "tue", paths, GEOMETRY)
    assert e.value.exit_code == 1
    assert "\n" not in str(e.value)
    assert tree(paths.sessions) == sessions_before


@pytest.mark.parametrize("session_id", ["a/b", "..", "../x", "two words", "", ".hidden", "-x", "ä"])
def test_bad_ids(source: Path, plain: Paths, session_id: str) -> None:
    with pytest.raises(InputError, match=r"--session: .* is no session id; allowed are"):
        import_session(source, session_id, plain, GEOMETRY)
    assert tree(plain.root) == {}


def test_a_folder_that_is_there_is_never_touched(source: Path, plain: Paths) -> None:
    (plain.sessions / "mon").mkdir()
    with pytest.raises(InputError, match=r"'mon' exists already .* keep what is there: `dvc add"):
        import_session(source, "mon", plain, GEOMETRY)
    assert list((plain.sessions / "mon").iterdir()) == []


def test_without_dvc_the_copy_is_taken_back(source: Path, plain: Paths) -> None:
    with pytest.raises(CustomGazeError, match=r"dvc add failed \(ERROR: .*; put that right"):
        import_session(source, "mon", plain, GEOMETRY)
    assert list(plain.sessions.iterdir()) == []
    (plain.root / ".dvc").rename(plain.root / "elsewhere")
    with pytest.raises(InputError, match=r"plain: is no DVC project; run this in the project's"):
        import_session(source, "mon", plain, GEOMETRY)
    assert list(plain.sessions.iterdir()) == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside threads
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_at_any_step_it_is_all_or_nothing(
    tmp_path: Path,
    plain: Paths,
    adding: None,
    monkeypatch: pytest.MonkeyPatch,
    stop: signal.Signals,
    code: int,
) -> None:
    put(tmp_path / "one", 1)
    (plain.sessions / ".gitignore").write_text("/old\n")
    shutil.copy(REPOSITORY / "params.yaml", plain.root)
    monkeypatch.chdir(plain.root)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    words = ["import", str(tmp_path / "one"), "--session", "mon"]
    for step in itertools.count(1):
        found = code_of(lambda: main(words), step, plain.root, stop)
        if found == 0:
            break
        assert found == code
        assert tree(plain.sessions) == {".gitignore": b"/old\n"}
        assert not (plain.sessions / "mon").exists()
    assert step > 10
    assert tree(plain.sessions).keys() == {
        ".gitignore",
        "mon.dvc",
        "mon.yaml",
        "mon/img_1.jpg",
        "mon/img_1.json",
    }


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside threads
def test_killed_at_any_step_the_same_import_goes_on(
    tmp_path: Path, plain: Paths, adding: None
) -> None:
    """And another session may not take its id."""
    source, other = tmp_path / "one", tmp_path / "other"
    put(source, 1)
    put(other, 1, image=jpeg(2))
    states = []
    for step in itertools.count(1):
        if comes_to_its_end(
            lambda: import_session(source, "mon", plain, GEOMETRY), step, plain.root
        ):
            break
        there = (plain.sessions / "mon").exists()
        states.append(there)
        if there:
            with pytest.raises(InputError, match="'mon' exists already"):
                import_session(other, "mon", plain, GEOMETRY)
        assert import_session(source, "mon", plain, GEOMETRY).again == there
        expected = {f"mon/{name}" for name in tree(source)}
        assert tree(plain.sessions).keys() == {"mon.dvc", "mon.yaml", *expected}
        left = [path.name for path in (plain.root / FOLDER).iterdir() if path.suffix == ".part"]
        assert left == []
        shutil.rmtree(plain.sessions / "mon")
        for name in ("mon.dvc", "mon.yaml"):
            (plain.sessions / name).unlink()
    assert sorted(set(states)) == [False, True]


def test_a_session_half_relinked_by_dvc_is_made_whole(
    source: Path, plain: Paths, adding: None
) -> None:
    import_session(source, "mon", plain, GEOMETRY)
    (plain.sessions / "mon" / "img_1.jpg").unlink()
    with pytest.raises(InputError, match="'mon' exists already"):  # tracked: somebody's doing
        import_session(source, "mon", plain, GEOMETRY)
    (plain.sessions / "mon.dvc").unlink()
    assert not import_session(source, "mon", plain, GEOMETRY).again
    assert (plain.sessions / "mon" / "img_1.jpg").exists()


def test_two_imports_of_one_id_at_once(
    source: Path, plain: Paths, adding: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """One makes it; the other finds it there, or its id taken. Neither overwrites."""
    put(source.with_name("other"), 70)
    for second in (source, source.with_name("other")):
        barrier, said = threading.Barrier(2), []

        def go(folder: Path, barrier: threading.Barrier = barrier, said: list = said) -> None:
            barrier.wait(20)
            try:
                said.append(import_session(folder, "mon", plain, GEOMETRY).again)
            except InputError as error:
                said.append("exists already" in str(error))

        threads = [threading.Thread(target=go, args=(folder,)) for folder in (source, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(said) == [False, True]
        assert len(list((plain.sessions / "mon").glob("*.jpg"))) in (1, 6)
        shutil.rmtree(plain.sessions / "mon")
        (plain.sessions / "mon.dvc").unlink()
    with sessions_lock(plain):
        thread = threading.Thread(target=import_session, args=(source, "mon", plain, GEOMETRY))
        thread.start()
        while "waiting for another command" not in capfd.readouterr().err:
            time.sleep(0.01)
        assert not (plain.sessions / "mon").exists()
    thread.join(30)
    assert (plain.sessions / "mon").exists()


def test_only_what_a_session_is_made_of_is_taken(source: Path, plain: Paths, adding: None) -> None:
    """Files that DVC or git would take for their own, hidden folders and other people's names."""
    strange = ["dvc.yaml", "dvc.lock", "old.dvc", ".dvcignore", ".gitignore", "page.html"]
    for folder in (source, source / "reports"):
        for name in strange:
            (folder / name).write_text("stages: 1")
        (folder / ".git").mkdir()
        (folder / ".git" / "config").write_text("[core]\nfsmonitor = touch pwned\n")
        (folder / ".git" / "x.json").write_text("{}")
    (source / "reports" / ".hidden.json").write_text("{}")
    deep = source / "reports" / "1" / "2" / "3" / "4"
    deep.mkdir(parents=True)
    for folder in (deep, deep.parent):
        (folder / "report.json").write_text("{}")
    (source / "img_7.JPG").write_bytes(jpeg(7))
    (source / "holiday.jpg").write_bytes(jpeg(8))
    result = import_session(source, "mon", plain, GEOMETRY)
    kept = {name for name in tree(result.folder) if not name.startswith("img_")}
    reports = {"reports/2025/report.json", "reports/1/2/3/report.json"}
    assert kept == {"calibration.json", "dataset.csv", *reports}
    assert {entry.filename: entry.reason for entry in result.not_copied} == {
        "holiday.jpg": "is not named img_<unix milliseconds>.jpg",
        "img_7.JPG": "is not named img_<unix milliseconds>.jpg; rename it img_7.jpg",
    }
    assert [entry.filename for entry in result.left_out] == ["img_6.jpg"]


def test_who_may_not_read_a_frame_may_not_read_its_copy(
    source: Path, plain: Paths, adding: None
) -> None:
    source.chmod(0o750)
    for path in source.glob("img_*"):
        path.chmod(0o640)
    (source / "img_2.jpg").chmod(0o400)
    folder = import_session(source, "mon", plain, GEOMETRY).folder
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}
    assert modes["mon"] == 0o750
    assert (modes["img_1.jpg"], modes["img_2.jpg"]) == (0o640, 0o600)
    assert modes["calibration.json"] == 0o644
    assert (plain.root / ".dvc" / "cache").stat().st_mode & 0o777 == 0o700


def test_frames_that_ask_to_be_turned_are_named(source: Path, plain: Paths, adding: None) -> None:
    for stamp, orientation in ((2, 6), (4, 3), (5, 1)):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        (source / f"img_{stamp}.jpg").write_bytes(jpeg(stamp, exif=exif))
    result = import_session(source, "mon", plain, GEOMETRY)
    assert result.turned == ("img_2.jpg", "img_4.jpg")
    assert result.frames == 5


def test_nothing_usable_imports_nothing(tmp_path: Path, plain: Paths) -> None:
    put(tmp_path / "bad", 1, image=b"")
    put(tmp_path / "bad", 2, image=b"not a jpeg")
    put(tmp_path / "bad", 3, image=jpeg(3)[:200])
    with pytest.raises(InputError, match=r"not one usable frame; img_1.jpg: is empty \(3 files"):
        import_session(tmp_path / "bad", "mon", plain, GEOMETRY)
    with pytest.raises(InputError, match="nowhere: not found"):
        import_session(tmp_path / "nowhere", "mon", plain, GEOMETRY)
    for name in ("x" * 300, "x/" * 3000, "a\0b"):
        with pytest.raises(InputError, match=r"cannot be read \(.+\); a session is a") as e:
            import_session(Path(name), "mon", plain, GEOMETRY)
        assert len(str(e.value)) < 500
    assert tree(plain.root) == {}


IMPORT_IN_CHILD = """
import sys
from pathlib import Path
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.data.importing import import_session
from custom_gaze.config.paths import Paths
try:
    import_session(Path(sys.argv[1]), "mon", Paths(Path(sys.argv[2])), ScreenGeometry())
except CustomGazeError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_file_size_limit_leaves_nothing(source: Path, plain: Paths) -> None:
    size = (source / "img_1.jpg").stat().st_size

    def limit() -> None:  # the kernel refuses every write past this
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    done = subprocess.run(
        [sys.executable, "-c", IMPORT_IN_CHILD, str(source), str(plain.root)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
    assert done.returncode == 1, done.stderr
    assert "mon: cannot be written (File too large)" in done.stdout
    assert done.stdout.count("\n") == 1
    assert list(plain.sessions.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount a small file system, and not everywhere")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_leaves_nothing(source: Path, small_disk: Path) -> None:
    for stamp in range(10, 90):
        put(source, stamp)
    (small_disk / ".dvc").mkdir()
    paths = Paths(small_disk)
    with pytest.raises(CustomGazeError, match=r"mon: cannot be written \(No space left"):
        import_session(source, "mon", paths, GEOMETRY)
    assert tree(small_disk) == {}
    assert list(paths.sessions.iterdir()) == []


def test_targets_beside_the_screen_are_said(
    source: Path,
    paths: Paths,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(
        source, 6, {"screen_x": 5000.0, "screen_y": 300.0}, b"no image: left out, and not warned of"
    )
    put(source, 7, {"screen_x": 2400.0, "screen_y": 300.0})
    shutil.copy(REPOSITORY / "params.yaml", paths.root)
    monkeypatch.chdir(paths.root)
    assert main(["import", str(source), "--session", "wide"]) == 0
    said = capsys.readouterr().err
    assert "beside the screen of 1728 × 1117 pixels, the first at (2400, 300)" in said
    assert "set the screen of the capture with `custom-gaze screen --size …`" in said
    assert said.count("the embedded base network has seen drawings of one face only") == 1
