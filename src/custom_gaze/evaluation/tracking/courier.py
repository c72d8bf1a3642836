"""Carries a training's journal to MLflow while it is written: `python -m … JOURNAL PID`.

PID is the training's, its parent: whoever asked for that here would miss one that was killed while
this program started. It has a new session and inherits the journal's lock. It ends with what it
carries: after the training has ended, or was killed, and MLflow was told so. Where MLflow does not
answer it ends at once, and the journal stays for the next command that delivers.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

EVERY_S = 0.5
LATEST_S = 120  # after the training's end, whatever the store does


def main() -> None:
    os.nice(10)
    path, parent = Path(sys.argv[1]), int(sys.argv[2])
    with contextlib.suppress(Exception):  # whatever a server, a database or a proxy may answer
        _carry(path, parent)


def _carry(path: Path, parent: int) -> None:
    from custom_gaze.evaluation.tracking import journal, pending
    from custom_gaze.evaluation.tracking.journal import append
    from custom_gaze.evaluation.tracking.record import begin, record_of_unfinished
    from custom_gaze.evaluation.tracking.store import open_store, quiet

    with quiet():
        client, sent, run_id, size = open_store(), _Sent(), "", 0
        while True:
            gone = os.getppid() != parent  # looked at first: what it wrote last is read
            if path.stat().st_size == size and not gone:
                time.sleep(EVERY_S)
                continue
            size = path.stat().st_size
            told = journal.read(path)
            if told is None:
                return
            if told.end or told.trained or gone:
                signal.alarm(LATEST_S)
                break
            if not run_id:
                run_id = begin(client, record_of_unfinished(told, "RUNNING", told.progress))
                pending.deliver_pending()  # what earlier ones have left
            sent.rest(client, run_id, told)
        if not told.end and not told.trained:
            append(path, end="KILLED", end_in="train", end_ms=journal.now_ms())
            told = journal.read(path)
        if told is not None and told.trained and not told.end and told.opening.pipeline is not None:
            run_id = run_id or begin(client, record_of_unfinished(told, "RUNNING", ""))
            sent.rest(client, run_id, told)
            client.set_tag(run_id, "progress", "trained")
        elif told is not None:
            pending.close(client, told)


class _Sent:
    """What of a journal MLflow has already."""

    def __init__(self) -> None:
        self._params = False
        self._metrics = 0
        self._tags: dict[str, str] = {}

    def rest(self, client: Any, run_id: str, told: Any) -> None:
        """Send what is new."""
        from custom_gaze.evaluation.tracking.store import log_figures

        tags = {**told.tags, "progress": told.progress}
        new_tags = {name: value for name, value in tags.items() if self._tags.get(name) != value}
        metrics = [(n, value, ms, step) for n, value, step, ms in told.metrics[self._metrics :]]
        params = [] if self._params else list(told.opening.params.items())
        if new_tags or metrics or params:
            log_figures(client, run_id, params, metrics, new_tags)
        self._params, self._metrics, self._tags = True, len(told.metrics), tags


if __name__ == "__main__":
    main()
