"""Runs on the far machine: start one, read along, end it, ask what goes on."""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import sha256_of
from custom_gaze.config.params import Params
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.remote import agent_runs, carry, repository
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.display import Screen, clock, gpu_line, in_bytes, progress
from custom_gaze.remote.display import print_now as say
from custom_gaze.remote.programs import Lost, Unreachable
from custom_gaze.remote.replies import NotAsked, Request, Run
from custom_gaze.remote.request import check_committed, check_sessions_saved, pack

RECONNECT_S = 60.0  # so long a lost connection is tried again
LAST_LINES = 20
_MOST_CARDS = 16


class Detached(CustomGazeError):
    """The user stopped reading along; the run goes on."""

    exit_code = 130


def begin(connection: Connection, request: Request, params: Sequence[Params]) -> None:
    """Send what a run needs and start it, or find that this very request was sent before.

    Raises:
        InputError: something is not committed, a session is missing, or the name is taken.
        CustomGazeError: another run goes on, or the agent failed.
        Lost: the connection was cut; nothing was started, and the same command goes on.
    """
    settings, name = connection.settings, request.name
    root, cache = settings.root, Cache(settings.root)
    for path in check_committed(root)[:5]:
        say(f"not sent, git does not know it: {path}")
    payload, pinned = pack(root, cache, request.commit, params), root / "requirements.txt"
    here = [e.name for e in request.experiments if repository.experiment_commit(root, e.name)]
    run = {**request.model_dump(), "engine": settings.engine.model_dump()}
    needed = sha256_of(pinned) if pinned.exists() else ""
    with ThreadPoolExecutor(1) as beside:
        saved = beside.submit(check_sessions_saved, root, payload.sessions)  # it takes a second
        if known := connection.ask(agent_runs.ready, run=run, here=here, requirements=needed).run:
            say(f"{name} was started before ({known.state}); going on with it")
            return
        carry.send_commit(connection, request.commit)
        saved.result()
        sent = carry.send_objects(connection, cache, name, payload)
    job = Path(__file__).with_name("job.py").read_text(encoding="utf-8")
    connection.ask(agent_runs.start, run=run, job=job)
    say(f"{sent} of {len(payload.here)} files sent")
    say(f"{name} has started on {settings.host}")


def read_along(connection: Connection, name: str) -> Run:
    """Show a run's log as it grows, until it has ended; return the run.

    A lost connection is tried again for a minute, and goes on where it was.

    Raises:
        Detached: the user pressed Ctrl-C; the run goes on.
        Lost: the machine stayed out of reach; the run goes on.
        CustomGazeError: it failed, was ended, or the machine was switched off meanwhile; its last
            lines were shown.
    """
    screen, seen, lost_at = Screen(say), -1, 0.0
    come_back = f"come back: custom-gaze remote attach {name}"
    while True:
        try:
            return _checked(connection, _follow(connection, name, screen, wait=True))
        except KeyboardInterrupt:
            screen.end()
            raise Detached(
                f"detached; {name} goes on there; {come_back}; "
                f"end it: custom-gaze remote stop {name}"
            ) from None
        except (Lost, Unreachable) as error:
            if "host key" in str(error):
                raise
            connection.close()
            if screen.seen > seen:  # it has spoken since
                say(f"{error}; trying again for {RECONNECT_S:g} seconds, {name} goes on there")
                seen, lost_at = screen.seen, time.monotonic()
            elif time.monotonic() - lost_at > RECONNECT_S:
                raise Lost(f"{error}; {name} goes on there; {come_back}") from None
            time.sleep(0.5)


def _follow(connection: Connection, name: str, screen: Screen, wait: bool) -> Run:
    connection.send(agent_runs.follow, name=name, offset=screen.seen, wait=wait)
    while (told := connection.receive()).run is None:
        screen.write(told.text)
    screen.end()
    return _of_this_name(connection, told.run, name)


def _checked(connection: Connection, run: Run) -> Run:
    """The run, if it has ended well; else its last lines are shown."""
    if run.state == "done":
        return run
    last: deque[str] = deque(maxlen=LAST_LINES)
    screen = Screen(last.append)
    screen.write(connection.ask(agent_runs.look, name=run.name).text)
    screen.end()
    for line in last:
        say(line)
    reasons = {
        "failed": f"failed there with code {run.code}; these were its last lines",
        "stopped": "was stopped; the same command starts it again",
        "died": "was killed there or the machine restarted; the same command starts it again",
    }
    good = len(run.done)
    more = f"; {good} of {len(run.experiments)} are there: custom-gaze remote fetch {run.name}"
    raise CustomGazeError(f"{run.name} {reasons.get(run.state, run.state)}{more if good else ''}")


def _of_this_name(connection: Connection, run: Run | None, name: str) -> Run:
    if run is None or (name and run.name != name):
        raise NotAsked(connection.host, f"the run {run and run.name} for {name}")
    return run


def find(connection: Connection, name: str) -> Run:
    """The run of this name, or the one that goes on (else the newest) where it is empty."""
    return _of_this_name(connection, connection.ask(agent_runs.look, name=name).run, name)


def logs(connection: Connection, name: str) -> None:
    """Print a run's log as far as it has come."""
    _follow(connection, name, Screen(say), wait=False)


def stop(connection: Connection, name: str) -> str:
    """End a run with every process it started; return what was done."""
    told = connection.ask(agent_runs.stop, name=name)
    run = _of_this_name(connection, told.run, name)
    if run.state == "running":
        return f"{run.name}: ended with every process that it started"
    left = "; left-over processes ended" if told.left else ""
    return f"{run.name}: had ended before ({run.state}){left}"


def status(connection: Connection) -> list[str]:
    """What runs, since when, on which epoch; graphics card and disk."""
    about = connection.ask(agent_runs.status)
    lines = [f"{connection.host}: {in_bytes(about.free)} free of {in_bytes(about.total)}"]
    cards = [gpu_line(entry) for entry in about.gpu[:_MOST_CARDS]]
    lines += [f"graphics card: {card}" for card in cards or ["none that nvidia-smi knows"]]
    for run in about.runs[-10:]:
        seconds = (run.ended or about.now) - run.started
        since = f"{clock(run.started)}, {seconds / 60:.1f} minutes"
        lines.append(f"{run.name:<32} {run.state:<8} since {since}{run.note and f'; {run.note}'}")
        if run.state == "running" and (where := progress(about.text)):
            lines.append(f"    {where}")
    return lines if about.runs else [*lines, "no run yet"]
