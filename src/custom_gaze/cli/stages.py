"""The pipeline's stages as verbs, as dvc.yaml calls them, and `report`."""

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path

from custom_gaze.cli.verbs import Verbs, add_verb, project, tell
from custom_gaze.common.console import warn
from custom_gaze.common.errors import InputError


def add_verbs(verbs: Verbs) -> None:
    text = "stage: put the face detector and the base network in place"
    add_verb(verbs, "fetch", run_fetch, text, json=True)
    text = "stage: find the faces of one session, crop and label them"
    sub = add_verb(verbs, "prepare", run_prepare, text, json=True)
    which = sub.add_mutually_exclusive_group(required=True)
    which.add_argument("session", metavar="ID", nargs="?")
    which.add_argument("--session", dest="named", metavar="ID", help="the same")
    text = "stage: list the run's frames and split them by target"
    add_verb(verbs, "index", run_index, text, json=True)
    text = "stage: fine-tune on the indexed frames"
    add_verb(verbs, "train", run_train, text, json=True)
    text = "stage: write models/custom_gaze.onnx and check it"
    sub = add_verb(verbs, "export", run_export, text, json=True)
    sub.add_argument(
        "--as",
        dest="form",
        choices=("custom", "l2cs"),
        default="custom",
        help="l2cs: models/custom_gaze.onnx in the stock two-output form, as a file of its own",
    )
    text = "stage: the 8-bit model, where export.int8 asks for it"
    add_verb(verbs, "quantise", run_quantise, text, json=True)
    text = "stage: measure the exported file and write the reports"
    add_verb(verbs, "evaluate", run_evaluate, text, json=True)
    text = "print what the last evaluation measured"
    sub = add_verb(verbs, "report", run_report, text, json=True)
    sub.add_argument("--open", action="store_true", help="open reports/report.html in the browser")


def run_fetch(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.stages import fetch

    result = fetch.run(params, paths)
    base = result.base
    mesh = f"→ {paths.faces}" if result.mesh else "none: crops follow the detector's box"
    tell(
        arguments,
        result,
        f"face detector  {result.detector.value} → {paths.faces}",
        f"face mesh      {mesh}",
        f"base network   {base.spec.name}, {base.kind}, {base.source} → {paths.base}",
    )
    for warning in base.warnings:
        warn(f"warning: {warning}")


def run_prepare(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.stages import prepare

    session = arguments.session if arguments.named is None else arguments.named
    result = prepare.run(session, params, paths)
    line = f"{result.used} of {result.frames} frames → {result.folder} ({result.detector})"
    tell(arguments, result, line)
    for entry in result.left_out:
        warn(f"left out: {entry.filename}: {entry.reason}")
    for suspect in result.suspects:
        warn(f"suspect: {suspect.filename}: {suspect.why}")


def run_index(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.stages import index

    result = index.run(params, paths)
    sides = (
        f"{side:<10} {frames} frames of {result.targets[side]} targets"
        for side, frames in result.frames.items()
    )
    tell(arguments, result, *sides, f"→ {paths.index}")


def run_train(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.data.index import read_manifests
    from custom_gaze.data.known_accuracy import drawn_base
    from custom_gaze.evaluation.tracking import live
    from custom_gaze.stages import train

    drawn = [True]
    with suppress(InputError):  # the stage itself does not need the manifests
        read = read_manifests(paths.index_manifests)
        drawn = [each.drawn for each in read if each.session in params.sessions]
    if known := drawn_base(params.fetch.base, drawn):
        warn(f"warning: {known}")
    with live.training(params, paths) as progress:
        result = train.run(params, paths, progress)
    held_out = result.validation_frames
    apart = f", {held_out} held out to measure it" if held_out else ", each held out in turn"
    inner = f"the base network looks at the inner {result.inner_share:.0%} of the crop's side"
    tell(
        arguments,
        result,
        f"to export: {result.method.label}: {result.reason}",
        f"{result.epochs} epochs; exported is epoch {result.exported.epoch}, "
        f"{result.exported.validation_error_deg:.2f}° on held-out targets; "
        f"{result.train_frames} frames trained on{apart}",
        *([inner] if result.inner_share < 1 else []),
        f"→ {paths.checkpoint}, {paths.last_checkpoint}, {paths.candidates}",
    )


def run_export(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.evaluation.tracking import live
    from custom_gaze.stages import export

    if arguments.form == "l2cs":
        stock = export.run_l2cs(paths)
        tell(
            arguments,
            stock,
            f"{stock.size_mb:.1f} MB; two outputs of 90 bins, their angles within "
            f"{stock.layer_deg:.6f}° over ±40°, within {stock.difference_deg:.6f}° of "
            f"{paths.model} on {stock.crops} crops",
            f"→ {stock.path}",
        )
        return
    with live.following("export", params, paths):
        result = export.run(params, paths)
    tell(
        arguments,
        result,
        f"{result.size_mb:.1f} MB; PyTorch and onnxruntime agree within "
        f"{result.difference_deg:.6f}° on {result.crops} crops",
        f"→ {paths.model}",
    )


def run_quantise(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.evaluation.tracking import live
    from custom_gaze.stages import quantise

    with live.following("quantise", params, paths):
        result = quantise.run(params, paths)
    where = paths.int8_model if result.written else paths.int8_report
    tell(arguments, result, f"8-bit model: {result.reason}", f"→ {where}")


def run_evaluate(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.evaluation import report
    from custom_gaze.evaluation.tracking import live
    from custom_gaze.stages import evaluate

    with live.following("evaluate", params, paths):
        result = evaluate.run(params, paths)
    tell(arguments, result, *report.closing_table(paths).split("\n"), result.tracked)


def run_report(arguments: argparse.Namespace) -> None:
    from custom_gaze.config.paths import Paths
    from custom_gaze.evaluation import report
    from custom_gaze.evaluation.results import read_metrics
    from custom_gaze.evaluation.tracking.pending import deliver_pending

    paths = Paths()
    table = report.closing_table(paths).split("\n")
    tell(arguments, read_metrics(paths.figures), *table, *deliver_pending().lines())
    if arguments.open:
        page = paths.report.resolve()
        if not page.exists():
            raise InputError(f"{page}: not found; `dvc checkout {paths.report}` brings it back")
        if not _opened(page):
            warn(f"no browser here; the page is {page}")


def _opened(page: Path) -> bool:
    """Show a page in the user's browser; False where there is none.

    Without a display Python would start a browser of text in this terminal, if one is installed.
    """
    import webbrowser

    linux = sys.platform.startswith("linux")
    asked_for = any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return (asked_for or not linux) and webbrowser.open(page.as_uri())
