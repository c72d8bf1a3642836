"""The command line: one subcommand a verb. Parses, calls, prints, returns a code.

The commands import what they need when they run, so that --help answers at once.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from custom_gaze import __version__
from custom_gaze.cli import commands
from custom_gaze.cli.remote_parser import add_verbs
from custom_gaze.common.console import StopSignals, flush, leave, readable_streams, warn
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable

# Said after an error: DVC has removed the stage's outputs by then, before our code ran.
UNDER_DVC = "custom-gaze: `dvc checkout` brings back what DVC removed before it ran this stage"
EXIT_CODES = (
    "Exit codes: 0 done; 1 a failure of ours; 2 something given cannot be used; 129, 130, 143 "
    "ended by SIGHUP, Ctrl-C, SIGTERM."
)
LONGEST_ERROR = 2000  # characters


class _Parser(argparse.ArgumentParser):
    """Errors that repeat what was given show it printable."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message, LONGEST_ERROR))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="custom-gaze",
        description="From calibration frames to a personal gaze network. "
        "The stages are usually run by `dvc repro` or `dvc exp run`.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"custom-gaze {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = verb("import", commands.run_import, "check a captured folder and add it to data/sessions")
    sub.add_argument("path", type=Path, help="the folder that RustyEyes captured")
    sub.add_argument("--session", required=True, metavar="ID", help="its name here")

    verb("fetch", commands.run_fetch, "stage: put the face detector and the base network in place")
    sub = verb(
        "prepare", commands.run_prepare, "stage: find the faces of one session, crop and label them"
    )
    which = sub.add_mutually_exclusive_group(required=True)
    which.add_argument("session", metavar="ID", nargs="?")
    which.add_argument("--session", dest="named", metavar="ID", help="the same")
    verb("index", commands.run_index, "stage: list the run's frames and split them by target")
    verb("train", commands.run_train, "stage: fine-tune on the indexed frames")
    sub = verb("export", commands.run_export, "stage: write models/custom_gaze.onnx and check it")
    sub.add_argument(
        "--as",
        dest="form",
        choices=("custom", "l2cs"),
        default="custom",
        help="l2cs: models/custom_gaze.onnx in the stock two-output form, as a file of its own",
    )
    verb("quantise", commands.run_quantise, "stage: the 8-bit model, where export.int8 asks for it")
    verb(
        "evaluate", commands.run_evaluate, "stage: measure the exported file and write the reports"
    )
    verb("report", commands.run_report, "print what the last evaluation measured")

    sub = verb("predict", commands.run_predict, "angles and screen position, as table and picture")
    sub.add_argument("target", metavar="IMAGE|FOLDER|SESSION")
    sub.add_argument("--model", type=Path, help="default: models/custom_gaze.onnx")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub.add_argument("--output", type=Path, metavar="PNG", help="draw frames and screen there")

    sub = verb("watch", commands.run_watch, "predict live, from a webcam or a video file")
    sub.add_argument("--source", default="0", help="the webcam's number or a file; default: 0")
    sub.add_argument("--model", type=Path, help="default: models/custom_gaze.onnx")
    sub.add_argument("--output", type=Path, help="write an .avi, .mp4 or .png")
    sub.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="default: a webcam is mirrored as in the app, a file is not",
    )

    sub = verb("doctor", commands.run_doctor, "look sessions over before hours go into them")
    sub.add_argument("session", metavar="ID", nargs="?", help="default: those of params.yaml")
    sub.add_argument("--json", action="store_true", help="print JSON")

    sub = verb("crop", commands.run_crop, "write the crop that training would see of an image")
    sub.add_argument("image", type=Path)
    sub.add_argument("--output", type=Path, default=Path("crop.png"), help="default: crop.png")

    sub = verb("demo", commands.run_demo, "make a session of a simulated person")
    sub.add_argument("--person", type=int, default=1, metavar="SEED", help="default: 1")
    sub.add_argument("--session", required=True, metavar="ID")
    sub.add_argument("--day", type=int, default=1, help="another day, another seat and light")
    sub.add_argument("--grid", default="5x5", metavar="COLSxROWS", help="default: 5x5")
    sub.add_argument("--frames-per-target", type=int, default=2, metavar="N", help="default: 2")
    sub.add_argument("--seed", type=int, default=1, help="of the session; default: 1")
    sub.add_argument("--if-missing", action="store_true", help="do nothing where ID exists")

    sub = verb("sheet", commands.run_sheet, "draw a session's contact sheet, or demo persons")
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("session", metavar="ID", nargs="?", help="a session under data/sessions")
    what.add_argument("--persons", type=int, nargs=2, metavar=("FIRST", "LAST"), help="seeds")
    what.add_argument("--days", type=int, metavar="PERSON", help="four days of one demo person")
    sub.add_argument("--output", type=Path, help="default: reports/sheet_….png")

    sub = verb("pretrain", commands.run_pretrain, "make the demo world's own base network anew")
    sub.add_argument("--params", type=Path, default=Path("pretrain/params.yaml"), metavar="YAML")
    sub.add_argument(
        "--output", type=Path, metavar="PT", help="default: the file that the package brings"
    )
    sub.add_argument(
        "--start", type=Path, metavar="PT", help="go on from this one; default: random weights"
    )

    sub = verb("inspect", commands.run_inspect, "say what a weights or model file is")
    sub.add_argument("file", type=Path)

    sub = verb("deploy", commands.run_deploy, "put the model into RustyEyes; shows what changes")
    sub.add_argument("app", type=Path, metavar="APP_DIR")
    sub.add_argument("--dry-run", action="store_true", help="only show what would change")
    sub.add_argument("--model", type=Path, help="default: models/custom_gaze.onnx")
    sub.add_argument(
        "--app-pixels-per-degree",
        type=float,
        metavar="N",
        help="the app's own scale (20): sets the gains so that its dot lands on the target",
    )
    sub = verb("rollback", commands.run_rollback, "undo the last deploy, byte for byte")
    sub.add_argument("app", type=Path, metavar="APP_DIR")
    sub = verb("status", commands.run_status, "tell which model is live in RustyEyes")
    sub.add_argument("app", type=Path, metavar="APP_DIR")

    sub = verb("remote", commands.run_remote, "train on jowestdgxe (docs/remote.md)")
    add_verbs(sub)

    sub = verb("mlflow", commands.run_mlflow, "open MLflow's page on this machine's loopback")
    # Not MLflow's own 5000, which macOS's AirPlay holds, nor 5001, which is `remote mlflow`'s.
    sub.add_argument("--port", type=int, default=5055, help="default: 5055")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns one of EXIT_CODES. What is not foreseen is a traceback and 1."""
    readable_streams()
    arguments = _parser().parse_args(argv)
    stopped = StopSignals()
    code = 0
    try:
        with stopped:
            arguments.run(arguments)
            flush()
    except CustomGazeError as error:
        warn(f"custom-gaze: {printable(error, LONGEST_ERROR)}")
        code = error.exit_code
    except MemoryError:
        warn("custom-gaze: there is not enough memory; close other programs and try again")
        code = 1
    except BrokenPipeError:  # the reader of our output has seen enough
        leave(sys.stdout)
    except (KeyboardInterrupt, Exception) as error:
        # What a signal interrupts may fail in its own words before it ends.
        if isinstance(error, Exception) and not stopped.name:
            raise
        how = f"ended by {stopped.name}" if stopped.name else "interrupted"
        warn(f"custom-gaze: {how}; {_how_to_go_on(arguments.verb)}")
        code = 130
    if code != 0 and "DVC_STAGE" in os.environ:
        warn(UNDER_DVC)
    return stopped.code or code


def _how_to_go_on(verb: str) -> str:
    if verb in ("train", "pretrain"):
        return "the same command goes on from what was saved last"
    if verb in ("import", "remote"):
        return "the same command goes on"
    return "nothing is left half done; the same command starts anew"
