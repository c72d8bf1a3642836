"""The pipeline's stages as verbs, as dvc.yaml calls them, and `report`."""

import argparse

from custom_gaze.cli.verbs import Verbs, add_verb, project
from custom_gaze.common.console import say, warn


def add_verbs(verbs: Verbs) -> None:
    add_verb(
        verbs, "fetch", run_fetch, "stage: put the face detector and the base network in place"
    )
    text = "stage: find the faces of one session, crop and label them"
    sub = add_verb(verbs, "prepare", run_prepare, text)
    which = sub.add_mutually_exclusive_group(required=True)
    which.add_argument("session", metavar="ID", nargs="?")
    which.add_argument("--session", dest="named", metavar="ID", help="the same")
    add_verb(verbs, "index", run_index, "stage: list the run's frames and split them by target")
    add_verb(verbs, "train", run_train, "stage: fine-tune on the indexed frames")
    text = "stage: write models/custom_gaze.onnx and check it"
    sub = add_verb(verbs, "export", run_export, text)
    sub.add_argument(
        "--as",
        dest="form",
        choices=("custom", "l2cs"),
        default="custom",
        help="l2cs: models/custom_gaze.onnx in the stock two-output form, as a file of its own",
    )
    text = "stage: the 8-bit model, where export.int8 asks for it"
    add_verb(verbs, "quantise", run_quantise, text)
    text = "stage: measure the exported file and write the reports"
    add_verb(verbs, "evaluate", run_evaluate, text)
    add_verb(verbs, "report", run_report, "print what the last evaluation measured")


def run_fetch(_: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.stages import fetch

    result = fetch.run(params, paths)
    base = result.base
    say(f"face detector  {result.detector.value} → {paths.faces}")
    mesh = f"→ {paths.faces}" if result.mesh else "none: crops follow the detector's box"
    say(f"face mesh      {mesh}")
    say(f"base network   {base.trunk}, {base.kind}, {base.source} → {paths.base}")
    for warning in base.warnings:
        warn(f"warning: {warning}")


def run_prepare(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.stages import prepare

    session = arguments.session if arguments.named is None else arguments.named
    result = prepare.run(session, params, paths)
    say(f"{result.used} of {result.frames} frames → {result.folder} ({result.detector})")
    for entry in result.left_out:
        warn(f"left out: {entry.filename}: {entry.reason}")


def run_index(_: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.stages import index

    result = index.run(params, paths)
    for side, frames in result.frames.items():
        say(f"{side:<10} {frames} frames of {result.targets[side]} targets")
    say(f"→ {paths.index}")


def run_train(_: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.stages import train

    result = train.run(params, paths)
    say(f"to export: {result.method.label}: {result.reason}")
    held_out = result.validation_frames
    apart = f", {held_out} held out to measure it" if held_out else ", each held out in turn"
    say(
        f"{result.epochs} epochs; exported is epoch {result.exported.epoch}, "
        f"{result.exported.validation_error_deg:.2f}° on held-out targets; "
        f"{result.train_frames} frames trained on{apart}"
    )
    say(f"→ {paths.checkpoint}, {paths.last_checkpoint}, {paths.candidates}")


def run_export(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.stages import export

    if arguments.form == "l2cs":
        stock = export.run_l2cs(paths)
        say(
            f"{stock.size_mb:.1f} MB; two outputs of 90 bins, their angles within "
            f"{stock.layer_deg:.6f}° over ±40°, within {stock.difference_deg:.6f}° of "
            f"{paths.model} on {stock.crops} crops"
        )
        say(f"→ {stock.path}")
        return
    result = export.run(params, paths)
    say(
        f"{result.size_mb:.1f} MB; PyTorch and onnxruntime agree within "
        f"{result.difference_deg:.6f}° on {result.crops} crops"
    )
    say(f"→ {paths.model}")


def run_quantise(_: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.stages import quantise

    result = quantise.run(params, paths)
    say(f"8-bit model: {result.reason}")
    say(f"→ {paths.int8_model if result.written else paths.int8_report}")


def run_evaluate(_: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.evaluation import report
    from custom_gaze.stages import evaluate

    result = evaluate.run(params, paths)
    say(*report.closing_table(paths).split("\n"), result.tracked)


def run_report(_: argparse.Namespace) -> None:
    from custom_gaze.config.paths import Paths
    from custom_gaze.evaluation import report
    from custom_gaze.evaluation.tracking.pending import deliver_pending

    say(*report.closing_table(Paths()).split("\n"))
    for line in deliver_pending().lines():
        say(line)
