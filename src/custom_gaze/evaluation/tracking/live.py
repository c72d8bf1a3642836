"""The run of a training, live in MLflow while it trains.

The training writes a journal; its courier, a process of its own with a low priority, carries
what is new there to MLflow. So the training waits for nothing, whatever the store does, and a
training that is killed is still told of. For what a courier could not deliver see pending.py.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from custom_gaze.calibration.progress import SILENT, Progress
from custom_gaze.calibration.recipe import Epoch
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import sha256_of
from custom_gaze.common.untrusted import MOST_MODEL_BYTES, regular_file
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import read_specification
from custom_gaze.evaluation.tracking import journal
from custom_gaze.evaluation.tracking.journal import Journal, now_ms
from custom_gaze.evaluation.tracking.record import first_tags

COURIER = "custom_gaze.evaluation.tracking.courier"


@contextmanager
def training(params: Params, paths: Paths) -> Iterator[Progress]:
    """Record the training inside: what it tells to what is yielded, and how it ends.

    A journal that cannot be written is no reason to train no further: then MLflow has the run from
    its evaluation on.
    """
    opened = _open(params, paths)
    if opened is None:
        yield SILENT
        return
    try:
        yield _Told(opened)
    except BaseException as error:
        _write(opened, **_end_of(error, "train"))
        raise
    else:
        _write(opened, trained=sha256_of(paths.checkpoint))
    finally:
        opened.close()


@contextmanager
def following(stage: str, params: Params, paths: Paths) -> Iterator[None]:
    """Where the stage inside fails, so has the run whose checkpoint it works on."""
    try:
        yield
    except BaseException as error:
        with suppress(OSError, CustomGazeError):
            checkpoint = regular_file(paths.checkpoint, MOST_MODEL_BYTES)
            told = journal.awaiting(sha256_of(checkpoint), params)
            if told is not None:
                if not isinstance(error, KeyboardInterrupt):  # nobody waits for more after that
                    journal.wait_for_courier(told.opening.id)
                again = Journal(told.path)
                again.write(**_end_of(error, stage))
                _send_courier(again)
                again.close()
        raise


def _end_of(error: BaseException, stage: str) -> dict[str, object]:
    how = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
    return {"end": how, "end_in": stage, "end_ms": now_ms()}


def _open(params: Params, paths: Paths) -> Journal | None:
    with suppress(OSError, CustomGazeError):  # what is wrong with a file the stage says itself
        geometry = read_specification(paths.specification)
        opened = journal.begin(journal.opening_of(params, first_tags(params, geometry)))
        _send_courier(opened)
        return opened
    return None


def _send_courier(opened: Journal) -> None:
    root = str(Paths().main_root)
    courier = subprocess.Popen(
        [sys.executable, "-m", COURIER, str(opened.path), str(os.getpid())],
        env={**os.environ, "DVC_ROOT": root},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the training, and it is told of that
        pass_fds=(opened.handle,),  # and its lock with it
    )
    courier.returncode = 0  # nobody waits for it: it ends after the training


def _write(opened: Journal, **said: object) -> None:
    with suppress(OSError):
        opened.write(**said)


class _Told(Progress):
    """Writes down what it is told, each thing once."""

    def __init__(self, opened: Journal) -> None:
        self._journal = opened
        self._known: set[tuple[str, int]] = set()

    def stands(self, where: str) -> None:
        _write(self._journal, progress=where)

    def about(self, trunk: str, base: str) -> None:
        _write(self._journal, tags={"trunk": trunk, "base": base})

    def epoch(self, epoch: Epoch, fold: int | None = None) -> None:
        prefix = "" if fold is None else f"fold_{fold}/"
        for name in ("train_loss", "validation_loss", "validation_error_deg"):
            self._metric(prefix + name, getattr(epoch, name), epoch.epoch)

    def candidate(self, name: Candidate, error_deg: float) -> None:
        self._metric(f"choice/{name.held_out}", round(error_deg, 3), 0)

    def _metric(self, name: str, value: float, step: int) -> None:
        if (name, step) not in self._known:
            self._known.add((name, step))
            _write(self._journal, metric=[name, value, step, now_ms()])
