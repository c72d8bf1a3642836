"""Runs on the far machine: start one, read along, end it, ask what goes on."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.remote import carry, repository
from custom_gaze.remote.connection import AgentError, Connection
from custom_gaze.remote.display import (
    Say,
    Screen,
    Traffic,
    clock,
    gpu_line,
    in_bytes,
    progress,
    readable,
)
from custom_gaze.remote.payload import check_committed, check_sessions_saved, pack
from custom_gaze.remote.replies import (
    Done,
    Followed,
    Listed,
    Look,
    Run,
    Status,
    Stopped,
    not_asked,
)
from custom_gaze.remote.request import Request
from custom_gaze.remote.settings import Settings
from custom_gaze.remote.ssh import Lost, Unreachable

RECONNECT_S = 60.0  # so long a lost connection is tried again
LAST_LINES = 20
_MOST_CARDS = 16


class RunFailed(CustomGazeError):
    """The run itself failed."""


class Detached(CustomGazeError):
    """The user stopped reading along; the run goes on."""

    exit_code = 130


def begin(
    settings: Settings, root: Path, request: Request, traffic: Traffic, say: Say
) -> Run | None:
    """Send what a run needs and start it, detached from the connection.

    Returns:
        None where it was started; the known run, where this very request was sent before.

    Raises:
        InputError: something is not committed, a session is missing, or the name is taken.
        CustomGazeError: another run goes on, or the agent failed.
        Lost: the connection was cut; nothing was started, and the same command goes on.
    """
    for path in check_committed(root)[:5]:
        say(f"not sent, git does not know it: {path}")
    cache = Cache(root)
    payload = pack(root, cache, request)
    with ThreadPoolExecutor(1) as beside:
        saved = beside.submit(check_sessions_saved, root, payload.sessions)  # it takes a second
        with Connection(settings.host, traffic) as connection:
            if known := _known_run(connection, settings, root, request):
                return known
            pinned = root / "requirements.txt"
            needed = sha256_of(pinned) if pinned.exists() else ""
            engine = settings.engine.engine
            _ask_for_room(connection, "ready", **settings.place, requirements=needed, engine=engine)
            _check_in_store(connection, settings, payload.elsewhere)
            carry.send_commit(connection, root, settings, request.commit)
            saved.result()
            sent = carry.send_objects(connection, cache, settings, request.name, payload.here)
            job = (files(__package__ or "custom_gaze.remote") / "job.py").read_text(
                encoding="utf-8"
            )
            run = {**request.as_dict(), "engine": settings.engine.model_dump()}
            _ask_for_room(connection, "start", **settings.place, run=run, job=job)
    say(f"{len(sent)} of {len(payload.here)} files sent")
    say(f"{request.name} has started on {settings.host}")
    return None


def _known_run(
    connection: Connection, settings: Settings, root: Path, request: Request
) -> Run | None:
    """The run of this name, where the same command was given before and has not been ended."""
    asked = {**settings.place, "name": request.name, "may_miss": True}
    run = connection.ask("look", Look, **asked).run
    here = [e.name for e in request.experiments if repository.experiment_commit(root, e.name)]
    if run is not None and request.is_same_as(run):
        some_missing = len(here) < len(request.experiments)
        if run.state == "running" or (run.state == "done" and some_missing):
            return run
    if run is not None and run.state == "running":
        raise InputError(f"{request.name} is the name of another run that goes on there")
    if here or (run is not None and run.state == "done"):
        raise InputError(
            f"the name {here[0] if here else request.name} was used before; take another "
            "(--name), or remove that experiment (dvc exp remove)"
        )
    return None


def _ask_for_room(connection: Connection, do: str, /, **values: object) -> None:
    """Ask for what one run at a time can have; name the other one in words."""
    try:
        connection.ask(do, Done, **values)
    except AgentError as error:
        active = error.refusal.active
        if active is None:
            raise
        name = active.name
        raise CustomGazeError(
            f"{connection.host}: {name} has been running there since {clock(active.started)}; "
            f"read along: custom-gaze remote attach {name}; end it: custom-gaze remote stop {name}"
        ) from None


def _check_in_store(connection: Connection, settings: Settings, elsewhere: dict[str, str]) -> None:
    """What is not in the cache here has to be in the far machine's store."""
    if not elsewhere:
        return
    answer = connection.ask("listed", Listed, store=settings.store, objects=list(elsewhere))
    if answer.gone:
        paths = sorted({elsewhere.get(name, name) for name in answer.gone})
        raise InputError(
            f"neither here nor on {settings.host}: files of {', '.join(paths)}; "
            "`dvc add` a session again where it was captured; `dvc repro -f fetch` for models"
        )


def read_along(settings: Settings, name: str, traffic: Traffic, show: Say) -> Run:
    """Show a run's log as it grows, until it has ended; return the run.

    A lost connection is tried again for a minute, and goes on where it was.

    Raises:
        Detached: the user pressed Ctrl-C; the run goes on.
        Lost: the machine stayed out of reach; the run goes on.
    """
    position, lost_at = 0, 0.0
    screen = Screen(show)
    come_back = f"come back: custom-gaze remote attach {name}"
    while True:
        try:
            with Connection(settings.host, traffic) as connection:
                request = {"do": "follow", **settings.place, "name": name}
                connection.send({**request, "offset": position, "wait": True})
                while True:
                    message = connection.receive(Followed)
                    lost_at = 0.0
                    if message.ended is not None:
                        screen.end()
                        return _of_this_name(settings, message.ended, name)
                    position = message.log
                    screen.write(message.text)
        except KeyboardInterrupt:
            screen.end()
            raise Detached(
                f"detached; {name} goes on there; {come_back}; "
                f"end it: custom-gaze remote stop {name}"
            ) from None
        except (Lost, Unreachable) as error:
            if "host key" in str(error):
                raise
            if not lost_at:
                show(f"{error}; trying again for {RECONNECT_S:g} seconds, {name} goes on there")
                lost_at = time.monotonic()
            if time.monotonic() - lost_at > RECONNECT_S:
                raise Lost(f"{error}; {name} goes on there; {come_back}") from None
            time.sleep(0.5)


def last_lines(settings: Settings, name: str) -> list[str]:
    """The end of a run's log."""
    with Connection(settings.host) as connection:
        tail = connection.ask("look", Look, **settings.place, name=name).text
    lines = [readable(line) for line in re.split(rb"[\r\n]", tail)]
    return [line for line in lines if line][-LAST_LINES:]


def check_ended_well(settings: Settings, run: Run, say: Say) -> None:
    """Show the last lines of a run that failed.

    Raises:
        RunFailed: it failed, was ended, or the machine was switched off meanwhile.
    """
    if run.state == "done":
        return
    for line in last_lines(settings, run.name):
        say(line)
    reasons = {
        "failed": f"failed there with code {run.code}; these were its last lines",
        "stopped": "was stopped; the same command starts it again",
        "died": "was killed there or the machine restarted; the same command starts it again",
    }
    good = sum(map(bool, run.refs.values()))
    more = f"; {good} of {len(run.experiments)} are there: custom-gaze remote fetch {run.name}"
    raise RunFailed(f"{run.name} {reasons.get(run.state, run.state)}{more if good else ''}")


def _of_this_name(settings: Settings, run: Run, name: str) -> Run:
    if name and run.name != name:
        raise not_asked(settings.host, f"the run {run.name} for {name}")
    return run


def find(settings: Settings, name: str) -> Run:
    """The run of this name, or the one that goes on (else the newest) where it is empty.

    Raises:
        AgentError: there is none.
    """
    with Connection(settings.host) as connection:
        run = connection.ask("look", Look, **settings.place, name=name).run
    if run is None:
        raise not_asked(settings.host, f"no run for {name}")
    return _of_this_name(settings, run, name)


def stop(settings: Settings, name: str) -> str:
    """End a run with every process it started; return what was done.

    Raises:
        AgentError: there is no such run.
    """
    with Connection(settings.host) as connection:
        answer = connection.ask("stop", Stopped, **settings.place, name=name)
    run = _of_this_name(settings, answer.run, name)
    if answer.was == "running":
        return f"{run.name}: ended with every process that it started"
    left = "; left-over processes ended" if answer.left else ""
    return f"{run.name}: had ended before ({run.state}){left}"


def status(settings: Settings) -> list[str]:
    """What runs, since when, on which epoch; graphics card and disk."""
    with Connection(settings.host) as connection:
        about = connection.ask("status", Status, **settings.place)
    lines = [f"{settings.host}: {in_bytes(about.free)} free of {in_bytes(about.total)}"]
    lines += [f"graphics card: {gpu_line(entry)}" for entry in about.gpu[:_MOST_CARDS]]
    if not about.gpu:
        lines.append("graphics card: none that nvidia-smi knows")
    for run in about.runs[-10:]:
        seconds = (run.ended or about.now) - run.started
        since = f"{clock(run.started)}, {seconds / 60:.1f} minutes"
        lines.append(f"{run.name:<32} {run.state:<8} since {since}{run.note and f'; {run.note}'}")
        if run.state == "running" and (where := progress(about.text)):
            lines.append(f"    {where}")
    if not about.runs:
        lines.append("no run yet")
    return lines


def logs(settings: Settings, name: str, show: Say) -> None:
    """Print a run's log as far as it has come.

    Raises:
        AgentError: there is no such run.
    """
    with Connection(settings.host) as connection:
        request = {"do": "follow", **settings.place, "name": name}
        connection.send({**request, "offset": 0, "wait": False})
        screen = Screen(show)
        while (message := connection.receive(Followed)).ended is None:
            screen.write(message.text)
        screen.end()
