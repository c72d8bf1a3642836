"""The parts of `custom-gaze remote` that need no other machine."""

import dataclasses
import fcntl
import hashlib
import json
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import REPOSITORY, Project
from custom_gaze.cli import main
from custom_gaze.common.errors import InputError
from custom_gaze.config.changes import changed_params
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.remote import agent_runs, job, repository, request, setup
from custom_gaze.remote.agent import Place
from custom_gaze.remote.engine import Run
from custom_gaze.remote.engine_local import Local
from custom_gaze.remote.replies import Answer
from custom_gaze.remote.repository import outs_of
from custom_gaze.remote.settings import (
    EngineSettings,
    Settings,
    default_remote,
    load_engine,
    load_settings,
)


@pytest.mark.parametrize("name", ["", "-x", "a/b", "../a", "a b", "x" * 65, "a.lock"])
def test_names_that_no_run_can_bear(name: str) -> None:
    with pytest.raises(InputError, match="is no name for a run"):
        request.check_name(name)


def test_settings_come_from_the_local_configuration_alone(tmp_path: Path) -> None:
    folder = tmp_path / ".dvc"
    folder.mkdir()
    (folder / "config").write_text(
        "['remote \"far\"']\n    url = ssh://far-verified/home/me/rustyeyes_train/store\n"
        "[core]\n    remote = far\n"
    )
    with pytest.raises(InputError, match="custom-gaze remote setup"):
        load_settings(tmp_path)
    (folder / "config").rename(folder / "config.local")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    settings = load_settings(tmp_path)
    assert settings == Settings("far", "/home/me/rustyeyes_train", tmp_path)
    address = "ssh://far-verified/home/me/rustyeyes_train/project"
    assert settings.address(settings.project) == address
    text = (folder / "config.local").read_text()
    (folder / "config.local").write_text(text.replace("-verified", ""))
    with pytest.raises(InputError, match="custom-gaze remote setup"):
        load_settings(tmp_path)  # DVC would go there without verifying the machine


def test_the_committed_settings_lead_dvc_nowhere_but_through_a_verified_connection() -> None:
    name, address = default_remote(REPOSITORY / ".dvc" / "config")
    assert name == "jowestdgxe"
    assert address.startswith("ssh://jowestdgxe-verified/")


def test_what_a_commit_names_is_read_from_its_own_files(tmp_path: Path) -> None:
    """Outputs kept in git are nobody's object, and the working tree does not matter."""
    files = {
        "dvc.yaml": {
            "stages": {"t": {"outs": ["m.onnx", {"kept.json": {"cache": False}}], "cmd": "x"}}
        },
        "dvc.lock": {
            "stages": {
                "t": {
                    "outs": [
                        {"path": "m.onnx", "md5": "a" * 32},
                        {"path": "kept.json", "md5": "b" * 32},
                    ]
                }
            }
        },
        "data/s.dvc": {"outs": [{"path": "s", "md5": "c" * 32 + ".dir"}]},
    }
    (tmp_path / "data").mkdir()
    (tmp_path / "kept.json").touch()
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    commit(tmp_path)
    (tmp_path / "dvc.lock").write_text("")
    assert outs_of(tmp_path, "HEAD") == {"m.onnx": "a" * 32, "data/s": "c" * 32 + ".dir"}


@pytest.fixture
def committed(project: Project) -> Cache:
    """A commit with one session and a dvc.lock of the fetch stage; both objects are here."""
    root = project.paths.root
    cache = Cache(root)
    (root / "src").mkdir()
    (root / "src" / "fetch.py").write_text("x = 1\n")
    for number, path in ((1, "data/sessions/one"), (2, "models/base.pt"), (3, "in-git.onnx")):
        cache.path(str(number) * 32).parent.mkdir(parents=True)
        cache.path(str(number) * 32).write_text(path)
    entry = {"outs": [{"path": "one", "md5": "1" * 32}]}
    (root / "data" / "sessions").mkdir(parents=True)
    (root / "data" / "sessions" / "one.dvc").write_text(yaml.safe_dump(entry))
    (root / "in-git.onnx").write_text("x")
    stage = {
        "deps": [{"path": "src/fetch.py", "md5": hashlib.md5(b"x = 1\n").hexdigest()}],
        "params": {"params.yaml": {"fetch": dataclasses.asdict(project.params.fetch)}},
        "outs": [{"path": "models/base.pt", "md5": "2" * 32}],
    }
    (root / "dvc.lock").write_text(yaml.safe_dump({"stages": {"fetch": stage}}))
    commit(root)
    return cache


def commit(root: Path, *more: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "x", *more]):
        subprocess.run(["git", "-C", str(root), *words], check=True)


def packed(project: Project, cache: Cache, *changes: str) -> request.Payload:
    params = changed_params(project.paths, changes)
    return request.pack(project.paths.root, cache, "HEAD", [params])


def test_what_fetch_has_made_goes_along_where_it_spares_the_stage(
    project: Project, committed: Cache
) -> None:
    both = ["1" * 32, "2" * 32]
    assert list(packed(project, committed).here) == both
    assert list(packed(project, committed, "train.seed=5").here) == both
    assert list(packed(project, committed, "fetch.detector=in-git.onnx").here) == both[:1]
    address = "fetch.base=https://example.invalid/l2cs.pkl"
    assert list(packed(project, committed, address).here) == both[:1]
    (project.paths.root / "src" / "fetch.py").write_text("x = 2\n")  # the stage runs there
    assert list(packed(project, committed).here) == both[:1]
    committed.path("2" * 32).unlink()
    assert packed(project, committed).elsewhere == {}  # it can be made there


@pytest.mark.parametrize(
    "path", ["/home/me/l2cs.pkl", "~/l2cs.pkl", "models/l2cs.pkl", "../l2cs.pkl"]
)
def test_a_base_network_of_this_machine_alone_is_refused_until_fetch_has_taken_it(
    project: Project, committed: Cache, path: str
) -> None:
    with pytest.raises(InputError, match=r"fetch\.base: .*lies on this machine alone") as caught:
        packed(project, committed, f"fetch.base={path}")
    assert "`dvc repro fetch` and commit params.yaml and dvc.lock" in str(caught.value)

    project.change(fetch={"base": path})
    with pytest.raises(InputError, match="lies on this machine alone"):
        packed(project, committed)
    root = project.paths.root
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    lock["stages"]["fetch"]["params"]["params.yaml"]["fetch"]["base"] = path
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    commit(root)
    assert list(packed(project, committed, "train.seed=5").here) == ["1" * 32, "2" * 32]
    committed.path("2" * 32).unlink()  # then it has to be there already
    assert packed(project, committed).elsewhere == {"2" * 32: "models/base.pt"}


def test_the_cache_lists_files_before_the_folder_that_names_them(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.folder == tmp_path / ".dvc" / "cache"
    one, two, folder = "1" * 32, "2" * 32, "f" * 32 + ".dir"
    for name, content in (
        (one, "x"),
        (folder, json.dumps([{"md5": one, "relpath": "a"}, {"md5": two, "relpath": "b/c"}])),
    ):
        cache.path(name).parent.mkdir(parents=True)
        cache.path(name).write_text(content)
    assert cache.whole([folder]) == ([one, folder], [two])


def test_what_goes_there_needs_the_standard_library_alone() -> None:
    """The far side's program runs under `python3 -I`, before any environment is made."""
    import ast
    import sys

    from custom_gaze.remote.connection import _PROGRAM

    for name in _PROGRAM:
        tree = ast.parse((REPOSITORY / f"src/custom_gaze/remote/{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found = [node.module or ""]
            else:
                continue
            for module in found:
                top, _, rest = module.partition(".")
                if top == "custom_gaze":
                    assert rest == "remote" or rest.removeprefix("remote.") in _PROGRAM
                else:
                    assert top in sys.stdlib_module_names, (name, module)


def test_over_there_old_runs_go_but_no_result_that_nobody_has_fetched(tmp_path: Path) -> None:
    """Working copies too, but none of a run that goes on: it holds its lock."""
    for number in range(agent_runs.KEPT_RUNS + 5):
        folder = tmp_path / "runs" / f"r{number}"
        (folder / "copy-0-x" / "data").mkdir(parents=True)
        about = {"name": folder.name, "started": number, "engine": {"engine": "local"}}
        about |= {"commit": "c" * 40, "experiments": [{"name": folder.name, "set": []}]}
        (folder / "run.json").write_text(json.dumps(about))
        if number not in (3, 4):  # 3 was killed, 4 goes on
            code = 1 if number == 2 else 0
            result = {"code": code, "ended": 1.0}
            (folder / "result-0.json").write_text(json.dumps(result))
        if number != 1:
            (folder / "fetched").touch()
    with open(tmp_path / "runs" / "r4" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        runs = agent_runs.all_runs(Place(str(tmp_path)))
        states = [run["state"] for run in runs]
        assert states[:6] == ["done", "done", "failed", "died", "running", "done"]
        none: Run = {"name": "new", "experiments": []}
        over = [run for run in runs if run["state"] != "running"]
        agent_runs._clear_leftovers(Place(str(tmp_path)), str(tmp_path / "runs" / "n"), none, over)
    left = {int(path.name[1:]) for path in (tmp_path / "runs").iterdir()}
    assert left == {1, *range(4, agent_runs.KEPT_RUNS + 5)}
    assert [path.parent.name for path in tmp_path.glob("runs/*/copy-*")] == ["r4"]


def test_a_job_that_cannot_begin_says_why(tmp_path: Path) -> None:
    """Its own words are the log's."""
    (tmp_path / "job.py").write_text("raise SystemExit('no such thing')")
    engine = Local()
    (tmp_path / "job").write_text(engine.submit(str(tmp_path), {"name": "x"}))
    assert engine.status(str(tmp_path)) is None
    assert not engine.stop(str(tmp_path))
    assert (tmp_path / "log-0").read_text() == "no such thing\n"


def test_a_job_records_where_several_people_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in its project where nobody is named; what makes the experiment only says so here."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    repository, programs = tmp_path / "it's a project", tmp_path / "env"
    (repository / ".dvc").mkdir(parents=True)
    (repository / ".dvc" / "config").touch()
    commit(repository)
    (repository / ".dvc" / "config.local").touch()
    programs.mkdir()
    said = 'echo "at ${MLFLOW_TRACKING_URI-home}"; "$SHELL" -c \'echo "$DVC_ROOT"\''
    (programs / "dvc").write_text(f"#!/bin/sh\n{said}\nexit 3\n")
    (programs / "dvc").chmod(0o755)
    (tmp_path / "group").touch()
    about: Run = {"repository": str(repository), "sub": "", "python": str(programs / "python")}
    about |= {"commit": "HEAD", "experiments": [{"name": "x", "set": []}]}
    for server in ("", "http://gaze.local:5000"):
        run = {**about, "engine": {"mlflow": server}}
        job._experiment(str(tmp_path), run, 0)
        *_, where, root = (tmp_path / "log-0").read_text().splitlines()
        assert (where, root) == (f"at {server or 'home'}", str(repository))
        assert json.loads((tmp_path / "result-0.json").read_text())["code"] == 3
    assert not list(tmp_path.glob("copy-*"))


def test_what_remote_yaml_says_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "remote.yaml"
    assert load_engine(path).engine == "local"
    path.write_text("engine: slurm\nsbatch: --partition=gpu --time=2:00:00 --comment='a b'\n")
    options = ("--partition=gpu", "--time=2:00:00", "--comment=a b")
    assert load_engine(path) == EngineSettings(engine="slurm", sbatch=shlex.join(options))
    assert load_engine(path).sbatch == options
    path.write_text("mlflow: http://gaze.local:5000\n")
    assert load_engine(path) == EngineSettings(mlflow="http://gaze.local:5000")
    for wrong, said in (
        ("engine: cron\n", "engine: Input should be 'local', 'systemd' or 'slurm'"),
        ("engine: slurm\nnodes: 2\n", "nodes: Extra inputs are not permitted"),
        ("engine: slurm\nsbatch: 1\n", "sbatch: Value error, must be a line of sbatch's options"),
        ('engine: slurm\nsbatch: "\'"\n', "sbatch: Value error, No closing quotation"),
        ("mlflow: http://me:secret@gaze:5000\n", "mlflow: Value error, must be a server as that"),
        ("mlflow: http://gaze:5000/x\n", "mlflow: Value error, must be a server as that"),
        ("[1]\n", "remote.yaml: : Input should be a valid dictionary"),
    ):
        path.write_text(wrong)
        with pytest.raises(InputError) as caught:
            load_engine(path)
        assert said in str(caught.value)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("torch", "gpu", "line"),
    [
        (["2.11", "13.0", "NVIDIA GB10"], ["NVIDIA GB10, 1, 2, 3"], "CUDA 13.0, NVIDIA GB10"),
        (["2.11", None, None], [], "no GPU, the CPU"),
        (
            ["2.11", None, None],
            ["NVIDIA GB10, 1, 2, 3"],
            "NVIDIA GB10, but torch, made without CUDA",
        ),
        (
            ["2.11", "12.4", None],
            ["NVIDIA GB10, 1, 2, 3"],
            "torch, made for CUDA 12.4, does not see",
        ),
    ],
)
def test_a_card_that_torch_does_not_see_is_not_passed_over(
    torch: list[str | None], gpu: list[str], line: str
) -> None:
    """nvidia-smi named a card, and setup said `no GPU, the CPU … is ready`."""
    said = setup.accelerator_line(Answer.model_validate({"torch": torch, "gpu": gpu}))
    assert line in said
    assert ("install a torch for its driver" in said) == (bool(gpu) and torch[2] is None)


def test_a_shallow_clone_sends_nothing(tmp_path: Path) -> None:
    """Its bundle lacks the commits before, and DVC loses experiments in it."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    commit(whole, "--allow-empty")
    commit(whole, "--allow-empty")
    subprocess.run(["git", "clone", "-q", "--depth", "1", whole.as_uri(), str(cut)], check=True)
    assert repository.head(whole) == repository.head(whole)
    with pytest.raises(InputError, match="this clone is shallow.*git fetch --unshallow"):
        repository.head(cut)


def test_a_folder_of_the_repository_is_the_project(tmp_path: Path) -> None:
    """What is uncommitted and what DVC keeps is looked for there alone."""
    folder = tmp_path / "gaze"
    (folder / "data").mkdir(parents=True)
    (tmp_path / "other.txt").write_text("x")
    for name in ("data/one.dvc", "dvc.lock"):
        (folder / name).write_text("outs: []\n")
    (folder / "data" / "one.dvc").write_text(
        yaml.safe_dump({"outs": [{"path": "one", "md5": "1" * 32}]})
    )
    commit(tmp_path)
    assert repository.subfolder(folder) == "gaze"
    assert repository.subfolder(tmp_path) == ""
    assert list(outs_of(folder, "HEAD")) == ["data/one"]
    (tmp_path / "other.txt").write_text("y")
    (tmp_path / "new.txt").write_text("y")
    (folder / "dvc.lock").write_text("x: 1\n")
    (folder / "mine.txt").write_text("y")
    assert repository.uncommitted(folder) == (["dvc.lock"], ["mine.txt"])
    foreign = tmp_path / "Größe"
    foreign.mkdir()
    with pytest.raises(InputError, match="Größe: the project's folder in the repository"):
        repository.subfolder(foreign)


def test_every_verb_says_what_to_do_before_setup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    for words in (["train"], ["status"], ["logs", "x"], ["fetch", "x"], ["queue", "a", "b"]):
        assert main(["remote", *words]) == 2
        said = capsys.readouterr().err
        assert said == "custom-gaze: no machine is set up; run `custom-gaze remote setup`\n"
