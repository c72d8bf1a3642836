"""The whole story on two homes: set up, train, cut, attach, fetch, and a third clone."""

import hashlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import torch
import torchvision

from conftest import SMALL, Project, copy_working_tree
from custom_gaze.config.paths import Paths
from remote_site import Site, finish, read_until, running_machine
from sshd import NO_SSHD, SSHD, Machine, command_of, free_port, wait_until

pytestmark = [
    pytest.mark.skipif(SSHD is None, reason=NO_SSHD),
    pytest.mark.long,
    pytest.mark.story,
]


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The shipped pipeline made small, one demo session, a base network that lies outside git."""
    root = tmp_path_factory.mktemp("story")
    with running_machine(root / "machine") as machine:
        yield shipped_project(root / "project", machine)


def shipped_project(root: Path, machine: Machine) -> Site:
    copy_working_tree(root)
    torch.manual_seed(1)
    base = root.parent / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), base)
    small = {**SMALL, "sessions": ["one"], "augment": {"samples": 1}}
    Project(Paths(root)).change(
        **{**small, "train": {**SMALL["train"], "schedule": "cosine", "steps": 10}}
    )
    Project(Paths(root)).change(fetch={"base": str(base)})
    site = Site(machine, root)
    site.git("init", "-q")
    site.call(
        "custom-gaze", "demo", "--session", "one", "--grid", "3x2", "--frames-per-target", "1"
    )
    done = site.call("dvc", "repro", "fetch")  # the base is a file of this machine alone
    assert done.returncode == 0, done.stderr
    site.commit()
    return site


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_story(site: Site, tmp_path: Path) -> None:
    site.ok("setup", "--yes", "--python", sys.executable)

    # Train; the connection is cut while it runs, for longer than the client would wait.
    run = site.start("train", "--name", "story", "-S", "train.seed=3")
    read_until(run, "Running stage")
    site.machine.cut()
    run.kill()
    finish(run)
    assert "story" in site.ok("status")

    # Attach: reads along to the end and brings the experiment.
    said = site.ok("attach", "story")
    assert "Running stage 'train'" in said
    assert "Running stage 'fetch'" not in said  # its output was sent: the base lies here alone
    assert "experiment story is here" in said

    # It stands here beside the local ones, with its metrics.
    shown = json.loads(site.dvc("exp", "show", "--json"))
    revs = {
        rev["name"]: rev for row in shown for e in row["experiments"] or [] for rev in e["revs"]
    }
    metrics = revs["story"]["data"]["metrics"]["reports/metrics.json"]["data"]
    assert metrics
    # Its model with one further word, and everything committed.
    site.ok("fetch", "story", "--apply")
    model = site.project / "models" / "custom_gaze.onnx"
    stored = revs["story"]["data"]["outs"]["models/custom_gaze.onnx"]["hash"]
    assert hashlib.md5(model.read_bytes()).hexdigest() == stored
    site.commit()

    # What any DVC user types, without a command of ours: everything up, and an experiment.
    site.dvc("push")
    site.git("push", "-q", "jowestdgxe", "HEAD:main")
    site.dvc("exp", "run", "--name", "local", "-S", "evaluate.seed=2")
    local_report = sha256(site.project / "reports" / "report.html")
    site.git("reset", "-q", "--hard")
    site.dvc("checkout", "-q")
    assert Project(Paths(site.project)).params.evaluate.seed != 2
    site.dvc("exp", "push", "jowestdgxe", "local")

    # A third clone, made from the far machine, pulls the same bytes and has nothing to do.
    url = site.git("remote", "get-url", "jowestdgxe").strip()
    third = site.clone(tmp_path / "third", url)
    third.ok("setup", "--yes", "--python", sys.executable)
    third.dvc("pull", "models/custom_gaze.onnx")
    assert sha256(third.project / "models" / "custom_gaze.onnx") == sha256(model)
    third.dvc("pull")
    said = third.dvc("repro")
    assert "Data and pipelines are up to date." in said
    assert "Running stage" not in said

    # The experiment made here reaches it through the far machine.
    assert {"local", "story"} <= set(third.dvc("exp", "list", "-A", "jowestdgxe").split())
    third.dvc("exp", "pull", "jowestdgxe", "local")
    third.dvc("exp", "apply", "local")
    assert Project(Paths(third.project)).params.evaluate.seed == 2
    assert sha256(third.project / "reports" / "report.html") == local_report
    site.wait_for_quiet()

    # In one test with what goes before: another process would have a machine without the runs.
    see_mlflow_through_the_tunnel(site)
    kill_the_client_of_the_tunnel(site)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def see_mlflow_through_the_tunnel(site: Site) -> None:
    """The far machine's run is known here, and one made here is recorded there."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    page = site.start("mlflow", "--port", str(port))
    try:
        said = read_until(page, "Ctrl-C")
        assert said == f"MLflow of jowestdgxe: {address} (Ctrl-C ends it)\n"
        done = subprocess.run(
            [sys.executable, "-m", "custom_gaze", "evaluate"],
            cwd=site.project,
            env={**site.environment, "MLFLOW_TRACKING_URI": address},
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"in {address}" in done.stdout, done.stdout + done.stderr
        client = mlflow.MlflowClient(address)
        experiment = client.get_experiment_by_name("custom-gaze")
        runs = client.search_runs([experiment.experiment_id], order_by=["start_time"])
        assert [run.info.run_name for run in runs] == ["story", "one"]
        its = f"source_run_id = '{runs[1].info.run_id}'"
        [logged] = client.search_logged_models([experiment.experiment_id], its)
        kept = (site.far_folder / "project" / "mlartifacts").rglob("model.onnx")
        [sent] = [path for path in kept if logged.model_id in path.parts]
        assert sha256(sent) == sha256(site.project / "models" / "custom_gaze.onnx")
    finally:
        page.send_signal(signal.SIGINT)
        code, _, errors = finish(page)
    assert code == 130, errors
    site.wait_for_quiet()  # no server stays behind
    wait_until(lambda: not listens(port), "the tunnel ends")


def kill_the_client_of_the_tunnel(site: Site) -> None:
    """The tunnel and the server end with it."""
    port = free_port()
    page = site.start("mlflow", "--port", str(port))
    site.wait_while(page, lambda: listens(port), "the tunnel stands")
    site.wait_while(
        page,
        lambda: any("mlflow server" in command_of(pid) for pid in site.machine.processes()),
        "the server starts",
    )
    page.kill()
    finish(page)
    site.wait_for_quiet()
    wait_until(lambda: not listens(port), "the tunnel ends")
