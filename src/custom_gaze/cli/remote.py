"""The verbs of `custom-gaze remote`: training on the far machine."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from custom_gaze.cli.verbs import Verbs, add_changes, add_verb
from custom_gaze.common.errors import InputError
from custom_gaze.remote.display import in_bytes, print_now

if TYPE_CHECKING:
    from custom_gaze.config.params import Params
    from custom_gaze.remote.connection import Connection
    from custom_gaze.remote.fetch import Fetched

DEFAULT_HOST = "jowestdgxe"
DEFAULT_FOLDER = "rustyeyes_train"
ROOT = Path()  # the project is the current folder


def add_verbs(verbs: Verbs) -> None:
    text = "train on jowestdgxe (docs/remote.md)"
    remote = verbs.add_parser("remote", help=text, description=text)
    verbs = remote.add_subparsers(dest="remote_verb", required=True, metavar="VERB")

    text = "once: prepare the machine and this project for each other"
    sub = add_verb(verbs, "setup", run_setup, text)
    sub.add_argument("--host", default=DEFAULT_HOST, help=f"default: {DEFAULT_HOST}")
    sub.add_argument(
        "--dir", default=DEFAULT_FOLDER, help=f"folder in the home there; default: {DEFAULT_FOLDER}"
    )
    sub.add_argument(
        "--python", default="", metavar="PATH", help="an environment there; default: one is made"
    )
    sub.add_argument("--yes", action="store_true", help="agree to what setup would ask")

    sub = add_verb(verbs, "train", run_train, "train there, read along, bring the experiment back")
    add_changes(sub)
    sub.add_argument("--name", help="of the experiment; default: made from session and time")
    sub.add_argument("--apply", action="store_true", help="take its model into the workspace")

    text = "train on several sessions there, one experiment each"
    sub = add_verb(verbs, "queue", run_queue, text)
    sub.add_argument("session", nargs="+", metavar="SESSION")
    sub.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="N at once; default: 1")
    add_changes(sub)
    sub.add_argument("--name", help="the experiments are called NAME-SESSION")

    add_verb(verbs, "status", run_status, "what runs there, on which epoch, graphics card and disk")
    text = "read along again, then bring the experiment back"
    sub = add_verb(verbs, "attach", run_attach, text)
    sub.add_argument("name", nargs="?", metavar="NAME", help="default: the one that runs")
    sub = add_verb(verbs, "logs", run_logs, "print what a run has said")
    sub.add_argument("name", metavar="NAME")
    sub = add_verb(verbs, "stop", run_stop, "end a run with everything it started")
    sub.add_argument("name", metavar="NAME")
    sub = add_verb(verbs, "fetch", run_fetch, "bring the experiment of a run that has ended")
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("--apply", action="store_true", help="take its model into the workspace")
    text = "MLflow's page of the machine there, through a tunnel"
    sub = add_verb(verbs, "mlflow", run_mlflow, text)
    sub.add_argument("--port", type=int, default=5001, help="on this machine; default: 5001")


def run_setup(arguments: argparse.Namespace) -> None:
    from custom_gaze.remote.setup import setup

    def consent(question: str) -> bool:
        if arguments.yes:
            print_now(f"{question} yes (--yes)")
            return True
        if not sys.stdin.isatty():
            raise InputError(f"{question} Nobody is there to answer; --yes agrees beforehand")
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")

    setup(arguments.host, arguments.dir, arguments.python, ROOT, consent)
    print_now(f"{arguments.host} is ready; train there: custom-gaze remote train")


def run_train(arguments: argparse.Namespace) -> None:
    from custom_gaze.config.changes import changed_params
    from custom_gaze.config.paths import Paths
    from custom_gaze.remote import request

    with _connected() as connection:
        params = changed_params(Paths(), tuple(arguments.set))
        name = request.name_of_run(arguments.name, params.sessions)
        _run(connection, name, {name: (arguments.set, params)}, apply_it=arguments.apply)


def run_queue(arguments: argparse.Namespace) -> None:
    from custom_gaze.config.changes import changed_params
    from custom_gaze.config.paths import Paths
    from custom_gaze.config.session_ids import sessions_value
    from custom_gaze.remote import request

    with _connected() as connection:
        if len(arguments.session) < 2:
            raise InputError("queue takes two sessions or more; for one: custom-gaze remote train")
        if arguments.jobs < 1:
            raise InputError(f"-j {arguments.jobs}: at least one at a time")
        base = request.name_of_run(arguments.name, ("queue",))
        experiments = {}
        for session in dict.fromkeys(arguments.session):
            changes = (sessions_value([session]), *arguments.set)
            name, params = f"{base}-{session}", changed_params(Paths(), changes)
            experiments[request.check_name(name)] = (changes, params)
        _run(connection, base, experiments, arguments.jobs)


def run_attach(arguments: argparse.Namespace) -> None:
    from custom_gaze.remote import runs

    with _connected() as connection:
        name = arguments.name or runs.find(connection, "").name
        _see_it_through(connection, name)


def run_fetch(arguments: argparse.Namespace) -> None:
    from custom_gaze.remote import runs
    from custom_gaze.remote.fetch import fetch

    with _connected(arguments.name) as connection:
        run = runs.find(connection, arguments.name)
        if arguments.apply and len(run.experiments) != 1:
            names = ", ".join(entry.name for entry in run.experiments)
            raise InputError(f"--apply takes one experiment; choose: dvc exp apply one of {names}")
        count = _announce(fetch(connection, run), arguments.apply)
        if run.state == "running":
            print_now(f"{count} of {len(run.experiments)}; {run.name} goes on there")


def run_status(_: argparse.Namespace) -> None:
    from custom_gaze.remote import runs

    with _connected(tell=False) as connection:
        for line in runs.status(connection):
            print_now(line)


def run_logs(arguments: argparse.Namespace) -> None:
    from custom_gaze.remote import runs

    with _connected(arguments.name, tell=False) as connection:
        runs.logs(connection, arguments.name)


def run_stop(arguments: argparse.Namespace) -> None:
    from custom_gaze.remote import runs

    with _connected(arguments.name, tell=False) as connection:
        print_now(runs.stop(connection, arguments.name))


def run_mlflow(arguments: argparse.Namespace) -> None:
    from custom_gaze.remote import mlflow_server

    with _connected(tell=False) as connection:
        mlflow_server.serve(connection, arguments.port)


@contextmanager
def _connected(name: str | None = None, tell: bool = True) -> "Iterator[Connection]":
    """A connection, to ask for a run of this name; what it has carried is told at its end."""
    from custom_gaze.remote.connection import Connection
    from custom_gaze.remote.request import check_name
    from custom_gaze.remote.settings import load_settings

    connection = Connection(load_settings(ROOT))
    if name is not None:
        check_name(name)
    try:
        with connection:
            yield connection
    finally:
        if tell and connection.sent:
            sent, received = in_bytes(connection.sent), in_bytes(connection.received)
            print_now(f"sent {sent}, received {received}")


def _run(
    connection: "Connection",
    name: str,
    experiments: "Mapping[str, tuple[Sequence[str], Params]]",
    jobs: int = 1,
    apply_it: bool = False,
) -> None:
    """Start a run of experiments, each a name with its changes, and see it through."""
    from custom_gaze.remote import repository, runs
    from custom_gaze.remote.replies import Asked, Request

    asked = [Asked(name=each, set=list(changes)) for each, (changes, _) in experiments.items()]
    request = Request(name=name, commit=repository.head(ROOT), experiments=asked, jobs=jobs)
    runs.begin(connection, request, [params for _, params in experiments.values()])
    _see_it_through(connection, name, apply_it)


def _see_it_through(connection: "Connection", name: str, apply_it: bool = False) -> None:
    """Read along to the end, then bring the result."""
    from custom_gaze.remote import runs
    from custom_gaze.remote.fetch import fetch

    _announce(fetch(connection, runs.read_along(connection, name)), apply_it)


def _announce(fetched: "Iterable[Fetched]", apply_it: bool) -> int:
    """Say of each experiment that it is here, as it comes; how many there are."""
    from custom_gaze.remote.fetch import apply

    names = []
    for entry in fetched:
        names.append(entry.name)
        here = "was here already" if entry.was_here else "is here"
        print_now(f"experiment {entry.name} {here}, {entry.files} files brought; see: dvc exp show")
        if entry.warning and not apply_it:
            print_now(f"{entry.name}: {entry.warning}")
    if apply_it:
        apply(ROOT, entry)
        print_now(f"applied: models/custom_gaze.onnx is {entry.name}'s")
    elif not entry.warning:
        print_now(f"take its model: dvc exp apply {names[0]}")
    return len(names)
