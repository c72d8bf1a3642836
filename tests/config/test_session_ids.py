"""Session ids: what they may be, and that YAML, Hydra, DVC and the shell take them as they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import REPOSITORY
from custom_gaze.common.errors import InputError
from custom_gaze.config.session_ids import (
    SESSION_ID,
    check_new_session_id,
    check_session_id,
    sessions_option,
    sessions_value,
)

# Ids made of what numbers, dates and truth values are made of.
TRICKY = st.from_regex(
    r"([0-9]{1,8}|[0-9]{1,4}(_[0-9]{1,3})*|[0-9]{1,3}[eE][-+]?[0-9]{1,3}|0[xobXOB][0-9a-fA-F]{1,4}"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|[Nn](an|aN|ULL|ull|o|O)|[Ii]nf|[Yy]es|[Oo](n|ff|FF)"
    r"|[Tt]rue|FALSE|[a-z0-9_-]{1,6})",
    fullmatch=True,
).filter(SESSION_ID.fullmatch)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "-x", "a" * 65, "ä", "a\n"])
def test_bad_session_ids(name: str) -> None:
    with pytest.raises(InputError, match="is no session id") as caught:
        check_session_id(name, "--session")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            (name, "a number")
            for name in ("20260106", "1e5", "1E5", "0x1f", "0b11", "1_000", "0o17", "nan")
        ),
        ("2026-01-06", "a date"),
        *((name, "true or false") for name in ("on", "No", "true", "y", "N")),
        ("null", "nothing"),
        ("NULL", "nothing"),
    ],
)
def test_an_id_that_is_no_word_to_yaml_is_refused(name: str, kind: str) -> None:
    with pytest.raises(InputError, match=f"would be read as {kind} in .*, as in 'day-{name}'"):
        check_new_session_id(name, "--session")
    assert check_new_session_id(f"day-{name}", "--session") == f"day-{name}"


def read_by_all(text: str) -> list[Any]:
    """A YAML list as PyYAML (YAML 1.1), DVC (1.2) and Hydra read it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from ruamel.yaml import YAML

    hydra = OverridesParser.create().parse_override(f"x={text}").value()
    return [yaml.safe_load(text), list(YAML(typ="safe", pure=True).load(text)), hydra]


@settings(max_examples=60, deadline=None)
@given(TRICKY)
@example("monday")
def test_accepted_ids_are_words_to_every_reader(name: str) -> None:
    try:
        check_new_session_id(name, "--session")
    except InputError:
        return
    assert read_by_all(f"[{name}]") == [[name]] * 3


@settings(max_examples=60, deadline=None)
@given(TRICKY)
def test_older_ids_are_quoted_where_they_need_it(name: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    change = sessions_value([name, "monday"])
    assert OverridesParser.create().parse_override(change).value() == [name, "monday"]


def test_what_is_printed_is_what_the_shell_hands_on() -> None:
    for ids in (["monday"], ["monday", "20260106"], []):
        option = sessions_option(ids, "evaluate.sessions")
        said = subprocess.run(["sh", "-c", f"printf %s {option}"], capture_output=True, text=True)
        assert said.stdout == "-S" + sessions_value(ids, "evaluate.sessions")
    assert sessions_option(["monday"]) == "-S 'sessions=[monday]'"


def test_an_id_never_becomes_a_command(tmp_path: Path) -> None:
    """The shipped stage, run by DVC in a small project: the shell gets the id as one word."""
    stage = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    prepare = {key: stage["prepare"][key] for key in ("matrix", "cmd", "outs")}
    assert stage["prepare_cross_session"]["cmd"] == prepare["cmd"]
    prepare["deps"] = ["data/sessions/${item.session}"]
    ids = ["x;touch PWN", "it's $(touch PWN) `touch PWN` \" > PWN"]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"prepare": prepare}}))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"sessions": ids}))
    for name in ids:
        (tmp_path / "data" / "sessions" / name).mkdir(parents=True)
    tool = tmp_path / "bin" / "custom-gaze"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\nprintf "%s|" "$@" >> said; mkdir -p "data/dataset_clean/$3"\n')
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"}
    for words in (["init", "--no-scm", "--quiet"], ["repro", "--quiet"]):
        subprocess.run(
            [sys.executable, "-m", "dvc", *words], cwd=tmp_path, env=environment, check=True
        )
    said = (tmp_path / "said").read_text(encoding="utf-8").split("|")[:-1]
    assert sorted(said[2::3]) == sorted(ids)
    assert said[0::3] == ["prepare"] * 2
    assert not list(tmp_path.rglob("PWN"))
    shutil.rmtree(tmp_path / ".dvc")
