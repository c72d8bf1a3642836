"""The `session` verbs in a real git and DVC repository, whose pipeline is of one quick stage."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import REPOSITORY, Once, Project
from custom_gaze.common.errors import InputError
from custom_gaze.config.paths import Paths
from custom_gaze.data import dvc_sessions
from custom_gaze.data.dvc_sessions import put_under_dvc
from custom_gaze.data.importing import import_session
from custom_gaze.data.session_changes import exclude, include, remove, rename
from custom_gaze.data.session_file import (
    NOTHING_SAID,
    SessionFile,
    read_session_file,
    session_file,
    write_session_file,
)
from custom_gaze.data.session_list import list_sessions, show_session
from custom_gaze.data.session_merge import merge
from custom_gaze.geometry import ScreenGeometry
from killed import comes_to_its_end
from session_frames import jpeg, put

GEOMETRY = ScreenGeometry()
PREPARE = {
    "matrix": {"session": "${sessions}"},
    "cmd": "mkdir -p made && cat data/sessions/${item.session}/*.json"
    " data/sessions/${item.session}.yaml > made/${item.session}",
    "deps": ["data/sessions/${item.session}", "data/sessions/${item.session}.yaml"],
    "outs": ["made/${item.session}"],
}
DVC = (sys.executable, "-m", "dvc")


def run(*command: str, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def capture(folder: Path, first: int, count: int = 3) -> Path:
    for number in range(first, first + count):
        place = {"screen_x": 100.0 * (1 + number - first), "screen_y": 200.0}
        put(folder, number, place, image=jpeg(number))
    return folder


def make(folder: Path) -> None:
    """Two committed sessions, a and b, that were run on, b to be tested on."""
    root = folder / "project"
    root.mkdir()
    run("git", "init", "-q", "-b", "main", cwd=root)
    for key, value in {"user.name": "tests", "user.email": "tests@example.invalid"}.items():
        run("git", "config", key, value, cwd=root)
    run(*DVC, "init", "-q", cwd=root)
    (root / ".dvc" / "config").write_text("[core]\n    autostage = true\n    analytics = false\n")
    (root / "data" / "sessions").mkdir(parents=True)
    shutil.copy(REPOSITORY / "data/sessions/.gitignore", root / "data/sessions")
    shutil.copy(REPOSITORY / "params.yaml", root)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"prepare": PREPARE}}))
    project = Project(Paths(root))
    project.change(sessions=["a", "b"])
    for name, first in (("a", 10), ("b", 20)):
        import_session(capture(folder / name, first), name, project.paths, GEOMETRY)
    run(*DVC, "repro", "-q", cwd=root)
    run("git", "add", "--all", cwd=root)
    run("git", "commit", "-q", "-m", "Two sessions", cwd=root)


@pytest.fixture
def project(tmp_path: Path, once: Once, monkeypatch: pytest.MonkeyPatch) -> Project:
    shutil.copytree(once("session_changes", make) / "project", tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    return Project(Paths(tmp_path / "project"))


def status(project: Project) -> set[str]:
    """git's, without what only a run changes."""
    said = run("git", "status", "--porcelain", cwd=project.paths.root).splitlines()
    return {line for line in said if "dvc.lock" not in line and "made/" not in line}


def frames(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_excluding_reruns_one_session_and_including_none(project: Project) -> None:
    root, folder = project.paths.root, project.paths.sessions / "a"
    raw = frames(folder)
    said, changed = exclude("a", ["img_11", "x/img_12.json"], "eyes  closed", project.paths)
    assert changed == ["img_11.jpg", "img_12.jpg"]
    assert said.reasons() == dict.fromkeys(changed, "eyes closed")
    assert status(project) == {"M  data/sessions/a.yaml"}
    ran = run(*DVC, "repro", cwd=root)
    assert "Running stage 'prepare@a'" in ran
    assert "Stage 'prepare@b' didn't change" in ran
    assert "img_11.jpg" in (root / "made" / "a").read_text()
    exclude("a", ["img_11.jpg"], "blinks", project.paths)
    assert read_session_file(folder).reasons()["img_11.jpg"] == "blinks"
    for refused in ("img_99.jpg", "../b/img_20.jpg", "notes", "img_20.jpg"):
        with pytest.raises(InputError, match="a: has no frame '"):
            exclude("a", [refused], "closed", project.paths)
    with pytest.raises(InputError, match="say why in a few words"):
        exclude("a", ["img_11.jpg"], " \n", project.paths)
    with pytest.raises(InputError, match="has no session 'c'; there are a, b"):
        exclude("c", ["img_11.jpg"], "closed", project.paths)
    _, changed = include("a", ["img_10.jpg", "img_12.jpg", "img_11.jpg"], project.paths)
    assert changed == ["img_12.jpg", "img_11.jpg"]
    assert include("a", ["img_12.jpg"], project.paths) == (NOTHING_SAID, [])
    assert status(project) == set()  # as it was committed
    assert "didn't change" in run(*DVC, "repro", cwd=root)
    assert frames(folder) == raw


@pytest.mark.long
def test_what_is_removed_stays_away_and_comes_back_when_asked(
    project: Project, tmp_path: Path
) -> None:
    """One that was committed and one that never was; then DVC's three kinds of runs."""
    root, paths = project.paths.root, project.paths
    import_session(capture(tmp_path / "c", 30), "c", paths, GEOMETRY)
    project.change(sessions=["a"], evaluate={"sessions": ["c"]})
    raw = {name: frames(paths.sessions / name) for name in ("b", "c")}
    exclude("c", ["img_31.jpg"], "closed", paths)
    run(*DVC, "exp", "run", cwd=root)  # takes c.dvc and c.yaml out of git's index
    (paths.dataset / "c").mkdir(parents=True)
    gone = {name: remove(name, project.params, paths) for name in ("b", "c")}
    assert [one.unnamed for one in gone.values()] == [False, True]
    assert project.params.evaluate.sessions == ()
    assert not (paths.dataset / "c").exists()
    assert {path.name for path in paths.sessions.iterdir()} == {
        *(".gitignore", "a", "a.dvc", "a.yaml")
    }
    listed = {"D  data/sessions/b.dvc", "D  data/sessions/b.yaml", " M params.yaml"}
    assert status(project) == listed
    for how, words in enumerate((["exp", "run"], ["exp", "run", "--temp"])):
        exclude("a", ["img_10.jpg"], f"closed {how}", paths)
        assert "conflict" not in run(*DVC, *words, cwd=root)
        assert not any("/c." in line or "A" in line for line in status(project))
        assert not (paths.sessions / "b.dvc").exists()
        assert not (paths.sessions / "c.dvc").exists()
    for name, one in gone.items():
        assert one.back[-1] == f"dvc checkout data/sessions/{name}.dvc"
        for command in one.back:
            words = re.sub("^dvc ", f"{sys.executable} -m dvc ", command)
            subprocess.run(words, shell=True, cwd=root, check=True, capture_output=True)
        assert frames(paths.sessions / name) == raw[name]
    assert set(read_session_file(paths.sessions / "c").reasons()) == {"img_31.jpg"}
    with pytest.raises(InputError, match="sessions names a alone"):
        remove("a", project.params, paths)
    with pytest.raises(InputError, match="has no session 'd'; there are a, b, c"):
        remove("d", project.params, paths)


def test_renamed_it_is_the_same_session(project: Project) -> None:
    root, paths = project.paths.root, project.paths
    raw = frames(paths.sessions / "a")
    exclude("a", ["img_11.jpg"], "closed", paths)
    said = session_file(paths.sessions / "a").read_bytes()
    for taken in ("b", "a"):
        with pytest.raises(InputError, match=f"'{taken}' exists already"):
            rename("a", taken, project.params, paths)
    (paths.dataset / "a").mkdir(parents=True)
    rename("a", "monday", project.params, paths)
    assert project.params.sessions == ("monday", "b")
    assert frames(paths.sessions / "monday") == raw
    assert session_file(paths.sessions / "monday").read_bytes() == said
    assert not (paths.dataset / "a").exists()
    assert not list(paths.sessions.glob("a*"))
    assert "data/sessions/monday.dvc" in " ".join(status(project))
    assert not any(line.startswith("?") or line[1] == "D" for line in status(project))
    assert run(*DVC, "status", "data/sessions/monday.dvc", cwd=root).count("up to date") == 1
    ran = run(*DVC, "exp", "run", cwd=root)
    assert "Running stage 'prepare@monday'" in ran
    assert "conflict" not in ran
    assert not list(paths.sessions.glob("a*"))
    # Of one whose frames are not on disk, only the files are renamed.
    shutil.rmtree(paths.sessions / "b")
    rename("b", "tuesday", project.params, paths)
    (b,) = [one for one in list_sessions(project.params, paths) if one.id == "tuesday"]
    assert (b.on_disk, b.in_dvc, b.frames, b.targets, b.use) == (False, True, 3, None, "trained")
    run(*DVC, "checkout", "data/sessions/tuesday.dvc", cwd=root)
    assert len(frames(paths.sessions / "tuesday")) == 6


def test_merged_they_are_one_and_stay_as_they_were(project: Project, tmp_path: Path) -> None:
    paths = project.paths
    import_session(capture(tmp_path / "c", 30), "c", paths, GEOMETRY)
    again = {"screen_x": 5.0, "screen_y": 6.0}  # b's img_21 anew, which import would leave out
    put(paths.sessions / "c", 40, again, image=jpeg(21))
    put_under_dvc(paths.sessions / "c", paths)
    before = {name: frames(paths.sessions / name) for name in "abc"}
    exclude("a", ["img_12.jpg"], "closed", paths)
    exclude("c", ["img_40.jpg"], "blurred", paths)
    merged = merge(["a", "b", "c"], "all", project.params, paths)
    assert (merged.frames, merged.excluded, merged.duplicates) == (9, 2, 1)
    made = frames(paths.sessions / "all")
    assert made == {n: c for n, c in {**before["c"], **before["b"], **before["a"]}.items()
                    if "img_40" not in n}  # fmt: skip
    reasons = {"img_12.jpg": "closed", "img_21.jpg": "blurred"}
    assert read_session_file(paths.sessions / "all").reasons() == reasons
    assert {name: frames(paths.sessions / name) for name in "abc"} == before
    include("all", ["img_12.jpg"], paths)
    assert merge(["a", "b", "c"], "all", project.params, paths).frames == 9  # there already
    assert set(read_session_file(paths.sessions / "all").reasons()) == {"img_21.jpg"}
    with pytest.raises(InputError, match="'all' exists already"):
        merge(["a", "b"], "all", project.params, paths)
    other = SessionFile(excluded=(), geometry=ScreenGeometry(1280.0, 720.0, 0.02))
    write_session_file(paths.sessions / "b", other)
    with pytest.raises(InputError, match="a and b were captured on different screens"):
        merge(["a", "b"], "more", project.params, paths)
    shutil.rmtree(paths.sessions / "c")
    with pytest.raises(InputError, match="not on disk; bring it here first: dvc pull .*c.dvc"):
        merge(["a", "c"], "more", project.params, paths)
    for names in (["a"], ["a", "a"], ["a", "more"]):
        with pytest.raises(InputError, match="two or more different sessions"):
            merge(names, "more", project.params, paths)


def test_what_is_listed_and_shown(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = project.paths
    exclude("a", ["img_11.jpg"], "closed", paths)
    shutil.rmtree(paths.sessions / "b")
    a, b = list_sessions(project.params, paths)
    assert (a.frames, a.targets, a.excluded, a.use, a.on_disk) == (2, 2, 1, "trained", True)
    assert (b.frames, b.targets, b.excluded, b.days, b.on_disk) == (3, None, 0, a.days, False)
    assert a.days == ("1970-01-01",)
    size = sum(path.stat().st_size for path in (paths.sessions / "a").iterdir())
    assert a.size_bytes == size
    detail = show_session("a", project.params, paths)
    assert [entry.frame for entry in detail.excluded] == ["img_11.jpg"]
    assert detail.suspects is None
    session_file(paths.sessions / "a").write_text("excluded: 5\n")
    (a, _) = list_sessions(project.params, paths)
    assert a.problem is not None
    assert "a.yaml: " in a.problem


def test_sessions_of_earlier_versions_get_their_file_and_git_knows_them(project: Project) -> None:
    """As does what `dvc exp run` took out of git's index; changes are not staged unasked."""
    paths = project.paths
    run("git", "rm", "-q", "--cached", "data/sessions/a.dvc", cwd=paths.root)
    session_file(paths.sessions / "b").unlink()
    write_session_file(paths.sessions / "a", SessionFile(excluded=(), geometry=GEOMETRY))
    assert dvc_sessions.complete_sessions(paths) == [session_file(paths.sessions / "b")]
    assert status(project) == {" M data/sessions/a.yaml"}
    assert dvc_sessions.complete_sessions(paths) == []


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside threads
@pytest.mark.parametrize("verb", ["rename", "remove", "merge"])
def test_killed_at_any_step_the_same_verb_finishes(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def add(folder: Path, *_: object) -> "subprocess.CompletedProcess[str]":
        if not dvc_sessions.dvc_file(folder).exists():
            text = dvc_sessions.dvc_file(project.paths.sessions / "a").read_text()
            dvc_sessions.dvc_file(folder).write_text(
                text.replace("path: a", f"path: {folder.name}")
            )
        return subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(dvc_sessions, "_dvc_add", add)
    template = project.paths.root
    for step in itertools.count(1):
        root = tmp_path / f"{step}"
        shutil.copytree(template, root, symlinks=True)
        copy = Project(Paths(root))
        os.chdir(root)

        def act(copy: Project = copy) -> None:
            if verb == "rename":
                rename("a", "monday", copy.params, copy.paths)
            elif verb == "remove":
                remove("b", copy.params, copy.paths)
            else:
                merge(["a", "b"], "all", copy.params, copy.paths)

        raw = frames(template / "data/sessions/a")
        ended = comes_to_its_end(act, step, root)
        if not ended and not (verb != "merge" and _is_done(copy, verb)):
            act()
        assert _is_done(copy, verb), step
        there = "monday" if verb == "rename" else "a"
        assert frames(copy.paths.sessions / there) == raw
        shutil.rmtree(root)
        if ended:
            break
    assert step > 8


def _is_done(project: Project, verb: str) -> bool:
    """All of it, in the folder, in params.yaml and in git's index; nothing of it twice."""
    paths = project.paths
    there = {path.name for path in paths.sessions.iterdir()}
    known = run("git", "ls-files", "data/sessions", cwd=paths.root).split()
    names = {"rename": "monday b", "remove": "a", "merge": "a b all"}[verb].split()
    files = {f"{name}{end}" for name in names for end in (".dvc", ".yaml")}
    in_git = {f"data/sessions/{name}" for name in files} - {"data/sessions/all.dvc"}
    lists = {"rename": ("monday", "b"), "remove": ("a",), "merge": ("a", "b")}[verb]
    return (
        there == {".gitignore", *names, *files}
        and set(known) - {"data/sessions/all.dvc"} == {"data/sessions/.gitignore", *in_git}
        and project.params.sessions == lists
    )
