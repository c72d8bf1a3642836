"""Changes to params.yaml as `dvc exp run -S` takes them: key=value, checked before DVC is asked."""

import re
from typing import Any

from custom_gaze.common.errors import InputError
from custom_gaze.common.yaml_files import parse_yaml, read_yaml, shown
from custom_gaze.config.params import Params, load_params, params_of
from custom_gaze.config.paths import Paths

FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # a number to Hydra, text to YAML 1.1


def changed_params(paths: Paths, changes: tuple[str, ...]) -> Params:
    """params.yaml with these changes.

    Raises:
        InputError: one is no key=value, names no key of params.yaml, or its value cannot be.
    """
    plain = load_params(paths.params)
    if not changes:
        return plain
    content = read_yaml(paths.params)
    for change in changes:
        key, sign, value = change.partition("=")
        if not sign or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", key):
            raise InputError(f"-S {shown(change)}: must be key=value, as in -S train.epochs=20")
        section = content
        *parents, last = key.split(".")
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            raise InputError(f"-S {shown(change)}: params.yaml has no key {key[:80]}")
        section[last] = _value(change, value)
    return params_of(content, "params.yaml with -S")


def _value(change: str, text: str) -> Any:
    if FLOAT.fullmatch(text):
        return float(text)
    return parse_yaml(text, f"-S {shown(change)}")
