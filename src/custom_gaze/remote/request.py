"""What a run is asked to do, checked here before anything is sent."""

import datetime
import re
from dataclasses import dataclass
from typing import Any

from custom_gaze.common.errors import InputError
from custom_gaze.common.yaml_files import parse_yaml, read_yaml, shown
from custom_gaze.config.params import Params, load_params, params_of
from custom_gaze.config.paths import Paths
from custom_gaze.remote.replies import RUN_NAME, Run

_FLOAT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")  # a number to Hydra, text to YAML 1.1


@dataclass(frozen=True)
class Experiment:
    """One experiment: its name and its changes to params.yaml, as `-S` takes them."""

    name: str
    changes: tuple[str, ...]
    params: Params


@dataclass(frozen=True)
class Request:
    """One run: a name, a commit, and one experiment or several."""

    name: str
    commit: str
    experiments: tuple[Experiment, ...]
    jobs: int = 1

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "commit": self.commit,
            "jobs": self.jobs,
            "experiments": [
                {"name": entry.name, "set": list(entry.changes)} for entry in self.experiments
            ],
        }

    def is_same_as(self, run: Run) -> bool:
        """Whether a run there was started by the same request."""
        asked = self.as_dict()
        return run.model_dump(include=set(asked)) == asked


def check_name(name: str) -> str:
    """Return `name` if an experiment can bear it.

    Raises:
        InputError: it cannot.
    """
    if not re.fullmatch(RUN_NAME, name):
        raise InputError(f"{name!r} is no name for a run: letters, digits, - and _, at most 64")
    return name


def name_of_run(given: str | None, sessions: tuple[str, ...]) -> str:
    """The name that was given, or one that says what a run trains on and when it was asked for.

    Raises:
        InputError: an experiment cannot bear it.
    """
    if given:
        return check_name(given)
    now = datetime.datetime.now().strftime("%m%d-%H%M%S")
    return check_name("-".join(sessions)[:48].rstrip("-") + f"-{now}")


def changed_params(paths: Paths, changes: tuple[str, ...]) -> Params:
    """params.yaml with the changes of `-S`, checked.

    Raises:
        InputError: a change is no `key=value`, or what results is not allowed.
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
    if _FLOAT.fullmatch(text):
        return float(text)
    return parse_yaml(text, f"-S {shown(change)}")
