"""The verbs of `custom-gaze session`: list and show, rename, remove, merge, exclude, include."""

import argparse
import sys
from typing import TYPE_CHECKING

from custom_gaze.cli.verbs import Verbs, add_verb, project, tell
from custom_gaze.common.console import aligned, say, warn
from custom_gaze.common.errors import InputError

if TYPE_CHECKING:
    from custom_gaze.config.paths import Paths
    from custom_gaze.data.session_list import SessionInfo

RERUN = "the next `dvc repro` or `dvc exp run` prepares it anew"
HEADER = ("session", "frames", "targets", "excluded", "captured", "MB", "params", "here")


def add_verbs(verbs: Verbs) -> None:
    text = "the sessions that are there, and what is said of them"
    session = verbs.add_parser("session", help=text, description=text)
    verbs = session.add_subparsers(dest="session_verb", required=True, metavar="VERB")

    add_verb(verbs, "list", run_list, "all sessions in a table", json=True)
    text = "one session, its excluded and its suspect frames"
    sub = add_verb(verbs, "show", run_show, text, json=True)
    sub.add_argument("session", metavar="ID")
    text = "leave frames out of all that is made of a session; they stay where they are"
    sub = add_verb(verbs, "exclude", run_exclude, text)
    sub.add_argument("session", metavar="ID")
    sub.add_argument("frames", nargs="+", metavar="FRAME", help="img_….jpg, as doctor names it")
    sub.add_argument("--because", required=True, metavar="TEXT", help="why, in a few words")
    sub = add_verb(verbs, "include", run_include, "use excluded frames again")
    sub.add_argument("session", metavar="ID")
    sub.add_argument("frames", nargs="+", metavar="FRAME")
    text = "give a session another id: its folder, its files, params.yaml"
    sub = add_verb(verbs, "rename", run_rename, text)
    sub.add_argument("session", metavar="ID")
    sub.add_argument("new", metavar="NEW")
    text = "take a session out of the project; DVC's cache keeps its frames"
    sub = add_verb(verbs, "remove", run_remove, text)
    sub.add_argument("session", metavar="ID")
    sub.add_argument("--yes", action="store_true", help="do not ask")
    text = "make one new session of several, which stay as they are"
    sub = add_verb(verbs, "merge", run_merge, text)
    sub.add_argument("sessions", nargs="+", metavar="ID", help="two or more, the first one first")
    sub.add_argument("into", metavar="NEW", help="the new one's id")


def run_list(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.data.session_list import list_sessions

    _complete(paths)
    sessions = list_sessions(params, paths)
    if not sessions:
        tell(arguments, sessions, "no sessions yet; custom-gaze import FOLDER --session ID")
        return
    tell(arguments, sessions, *aligned(HEADER, [_row(one) for one in sessions]).split("\n"))
    for one in sessions:
        if one.problem:
            warn(f"{one.id}: {one.problem}")


def run_show(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.data.session_list import show_session

    _complete(paths)
    detail = show_session(arguments.session, params, paths)
    one = detail.session
    rows = [f"{name:<9} {value}" for name, value in zip(HEADER, _row(one), strict=True)]
    geometry = one.geometry or params.geometry
    whose = "its own" if one.geometry else "of params.yaml"
    rows.append(
        f"screen    {2 * geometry.center_x_px:g} × {2 * geometry.center_y_px:g} pixels, "
        f"{geometry.deg_per_pixel:g} degrees a pixel, {whose}"
    )
    rows += [f"problem   {one.problem}"] if one.problem else []
    rows += [f"excluded  {entry.frame}: {entry.because}" for entry in detail.excluded]
    rows += [f"left out  {entry.filename}: {entry.reason}" for entry in detail.left_out]
    if detail.suspects is None:
        rows.append(f"suspect   not looked at yet: custom-gaze doctor {one.id}")
    else:
        rows += [f"suspect   {entry.filename}: {entry.why}" for entry in detail.suspects]
        rows += [] if detail.suspects else ["suspect   none"]
    tell(arguments, detail, *rows)


def run_exclude(arguments: argparse.Namespace) -> None:
    _, paths = project()
    from custom_gaze.data.session_changes import exclude
    from custom_gaze.data.session_file import session_file

    name = arguments.session
    said, frames = exclude(name, arguments.frames, arguments.because, paths)
    for frame in frames:
        say(f"excluded: {frame}: {said.reasons()[frame]}")
    count = len(said.excluded)
    say(f"→ {session_file(paths.sessions / name)}, {count} excluded in all; {RERUN}")


def run_include(arguments: argparse.Namespace) -> None:
    _, paths = project()
    from custom_gaze.data.session_changes import include
    from custom_gaze.data.session_file import session_file

    name = arguments.session
    said, frames = include(name, arguments.frames, paths)
    if not frames:
        say("none of these was excluded")
        return
    say(f"included again: {', '.join(frames)}")
    count = len(said.excluded)
    say(f"→ {session_file(paths.sessions / name)}, {count} excluded in all; {RERUN}")


def run_rename(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.data.session_changes import rename

    rename(arguments.session, arguments.new, params, paths)
    say(f"{arguments.session} is {arguments.new} now; {RERUN}; git has the change staged")
    if arguments.session in (*params.sessions, *params.evaluate.sessions):
        say(f"{paths.params} names it so too")


def run_remove(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.data.held import session_ids
    from custom_gaze.data.session_changes import remove

    name = arguments.session
    # One that is not there is refused, or a remove that was killed is finished, without asking.
    if not arguments.yes and name in session_ids(paths) and not _agreed(f"Remove {name}?"):
        say("nothing was changed")
        return
    removed = remove(name, params, paths)
    say(f"{name} is removed; git has that staged")
    if removed.unnamed:
        say(f"{paths.params} named it and does no longer")
    if removed.back:
        say("what DVC's cache has of it stays there until `dvc gc`; to bring it back:")
        say(*(f"  {command}" for command in removed.back))


def run_merge(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.config.session_ids import sessions_option
    from custom_gaze.data.session_merge import merge

    merged = merge(arguments.sessions, arguments.into, params, paths)
    twice = f", {merged.duplicates} were the same as another" if merged.duplicates else ""
    excluded = f", {merged.excluded} of them excluded" if merged.excluded else ""
    say(f"{merged.frames} frames{excluded}{twice} → {merged.folder}")
    say(f"{', '.join(arguments.sessions)} are as they were; do not name them beside the new one")
    say(f"next: dvc exp run {sessions_option([arguments.into])}")


def _row(one: "SessionInfo") -> list[str]:
    days = [*dict.fromkeys((one.days[0], one.days[-1]))] if one.days else ["?"]
    return [
        one.id,
        *("?" if n is None else str(n) for n in (one.frames, one.targets, one.excluded)),
        " … ".join(days),
        "?" if one.size_bytes is None else f"{one.size_bytes / 1e6:.1f}",
        one.use,
        ("yes" if one.on_disk else "no") + ("" if one.in_dvc else ", not in DVC"),
    ]


def _complete(paths: "Paths") -> None:
    """Sessions of earlier versions get their file; say so."""
    from custom_gaze.data.dvc_sessions import complete_sessions

    for path in complete_sessions(paths):
        warn(f"made {path}, which `dvc repro` asks for; commit it with the session's .dvc file")


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise InputError(f"{question} Nobody is there to answer; --yes agrees beforehand")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
