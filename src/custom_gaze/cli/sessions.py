"""The verbs of calibration sessions: import, screen, demo, sheet, doctor, crop."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from custom_gaze.cli.imports import add_options, import_any, refuse_options_of_formats
from custom_gaze.cli.verbs import Verbs, add_verb, aside, project, tell
from custom_gaze.common.console import say, warn
from custom_gaze.common.errors import InputError

if TYPE_CHECKING:
    from custom_gaze.config.params import Params
    from custom_gaze.data.importing import ImportResult
    from custom_gaze.data.prepared import LeftOut
    from custom_gaze.data.sessions import Session
    from custom_gaze.geometry import ScreenGeometry


def add_verbs(verbs: Verbs) -> None:
    text = "check a captured folder and add it to data/sessions"
    sub = add_verb(verbs, "import", run_import, text, json=True)
    sub.add_argument("path", type=Path, help="the folder that RustyEyes captured, or a data set")
    sub.add_argument(
        "--session", metavar="ID", help="its name here; of days what their names begin with"
    )
    add_options(sub)
    how = sub.add_mutually_exclusive_group()
    how.add_argument("--update", metavar="ID", help="add what is new to this session")
    how.add_argument("--split-by-day", action="store_true", help="make a session of each day")
    text = "exclude the frames that doctor would flag: eyes, labels, duplicates"
    sub.add_argument("--drop-flagged", action="store_true", help=text)

    text = "tell or set the screen that the labels are for"
    sub = add_verb(verbs, "screen", run_screen, text, json=True)
    sub.add_argument("session", metavar="ID", nargs="?", help="its own; default: params.yaml's")
    sub.add_argument("--size", metavar="WxH", help="the screen's pixels, like 2560x1440: set it")
    wide = sub.add_mutually_exclusive_group()
    wide.add_argument("--width-cm", type=float, metavar="CM", help="how wide the picture is")
    wide.add_argument("--diagonal-inch", type=float, metavar="INCH", help="or its diagonal")
    sub.add_argument("--distance-cm", type=float, metavar="CM", help="from your eyes to it")
    sub.add_argument("--dry-run", action="store_true", help="only show what would be set")

    sub = add_verb(verbs, "demo", run_demo, "make a session of a simulated person")
    sub.add_argument("--person", type=int, default=1, metavar="SEED", help="default: 1")
    sub.add_argument("--session", required=True, metavar="ID")
    sub.add_argument("--day", type=int, default=1, help="another day, another seat and light")
    sub.add_argument("--grid", default="5x5", metavar="COLSxROWS", help="default: 5x5")
    sub.add_argument("--frames-per-target", type=int, default=2, metavar="N", help="default: 2")
    sub.add_argument("--seed", type=int, default=1, help="of the session; default: 1")
    sub.add_argument("--if-missing", action="store_true", help="do nothing where ID exists")

    sub = add_verb(verbs, "sheet", run_sheet, "draw a session's contact sheet, or demo persons")
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("session", metavar="ID", nargs="?", help="a session under data/sessions")
    what.add_argument("--persons", type=int, nargs=2, metavar=("FIRST", "LAST"), help="seeds")
    what.add_argument("--days", type=int, metavar="PERSON", help="four days of one demo person")
    sub.add_argument("--output", type=Path, help="default: reports/sheet_….png")

    sub = add_verb(verbs, "doctor", run_doctor, "look sessions over before hours go into them")
    sub.add_argument("session", metavar="ID", nargs="?", help="default: those of params.yaml")
    sub.add_argument("--json", action="store_true", help="print JSON")

    sub = add_verb(verbs, "crop", run_crop, "write the crop that training would see of an image")
    sub.add_argument("image", type=Path)
    sub.add_argument("--output", type=Path, default=Path("crop.png"), help="default: crop.png")


@dataclass(frozen=True)
class Imported:
    """What `import --json` says of each session; `added` is None for a new one, `held` the images
    that were left out, each with the session that holds it."""

    session: str
    folder: Path
    frames: int
    targets: int
    added: int | None
    left_out: "tuple[LeftOut, ...]"
    held: dict[str, str]


def run_import(arguments: argparse.Namespace) -> None:
    with aside(arguments):
        results, next_command = _import(arguments)
    if arguments.json:
        sessions = [
            Imported(
                *(each.session_id, each.folder, each.frames, each.targets, each.added),
                *(each.left_out, each.held.sessions),
            )
            for each in results
        ]
        tell(arguments, {"sessions": sessions, "next": next_command})


def _import(arguments: argparse.Namespace) -> "tuple[list[ImportResult], str]":
    params, paths = project()
    from custom_gaze.config.list_comments import settle_list_comments
    from custom_gaze.data.flagging import exclude_suspects, load_examiner
    from custom_gaze.data.growing import import_by_day, update_session
    from custom_gaze.data.known_accuracy import drawn_base

    if arguments.update is not None and arguments.session is not None:
        raise InputError("import: give --session ID for a new session, or --update ID, not both")
    if arguments.split_by_day or arguments.update is not None:
        refuse_options_of_formats(arguments)
    what = (paths, params.geometry, params.split.same_target_px)
    examiner = None
    if arguments.drop_flagged:  # before anything is imported
        examiner = load_examiner(params, paths)
    if arguments.split_by_day:
        results, skipped = import_by_day(arguments.path, arguments.session or "day", *what)
        for day in skipped:
            say(f"no session {day.session_id}: {day.reason}")
    elif arguments.update is not None:
        results = [update_session(arguments.path, arguments.update, *what)]
    elif arguments.session is not None:
        results = [import_any(arguments, params, paths)]
    else:
        raise InputError(
            "import: give --session ID (a new one), --update ID (what is new) or --split-by-day"
        )
    for result in results:
        say_imported(result, params)
        if examiner is not None:
            flagged = exclude_suspects(result.session_id, examiner, params, paths)
            for suspect in flagged:
                say(f"excluded: {suspect.filename}: {suspect.why}")
            taken_back = f" (custom-gaze session include {result.session_id} FRAME)"
            say(f"{len(flagged)} frames excluded{taken_back if flagged else ''}")
    if known := drawn_base(params.fetch.base, (result.is_drawn for result in results)):
        warn(f"warning: {known}")
    for key in settle_list_comments(paths.params):
        warn(f"{paths.params}: the comment behind {key} stands above it now: -S writes into it")
    next_command = _next_command([result.session_id for result in results], params)
    say(f"next: {next_command}")
    return results, next_command


def _next_command(ids: list[str], params: "Params") -> str:
    """What runs these sessions, to be pasted into a shell."""
    from custom_gaze.config.session_ids import sessions_option

    if set(ids) <= {*params.sessions, *params.evaluate.sessions}:
        return "dvc exp run"
    # Another person's session, left in params.yaml by the demo, is nothing to be tested on.
    alone = f" {sessions_option([], 'evaluate.sessions')}" if params.evaluate.sessions else ""
    return f"dvc exp run {sessions_option(ids)}{alone}"


def say_imported(result: "ImportResult", params: "Params") -> None:
    """Say what was imported, and what is worth knowing of it."""
    from custom_gaze.data.importing import held_words
    from custom_gaze.data.known_accuracy import few_targets
    from custom_gaze.data.session_file import read_session_file
    from custom_gaze.data.sessions import TURNED, UPRIGHT
    from custom_gaze.data.splits import MIN_TARGETS
    from custom_gaze.doctor.mirror import mirrored_part

    for entry in result.left_out:
        warn(f"will be left out: {entry.filename}: {entry.reason}")
    for entry in result.not_copied:
        warn(f"not copied: {entry.filename}: {entry.reason}")
    if result.held.sessions:
        say(f"{held_words(result.held)} already: left out")
    if result.held.unread:
        first = result.held.unread[0]
        more = f" and {len(result.held.unread) - 1} more" if len(result.held.unread) > 1 else ""
        warn(f"not compared with {first}{more}: not on disk (dvc pull data/sessions/{first}.dvc)")
    if result.turned:
        more = f" and {len(result.turned) - 1} more" if len(result.turned) > 1 else ""
        warn(f"warning: {result.turned[0]}{more}: {TURNED}; {UPRIGHT}")
    if result.added is not None:
        say(f"{result.folder}: {result.added or 'no'} new frame{'s' * (result.added != 1)}")
    elif result.again:
        say(f"{result.folder} was there already, with the same bytes")
    left, top, right, bottom = result.extent_px
    say(f"{result.frames} usable frames of {result.targets} targets → {result.folder}")
    say(f"targets from ({left:.0f}, {top:.0f}) to ({right:.0f}, {bottom:.0f}) pixels")
    geometry = read_session_file(result.folder).geometry_or(params.geometry)
    _warn_of_screen(result.session, geometry, params)
    for finding in mirrored_part(result.copied_frames(), geometry, params.prepare):
        warn(f"warning: {finding.what}, from {finding.frames[0]} on; {finding.advice}")
    if result.targets < MIN_TARGETS:
        warn(f"warning: a run needs {MIN_TARGETS} targets; name this session together with others")
    elif few := few_targets(result.targets):
        warn(f"warning: {few[0]}; {few[1]}")


def _warn_of_screen(session: "Session", geometry: "ScreenGeometry", params: "Params") -> bool:
    """Warn of targets that are none of this screen's; returns whether there are such."""
    from custom_gaze.doctor.screen import against_the_screen

    findings = against_the_screen(session.frames, geometry, params.split.same_target_px)
    for finding in findings:
        warn(f"warning: {finding.what}; {finding.advice}")
    return bool(findings)


def run_screen(arguments: argparse.Namespace) -> None:
    with aside(arguments):
        geometry = _screen(arguments)
    if arguments.json:
        tell(arguments, geometry)


def _screen(arguments: argparse.Namespace) -> "ScreenGeometry":
    """Do what `screen` does; returns the screen in force, or what would be."""
    params, paths = project()
    from custom_gaze.config.screen import described, screen_of, write_geometry
    from custom_gaze.data.session_changes import set_geometry
    from custom_gaze.data.session_file import read_session_file, session_file
    from custom_gaze.data.session_list import session_of
    from custom_gaze.data.sessions import read_session

    name = arguments.session
    folder = None if name is None else session_of(name, paths)
    said = None if folder is None else read_session_file(folder)
    geometry = said.geometry_or(params.geometry) if said else params.geometry
    known = (arguments.width_cm, arguments.diagonal_inch, arguments.distance_cm)
    if arguments.size is None:
        if known != (None, None, None):
            raise InputError("screen: give --size too, the screen's pixels, like 2560x1440")
        say(*described(geometry))
    else:
        if arguments.distance_cm is None:
            raise InputError("screen: give --distance-cm too, from your eyes to the screen")
        screen = screen_of(arguments.size, *known)
        geometry = screen.geometry()
        say(*screen.lines())
    if folder is not None and said is not None and folder.is_dir():
        session = read_session(folder, geometry, said.reasons())
        if not _warn_of_screen(session, geometry, params):
            say(f"the targets of {name} lie on it")
    if arguments.size is None or arguments.dry_run:
        return geometry
    if folder is None:
        write_geometry(geometry, paths.params)
        say(f"→ {paths.params}; the next `dvc repro` or `dvc exp run` labels the frames anew")
        return geometry
    set_geometry(name, geometry, paths)
    say(f"→ {session_file(folder)}; the next `dvc repro` or `dvc exp run` labels its frames anew")
    return geometry


def run_demo(arguments: argparse.Namespace) -> None:
    from custom_gaze.config.session_ids import check_new_session_id, check_session_id
    from custom_gaze.data.dvc_sessions import (
        is_tracked,
        put_under_dvc,
        sessions_lock,
        whole_or_taken_back,
    )
    from custom_gaze.data.session_file import session_file
    from custom_gaze.demo.session import check_arguments, parse_grid, write_session

    params, paths = project()
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
            # Killed between drawing and `dvc add`, or made by an earlier version.
            if not (is_tracked(folder) and session_file(folder).exists()):
                put_under_dvc(folder, paths)
            say(f"{folder} is there")
            return
        check_new_session_id(arguments.session, "--session")
        with whole_or_taken_back(folder, paths):
            frames = write_session(folder, **what, geometry=params.geometry)
            put_under_dvc(folder, paths)
    say(f"{frames} frames → {folder}; look at them: custom-gaze sheet {arguments.session}")


def run_sheet(arguments: argparse.Namespace) -> None:
    params, paths = project()
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
        sheet(paths.sessions / arguments.session, output, paths, params.geometry, same_px)
    say(f"→ {output}")


def run_doctor(arguments: argparse.Namespace) -> int:
    params, paths = project()
    from custom_gaze import doctor

    result = doctor.run(arguments.session, params, paths)
    text = doctor.as_json(result) if arguments.json else doctor.as_text(result)
    say(*text.split("\n"))
    return int(any(finding.severity is doctor.Severity.ERROR for finding in result.findings))


def run_crop(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.data.crop_picture import crop_picture

    result = crop_picture(arguments.image, arguments.output, params, paths)
    say(f"crop   → {result.crop} (from the {result.crop_from})")
    say(f"boxes  → {result.boxes}")
