"""The two lists of sessions in params.yaml, changed line by line: all else in it stays."""

import re
from collections.abc import Sequence
from pathlib import Path

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_text
from custom_gaze.common.untrusted import read_text
from custom_gaze.common.yaml_files import parse_yaml
from custom_gaze.config.session_ids import sessions_value

SECTION = re.compile(r"^evaluate:", re.M)


def write_session_lists(trained: Sequence[str], tested: Sequence[str], path: Path) -> None:
    """Make `sessions` and `evaluate.sessions` of params.yaml, which is known to be valid, these.

    DVC, which may have written it last, has lists in block form; ours stand on one line.

    Raises:
        InputError: they are not written as the shipped ones are or as DVC writes them.
        CustomGazeError: it cannot be written.
    """
    before = read_text(path)
    content = parse_yaml(before, str(path))
    text = before
    if content["sessions"] != list(trained):
        text = _with_list(text, 0, "", trained)
    if content["evaluate"]["sessions"] != list(tested):
        section = SECTION.search(text)
        text = _with_list(text, section.end() if section else len(text), " +", tested)
    content["sessions"] = list(trained)
    content["evaluate"]["sessions"] = list(tested)
    if _parsed(text, path) != content:
        trained_line, tested_line = (sessions_value(ids) for ids in (trained, tested))
        raise InputError(
            f"{path}: its lists of sessions cannot be changed line by line; write by hand "
            f"{trained_line} and evaluate.{tested_line}"
        )
    if text != before:
        write_text(path, text)


def _with_list(text: str, start: int, indent: str, ids: Sequence[str]) -> str:
    """`text` with the first `sessions:` from `start` on, so far indented, as a list on its line;
    what stood behind it as a comment stands above it."""
    value = sessions_value(ids).partition("=")[2].replace(",", ", ")
    written = re.compile(
        rf"^(?P<indent>{indent})sessions:[ \t]*"
        r"(?:\[[^\]#]*\])?[ \t]*(?P<comment>#[^\n]*)?\n(?:[ \t]*- [^\n#]*\n)*",
        re.M,
    )

    def line(found: "re.Match[str]") -> str:
        comment = f"{found['indent']}{found['comment']}\n" if found["comment"] else ""
        return f"{comment}{found['indent']}sessions: {value}\n"

    return text[:start] + written.sub(line, text[start:], count=1)


def _parsed(text: str, path: Path) -> object:
    try:
        return parse_yaml(text, str(path))
    except InputError:
        return None
