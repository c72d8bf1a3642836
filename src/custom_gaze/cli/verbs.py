"""What the families of verbs share: how a verb is added, and the project that it works in.

A verb imports what is heavy when it runs, so that --help answers at once, and after params.yaml was
read, so that a mistake in it is named at once too.
"""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from custom_gaze.config.params import Params
    from custom_gaze.config.paths import Paths

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_verb(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], int | None], text: str
) -> argparse.ArgumentParser:
    """Add a verb whose parsed arguments `run` takes; returns its parser, to be given options.

    `run` returns an exit code, or None for 0.
    """
    parser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def project() -> "tuple[Params, Paths]":
    """The parameters and paths of the project in the current folder.

    Raises:
        InputError: params.yaml is missing or cannot be used.
    """
    from custom_gaze.config.params import load_params
    from custom_gaze.config.paths import Paths

    paths = Paths()
    return load_params(paths.params), paths
