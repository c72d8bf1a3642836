"""The verbs that show where somebody looks: predict, watch."""

import argparse
from pathlib import Path

from custom_gaze.cli.verbs import Verbs, add_verb, project
from custom_gaze.common.console import say


def add_verbs(verbs: Verbs) -> None:
    sub = add_verb(
        verbs, "predict", run_predict, "angles and screen position, as table and picture"
    )
    sub.add_argument("target", metavar="IMAGE|FOLDER|SESSION")
    sub.add_argument("--model", type=Path, help="default: models/custom_gaze.onnx")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")
    sub.add_argument("--output", type=Path, metavar="PNG", help="draw frames and screen there")

    sub = add_verb(verbs, "watch", run_watch, "predict live, from a webcam or a video file")
    sub.add_argument("--source", default="0", help="the webcam's number or a file; default: 0")
    sub.add_argument("--model", type=Path, help="default: models/custom_gaze.onnx")
    sub.add_argument("--output", type=Path, help="write an .avi, .mp4 or .png")
    sub.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="default: a webcam is mirrored as in the app, a file is not",
    )


def run_predict(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.inference import predict, predict_output

    result = predict.run(arguments.target, params, paths, arguments.model, arguments.output)
    text = predict_output.as_json(result) if arguments.json else predict_output.as_text(result)
    say(*text.split("\n"))


def run_watch(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.inference import watch

    model, output, mirror = arguments.model, arguments.output, arguments.mirror
    result = watch.run(arguments.source, params, paths, model, output, mirror)
    where = f" → {result.output}" if result.output else ""
    say(f"{result.with_gaze} of {result.frames} frames with a gaze{where}")
