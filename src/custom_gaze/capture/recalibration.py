"""Nine targets as a new session, and a run over the old sessions and it, without training.

The run is `custom-gaze run`, in a process of its own: DVC's experiment, MLflow's run and the files
in the working tree are those that the same command in a terminal leaves.

Before and after are of the same frames, the new session's, and neither model had seen the target
of the frame that it is measured on: the one from before knew none of them, the new one's figures
are those of cross-validation, and of the exported file on the targets that the run held out.

The new model is taken as soon as it is exported, with the figures that there are then; the run goes
on to its evaluation, which adds the targets that it held out.
"""

import functools
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel

from custom_gaze.capture.live_round import ModelError, Round, model_error
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.stage_files import PLAIN_NAME, read_table
from custom_gaze.common.untrusted import printable
from custom_gaze.config.params import Params, load_params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import SESSION_ID, SESSION_ID_RULE
from custom_gaze.data.index import of_split, read_index
from custom_gaze.data.splits import TRAIN, VALIDATION
from custom_gaze.evaluation.results import REMEDY, PredictionRow

PROBE = ("-S", "train.method=probe")
STAGE = re.compile(r"Running stage '([a-z_]+)")
EXPORT = "export"
SAID_LINES = 50
STOPS_S = 30.0


class RunMade(BaseModel):
    """What of `custom-gaze run --json` is of interest here."""

    experiment: str


Exchange = Callable[[], Callable[[], None]]  # takes the new model; what it returns, the old again


@dataclass(frozen=True)
class Recalibrated:
    """What a recalibration made; both errors are over the same frames of the new session.

    `experiment` is '' and `seconds` are those until the new model was taken, while the run goes on.
    """

    session: str
    experiment: str
    seconds: float
    frames: int
    before: ModelError
    after: ModelError


@dataclass(frozen=True)
class State:
    """How a recalibration stands: what it does now, as a stage's name, and since how long; a result
    while it is running is that of the model, not yet of its evaluation."""

    stands: Literal["idle", "running", "done", "failed"] = "idle"
    step: str = ""
    seconds: float = 0.0
    error: str = ""
    result: Recalibrated | None = None


class Recalibration:
    """One at a time, in a thread of its own; `state` may be asked for at any time."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._lock = threading.Lock()
        self._state, self._started = State(), 0.0
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def state(self) -> State:
        """How it stands."""
        with self._lock:
            now = self._state
            return now if now.stands != "running" else replace(now, seconds=self._seconds())

    def start(self, taken: Round, keep: Callable[[], str], exchange: Exchange) -> None:
        """Begin: `keep` makes the round's session and returns its id, `exchange` takes the new
        model and returns what brings back the old one.

        Raises:
            InputError: one is running.
        """
        with self._lock:
            if self._state.stands == "running":
                raise InputError("a recalibration is running; wait until it has ended")
            self._state, self._started = State("running", "import"), time.monotonic()
        work = functools.partial(self._run, taken, keep, exchange)
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End one that runs, as Ctrl-C in its terminal would, and wait until it has tidied up."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
        if self._thread is not None:
            self._thread.join(STOPS_S)

    def _run(self, taken: Round, keep: Callable[[], str], exchange: Exchange) -> None:
        back: list[Callable[[], None]] = []
        try:
            session = keep()

            def exported() -> None:
                with suppress(CustomGazeError):  # it is tried again at the end, which says why
                    back.append(exchange())
                    after = crossed_errors(session, self._paths)
                    early = compared(taken, session, "", after, self._seconds())
                    self._say("evaluate", early)

            experiment = self._calibrate(session, exported)
            if not back:  # the run has exported nothing: the model is that of an earlier one
                self._say("load")
                back.append(exchange())
            after = crossed_errors(session, self._paths) | held_out_errors(session, self._paths)
            result = compared(taken, session, experiment, after, self._seconds())
            self._end(State("done", "", self._seconds(), "", result))
        except Exception as error:
            for take in back:
                take()
            ours = isinstance(error, CustomGazeError)
            words = printable(error if ours else repr(error), 1000)
            self._end(State("failed", "", self._seconds(), words))
            if not ours:  # a fault of ours must not leave the page waiting for ever
                raise

    def _calibrate(self, session: str, exported: Callable[[], None]) -> str:
        """`custom-gaze run` over the sessions that params.yaml names and the new one; returns the
        experiment's name. `exported` is called once its model is there.

        Raises:
            CustomGazeError: it failed.
        """
        words = run_words(load_params(self._paths.params), session)
        said: deque[str] = deque(maxlen=SAID_LINES)
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "custom_gaze", *words],
            cwd=self._paths.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C in our terminal reaches it through `stop` alone
        )
        output, errors = process.stdout, process.stderr
        assert output is not None
        assert errors is not None
        document: list[str] = []
        step = ""
        reader = threading.Thread(target=lambda: document.append(output.read()))
        reader.start()
        for line in errors:
            said.append(line.rstrip())
            if found := STAGE.search(line):
                before, step = step, found[1]
                self._say(step)
                if before == EXPORT:  # DVC goes on when its output is whole
                    exported()
        reader.join()
        if process.wait() != 0:
            raise CustomGazeError(reason_of(said, process.returncode))
        return RunMade.model_validate_json(document[0]).experiment

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _say(self, step: str, early: Recalibrated | None = None) -> None:
        with self._lock:
            self._state = State("running", step, result=early or self._state.result)

    def _end(self, state: State) -> None:
        with self._lock:
            self._state = state


def run_words(params: Params, session: str) -> list[str]:
    """The words of the command: the sessions as params.yaml has them, and the new one."""
    tested = ["--test", *params.evaluate.sessions] if params.evaluate.sessions else []
    return ["run", *params.sessions, session, *tested, "--json", *PROBE]


def reason_of(said: Sequence[str], code: int) -> str:
    """Why a run failed: the first complaint of a command of ours, else its last line."""
    ours = [line.strip() for line in said if line.strip().startswith("custom-gaze: ")]
    words = [line.strip() for line in said if line.strip()]
    last = ours[0] if ours else (words[-1] if words else f"it ended with {code}")
    return last.removeprefix("custom-gaze: ")


def crossed_errors(session: str, paths: Paths) -> dict[str, float]:
    """The new model's error in degrees by cross-validation on each calibration frame of a session
    by name: of fits that had not seen the frame's target.

    Raises:
        InputError: the run's files are not those of one run.
    """
    from custom_gaze.calibration.candidates import read_candidates

    samples = read_index(paths.index)
    known = *of_split(samples, TRAIN), *of_split(samples, VALIDATION)  # as `train` had them
    crossed = read_candidates(paths.candidates).cross_validated_deg
    if len(crossed) != len(known):
        raise InputError(f"{paths.candidates}: is not of the frames in {paths.index}; {REMEDY}")
    return {
        sample.filename: error
        for sample, error in zip(known, crossed, strict=True)
        if sample.session == session
    }


def held_out_errors(session: str, paths: Paths) -> dict[str, float]:
    """The exported file's error in degrees on each frame of a session by name whose target the run
    held out.

    Raises:
        InputError: reports/predictions.csv is not as the evaluation writes it.
    """
    columns = [entry.name for entry in fields(PredictionRow)]
    found = {}
    for row in read_table(paths.predictions, columns, REMEDY):
        if row.word("session", SESSION_ID, f"a session id: {SESSION_ID_RULE}") == session:
            name = row.word("filename", PLAIN_NAME, "the name of a file")
            found[name] = row.number("error_deg", 0.0, 360.0)
    return found


def compared(
    taken: Round, session: str, experiment: str, after: dict[str, float], seconds: float
) -> Recalibrated:
    """Before and after over those of a round's frames that the run used.

    Raises:
        CustomGazeError: it used none.
    """
    names = [f"img_{one.timestamp_ms}.jpg" for one in taken.taken]
    rows = [row for row, name in enumerate(names) if name in after]
    if not rows:
        raise CustomGazeError(f"{session}: the run used none of its frames")
    targets = [taken.taken[row].target for row in rows]
    screen = taken.geometry, taken.pixel_cm
    new = np.array([after[names[row]] for row in rows])
    return Recalibrated(
        session=session,
        experiment=experiment,
        seconds=seconds,
        frames=len(rows),
        before=model_error(taken.errors_deg()[rows], targets, *screen),
        after=model_error(new, targets, *screen),
    )
