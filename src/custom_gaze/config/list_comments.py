"""Comments behind lists in params.yaml, which DVC's -S takes for the place of the list's lines."""

import re
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_text
from custom_gaze.common.untrusted import read_text
from custom_gaze.common.yaml_files import MOST_YAML_BYTES, parse_yaml

# A key's line that holds a list or stands above one's lines, and a comment at its end.
_COMMENTED = re.compile(
    r"^(?P<indent> *)(?P<key>[A-Za-z_]\w*):(?P<value> *(?:\[[^\]#\n]*\])?)(?P<comment>[ \t]+#.*)$"
    r"(?P<below>(?:\n *(?:#.*)?)*\n *- )?",
    re.MULTILINE,
)


def settle_list_comments(path: Path) -> tuple[str, ...]:
    """Move each comment behind a list of params.yaml to a line of its own, above the list.

    `dvc exp run -S key=[…]` writes the list's lines behind such a comment, each time further to
    the right, and sometimes so that the file no longer parses. Nothing else in the file changes.
    Returns the lists' keys, without their sections.

    Raises:
        InputError: the file cannot be read.
        CustomGazeError: it cannot be written.
    """
    before = read_text(path, MOST_YAML_BYTES)
    moved: list[str] = []

    def above(found: re.Match[str]) -> str:
        is_list = found["value"].strip() or found["below"]
        if not is_list:
            return found[0]
        moved.append(found["key"])
        line = f"{found['indent']}{found['key']}:{found['value'].rstrip()}"
        return f"{found['indent']}{found['comment'].strip()}\n{line}{found['below'] or ''}"

    after = _COMMENTED.sub(above, before)
    if not moved or not _says_the_same(before, after, path):
        return ()
    write_text(path, after)
    return tuple(moved)


def _says_the_same(before: str, after: str, path: Path) -> bool:
    try:
        return bool(parse_yaml(before, str(path)) == parse_yaml(after, str(path)))
    except InputError:
        return False
