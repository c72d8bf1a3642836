"""Several sessions, one after another or at once, each an experiment in a copy of its own."""

import os
import signal

import pytest

from remote_site import Site, finish, is_stage, kill
from sshd import NO_SSHD, SSHD, wait_until

pytest_plugins = ["remote_fixtures"]
pytestmark = [pytest.mark.skipif(SSHD is None, reason=NO_SSHD), pytest.mark.long]


def test_the_queue_stopped_started_again_killed_here_and_fetched(site: Site) -> None:
    site.add_session("two", {"frame.jpg": os.urandom(1000)})
    site.hold(True)
    command = ("queue", "one", "two", "-j", "2", "--name", "both", "-S", "train.seed=5")
    run = site.start(*command)
    site.wait_while(run, lambda: stages(site), "one trains")
    assert "both" in site.ok("status")
    site.ok("stop", "both")
    code, _, errors = finish(run)
    assert code == 1
    assert "both was stopped" in errors
    wait_until(lambda: not site.machine.processes(), "all of it ends")

    run = site.start(*command)  # the same command again
    site.wait_while(run, lambda: len(stages(site)) == 2, "both train, at once")
    kill(run, signal.SIGKILL)
    finish(run)
    site.hold(False)
    wait_until((site.far_folder / "runs" / "both" / "result-1.json").exists, "the second ends")
    wait_until((site.far_folder / "runs" / "both" / "result-0.json").exists, "the first ends")
    said = site.ok("fetch", "both")
    for session in ("one", "two"):
        assert f"experiment both-{session} is here" in said
        params = site.params_of(f"both-{session}")
        assert (params["sessions"], params["train"]["seed"]) == ([session], 5)
    done = site.run("fetch", "both", "--apply")
    assert done.returncode == 2
    assert "--apply takes one experiment" in done.stderr


def stages(site: Site) -> list[int]:
    """The training processes on the far machine."""
    return [pid for pid in site.machine.processes() if is_stage(pid)]
