"""The verbs about the RustyEyes app: deploy, rollback, status."""

import argparse
import shlex
from pathlib import Path

from custom_gaze.cli.verbs import Verbs, add_verb, project
from custom_gaze.common.console import say


def add_verbs(verbs: Verbs) -> None:
    sub = add_verb(verbs, "deploy", run_deploy, "put the model into RustyEyes; shows what changes")
    sub.add_argument("app", type=Path, metavar="APP_DIR")
    sub.add_argument("--dry-run", action="store_true", help="only show what would change")
    sub.add_argument("--model", type=Path, help="default: models/custom_gaze.onnx")
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
    sub = add_verb(
        verbs, "status", run_status, "tell which model is live in RustyEyes", anywhere=True
    )
    sub.add_argument("app", type=Path, metavar="APP_DIR")


def run_deploy(arguments: argparse.Namespace) -> None:
    from custom_gaze.rustyeyes.deploy import deploy, plan_deploy

    params, paths = project()
    model = arguments.model or paths.model
    scale = arguments.app_pixels_per_degree
    if arguments.dry_run:
        say(*plan_deploy(arguments.app, model, params.geometry, scale).lines())
        return
    result = deploy(
        arguments.app, model, params.geometry, scale, show=lambda plan: say(*plan.lines())
    )
    if result.backup is not None:
        undo = f"custom-gaze rollback {shlex.quote(str(arguments.app))}"
        say(f"backup → {result.backup}; undo with: {undo}")


def run_rollback(arguments: argparse.Namespace) -> None:
    from custom_gaze.rustyeyes.deploy import rollback

    result = rollback(arguments.app)
    say(result.note)
    for name in result.restored:
        say(f"restored: {name}")
    if result.kept is not None:
        say(f"changed since the deploy, kept in: {result.kept}")


def run_status(arguments: argparse.Namespace) -> None:
    from custom_gaze.rustyeyes.status import status

    say(*status(arguments.app).lines())
