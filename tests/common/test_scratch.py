"""The folder of an interrupted training, and the lock on it."""

import fcntl
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from custom_gaze.common.scratch import scratch_folder
from time_limit import ends_within


def test_it_stays_after_a_failure_and_goes_after_success(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), scratch_folder(tmp_path, "old") as folder:
        (folder / "epoch").touch()
        raise KeyboardInterrupt
    assert (tmp_path / "old" / "epoch").exists()
    with scratch_folder(tmp_path, "new") as folder:
        assert not (tmp_path / "old").exists()
        (folder / "epoch").touch()
    assert not folder.exists()


HOLD = """
import sys, time
from pathlib import Path
from custom_gaze.common.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), "key"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_training_that_waits_for_another_says_for_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signal ends the wait, as Ctrl-C does; when the other one is gone, the work begins."""
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    try:
        began = time.monotonic()
        with pytest.raises(TimeoutError), ends_within(0.2), scratch_folder(tmp_path, "key"):
            raise AssertionError("it did not wait")
        assert time.monotonic() - began < 5
    finally:
        other.kill()
        other.communicate()
    said = capsys.readouterr().err
    assert said.startswith(f"waiting for process {other.pid} (")
    assert re.search(r"\), at work since \d\d \w+ \d\d:\d\d with", said)
    assert said.endswith("with the same inputs; Ctrl-C ends this wait\n")
    with scratch_folder(tmp_path, "key"):
        assert (tmp_path / "key.lock").read_text(encoding="ascii") == f"{os.getpid()}\n"


def test_a_lock_without_a_name_is_waited_for_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key.lock").write_text("\x1b[31m", encoding="ascii")
    with (tmp_path / "key.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError), ends_within(0.1), scratch_folder(tmp_path, "key"):
            raise AssertionError("it did not wait")
    assert capsys.readouterr().err.startswith("waiting for another process at work with the same")
