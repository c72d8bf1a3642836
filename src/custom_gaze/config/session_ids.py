"""The names of sessions: what they may be, and how they are said on a command line.

An id becomes a folder's name, a value in params.yaml and a word in DVC's and Hydra's own languages.
"""

import re
from collections.abc import Sequence

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable

SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
SESSION_ID_RULE = "1 to 64 letters, digits, '-' or '_', starting with a letter or digit"
# What YAML 1.1, YAML 1.2 or Hydra would take for something else than a word.
_OTHER_KINDS = {
    "a number": re.compile(r"[0-9][0-9_]*(e[-+]?[0-9_]+)?|0[xob][0-9a-f_]+|nan|inf", re.I),
    "a date": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"),
    "true or false": re.compile(r"true|false|yes|no|on|off|y|n", re.I),
    "nothing": re.compile(r"null", re.I),
}


def check_session_id(name: str, where: str) -> str:
    """Return `name` if it can name a session's folder.

    Raises:
        InputError: it has a slash, a dot, a space or anything else that is not allowed.
    """
    if not SESSION_ID.fullmatch(name):
        said = printable(repr(name), 80)
        raise InputError(f"{where}: {said} is no session id; allowed are {SESSION_ID_RULE}")
    return name


def check_new_session_id(name: str, where: str) -> str:
    """The same for a session that is only now named: params.yaml has to read it as a word.

    Raises:
        InputError: it is no session id, or YAML or Hydra would read it as something else.
    """
    check_session_id(name, where)
    kind = _other_kind(name)
    if kind is not None:
        raise InputError(
            f"{where}: {name!r} would be read as {kind} in params.yaml and by -S; "
            f"begin it with a word, as in 'day-{name}'"
        )
    return name


def sessions_value(ids: Sequence[str], key: str = "sessions") -> str:
    """The change of `key` to these ids, as DVC's -S takes it: an argument, not quoted for a shell.

    An id that Hydra would read as a number is in quotes; older projects may have one.
    """
    words = (f"'{name}'" if _other_kind(name) else name for name in ids)
    return f"{key}=[{','.join(words)}]"


def sessions_option(ids: Sequence[str], key: str = "sessions") -> str:
    """The same for a shell, with its -S: to be printed, and pasted by the user."""
    known = [name for name in ids if SESSION_ID.fullmatch(name)]
    value = sessions_value(known, key)
    return f'-S "{value}"' if "'" in value else f"-S '{value}'"


def _other_kind(name: str) -> str | None:
    return next((kind for kind, shape in _OTHER_KINDS.items() if shape.fullmatch(name)), None)
