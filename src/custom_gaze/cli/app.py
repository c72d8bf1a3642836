"""The verbs about the RustyEyes app, and about what may go there: history and experiments too."""

import argparse
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from custom_gaze.cli.verbs import Verbs, add_verb, project, tell
from custom_gaze.common.console import say, warn
from custom_gaze.common.errors import CustomGazeError, InputError

if TYPE_CHECKING:
    from custom_gaze.config.params import Params
    from custom_gaze.config.paths import Paths
    from custom_gaze.history.calibrations import History
    from custom_gaze.history.standing import Standing
    from custom_gaze.rustyeyes.deploy import DeployPlan
    from custom_gaze.rustyeyes.status import AppStatus


def add_verbs(verbs: Verbs) -> None:
    text = "all calibrations ever made here, measured on one session"
    sub = add_verb(verbs, "history", run_history, text, json=True)
    text = "a prepared session; default: the newest that the most can be compared on"
    sub.add_argument("--reference", metavar="SESSION", help=text)
    sub.add_argument("--output", type=Path, metavar="PNG", help="default: reports/history.png")

    text = "DVC's experiments: their figures and the parameters that differ"
    sub = add_verb(verbs, "experiments", run_experiments, text, json=True)
    text = "those of all commits; default: of the newest"
    sub.add_argument("-A", "--all-commits", action="store_true", help=text)

    sub = add_verb(verbs, "deploy", run_deploy, "put the model into RustyEyes; shows what changes")
    sub.add_argument("app", type=Path, metavar="APP_DIR")
    sub.add_argument("--dry-run", action="store_true", help="only show what would change")
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--model", type=Path, help="default: models/custom_gaze.onnx")
    text = "the model of an experiment, commit, branch, tag or MLflow run (custom-gaze history)"
    which.add_argument("--experiment", metavar="NAME", help=text)
    text = "agree to a model that is worse than the live one"
    sub.add_argument("--yes", action="store_true", help=text)
    sub.add_argument(
        "--app-pixels-per-degree",
        type=float,
        metavar="N",
        help="the app's own scale (20): sets the gains so that its dot lands on the target",
    )
    sub = add_verb(
        verbs, "rollback", run_rollback, "undo the last deploy, byte for byte", anywhere=True
    )
    sub.add_argument("app", type=Path, metavar="APP_DIR")
    text = "tell which model is live in RustyEyes, since when, and how good it is"
    sub = add_verb(verbs, "status", run_status, text, anywhere=True, json=True)
    sub.add_argument(
        "app", type=Path, nargs="?", metavar="APP_DIR", help="default: that of the last deploy"
    )


def run_history(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.history import overview

    result = overview.run(params, paths, arguments.reference, arguments.output)
    tell(arguments, result, *result.lines())


def run_experiments(arguments: argparse.Namespace) -> None:
    _, paths = project()
    from custom_gaze.history.experiments import as_text, experiments

    found = experiments(paths, arguments.all_commits)
    tell(arguments, found, *as_text(found))


def run_deploy(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.rustyeyes.deploy import deploy, plan_deploy

    scale = arguments.app_pixels_per_degree
    with _chosen(arguments, paths) as chosen:
        to_deploy = arguments.app, chosen.path, params.geometry, scale

        def show(plan: "DeployPlan") -> None:
            say(*plan.lines())
            _agree(plan, arguments, chosen, params, paths)

        if arguments.dry_run:
            show(plan_deploy(*to_deploy, chosen.called))
            return
        made_by = chosen.made_by()
        result = deploy(*to_deploy, show=show, called=chosen.called, made_by=made_by)
    if result.backup is not None:
        undo = f"custom-gaze rollback {shlex.quote(str(arguments.app))}"
        say(f"backup → {result.backup}; undo with: {undo}")
        _note("deploy", arguments.app, result.plan.facts.sha256, paths, made_by)


@dataclass(frozen=True)
class _Chosen:
    """The model to deploy, what it is called, and what is known of all calibrations."""

    path: Path
    called: str
    known: "History"

    def made_by(self) -> dict[str, str]:
        """What the record of the deploy says of the calibration."""
        from custom_gaze.common.files import sha256_of
        from custom_gaze.common.untrusted import MOST_MODEL_BYTES

        if not self.path.is_file() or self.path.stat().st_size > MOST_MODEL_BYTES:
            return {}  # which deploy refuses
        of_it = self.known.of_model(sha256_of(self.path))
        return {"experiment": of_it.name, "commit": of_it.commit} if of_it else {}


@contextmanager
def _chosen(arguments: argparse.Namespace, paths: "Paths") -> Iterator[_Chosen]:
    from custom_gaze.history.calibrations import History, history, named
    from custom_gaze.history.models import copied

    if arguments.experiment is None:
        yield _Chosen(arguments.model or paths.model, "", history(paths, ask_a_server=False))
        return
    calibration = named(arguments.experiment, paths)
    if calibration.model is None:
        raise InputError(f"{arguments.experiment}: {calibration.missing}")
    at = f" ({calibration.commit[:7]})" if calibration.commit else ""
    called = f"the model of {calibration.name}{at}"
    with copied(calibration.model, paths) as path:
        known = history(paths, ask_a_server=False).calibrations
        try:
            yield _Chosen(path, called, History((calibration, *known), ()))
        except InputError as error:  # nobody knows the copy by its path
            raise InputError(str(error).replace(str(path), called)) from None


def _agree(
    plan: "DeployPlan",
    arguments: argparse.Namespace,
    chosen: _Chosen,
    params: "Params",
    paths: "Paths",
) -> None:
    """Compare the model with the live one; where it is worse, somebody has to agree.

    Raises:
        InputError: nobody did.
    """
    from custom_gaze.history.comparison import compare
    from custom_gaze.rustyeyes.config import MODEL_FILE
    from custom_gaze.rustyeyes.status import status

    live = status(plan.app)
    replaces = MODEL_FILE in [change.path for change in plan.changes]
    if not (replaces and live.is_personal and live.facts):
        return
    name = live.deployed.experiment if live.deployed else ""
    pair = plan.model, plan.app / MODEL_FILE
    comparison = compare(*pair, name or "the model before", chosen.known, params, paths)
    asks = comparison.is_worse and not (arguments.yes or arguments.dry_run)
    if not asks or sys.stdin.isatty():
        say(comparison.line())
    if not asks:
        return
    question = "It is worse than what is live. Deploy it all the same?"
    if not sys.stdin.isatty():
        raise InputError(
            f"{plan.app}: not deployed, it would be worse than what is live: {comparison.line()}; "
            "nobody is there to answer, --yes agrees beforehand"
        )
    answer = ""
    with suppress(EOFError):
        answer = input(f"{question} [y/N] ")
    if answer.strip().lower() not in ("y", "yes"):
        raise InputError(f"{plan.app}: nothing was changed")


def _note(
    what: Literal["deploy", "rollback"],
    app: Path,
    sha256: str,
    paths: "Paths",
    made_by: dict[str, str],
) -> None:
    """What follows a deploy or rollback that is done: a failure here undoes nothing."""
    from custom_gaze.evaluation.tracking.registry import mark_live
    from custom_gaze.history.deployments import note

    try:
        note(what, app, sha256, paths, **made_by)
    except CustomGazeError as error:
        warn(f"warning: {error}")
    if line := mark_live(sha256):
        say(line)


def run_rollback(arguments: argparse.Namespace) -> None:
    from custom_gaze.config.paths import Paths
    from custom_gaze.rustyeyes.deploy import rollback
    from custom_gaze.rustyeyes.status import status

    result = rollback(arguments.app)
    say(result.note)
    for name in result.restored:
        say(f"restored: {name}")
    if result.kept is not None:
        say(f"changed since the deploy, kept in: {result.kept}")
    if result.restored and Paths().deployments.exists():
        live = status(arguments.app)
        sha256 = live.facts.sha256 if live.facts and live.is_personal else ""
        _note("rollback", arguments.app, sha256, Paths(), {})


@dataclass(frozen=True)
class _Status:
    """What --json prints: the app's folder, and what this project knows of its model."""

    app: "AppStatus"
    project: "Standing | None"


def run_status(arguments: argparse.Namespace) -> None:
    from custom_gaze.config.params import load_params
    from custom_gaze.config.paths import Paths
    from custom_gaze.history.deployments import last_app
    from custom_gaze.history.standing import standing
    from custom_gaze.rustyeyes.status import status

    paths = Paths()
    found = status(arguments.app or last_app(paths))
    known = None
    if found.deployed is not None and found.facts is not None and paths.params.exists():
        with suppress(CustomGazeError):  # the app's folder is told of whatever the project says
            params = load_params(paths.params)
            known = standing(found.facts.sha256, found.deployed.at, params, paths)
    tell(arguments, _Status(found, known), *found.lines(), *(known.lines() if known else ()))
