"""The app keeps adding to one folder: sessions that are new, or grow, have new frames only."""

import itertools
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import REPOSITORY
from custom_gaze.cli import main
from custom_gaze.common.errors import InputError
from custom_gaze.config.paths import Paths
from custom_gaze.data.dvc_sessions import dvc_file
from custom_gaze.data.growing import import_by_day, update_session
from custom_gaze.data.held import listed_files
from custom_gaze.data.importing import import_session
from custom_gaze.data.session_file import Exclusion, SessionFile, write_session_file
from custom_gaze.geometry import ScreenGeometry
from killed import comes_to_its_end
from project_files import run, tree
from session_frames import jpeg, put

pytest_plugins = ["import_fixtures"]

GEOMETRY = ScreenGeometry()
DAY_MS = 86_400_000
NOON_MS = 1_767_614_400_000  # 5 January 2026, 12:00 UTC


def capture(folder: Path, *stamps: int) -> Path:
    """The app's folder with a frame for each of these times, and those that it had."""
    for stamp in stamps:
        target = len(list(folder.glob("*.jpg")))
        put(folder, stamp, {"screen_x": 50.0 + 75.0 * target, "screen_y": 200.0})
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def pairs(*stamps: int) -> set[str]:
    return {f"img_{stamp}.{ending}" for stamp in stamps for ending in ("jpg", "json")}


@pytest.mark.long
def test_a_week_of_one_folder(tmp_path: Path, paths: Paths) -> None:
    """With git and DVC as they are."""
    source = capture(tmp_path / "calibration_data", 1, 2, 3)
    import_session(source, "mon", paths, GEOMETRY)
    capture(source, 4, 5)
    tuesday = import_session(source, "tue", paths, GEOMETRY)
    assert names(tuesday.folder) == pairs(4, 5)
    assert (tuesday.held.counts(), tuesday.held.unread) == ({"mon": 3}, ())
    assert tuesday.frames == 2

    shutil.rmtree(paths.sessions / "mon")  # its frames are in DVC's cache alone
    assert listed_files(paths.sessions / "mon", paths).keys() == pairs(1, 2, 3)
    with pytest.raises(
        InputError, match=r"nothing to import: 5 frames are in other sessions \(3 in"
    ):
        import_session(source, "wed", paths, GEOMETRY)
    with pytest.raises(InputError, match=r"is not on disk; bring it first: dvc pull .*mon\.dvc"):
        update_session(source, "mon", paths, GEOMETRY)
    run(sys.executable, "-m", "dvc", "checkout", "-q", cwd=paths.root)

    write_session_file(
        paths.sessions / "mon",
        SessionFile(excluded=(Exclusion(frame="img_2.jpg", because="a blink"),), geometry=None),
    )
    said = (paths.sessions / "mon.yaml").read_bytes()
    before = tree(paths.sessions / "mon")
    source.joinpath("img_1.json").write_text("{}")  # whatever becomes of the source
    capture(source, 6)
    grown = update_session(source, "mon", paths, GEOMETRY)
    assert (grown.added, grown.frames, grown.held.counts()) == (1, 3, {"tue": 2})
    after = tree(paths.sessions / "mon")
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == pairs(6)
    assert (paths.sessions / "mon.yaml").read_bytes() == said
    status = json.loads(run(sys.executable, "-m", "dvc", "status", "--json", cwd=paths.root))
    assert status == {}
    assert listed_files(paths.sessions / "mon", paths).keys() == pairs(1, 2, 3, 6)
    staged = run("git", "diff", "--cached", "--name-only", cwd=paths.root).split()
    assert {"data/sessions/mon.dvc", "data/sessions/tue.dvc"} <= set(staged)
    recorded = dvc_file(paths.sessions / "mon").read_bytes()
    again = update_session(source, "mon", paths, GEOMETRY)
    assert (again.added, again.again) == (0, True)
    assert dvc_file(paths.sessions / "mon").read_bytes() == recorded

    # A killed `dvc add` or checkout: files of the session are in DVC's cache alone.
    (paths.sessions / "mon" / "img_2.jpg").unlink()
    update_session(source, "mon", paths, GEOMETRY)
    assert tree(paths.sessions / "mon") == after
    shutil.rmtree(paths.root / ".dvc" / "cache" / "files")
    with pytest.raises(InputError, match="to import"):
        import_session(source, "wed", paths, GEOMETRY)
    shutil.rmtree(paths.sessions / "mon")
    left = import_session(source, "wed", paths, GEOMETRY)
    assert left.held.unread == ("mon",)


def test_frames_are_known_by_what_is_in_them(tmp_path: Path, plain: Paths, adding: None) -> None:
    import_session(capture(tmp_path / "one", 1, 2), "mon", plain, GEOMETRY)
    other = capture(tmp_path / "other", 3, 4)
    shutil.copy(tmp_path / "one" / "img_2.jpg", other / "img_3.jpg")  # under another name
    (other / "img_4.jpg").write_bytes(b"x" * (tmp_path / "one" / "img_1.jpg").stat().st_size)
    put(other, 1, image=jpeg(77))  # and another under the same
    result = import_session(other, "tue", plain, GEOMETRY)
    assert result.held.sessions == {"img_3.jpg": "mon"}
    assert names(result.folder) == pairs(1, 4)
    put(other, 2, image=jpeg(78))
    capture(other, 9)
    for folder in (plain.sessions / "mon", other):  # the app's own file, in the session and changed
        (folder / "dataset.csv").write_text(folder.name)
    grown = update_session(other, "mon", plain, GEOMETRY)
    assert names(grown.folder) == {*pairs(1, 2, 9), "dataset.csv"}
    assert (grown.folder / "dataset.csv").read_text() == "mon"
    assert [(entry.filename, entry.reason) for entry in grown.not_copied] == [
        (f"img_2.{ending}", "session mon has another file of this name")
        for ending in ("jpg", "json")
    ]
    assert (grown.folder / "img_2.jpg").read_bytes() == (tmp_path / "one/img_2.jpg").read_bytes()


def test_an_update_that_cannot_be_changes_nothing(
    tmp_path: Path, plain: Paths, adding: None
) -> None:
    source = capture(tmp_path / "one", 1, 2)
    with pytest.raises(
        InputError, match=r"no session 'mon' .* custom-gaze import .* --session mon"
    ):
        update_session(source, "mon", plain, GEOMETRY)
    assert not plain.sessions.joinpath("mon").exists()
    import_session(source, "mon", plain, GEOMETRY)
    before = tree(plain.sessions)
    put(source, 3, image=b"no picture")
    with pytest.raises(InputError, match=r"not one usable frame; img_3.jpg: is no JPEG image"):
        update_session(source, "mon", plain, GEOMETRY)
    with pytest.raises(InputError, match="is no session id"):
        update_session(source, "../mon", plain, GEOMETRY)
    with pytest.raises(InputError, match=r"add to it what it has not: .* --update mon"):
        import_session(source, "mon", plain, GEOMETRY)
    assert tree(plain.sessions) == before


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside threads
def test_killed_at_any_step_the_same_update_goes_on(
    tmp_path: Path, plain: Paths, adding: None
) -> None:
    source = capture(tmp_path / "one", 1)
    import_session(source, "mon", plain, GEOMETRY)
    old = tree(plain.sessions / "mon")
    (source / "calibration.json").write_text("{}")
    capture(source, 2)
    new = {**old, **{name: (source / name).read_bytes() for name in pairs(2)}}
    new["calibration.json"] = b"{}"
    template = tmp_path / "template"
    shutil.copytree(plain.root, template)
    seen = []
    for step in itertools.count(1):
        if comes_to_its_end(
            lambda: update_session(source, "mon", plain, GEOMETRY), step, plain.root
        ):
            break
        found = tree(plain.sessions / "mon")
        assert found in (old, new)
        seen.append(found == new)
        update_session(source, "mon", plain, GEOMETRY)
        assert tree(plain.sessions / "mon") == new
        shutil.rmtree(plain.root)
        shutil.copytree(template, plain.root)
    assert sorted(set(seen)) == [False, True]


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nine hours before UTC: noon there is 21:00, 15:00 is the next day's midnight."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_session_of_each_day(tmp_path: Path, plain: Paths, adding: None, in_tokyo: None) -> None:
    late = NOON_MS + 3 * 3_600_000
    source = capture(tmp_path / "one", NOON_MS, late - 1, late, NOON_MS + 2 * DAY_MS)
    put(
        source, NOON_MS + 9 * DAY_MS, {"screen_x": 1, "screen_y": 1}, b""
    )  # a day without a usable frame
    (source / "calibration.json").write_text("{}")
    import_session(capture(tmp_path / "two", NOON_MS + 2 * DAY_MS), "mine", plain, GEOMETRY)
    made, skipped = import_by_day(source, "day", plain, GEOMETRY)
    assert [(result.session_id, result.frames, result.added) for result in made] == [
        ("day-2026-01-05", 2, None),
        ("day-2026-01-06", 1, None),
    ]
    assert names(made[0].folder) == pairs(NOON_MS, late - 1)
    assert [(one.session_id, one.reason) for one in skipped] == [
        ("day-2026-01-07", "1 frame is in session mine"),
        ("day-2026-01-14", f"img_{NOON_MS + 9 * DAY_MS}.jpg: is empty"),
    ]
    before = tree(plain.sessions)
    capture(source, late + 5, NOON_MS + 3 * DAY_MS)  # today's goes on, and another day
    made, _ = import_by_day(source, "day", plain, GEOMETRY)
    assert [(result.session_id, result.frames, result.added) for result in made] == [
        ("day-2026-01-05", 2, 0),
        ("day-2026-01-06", 2, 1),
        ("day-2026-01-08", 1, None),
    ]
    after = tree(plain.sessions)
    assert {name: after[name] for name in before} == before
    assert not any("calibration.json" in name for name in after)
    import_by_day(source, "day", plain, GEOMETRY)
    assert tree(plain.sessions) == after
    with pytest.raises(InputError, match="nothing to import: 6 frames are in other sessions"):
        import_by_day(source, "again", plain, GEOMETRY)
    other = capture(tmp_path / "three", NOON_MS + 7, late + 7)
    with pytest.raises(InputError, match=r"none of that day's frames .*: --split-by-day --session"):
        import_by_day(other, "day", plain, GEOMETRY)
    assert tree(plain.sessions) == after
    capture(other, 10**17)
    with pytest.raises(InputError, match="img_100000000000000000 has no time in its name"):
        import_by_day(other, "x", plain, GEOMETRY)


def test_what_import_says_of_it(
    tmp_path: Path,
    plain: Paths,
    adding: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(plain.root)
    shutil.copy(REPOSITORY / "params.yaml", plain.root)
    source = str(capture(tmp_path / "one", *(1000 * n for n in range(1, 13))))

    def said(*words: str, code: int = 0) -> str:
        assert main(["import", source, *words]) == code
        found = capsys.readouterr()
        return found.out + found.err

    first = said("--session", "mon")
    assert "12 usable frames of 12 targets" in first
    assert "12 targets only: in the bench 9 left 2.2° the same day and 2.6° another" in first
    assert "capture 13 more all over the screen" in first
    assert "next: dvc exp run -S 'sessions=[mon]'\n" in first
    capture(Path(source), *(1000 * n for n in range(20, 28)))
    assert "12 frames are in session mon already: left out\n" in said("--session", "tue")
    nothing = said("--session", "wed", code=2)
    assert nothing.count("\n") == 1
    assert "20 frames are in other sessions (12 in mon, 8 in tue)" in nothing
    assert f"`custom-gaze import {source} --update mon`" in nothing
    capture(Path(source), 50)
    assert "data/sessions/tue: 1 new frame\n" in said("--update", "tue")
    assert "data/sessions/tue: no new frames\n" in said("--update", "tue")
    assert said("--update", "tue", "--session", "x", code=2).count("\n") == 1
    assert "--split-by-day" in said(code=2)


def test_listed_files_of_a_damaged_list(tmp_path: Path, plain: Paths) -> None:
    folder = plain.sessions / "mon"
    for content in ("", "outs:\n", "outs: [1]\n", "outs:\n- md5: ../../x.dir\n", "a: &x [*x]\n"):
        dvc_file(folder).write_text(content)
        assert listed_files(folder, plain) is None
    digest = "0" * 32
    dvc_file(folder).write_text(f"outs:\n- md5: {digest}.dir\n")
    assert listed_files(folder, plain) is None
    kept = plain.root / ".dvc/cache/files/md5/00" / f"{digest[2:]}.dir"
    kept.parent.mkdir(parents=True)
    kept.write_text(
        json.dumps([{"md5": digest, "relpath": "../out"}, {"md5": digest, "relpath": "in"}])
    )
    assert listed_files(folder, plain) is None  # of such a list nothing is believed
    kept.write_text(json.dumps([{"md5": digest, "relpath": "in"}]))
    assert listed_files(folder, plain) == {"in": digest}
