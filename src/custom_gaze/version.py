"""Which code made a file."""

import hashlib
from functools import cache
from pathlib import Path

from custom_gaze import __version__


@cache
def code_version() -> str:
    """The package's version and a hash of its sources, e.g. '0.1.0+3f2a9c01b7de'.

    Of the sources and not of the git commit: the same code gives the same file, whatever else was
    committed meanwhile, and code that is not committed yet is told apart.
    """
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"
