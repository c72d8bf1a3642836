"""The verbs that open a page in the browser: capture, live."""

import argparse
import os
import sys
import webbrowser
from pathlib import Path

from custom_gaze.cli.sessions import say_imported
from custom_gaze.cli.verbs import Verbs, add_verb, project
from custom_gaze.common.console import flush, say, warn
from custom_gaze.common.errors import InputError


def add_verbs(verbs: Verbs) -> None:
    text = "capture a session with the webcam, in the browser"
    sub = add_verb(verbs, "capture", run_capture, text)
    sub.add_argument("session", metavar="SESSION", help="its name, a new one")
    how = sub.add_mutually_exclusive_group()
    text = "spread over the screen, corners and edges first; default: 25"
    how.add_argument("--targets", type=int, default=25, metavar="N", help=text)
    how.add_argument("--grid", metavar="COLSxROWS", help="in a grid instead, like 5x5")
    text = "of each target; default: 2"
    sub.add_argument("--frames-per-target", type=int, default=2, metavar="N", help=text)
    sub.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="frames as the app's mirror mode makes them, its default and this one's",
    )
    add_open(sub)

    sub = add_verb(verbs, "live", run_live, "the model at work, in the browser; measured there too")
    sub.add_argument("--model", type=Path, help="default: models/custom_gaze.onnx")
    add_open(sub)


def add_open(parser: argparse.ArgumentParser) -> None:
    """Add --no-open."""
    text = "only print the page's address"
    parser.add_argument("--no-open", dest="open", action="store_false", help=text)


def show(page: str, url: str, opens: bool) -> None:
    """Tell the address of a page that answers, and open it where a browser of this desktop can."""
    say(f"{page}: {url} (Ctrl-C ends it)")
    flush()
    # Without a desktop webbrowser would start one that draws in this terminal.
    if opens and (sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)):
        webbrowser.open(url)


def run_capture(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.capture import run as capture
    from custom_gaze.capture.desk import Options
    from custom_gaze.capture.targets import MOST_FRAMES_PER_TARGET, Pattern, parse_grid

    count, grid = arguments.frames_per_target, arguments.grid
    if not 1 <= count <= MOST_FRAMES_PER_TARGET:
        raise InputError(
            f"--frames-per-target is {count}, but must be 1 to {MOST_FRAMES_PER_TARGET}"
        )
    pattern = Pattern(parse_grid(grid) if grid else None, arguments.targets)
    options = Options(pattern, count, arguments.mirror)
    name = arguments.session
    opened = lambda url: show("capture", url, arguments.open)  # noqa: E731
    result = capture.run(name, params, paths, options, opened)
    if result.imported is not None:
        say_imported(result.imported, params)
        say(f"next: custom-gaze doctor {name} && custom-gaze run {name}")
    elif result.frames:
        say(f"{result.frames} frames wait: `custom-gaze capture {name}` goes on with them")
    else:
        say("nothing was captured")


def run_live(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.capture import live

    opened = lambda url: show("live", url, arguments.open)  # noqa: E731
    live.run(params, paths, arguments.model, warn, opened)
