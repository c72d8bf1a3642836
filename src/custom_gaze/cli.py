"""The command line: one subcommand a verb. Parses, calls, prints, returns a code.

Everything else is imported inside the commands, so that --help answers at once.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from custom_gaze import __version__
from custom_gaze.errors import CustomGazeError

if TYPE_CHECKING:
    from custom_gaze.params import Params
    from custom_gaze.paths import Paths


def _project() -> "tuple[Params, Paths]":
    from custom_gaze.params import load_params
    from custom_gaze.paths import Paths

    paths = Paths()
    return load_params(paths.params), paths


def _fetch(_: argparse.Namespace) -> None:
    from custom_gaze import fetch

    params, paths = _project()
    result = fetch.run(params, paths)
    base = result.base
    print(f"face detector  {result.detector.value} → {paths.faces}")
    print(
        f"face mesh      {'→ ' + str(paths.faces) if result.mesh else 'none: crops follow the detector'}"
    )
    print(f"base network   {base.trunk}, {base.kind}, {base.source} → {paths.base}")
    for warning in base.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _prepare(arguments: argparse.Namespace) -> None:
    from custom_gaze import prepare

    params, paths = _project()
    result = prepare.run(arguments.session, params, paths)
    print(f"{result.used} of {result.frames} frames → {result.folder} ({result.detector})")
    for entry in result.left_out:
        print(f"left out: {entry.filename}: {entry.reason}", file=sys.stderr)


def _index(_: argparse.Namespace) -> None:
    from custom_gaze import dataset

    params, paths = _project()
    result = dataset.run(params, paths)
    for side, frames in result.frames.items():
        print(f"{side:<10} {frames} frames of {result.targets[side]} targets")
    print(f"→ {paths.index}")


def _train(_: argparse.Namespace) -> None:
    from custom_gaze import train

    params, paths = _project()
    result = train.run(params, paths)
    print(
        f"{result.epochs} epochs on {result.train_frames} frames; best: epoch {result.best.epoch}, "
        f"{result.best.validation_error_deg:.2f}° on {result.validation_frames} validation frames"
    )
    print(f"→ {paths.checkpoint}, {paths.last_checkpoint}")


def _export(_: argparse.Namespace) -> None:
    from custom_gaze import export

    params, paths = _project()
    result = export.run(params, paths)
    print(
        f"{result.size_mb:.1f} MB; PyTorch and onnxruntime agree within "
        f"{result.difference_deg:.6f}° on {result.crops} validation crops"
    )
    print(f"→ {paths.model}")


def _evaluate(_: argparse.Namespace) -> None:
    from custom_gaze import evaluate, report

    params, paths = _project()
    result = evaluate.run(params, paths)
    print(report.closing_table(paths))
    print(result.tracked)


def _report(_: argparse.Namespace) -> None:
    from custom_gaze import report
    from custom_gaze.paths import Paths

    print(report.closing_table(Paths()))


def _import(arguments: argparse.Namespace) -> None:
    from custom_gaze.importing import import_session

    params, paths = _project()
    result = import_session(
        arguments.path, arguments.session, paths, params.geometry, params.split.same_target_px
    )
    for entry in result.left_out:
        print(f"will be left out: {entry.filename}: {entry.reason}", file=sys.stderr)
    left, top, right, bottom = result.extent_px
    print(f"{result.frames} usable frames of {result.targets} targets → {result.folder}")
    print(f"targets from ({left:.0f}, {top:.0f}) to ({right:.0f}, {bottom:.0f}) pixels")
    print(f"next: {result.next_command}")


def _crop(arguments: argparse.Namespace) -> None:
    from custom_gaze import prepare

    params, paths = _project()
    result = prepare.crop_picture(arguments.image, arguments.output, params, paths)
    print(f"crop   → {result.crop} (from the {result.crop_from})")
    print(f"boxes  → {result.boxes}")


def _demo(arguments: argparse.Namespace) -> None:
    from custom_gaze.demo.session import parse_grid, write_session
    from custom_gaze.importing import put_under_dvc
    from custom_gaze.params import check_session_id

    params, paths = _project()
    folder = paths.sessions / check_session_id(arguments.session, "--session")
    if arguments.if_missing and folder.exists():
        print(f"{folder} is there")
        return
    frames = write_session(
        folder,
        person=arguments.person,
        day=arguments.day,
        seed=arguments.seed,
        grid=parse_grid(arguments.grid),
        frames_per_target=arguments.frames_per_target,
        geometry=params.geometry,
    )
    put_under_dvc(folder, paths)
    print(f"{frames} frames → {folder}; look at them: custom-gaze sheet {arguments.session}")


def _sheet(arguments: argparse.Namespace) -> None:
    from custom_gaze.demo.sheet import sheet
    from custom_gaze.params import check_session_id

    params, paths = _project()
    check_session_id(arguments.session, "sheet")
    output = arguments.output or paths.reports / f"sheet_{arguments.session}.png"
    sheet(paths.sessions / arguments.session, output, params.geometry)
    print(f"→ {output}")


def _mlflow(arguments: argparse.Namespace) -> None:
    from custom_gaze import tracking

    tracking.serve(arguments.port)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="custom-gaze",
        description="From calibration frames to a personal gaze network. "
        "The stages are usually run by `dvc repro` or `dvc exp run`.",
    )
    parser.add_argument("--version", action="version", version=f"custom-gaze {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = verb("import", _import, "check a captured folder and add it to data/sessions")
    sub.add_argument("path", type=Path, help="the folder that RustyEyes captured")
    sub.add_argument("--session", required=True, metavar="ID", help="its name here")

    verb("fetch", _fetch, "stage: put the face detector and the base network in place")
    sub = verb("prepare", _prepare, "stage: find the faces of one session, crop and label them")
    sub.add_argument("session", metavar="ID")
    verb("index", _index, "stage: list the run's frames and split them by target")
    verb("train", _train, "stage: fine-tune on the indexed frames")
    verb("export", _export, "stage: write models/custom_gaze.onnx and check it")
    verb("evaluate", _evaluate, "stage: measure the exported file and write the reports")
    verb("report", _report, "print what the last evaluation measured")

    sub = verb("crop", _crop, "write the crop that training would see of an image")
    sub.add_argument("image", type=Path)
    sub.add_argument("--output", type=Path, default=Path("crop.png"), help="default: crop.png")

    sub = verb("demo", _demo, "make a session of a simulated person")
    sub.add_argument("--person", type=int, default=1, metavar="SEED", help="default: 1")
    sub.add_argument("--session", required=True, metavar="ID")
    sub.add_argument("--day", type=int, default=1, help="another day, another seat and light")
    sub.add_argument("--grid", default="5x5", metavar="COLSxROWS", help="default: 5x5")
    sub.add_argument("--frames-per-target", type=int, default=2, metavar="N", help="default: 2")
    sub.add_argument("--seed", type=int, default=1, help="of the session; default: 1")
    sub.add_argument("--if-missing", action="store_true", help="do nothing where ID exists")

    sub = verb("sheet", _sheet, "draw a session's contact sheet")
    sub.add_argument("session", metavar="ID")
    sub.add_argument("--output", type=Path, help="default: reports/sheet_ID.png")

    sub = verb("mlflow", _mlflow, "open MLflow's page on this machine's loopback")
    sub.add_argument("--port", type=int, default=5000, help="default: 5000")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command. 0: done; 2: bad input; 1: a failure of ours; 130: interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except CustomGazeError as error:
        print(f"custom-gaze: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("custom-gaze: interrupted; what was there before is kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
