"""`custom-gaze experiments`: DVC's experiments with their figures and the parameters that differ.

`dvc exp show` has a column for each parameter and each file that a stage reads, and no way to
narrow them: thousands of characters a line. Here what differs stands below each experiment.
"""

import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from custom_gaze.common.console import aligned
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable
from custom_gaze.config.paths import Paths

FIGURES = {  # of metrics.json, and what they are called here
    "error_deg": "error",
    "error_px": "pixels",
    "cross_session_deg": "cross-session",
    "correction_deg": "correction",
    "frames": "frames",
    "targets": "targets",
}
HEADER = ("experiment", "created", *FIGURES.values())
WIDTH = 100  # where the output is no terminal
LONGEST_NAME = 28
LONGEST_VALUE = 60


@dataclass(frozen=True)
class Experiment:
    """One experiment, commit or the workspace.

    Attributes:
        name: an experiment's, a branch's, or workspace.
        created: day and time, or nothing for the workspace.
        figures: of metrics.json, those that are there.
        differing: the parameters whose values are not the same in all of the list, as text.
    """

    name: str
    created: str
    figures: Mapping[str, float]
    differing: Mapping[str, str]


def experiments(paths: Paths, all_commits: bool = False) -> list[Experiment]:
    """The workspace, HEAD (or all commits), and the experiments on it, as DVC lists them.

    Raises:
        CustomGazeError: DVC cannot list them; its last line is the message.
    """
    words = [sys.executable, "-m", "dvc", "exp", "show", "--json", *["-A"][: int(all_commits)]]
    done = subprocess.run(words, cwd=paths.root, capture_output=True, check=False, encoding="utf-8")
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it says nothing"]
        raise CustomGazeError(f"`dvc exp show` failed: {printable(said[-1], 300)}")
    entries = [entry for state in json.loads(done.stdout) for entry in _entries(state)]
    params = [_params(entry) for entry in entries]
    keys = sorted({key for each in params for key in each})
    differ = [key for key in keys if len({each.get(key) for each in params if each}) > 1]
    return [
        Experiment(
            name=printable(entry.get("name") or _revision(entry["rev"]), LONGEST_NAME),
            created=str((entry.get("data") or {}).get("timestamp") or "")[:16].replace("T", " "),
            figures=_figures(entry),
            differing={key: mine[key] for key in differ if key in mine},
        )
        for entry, mine in zip(entries, params, strict=True)
    ]


def _entries(state: dict[str, Any]) -> list[dict[str, Any]]:
    """A commit of DVC's list, and below it the last revision of each of its experiments."""
    below = [each["revs"][0] for each in state.get("experiments") or [] if each.get("revs")]
    return [state, *below]


def _revision(name: str) -> str:
    return name if name == "workspace" else name[:7]


def _figures(entry: dict[str, Any]) -> dict[str, float]:
    files = ((entry.get("data") or {}).get("metrics") or {}).values()
    found = {key: value for file in files for key, value in (file.get("data") or {}).items()}
    return {
        key: value
        for key in FIGURES
        if isinstance(value := found.get(key), (int, float)) and not isinstance(value, bool)
    }


def _params(entry: dict[str, Any]) -> dict[str, str]:
    """Parameters by their dotted keys, as text."""
    files = ((entry.get("data") or {}).get("params") or {}).values()
    flat: dict[str, str] = {}
    for file in files:
        _flatten(file.get("data") or {}, "", flat)
    return flat


def _flatten(values: Mapping[str, Any], before: str, flat: dict[str, str]) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            _flatten(value, f"{before}{key}.", flat)
        elif isinstance(value, list):
            flat[before + key] = printable(f"[{','.join(map(str, value))}]", LONGEST_VALUE)
        else:
            flat[before + key] = printable(json.dumps(value).strip('"'), LONGEST_VALUE)


def as_text(found: Sequence[Experiment]) -> list[str]:
    """A table that fits the terminal, below each line the parameters that differ."""
    width = shutil.get_terminal_size((WIDTH, 24)).columns
    rows = [(each.name, each.created, *_cells(each.figures)) for each in found]
    header, rule, *lines = aligned(HEADER, rows).split("\n")
    told = [header, rule]
    for line, each in zip(lines, found, strict=True):
        values = "  ".join(f"{key}={value}" for key, value in each.differing.items())
        below = textwrap.wrap(
            values, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
        )
        told += [line, *below]
    return told


def _cells(figures: Mapping[str, float]) -> list[str]:
    return [
        "–"
        if key not in figures
        else f"{figures[key]:.2f}°"
        if key.endswith("deg")
        else f"{figures[key]:.0f}"
        for key in FIGURES
    ]
