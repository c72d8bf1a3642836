"""Lists in params.yaml under DVC's own -S, with comments about them wherever a hand may put one."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides

from conftest import REPOSITORY
from custom_gaze.common.yaml_files import parse_yaml, read_yaml
from custom_gaze.config.list_comments import settle_list_comments
from custom_gaze.config.params import load_params
from custom_gaze.config.session_ids import sessions_value

SHIPPED = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")


def lists_in(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from lists_in(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            yield f"{prefix}{key}"


def value_of(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content[part]
    return content


def comments(text: str) -> list[str]:
    return sorted(re.findall(r"#.*", text))


def test_every_shipped_list_can_be_set_emptied_and_set_again(tmp_path: Path) -> None:
    """By DVC's own code, which writes a list's lines behind a comment at the end of its key's."""
    shipped = parse_yaml(SHIPPED, "shipped")
    keys = list(lists_in(shipped))
    assert {"sessions", "evaluate.sessions"} <= set(keys)
    path = tmp_path / "params.yaml"
    path.write_text(SHIPPED, encoding="utf-8")
    for ids in (["a", "b"], [], ["20260105", "on", "c"], [], ["d"]):
        for key in keys:
            apply_overrides(path, [sessions_value(ids, key)])
            found = read_yaml(path)
            assert value_of(found, key) == ids
            assert comments(path.read_text(encoding="utf-8")) == comments(SHIPPED)
    for key in keys:
        apply_overrides(path, [sessions_value(value_of(shipped, key), key)])
    assert read_yaml(path) == shipped
    assert load_params(path) == load_params(REPOSITORY / "params.yaml")
    assert settle_list_comments(path) == ()


# What a hand made of the two lists: (sessions, the section evaluate but its name).
WRITTEN = {
    "shipped": ("sessions: [demo-day1]", "  sessions: []\n  seed: 1\n"),
    "behind": ("sessions: [demo-day1] # mine", "  sessions: [] # the second\n  seed: 1 # folds\n"),
    "set, behind": ("sessions: [a,  b] # mine", "  sessions: [c] # the second\n  seed: 1\n"),
    "last of its section": ("sessions: [a]", "  seed: 1\n  sessions: [b] # only tested\n"),
    "long": ("sessions: [a]", f"  sessions: [b] # {'a long one ' * 12}\n  seed: 1\n"),
    "block": ("sessions:\n- a\n- b", "  sessions:\n  - c\n  seed: 1\n"),
    "block, behind the key": (
        "sessions: # mine\n\n  # first\n  - a\n  - b",
        "  seed: 1\n  sessions: # the second\n    - c\n",
    ),
}


@pytest.mark.parametrize(("first", "second"), WRITTEN.values(), ids=WRITTEN)
def test_whatever_a_hand_wrote_the_command_works(tmp_path: Path, first: str, second: str) -> None:
    start, behind = SHIPPED.index("evaluate:"), SHIPPED.index("tracking:")
    text = f"{SHIPPED[:start]}evaluate: # what is measured\n{second}{SHIPPED[behind:]}"
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("sessions: [demo-day1]", first, 1), encoding="utf-8")
    before = path.read_text(encoding="utf-8")
    settle_list_comments(path)
    settled = path.read_text(encoding="utf-8")
    assert parse_yaml(settled, "") == parse_yaml(before, "")
    assert comments(settled) == sorted(line.strip() for line in comments(before))
    assert settle_list_comments(path) == ()  # once is enough
    for first_ids, second_ids in ((["x"], []), (["x", "y"], ["z"]), (["x"], []), (["x"], ["z"])):
        overrides = [
            sessions_value(first_ids),
            sessions_value(second_ids, "evaluate.sessions"),
        ]
        apply_overrides(path, overrides)
        found = load_params(path)
        assert (found.sessions, found.evaluate.sessions) == (tuple(first_ids), tuple(second_ids))
    assert set(re.findall(r"^ *(# .*)$", settled, re.M)) <= set(
        re.findall(r"^ *(# .*)$", path.read_text(encoding="utf-8"), re.M)
    ) | {"# first"}  # a comment among a list's own lines goes with them


def test_other_comments_stay_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(SHIPPED, encoding="utf-8")
    assert settle_list_comments(path) == ()
    assert path.read_text(encoding="utf-8") == SHIPPED
    path.write_text("a: [x] # one\nb: 1 # [x]\nc: # no list\n  d: '[x] # y'\n", encoding="utf-8")
    assert settle_list_comments(path) == ("a",)
    assert path.read_text(encoding="utf-8") == (
        "# one\na: [x]\nb: 1 # [x]\nc: # no list\n  d: '[x] # y'\n"
    )
    path.write_text("text: |\n  a: [x] # part of a text\n", encoding="utf-8")
    assert settle_list_comments(path) == ()  # it would say something else
