"""What each verb of `custom-gaze remote` does, from its parsed arguments."""

import argparse
import dataclasses
import sys
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import sessions_value
from custom_gaze.remote import repository, runs
from custom_gaze.remote.display import Traffic, print_now
from custom_gaze.remote.fetch import Fetched, apply, fetch, warning
from custom_gaze.remote.request import Experiment, Request, changed_params, check_name, new_name
from custom_gaze.remote.settings import Settings, load_settings


def run_setup(arguments: argparse.Namespace) -> None:
    """`setup [--host HOST] [--dir FOLDER] [--python PATH] [--yes]`."""
    from custom_gaze.remote.setup import setup

    def consent(question: str) -> bool:
        if arguments.yes:
            print_now(f"{question} yes (--yes)")
            return True
        if not sys.stdin.isatty():
            raise InputError(f"{question} Nobody is there to answer; --yes agrees beforehand")
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")

    settings = setup(arguments.host, arguments.dir, arguments.python, Path(), consent, print_now)
    print_now(f"{settings.host} is ready; train there: custom-gaze remote train")


def run_train(arguments: argparse.Namespace) -> None:
    """`train [-S key=value …] [--name NAME] [--apply]`."""
    settings, root = _project()
    params = changed_params(Paths(), tuple(arguments.set))
    name = check_name(arguments.name) if arguments.name else new_name(params.sessions)
    experiment = Experiment(name, tuple(arguments.set), params)
    request = Request(name, repository.head(root), (experiment,))
    _run(settings, root, request, arguments.apply)


def run_queue(arguments: argparse.Namespace) -> None:
    """`queue SESSION [SESSION …] [-j N] [-S key=value …] [--name NAME]`."""
    settings, root = _project()
    if len(arguments.session) < 2:
        raise InputError("queue takes two sessions or more; for one: custom-gaze remote train")
    if arguments.jobs < 1:
        raise InputError(f"-j {arguments.jobs}: at least one at a time")
    sessions = tuple(dict.fromkeys(arguments.session))
    base = check_name(arguments.name) if arguments.name else new_name(("queue",))
    experiments = []
    for session in sessions:
        changes = (sessions_value([session]), *arguments.set)
        params = changed_params(Paths(), changes)
        experiments.append(Experiment(check_name(f"{base}-{session}"), changes, params))
    request = Request(base, repository.head(root), tuple(experiments), arguments.jobs)
    _run(settings, root, request, apply_it=False)


def _run(settings: Settings, root: Path, request: Request, apply_it: bool) -> None:
    traffic = Traffic()
    try:
        run = runs.begin(settings, root, request, traffic, print_now)
        if run is not None:
            print_now(f"{request.name} was started before ({run.state}); going on with it")
        _see_it_through(settings, root, request.name, traffic, apply_it)
    finally:
        _tell(traffic)


def _see_it_through(
    settings: Settings, root: Path, name: str, traffic: Traffic, apply_it: bool
) -> None:
    """Read along to the end, then bring the result."""
    run = runs.read_along(settings, name, traffic, print_now)
    runs.check_ended_well(settings, run, print_now)
    _announce(fetch(settings, root, run, traffic, print_now), root, apply_it)


def _announce(fetched: list[Fetched], root: Path, apply_it: bool) -> None:
    for entry in fetched:
        here = "was here already" if entry.was_here else "is here"
        print_now(f"experiment {entry.name} {here}, {entry.files} files brought; see: dvc exp show")
        if entry.beyond and not apply_it:
            print_now(f"{entry.name}: {warning(entry.name, entry.commit, entry.beyond)}")
    if apply_it:
        (entry,) = fetched
        apply(root, entry.name)
        print_now(f"applied: models/custom_gaze.onnx is {entry.name}'s")
    elif fetched and not fetched[0].beyond:
        print_now(f"take its model: dvc exp apply {fetched[0].name}")


def run_attach(arguments: argparse.Namespace) -> None:
    """`attach [NAME]`."""
    settings, root = _project()
    traffic = Traffic()
    try:
        name = arguments.name or runs.find(settings, "").name
        _see_it_through(settings, root, name, traffic, apply_it=False)
    finally:
        _tell(traffic)


def run_fetch(arguments: argparse.Namespace) -> None:
    """`fetch NAME [--apply]`."""
    settings, root = _project()
    traffic = Traffic()
    try:
        run = runs.find(settings, check_name(arguments.name))
        fetched = fetch(settings, root, run, traffic, print_now)
        if arguments.apply and len(fetched) != 1:
            names = ", ".join(entry.name for entry in fetched)
            raise InputError(f"--apply takes one experiment; choose: dvc exp apply one of {names}")
        _announce(fetched, root, arguments.apply)
    finally:
        _tell(traffic)


def run_status(_: argparse.Namespace) -> None:
    """`status`."""
    settings, _root = _project()
    for line in runs.status(settings):
        print_now(line)


def run_logs(arguments: argparse.Namespace) -> None:
    """`logs NAME`."""
    settings, _root = _project()
    runs.logs(settings, check_name(arguments.name), print_now)


def run_stop(arguments: argparse.Namespace) -> None:
    """`stop NAME`."""
    settings, _root = _project()
    print_now(runs.stop(settings, check_name(arguments.name)))


def run_mlflow(arguments: argparse.Namespace) -> None:
    """`mlflow [--port PORT]`."""
    from custom_gaze.remote import mlflow_runs

    settings, _root = _project()
    mlflow_runs.serve(settings, arguments.port)


def _tell(traffic: Traffic) -> None:
    if traffic.sent:
        print_now(traffic.line())


def _project() -> tuple[Settings, Path]:
    root = Path()
    settings = load_settings(root)
    return dataclasses.replace(settings, subfolder=repository.subfolder(root)), root
