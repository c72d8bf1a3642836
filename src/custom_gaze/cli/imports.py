"""What `import` takes besides the app's folders: its options, and what is said of a data set."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from custom_gaze.common.console import say, warn
from custom_gaze.common.errors import InputError

if TYPE_CHECKING:
    from custom_gaze.config.params import Params
    from custom_gaze.config.paths import Paths
    from custom_gaze.data.importing import ImportResult

FORMATS = ("app", "mpiifacegaze", "gazecapture", "columbia", "csv")  # a test holds it to the data's


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of other formats."""
    parser.add_argument(
        "--from", dest="format", choices=FORMATS, help="its format; default: what it looks like"
    )
    parser.add_argument("--video", type=Path, metavar="FILE", help="that a CSV's lines are of")
    parser.add_argument(
        "--distance-cm", type=float, metavar="CM", help="eyes to screen, where GazeCapture has none"
    )


def refuse_options_of_formats(arguments: argparse.Namespace) -> None:
    """Raise InputError where an option of other formats is given to what only the app's folder can
    do: to grow, and to be split by day."""
    given = {"--from": arguments.format, "--video": arguments.video}
    given["--distance-cm"] = arguments.distance_cm
    for option, value in given.items():
        if value is not None:
            raise InputError(f"import: {option} is for a new session of a data set: --session ID")


def import_any(arguments: argparse.Namespace, params: "Params", paths: "Paths") -> "ImportResult":
    """Import `arguments.path` as a new session, whichever format it is of.

    Raises:
        CustomGazeError: it cannot be imported.
    """
    from custom_gaze.data.adapters.foreign import Options
    from custom_gaze.data.adapters.formats import APP, format_of, refuse_options
    from custom_gaze.data.importing import import_session

    path, session = arguments.path, arguments.session
    name = arguments.format or format_of(path)
    options = Options(arguments.video, arguments.distance_cm)
    same_px = params.split.same_target_px
    if name == APP:
        refuse_options(APP, frozenset(), options)
        return import_session(path, session, paths, params.geometry, same_px)
    from custom_gaze.data.foreign_import import import_foreign

    done = import_foreign(path, name, session, paths, params.geometry, options, same_px)
    for line in done.by_reason():
        warn(f"left out: {line}")
    say(f"imported as {name}", *done.notes)
    return done.result
