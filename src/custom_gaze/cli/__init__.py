"""The command line: one subcommand a verb. Parses, calls, prints, returns a code.

Each family of verbs has a module with its parsers and what they do. Nothing heavy is imported here,
so that --help answers at once.
"""

import argparse
import os
import sys
from typing import NoReturn

from custom_gaze import __version__
from custom_gaze.cli import (
    app,
    completion,
    gaze,
    pages,
    remote,
    run,
    session,
    sessions,
    stages,
    tools,
)
from custom_gaze.cli.verbs import enter_project
from custom_gaze.common.console import StopSignals, flush, leave, readable_streams, warn
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable

# Said after an error: DVC has removed the stage's outputs by then, before our code ran.
UNDER_DVC = "custom-gaze: `dvc checkout` brings back what DVC removed before it ran this stage"
EXIT_CODES = (
    "Exit codes: 0 done; 1 a failure of ours, or errors that doctor has found; 2 something given "
    "cannot be used; 129, 130, 143 ended by SIGHUP, Ctrl-C, SIGTERM."
)
LONGEST_ERROR = 2000  # characters


class _Parser(argparse.ArgumentParser):
    """Errors that repeat what was given show it printable."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message, LONGEST_ERROR))


def parser() -> argparse.ArgumentParser:
    made = _Parser(
        prog="custom-gaze",
        description="From calibration frames to a personal gaze network. "
        "The stages are usually run by `dvc repro` or `dvc exp run`.",
        epilog=EXIT_CODES,
    )
    made.add_argument("--version", action="version", version=f"custom-gaze {__version__}")
    verbs = made.add_subparsers(dest="verb", required=True, metavar="VERB")
    for family in (sessions, session, pages, run, stages, gaze, tools, app, remote, completion):
        family.add_verbs(verbs)
    return made


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns one of EXIT_CODES. What is not foreseen is a traceback and 1."""
    readable_streams()
    arguments = parser().parse_args(argv)
    stopped = StopSignals()
    code = 0
    try:
        with stopped:
            enter_project(arguments)
            code = arguments.run(arguments) or 0
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
    if verb in ("capture", "import", "remote", "run", "session"):
        return "the same command goes on"
    return "nothing is left half done; the same command starts anew"
