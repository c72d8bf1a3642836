"""The verbs about files and records: inspect, pretrain, mlflow."""

import argparse
import webbrowser
from pathlib import Path

from custom_gaze.cli.verbs import Verbs, add_verb, project, tell
from custom_gaze.common.console import flush, say


def add_verbs(verbs: Verbs) -> None:
    sub = add_verb(
        verbs,
        "pretrain",
        run_pretrain,
        "make the demo world's own base network anew",
        anywhere=True,
        json=True,
    )
    sub.add_argument("--params", type=Path, default=Path("pretrain/params.yaml"), metavar="YAML")
    sub.add_argument(
        "--output", type=Path, metavar="PT", help="default: the file that the package brings"
    )
    sub.add_argument(
        "--start", type=Path, metavar="PT", help="go on from this one; default: random weights"
    )

    text = "say what a weights or model file is"
    sub = add_verb(verbs, "inspect", run_inspect, text, anywhere=True, json=True)
    sub.add_argument("file", type=Path)

    sub = add_verb(verbs, "mlflow", run_mlflow, "open MLflow's page on this machine's loopback")
    # Not MLflow's own 5000, which macOS's AirPlay holds, nor 5001, which is `remote mlflow`'s.
    sub.add_argument("--port", type=int, default=5055, help="default: 5055")
    sub.add_argument("--open", action="store_true", help="in the browser")


def run_pretrain(arguments: argparse.Namespace) -> None:
    from custom_gaze.demo.pretrain import run as pretraining
    from custom_gaze.weights.embedded import EMBEDDED_BASE

    output = arguments.output or EMBEDDED_BASE
    params = arguments.params or Path("pretrain/params.yaml")
    result = pretraining.run(params, output, arguments.start)
    found = result.figures
    tell(
        arguments,
        result,
        f"own domain     {found.own_error_deg:.1f}° on unseen persons "
        f"(straight ahead: {found.own_constant_deg:.1f}°)",
        f"demo sessions  {found.screen_error_deg:.1f}° as it is, "
        f"{found.screen_corrected_deg:.1f}° after gain and offset "
        f"(centre: {found.screen_constant_deg:.1f}°); "
        f"slope {found.yaw_slope:.2f} in yaw, {found.pitch_slope:.2f} in pitch",
        f"{result.crops} crops, {result.seconds:.0f} s, {result.size_mb:.1f} MB → {result.output}",
    )


def run_inspect(arguments: argparse.Namespace) -> None:
    from custom_gaze.weights.inspect import describe

    facts = describe(arguments.file).split("\n")
    tell(arguments, {"file": arguments.file, "facts": facts}, *facts)


def run_mlflow(arguments: argparse.Namespace) -> None:
    from custom_gaze.evaluation.tracking.addresses import sqlite_file, tracking_uri
    from custom_gaze.evaluation.tracking.pending import deliver_pending
    from custom_gaze.evaluation.tracking.server import serve
    from custom_gaze.history.restored import record_restored

    params, paths = project()
    for line in deliver_pending().lines():
        say(line)
    if sqlite_file(tracking_uri()) is not None:
        for line in record_restored(params.tracking, paths):
            say(line)

    def opened(page: str) -> None:
        say(f"MLflow: {page} (Ctrl-C ends it)")
        flush()
        if arguments.open:
            webbrowser.open(page)

    serve(arguments.port, params.tracking.experiment, opened)
