"""What each verb of the command line does: call the module that knows, print what it says.

Everything heavy is imported inside, so that --help answers at once, and after params.yaml was read,
so that a mistake in it is named at once too.
"""

import argparse
import shlex
from typing import TYPE_CHECKING

from custom_gaze.common.console import say, warn
from custom_gaze.common.errors import InputError

if TYPE_CHECKING:
    from custom_gaze.config.params import Params
    from custom_gaze.config.paths import Paths


def _project() -> "tuple[Params, Paths]":
    from custom_gaze.config.params import load_params
    from custom_gaze.config.paths import Paths

    paths = Paths()
    return load_params(paths.params), paths


def run_fetch(_: argparse.Namespace) -> None:
    params, paths = _project()
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
    params, paths = _project()
    from custom_gaze.stages import prepare

    session = arguments.session if arguments.named is None else arguments.named
    result = prepare.run(session, params, paths)
    say(f"{result.used} of {result.frames} frames → {result.folder} ({result.detector})")
    for entry in result.left_out:
        warn(f"left out: {entry.filename}: {entry.reason}")


def run_index(_: argparse.Namespace) -> None:
    params, paths = _project()
    from custom_gaze.data import index as dataset

    result = dataset.run(params, paths)
    for side, frames in result.frames.items():
        say(f"{side:<10} {frames} frames of {result.targets[side]} targets")
    say(f"→ {paths.index}")


def run_train(_: argparse.Namespace) -> None:
    params, paths = _project()
    from custom_gaze.config.candidate import NAMES
    from custom_gaze.stages import train

    result = train.run(params, paths)
    say(f"to export: {NAMES[result.method]}: {result.reason}")
    held_out = result.validation_frames
    apart = f", {held_out} held out to measure it" if held_out else ", each held out in turn"
    say(
        f"{result.epochs} epochs; exported is epoch {result.exported.epoch}, "
        f"{result.exported.validation_error_deg:.2f}° on held-out targets; "
        f"{result.train_frames} frames trained on{apart}"
    )
    say(f"→ {paths.checkpoint}, {paths.last_checkpoint}, {paths.candidates}")


def run_export(arguments: argparse.Namespace) -> None:
    params, paths = _project()
    from custom_gaze.stages import export

    if arguments.form == "l2cs":
        _export_l2cs(params, paths)
        return
    result = export.run(params, paths)
    say(
        f"{result.size_mb:.1f} MB; PyTorch and onnxruntime agree within "
        f"{result.difference_deg:.6f}° on {result.crops} crops"
    )
    say(f"→ {paths.model}")


def run_quantise(_: argparse.Namespace) -> None:
    params, paths = _project()
    from custom_gaze.stages import quantise

    result = quantise.run(params, paths)
    say(f"8-bit model: {result.reason}")
    say(f"→ {paths.int8_model if result.written else paths.int8_report}")


def _export_l2cs(params: "Params", paths: "Paths") -> None:
    from custom_gaze.models import l2cs_export

    result = l2cs_export.run(params, paths)
    say(
        f"{result.size_mb:.1f} MB; two outputs of 90 bins, their angles within "
        f"{result.layer_deg:.6f}° over ±40°, within {result.difference_deg:.6f}° of "
        f"{paths.model} on {result.crops} crops"
    )
    say(f"→ {result.path}")


def run_predict(arguments: argparse.Namespace) -> None:
    params, paths = _project()
    from custom_gaze.inference import predict

    result = predict.run(arguments.target, params, paths, arguments.model, arguments.output)
    text = predict.as_json(result) if arguments.json else predict.as_text(result)
    say(*text.split("\n"))


def run_watch(arguments: argparse.Namespace) -> None:
    params, paths = _project()
    from custom_gaze.inference import watch

    model, output, mirror = arguments.model, arguments.output, arguments.mirror
    result = watch.run(arguments.source, params, paths, model, output, mirror)
    where = f" → {result.output}" if result.output else ""
    say(f"{result.with_gaze} of {result.frames} frames with a gaze{where}")


def run_doctor(arguments: argparse.Namespace) -> None:
    params, paths = _project()
    from custom_gaze import doctor

    result = doctor.run(arguments.session, params, paths)
    text = doctor.as_json(result) if arguments.json else doctor.as_text(result)
    say(*text.split("\n"))


def run_evaluate(_: argparse.Namespace) -> None:
    params, paths = _project()
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


def run_import(arguments: argparse.Namespace) -> None:
    params, paths = _project()
    from custom_gaze.config.session_ids import sessions_option
    from custom_gaze.data.importing import import_session
    from custom_gaze.data.sessions import TURNED, UPRIGHT
    from custom_gaze.data.splits import MIN_TARGETS

    result = import_session(
        arguments.path, arguments.session, paths, params.geometry, params.split.same_target_px
    )
    for entry in result.left_out:
        warn(f"will be left out: {entry.filename}: {entry.reason}")
    for entry in result.not_copied:
        warn(f"not copied: {entry.filename}: {entry.reason}")
    if result.turned:
        more = f" and {len(result.turned) - 1} more" if len(result.turned) > 1 else ""
        warn(f"warning: {result.turned[0]}{more}: {TURNED}; {UPRIGHT}")
    if result.again:
        say(f"{result.folder} was there already, with the same bytes")
    left, top, right, bottom = result.extent_px
    say(f"{result.frames} usable frames of {result.targets} targets → {result.folder}")
    say(f"targets from ({left:.0f}, {top:.0f}) to ({right:.0f}, {bottom:.0f}) pixels")
    if result.targets < MIN_TARGETS:
        warn(f"warning: a run needs {MIN_TARGETS} targets; name this session together with others")
    # Another person's session, left in params.yaml by the demo, is nothing to be tested on.
    further = f" {sessions_option([], 'evaluate.sessions')}" if params.evaluate.sessions else ""
    say(f"next: {result.next_command}{further}")


def run_crop(arguments: argparse.Namespace) -> None:
    params, paths = _project()
    from custom_gaze.stages import prepare

    result = prepare.crop_picture(arguments.image, arguments.output, params, paths)
    say(f"crop   → {result.crop} (from the {result.crop_from})")
    say(f"boxes  → {result.boxes}")


def run_demo(arguments: argparse.Namespace) -> None:
    from custom_gaze.config.session_ids import check_new_session_id, check_session_id
    from custom_gaze.data.dvc_sessions import (
        is_tracked,
        put_under_dvc,
        sessions_lock,
        whole_or_taken_back,
    )
    from custom_gaze.demo.session import check_arguments, parse_grid, write_session

    params, paths = _project()
    folder = paths.sessions / check_session_id(arguments.session, "--session")
    what = {
        "person": arguments.person,
        "day": arguments.day,
        "seed": arguments.seed,
        "grid": parse_grid(arguments.grid),
        "frames_per_target": arguments.frames_per_target,
    }
    check_arguments(**what)
    with sessions_lock(paths):
        if arguments.if_missing and folder.exists():
            if not is_tracked(folder):  # killed between drawing and `dvc add`
                put_under_dvc(folder, paths)
            say(f"{folder} is there")
            return
        check_new_session_id(arguments.session, "--session")
        with whole_or_taken_back(folder, paths):
            frames = write_session(folder, **what, geometry=params.geometry)
            put_under_dvc(folder, paths)
    say(f"{frames} frames → {folder}; look at them: custom-gaze sheet {arguments.session}")


def run_sheet(arguments: argparse.Namespace) -> None:
    params, paths = _project()
    from custom_gaze.config.session_ids import check_session_id
    from custom_gaze.demo.seeds import check_person_seed
    from custom_gaze.demo.sheet import persons_sheet, sessions_sheet, sheet

    if arguments.persons is not None:
        first, last = arguments.persons
        if first > last:
            raise InputError(f"--persons {first} {last}: give the first seed first")
        for seed in (first, last):
            check_person_seed(seed, "demo")
        output = arguments.output or paths.reports / f"sheet_persons_{first}-{last}.png"
        persons_sheet(output, range(first, last + 1))
    elif arguments.days is not None:
        check_person_seed(arguments.days, "demo")
        output = arguments.output or paths.reports / f"sheet_days_{arguments.days}.png"
        sessions_sheet(output, arguments.days)
    else:
        check_session_id(arguments.session or "", "sheet")
        output = arguments.output or paths.reports / f"sheet_{arguments.session}.png"
        same_px = params.split.same_target_px
        sheet(paths.sessions / arguments.session, output, params.geometry, same_px)
    say(f"→ {output}")


def run_remote(arguments: argparse.Namespace) -> None:
    from custom_gaze.cli import remote as verbs

    getattr(verbs, f"run_{arguments.remote_verb}")(arguments)


def run_mlflow(arguments: argparse.Namespace) -> None:
    from custom_gaze.evaluation.tracking.pending import deliver_pending
    from custom_gaze.evaluation.tracking.server import serve

    for line in deliver_pending().lines():
        say(line)
    serve(arguments.port)


def run_pretrain(arguments: argparse.Namespace) -> None:
    from custom_gaze.demo.pretrain import run as pretraining
    from custom_gaze.weights.embedded import EMBEDDED_BASE

    output = arguments.output or EMBEDDED_BASE
    result = pretraining.run(arguments.params, output, arguments.start)
    found = result.figures
    say(
        f"own domain     {found.own_error_deg:.1f}° on unseen persons "
        f"(straight ahead: {found.own_constant_deg:.1f}°)"
    )
    say(
        f"demo sessions  {found.screen_error_deg:.1f}° as it is, "
        f"{found.screen_corrected_deg:.1f}° after gain and offset "
        f"(centre: {found.screen_constant_deg:.1f}°); "
        f"slope {found.yaw_slope:.2f} in yaw, {found.pitch_slope:.2f} in pitch"
    )
    say(f"{result.crops} crops, {result.seconds:.0f} s, {result.size_mb:.1f} MB → {result.output}")


def run_inspect(arguments: argparse.Namespace) -> None:
    from custom_gaze.weights.inspect import describe

    say(*describe(arguments.file).split("\n"))


def run_deploy(arguments: argparse.Namespace) -> None:
    from custom_gaze.rustyeyes.deploy import DeployPlan, deploy, plan_deploy

    def show(plan: DeployPlan) -> None:
        say(*plan.lines())

    params, paths = _project()
    model = arguments.model or paths.model
    scale = arguments.app_pixels_per_degree
    if arguments.dry_run:
        show(plan_deploy(arguments.app, model, params.geometry, scale))
        return
    result = deploy(arguments.app, model, params.geometry, scale, show=show)
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
