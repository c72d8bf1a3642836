"""What the families of verbs share: how a verb is added, the project that it works in, how it
prints what it found.

A verb imports what is heavy when it runs, so that --help answers at once, and after params.yaml was
read, so that a mistake in it is named at once too.
"""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from custom_gaze.common.console import say
from custom_gaze.common.errors import InputError

if TYPE_CHECKING:
    from custom_gaze.config.params import Params
    from custom_gaze.config.paths import Paths

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_verb(
    verbs: Verbs,
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    text: str,
    *,
    anywhere: bool = False,
    json: bool = False,
) -> argparse.ArgumentParser:
    """Add a verb whose parsed arguments `run` takes; returns its parser, to be given options.

    `run` returns an exit code, or None for 0. `anywhere`: it needs no project. `json`: it has
    --json, and `run` calls `tell`.
    """
    parser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run, anywhere=anywhere)
    if json:
        parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Add -S KEY=VALUE, as `dvc exp run` has it: `set`, a list."""
    parser.add_argument(
        *("-S", "--set-param"),
        dest="set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a parameter for this run, as with `dvc exp run`; may be repeated",
    )


def tell(arguments: argparse.Namespace, result: object, *lines: object) -> None:
    """Print what a verb found: `lines`, or with --json `result`, of dataclasses or models."""
    if not arguments.json:
        say(*lines)
        return
    import json

    from pydantic_core import to_jsonable_python

    content = to_jsonable_python(result, fallback=str, inf_nan_mode="null")
    say(*json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).split("\n"))


def aside(arguments: argparse.Namespace) -> AbstractContextManager[object]:
    """With --json what is said inside goes to standard error: standard output is one document."""
    return redirect_stdout(sys.stderr) if arguments.json else nullcontext()


def enter_project(arguments: argparse.Namespace) -> None:
    """Work in the project's root, wherever below it the command was given.

    A path that was given stays the one that it was: it is made absolute. So does a word that may
    be a path, where something lies there.

    Raises:
        InputError: the verb needs a project, and here is none.
    """
    from custom_gaze.config.paths import project_root

    here = Path.cwd()
    root = project_root(here)
    if root is None or root == here:
        if root is None and not (arguments.anywhere or Path("params.yaml").exists()):
            raise InputError(
                f"{here}: is in no custom-gaze project (neither it nor a folder above has "
                "params.yaml beside .dvc); go into the project's folder first"
            )
        return
    for name, value in vars(arguments).items():
        if isinstance(value, Path):
            setattr(arguments, name, here / value)
        elif name in ("target", "source") and value and (here / value).exists():
            setattr(arguments, name, str(here / value))
    os.chdir(root)


def project() -> "tuple[Params, Paths]":
    """The parameters and paths of the project that was entered.

    Raises:
        InputError: params.yaml is missing or cannot be used.
    """
    from custom_gaze.config.params import load_params
    from custom_gaze.config.paths import Paths

    paths = Paths()
    return load_params(paths.params), paths
