"""Several sessions one after another, with DVC's own queue."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from remote_site import Site, far_site, finish, kill
from sshd import NO_SSHD, SSHD, wait_until

pytestmark = pytest.mark.skipif(SSHD is None, reason=NO_SSHD)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with far_site(tmp_path_factory.mktemp("queue")) as site:
        for name in ("two", "three"):
            folder = site.project / "data" / "sessions" / name
            folder.mkdir()
            (folder / "frame.jpg").write_bytes(os.urandom(1000))
            site.dvc("add", "-q", f"data/sessions/{name}")
        site.commit()
        yield site


def test_each_session_becomes_an_experiment(site: Site) -> None:
    said = site.ok("queue", "one", "two", "-j", "2", "--name", "both", "-S", "train.seed=5")
    for name in ("both-one", "both-two"):
        assert f"experiment {name} is here" in said
        assert name in site.experiments()
    shown = json.loads(site.dvc("exp", "show", "--json"))
    found = [rev for row in shown for e in row["experiments"] or [] for rev in e["revs"]]
    trained_on = {
        rev["name"]: rev["data"]["params"]["params.yaml"]["data"]["sessions"] for rev in found
    }
    assert trained_on["both-one"] == ["one"]
    assert trained_on["both-two"] == ["two"]
    site.wait_for_quiet()  # DVC's queue workers included


def test_stop_ends_the_queue_with_its_workers(site: Site) -> None:
    site.hold(True)
    run = site.start("queue", "one", "three", "--name", "halted")
    wait_until(
        lambda: any("tiny" in command(pid) for pid in site.machine.processes()),
        "the first one trains",
        seconds=90,
    )
    site.ok("stop", "halted")
    code, _, errors = finish(run)
    assert code == 1
    assert "halted was stopped" in errors
    site.wait_for_quiet()
    site.hold(False)
    said = site.ok("queue", "one", "three", "--name", "halted")  # the same command again
    assert "experiment halted-three is here" in said
    site.wait_for_quiet()


def test_the_client_killed_and_the_queue_fetched_by_name(site: Site) -> None:
    site.hold(True)
    run = site.start("queue", "two", "three", "--name", "later", "-S", "train.seed=9")
    wait_until((site.there / "runs" / "later" / "pid.json").exists, "it starts", seconds=60)
    kill(run, signal.SIGKILL)
    finish(run)
    site.hold(False)
    wait_until((site.there / "runs" / "later" / "result.json").exists, "it ends", seconds=120)
    said = site.ok("fetch", "later")
    assert "experiment later-two is here" in said
    assert "experiment later-three is here" in said


def test_one_session_is_no_queue(site: Site) -> None:
    done = site.run("queue", "one")
    assert done.returncode == 2
    assert "for one: custom-gaze remote train" in done.stderr


def command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""
