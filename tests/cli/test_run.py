"""`custom-gaze run` over a small pipeline of its own: real git, real DVC, a stage that takes no
time and whose figures follow from the parameters."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import to_hydra_overrides

from conftest import REPOSITORY, Once
from custom_gaze.cli import main
from custom_gaze.cli.run import for_hydra, free_name
from custom_gaze.common.errors import InputError
from custom_gaze.demo.session import write_session

LONGEST_S = 120
STAGE = """
import json, os, pathlib, sys, time, yaml
params = yaml.safe_load(open("params.yaml"))
print("the stage runs", flush=True)
if os.environ.get("STUB_FAILS"):
    sys.exit(2)
time.sleep(float(os.environ.get("STUB_SLEEPS", 0)))
error = len(params["sessions"]) + params["augment"]["samples"] / 100
mean = {"error_deg": error, "error_px": 10 * error, "frames": 8, "targets": 4}
figures = {**mean, "median_deg": 1.0, "p95_deg": 2.0, "constant_deg": 9.0}
content = {
    "headline": {"measured": "held-out targets", **mean},
    "choice": {"exported": "probe", "reason": "it is better"},
    "test": figures, "train": figures,
}
compared = {**mean, "correction_deg": 5.0}
if params["evaluate"]["sessions"]:
    content["cross_session"] = figures
    compared["cross_session_deg"] = error
pathlib.Path("reports").mkdir(exist_ok=True)
pathlib.Path("reports/figures.json").write_text(json.dumps(content))
pathlib.Path("reports/metrics.json").write_text(json.dumps(compared))
"""
PIPELINE = {
    "stages": {
        "prepare": {
            "matrix": {"session": "${sessions}"},
            "cmd": "echo prepared",
            "deps": ["data/sessions/${item.session}", "data/sessions/${item.session}.yaml"],
        },
        "evaluate": {
            "cmd": "python stage.py",
            "deps": ["stage.py"],
            "params": ["sessions", "evaluate", "augment"],
            "outs": [{"reports/figures.json": {"cache": False}}],
            "metrics": [{"reports/metrics.json": {"cache": False}}],
        },
    }
}


class Site:
    """A project's folder and the commands that are given in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def fill(self) -> None:
        """Make it a project with two sessions."""
        (self.root / "home").mkdir()
        for number, name in enumerate(("monday", "tuesday")):
            folder = self.root / "data/sessions" / name
            write_session(folder, person=5, day=1 + number, grid=(3, 2), frames_per_target=1)
        for folder in ("data", "data/sessions"):
            shutil.copy(REPOSITORY / folder / ".gitignore", self.root / folder)
        (self.root / ".gitignore").write_text("/home\n")
        (self.root / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
        (self.root / "stage.py").write_text(STAGE)
        shutil.copy(REPOSITORY / "params.yaml", self.root)
        self.ok("git", "init", "--quiet", "-b", "main")
        self.ok("git", "config", "--global", "user.name", "tests")
        self.ok("git", "config", "--global", "user.email", "tests@example.invalid")
        self.ok("dvc", "init", "--quiet")
        (self.root / ".dvc/config").write_text("[core]\n    autostage = true\n")
        self.ok("dvc", "add", "--quiet", "data/sessions/monday", "data/sessions/tuesday")
        self.ok("git", "add", "-A")
        self.ok("git", "commit", "--quiet", "-m", "start")

    def start(self, *words: str, **more: str) -> "subprocess.Popen[str]":
        here = Path(sys.executable).parent
        environment = {
            **os.environ,
            **{"PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "HOME": str(self.root / "home")},
            **{"GIT_CONFIG_NOSYSTEM": "1", "DVC_NO_ANALYTICS": "true", **more},
        }
        command = [sys.executable, "-m", *words] if words[0] in ("custom_gaze", "dvc") else words
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def said(self, *words: str, code: int = 0, **more: str) -> str:
        process = self.start(*words, **more)
        said, _ = process.communicate(timeout=LONGEST_S)
        assert process.returncode == code, said
        return said

    def ok(self, *words: str) -> str:
        return self.said(*words)

    def run(self, *words: str, code: int = 0, **more: str) -> str:
        return self.said("custom_gaze", "run", *words, code=code, **more)

    def params(self) -> Any:
        return yaml.safe_load((self.root / "params.yaml").read_text())

    def experiments(self) -> set[str]:
        return set(self.ok("dvc", "exp", "list", "--all-commits", "--name-only").split())


@pytest.fixture
def site(tmp_path: Path, once: Once) -> Site:
    made = once("run", lambda folder: Site(folder).fill())
    shutil.copytree(made, tmp_path / "project", symlinks=True)
    return Site(tmp_path / "project")


@pytest.mark.long
def test_a_week_of_runs(site: Site) -> None:
    """A; B tested on A; A and B; A again; and after a commit, A once more."""
    said = site.run("monday")
    assert said.startswith("experiment monday: sessions=[monday] evaluate.sessions=[]\n")
    assert "error     1.50°, 15 pixels, on 8 frames of 4 held-out targets" in said
    assert "made      monday; beside the others" in said
    assert "git commit -m monday" in said
    said = site.run("tuesday", "--test", "monday", "-S", "augment.samples=4")
    assert "another session" in said
    params = site.params()
    assert (params["sessions"], params["evaluate"]["sessions"]) == (["tuesday"], ["monday"])
    assert params["augment"]["samples"] == 4
    site.run("monday", "tuesday", "-S", "augment.samples=50")
    params = site.params()
    assert (params["sessions"], params["evaluate"]["sessions"]) == (["monday", "tuesday"], [])
    assert site.experiments() == {"monday", "tuesday", "monday-tuesday"}

    # A repetition is said to be one, though dvc.lock has grown since.
    said = site.run("monday")
    assert "made      monday-2; equal to monday;" in said
    assert site.experiments() == {"monday", "monday-2", "tuesday", "monday-tuesday"}
    said = site.run("monday", "--json", "--name", "mine", "-S", "augment.samples=7")
    told = json.loads(said[said.index("\n{") :])
    assert (told["experiment"], told["equal_to"]) == ("mine", None)
    assert told["metrics"]["headline"]["error_deg"] == 1.07

    site.ok("git", "add", "-A")
    site.ok("git", "commit", "--quiet", "-m", "kept")
    said = site.run("monday", "-S", "augment.samples=3")
    assert "made      monday-3; beside the others" in said
    assert site.ok("git", "symbolic-ref", "HEAD").strip() == "refs/heads/main"


REFUSALS = {
    "mondey": "mondey: no such session in data/sessions; did you mean monday?",
    "x": "there are: away, monday, tuesday",
    "monday --test monday": "named twice",
    "monday -S sessions=[tuesday]": "name sessions as words",
    "monday -S train.speed=1": "has no key train.speed",
    "monday -S train.method=magic": "must be one of auto, base",
    "monday --name a+b": "is no name for a run",
    "monday --name taken": "there is such an experiment",
    "monday -S fetch.base=nowhere.pkl": "fetch.base: nowhere.pkl: not found",
    "monday -S fetch.mesh=https://x.org/m": "set fetch.mesh_sha256 too",
    "monday -S geometry.center_x_px=500.0": "beside the screen of 1000",
    "monday -S geometry.center_x_px=200.0": "frames cannot be used",
    "away": "dvc pull data/sessions/away",
    "strange": "dvc add data/sessions/strange",
}


def test_what_would_not_end_well_does_not_begin(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and nothing is changed: params.yaml, git's index, the experiments."""
    monkeypatch.chdir(site.root)
    monkeypatch.setenv("HOME", str(site.root / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    sessions = site.root / "data/sessions"
    shutil.copytree(sessions / "tuesday", sessions / "strange")
    shutil.copy(sessions / "tuesday.dvc", sessions / "away.dvc")
    head = site.ok("git", "rev-parse", "HEAD").strip()
    site.ok("git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/taken", head)

    def state() -> tuple[bytes, str]:
        return Path("params.yaml").read_bytes(), site.ok("git", "status", "--porcelain")

    def refused(words: str, why: str) -> None:
        before = state()
        assert main(["run", *words.split()]) == 2
        said = capsys.readouterr()
        assert why in said.err
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert state() == before

    for words, why in REFUSALS.items():
        refused(words, why)
    # Another run, as DVC notes it: one that lives, and one that was killed and whose number some
    # other program has by now.
    noted = site.root / ".dvc/tmp/exps/run/workspace/workspace.json"
    noted.parent.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as other:
        noted.write_text(json.dumps({"pid": other.pid}))
        site.ok("git", "config", "--global", "--unset", "user.email")
        refused("monday", "git config --global user.email you@example.com")
        other.kill()
    site.ok("git", "config", "--global", "user.email", "tests@example.invalid")
    with subprocess.Popen(["sh", "-c", "sleep 60; true dvc exp run"]) as other:
        noted.write_text(json.dumps({"pid": other.pid}))
        refused("monday", f"another run is going on in this project (process {other.pid})")
        other.kill()
    (site.root / ".git").rename(site.root / "home/git")
    assert main(["run", "monday"]) == 2
    assert "is in no git repository; git init" in capsys.readouterr().err


@pytest.mark.long
def test_a_session_that_was_staged_and_is_gone_does_not_come_back(site: Site) -> None:
    """DVC's autostage leaves it `AD`; a run would end in a conflict and bring it back."""
    new = site.root / "data/sessions/new"
    (site.root / "data/sessions/monday").rename(new)
    site.ok("dvc", "add", "--quiet", "data/sessions/new")
    site.ok("dvc", "checkout", "--quiet", "data/sessions/monday.dvc")
    site.ok("dvc", "remove", "--outs", "data/sessions/new.dvc")
    assert "AD data/sessions/new.dvc" in site.ok("git", "status", "--porcelain")
    site.run("monday")
    assert not new.with_suffix(".dvc").exists()
    assert "new" not in site.ok("git", "status", "--porcelain")


@pytest.mark.parametrize("how", ["ctrl-c", pytest.param("SIGTERM", marks=pytest.mark.long)])
def test_a_second_run_is_refused_and_what_is_stopped_goes_on(site: Site, how: str) -> None:
    first = site.start("custom_gaze", "run", "monday", STUB_SLEEPS="60")
    assert first.stdout is not None
    lines: list[str] = []
    while "the stage runs\n" not in lines:
        lines.append(first.stdout.readline())
        assert lines[-1], "".join(lines)
    assert "another run is going on" in site.run("tuesday", code=2)
    if how == "ctrl-c":
        os.killpg(first.pid, signal.SIGINT)  # as a terminal does
    else:
        first.terminate()
    said, _ = first.communicate(timeout=LONGEST_S)
    assert first.returncode == (130 if how == "ctrl-c" else 143), said
    assert "; the same command goes on" in said
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(site.root) not in listed.stdout
    assert site.ok("git", "symbolic-ref", "HEAD").strip() == "refs/heads/main"
    assert "made      monday; beside" in site.run("monday")


@pytest.mark.long
def test_a_stage_that_fails(site: Site) -> None:
    said = site.run("monday", code=1, STUB_FAILS="1")
    assert "failed to reproduce" in said  # DVC's own words
    assert said.splitlines()[-1].startswith("custom-gaze: the run failed")
    assert "Traceback" not in said
    site.run("monday")


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("~/b.pkl", "~/b.pkl"),
        ("a b, c", "a b, c"),
        ("it's", "it's"),
        ("'123'", "123"),
        ("C:\\dir\\", "C:\\dir\\"),
        ("https://x.org/b?q=1&r=2", "https://x.org/b?q=1&r=2"),
        ("null", None),
        ("~", None),
        ("12", 12),
        ("1e-4", 1e-4),
        ("true", True),
    ],
)
def test_dvc_reads_the_value_that_was_given(given: str, value: object) -> None:
    [override] = to_hydra_overrides([for_hydra(f"fetch.base={given}")])
    assert override.value() == value


def test_what_dvc_cannot_pass_is_said() -> None:
    with pytest.raises(InputError, match="write the value into params.yaml"):
        for_hydra("fetch.base=${HOME}/b.pkl")


def test_names_say_the_sessions_and_are_free() -> None:
    assert free_name(["monday", "tuesday"], {"monday"}) == "monday-tuesday"
    assert free_name(["monday"], {"monday", "monday-2", "monday-4"}) == "monday-3"
    long = free_name(["a" * 47, "b" * 20], set())
    assert long == "a" * 47
