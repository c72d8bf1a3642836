"""Which formats `import` knows, and which one a path is of."""

from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.data.adapters import columbia, gazecapture, mpiifacegaze, table
from custom_gaze.data.adapters.foreign import Adapter, ForeignSession, Options
from custom_gaze.data.sessions import FRAME_NAME

APP = "app"  # RustyEyes' own folders, which need no adapter
ADAPTERS: dict[str, Adapter] = {
    "mpiifacegaze": mpiifacegaze.ADAPTER,
    "gazecapture": gazecapture.ADAPTER,
    "columbia": columbia.ADAPTER,
    "csv": table.ADAPTER,  # the last one asked: any set may have a CSV too
}
FORMATS = (APP, *ADAPTERS)


def format_of(path: Path) -> str:
    """The format that a path looks like; `app` where it looks like none, for its reader says best
    what is missing."""
    try:
        if path.is_dir() and any(FRAME_NAME.fullmatch(file.name) for file in path.iterdir()):
            return APP
        return next((name for name, adapter in ADAPTERS.items() if adapter.knows(path)), APP)
    except (OSError, ValueError):  # no such path, a name too long
        return APP


def read_foreign(path: Path, name: str, options: Options) -> ForeignSession:
    """Read a path as of the format `name`, a key of ADAPTERS.

    Raises:
        InputError: it is not of that format, or an option is none of that format.
    """
    adapter = ADAPTERS[name]
    refuse_options(name, adapter.takes, options)
    if not path.exists():
        raise InputError(f"{path}: not found")
    if not adapter.knows(path):
        raise InputError(f"{path}: is no {adapter.title} as --from {name} needs it")
    return adapter.read(path, options)


def refuse_options(name: str, takes: frozenset[str], options: Options) -> None:
    """Raise InputError where an option is given that the format `name` does not take."""
    for option, value in vars(options).items():
        if value is not None and option not in takes:
            spelled = option.replace("_", "-")
            raise InputError(f"--{spelled}: is nothing for an import from {name}")
