import dataclasses
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY, Project
from custom_gaze.common.errors import InputError
from custom_gaze.config.params import Params, load_params


def test_the_shipped_file_holds_the_specification() -> None:
    params = load_params(REPOSITORY / "params.yaml")
    assert params.geometry == type(params.geometry)(864.0, 558.5, 0.0307)
    assert (params.prepare.margin, params.prepare.size_px) == (1.5, 448)
    assert params.augment.samples == 50
    assert params.train.frozen_through == "auto"
    assert (params.train.learning_rate, params.train.epochs) == (1e-4, 50)


def test_one_word_asks_for_the_specification_to_the_letter(project: Project) -> None:
    project.change(
        augment={"samples": 1, "blur_max_sigma_px": 9.0},
        train={"recipe": "specification", "epochs": 2, "batch_size": 4, "method": "probe"},
    )
    params = load_params(project.paths.params)
    assert vars(params.augment) == {
        "samples": 50,
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.2,
        "blur_max_sigma_px": 2.0,
        "iso_noise": 0.15,
        "shift_share": 0.03,
    }
    train = params.train
    assert (train.start, train.schedule, train.frozen_through) == ("base", "constant", "layer3")
    assert (train.learning_rate, train.batch_size, train.epochs, train.patience) == (
        1e-4,
        16,
        50,
        8,
    )
    assert train.inner_share == 1
    assert train.method == "probe"  # is not the recipe's matter


def test_the_defaults_in_the_code_are_the_shipped_values() -> None:
    shipped = load_params(REPOSITORY / "params.yaml")
    for entry in dataclasses.fields(Params):
        if dataclasses.is_dataclass(getattr(shipped, entry.name)):
            assert getattr(shipped, entry.name) == getattr(Params(), entry.name), entry.name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": {"epoch": 5}}, "unknown key 'epoch'; allowed are method, recipe, inner_share"),
        (
            {"train": {"inner_share": 0.2}},
            "train.inner_share is 0.2, but must be auto or a share of the crop's side, 0.25 … 1",
        ),
        ({"train": {"inner_share": "half"}}, "train.inner_share is 'half', but must be auto or"),
        ({"train": {"inner_share": True}}, "train.inner_share is True, but must be auto or"),
        ({"train": {"epochs": 0}}, "train.epochs is 0, but must lie in 1 … 10000"),
        ({"train": {"epochs": "ten"}}, "train.epochs is 'ten', but must be a whole number"),
        ({"train": {"epochs": 2.5}}, "train.epochs is 2.5, but must be a whole number"),
        ({"train": {"epochs": True}}, "train.epochs is True, but must be a whole number"),
        ({"train": {"learning_rate": float("nan")}}, "train.learning_rate is nan, but must lie in"),
        ({"train": {"device": "gpu"}}, "train.device is 'gpu', but must be one of auto, cpu, cuda"),
        ({"prepare": {"margin": 0.5}}, "prepare.margin is 0.5, but must lie in 1.0 … 4.0"),
        ({"geometry": {"deg_per_pixel": 0}}, "geometry.deg_per_pixel is 0, but must lie in"),
        ({"sessions": []}, "sessions is empty"),
        ({"sessions": "one"}, r"-S 'sessions=[one]'"),
        ({"sessions": ["../up"]}, "'../up' is no session id"),
        ({"sessions": ["a b"]}, "'a b' is no session id"),
        (
            {"sessions": [12]},
            """sessions holds 12; put the id in quotes, as in -S "sessions=['12']\"""",
        ),
        ({"sessions": ["one", "one"]}, "session 'one' is named twice"),
        ({"evaluate": {"sessions": ["one"]}}, "session 'one' is named twice"),
        ({"split": {"test_share": 0.5, "validation_share": 0.4}}, "but must be at most 0.8"),
        ({"fetch": {"detector": None}}, "fetch.detector is None, but must be a string"),
    ],
)
def test_bad_values_are_named(project: Project, change: dict[str, Any], said: str) -> None:
    project.change(**change)
    with pytest.raises(InputError, match=re.escape(said)):
        load_params(project.paths.params)


def test_a_missing_key_is_named(project: Project) -> None:
    content = yaml.safe_load(project.paths.params.read_text())
    del content["train"]["epochs"]
    project.paths.params.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"train.* lacks the key 'epochs'"):
        load_params(project.paths.params)


@pytest.mark.parametrize("content", ["a: [", "- 1\n- 2\n", "\xff\xfe", "", "x: !!python/none"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=re.escape(str(path))):
        load_params(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found; run this in the project's folder"):
        load_params(tmp_path / "params.yaml")


LONG = "9" * 5000
NESTED = "[" * 3000 + "]" * 3000
BOMB = "a: &a [x,x,x,x]\n" + "".join(
    f"{b}: &{b} [*{a},*{a},*{a},*{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed: 1", "seed: 2026-13-45", "'2026-13-45' is no timestamp (line"),
        ("seed: 1", f"seed: {LONG}", "is no int (line"),
        ("seed: 1", f"seed: 0x{LONG}", "split.seed is a number of thousands of digits, but must"),
        ("margin: 1.5", f"margin: 0x{'f' * 900}", "but must lie in 1.0 … 4.0"),
        ("seed: 1", "seed: !!bool maybe", "'maybe' is no bool (line"),
        ("seed: 1", "seed: !!int ''", "'' is no int (line"),
        ("seed: 1", "seed: !!python/object:os.system x", "could not determine a constructor"),
        ("seed: 1", "seed: &x 1", "anchors and aliases (& and *) are not allowed (line"),
        ("seed: 1", "seed: *x", "anchors and aliases (& and *) are not allowed (line"),
        ("seed: 1", f"seed: {NESTED}", "nested more than 20 levels deep (line"),
        ("seed: 1", "seed: 1\n  seed: 2", "the key 'seed' stands there twice (line"),
        ("seed: 1", "seed: {? {a: b} : c}", "found unhashable key (line"),
        ("base: embedded", "base: ~nosuchuser/x.pt", "fetch.base is '~nosuchuser/x.pt', but its"),
        ("base: embedded", r'base: "a\0b"', r"fetch.base is 'a\x00b', but must be one line"),
        ("base: embedded", r'base: "a\nb"', r"fetch.base is 'a\nb', but must be one line"),
        ("base: embedded", r'base: "\e[31m"', r"fetch.base is '\x1b[31m', but must be one line"),
        ("base: embedded", r'base: "\u202e"', r"fetch.base is '\u202e', but must be one line"),
        ("base: embedded", r'"\e[2J": embedded', r"unknown key '\x1b[2J'"),
        ("sessions: [demo-day1]", r'sessions: ["\e[31m"]', r"sessions: '\x1b[31m' is no session"),
        ("sessions: [demo-day1]", BOMB, "anchors and aliases"),
        ("sessions: [demo-day1]", "sessions: [2026-01-05]", "holds datetime.date(2026, 1, 5); put"),
        ("sessions: [demo-day1]", "sessions: ['1e5', '1e5']", "session '1e5' is named twice"),
        ("sessions: [demo-day1]", f"sessions: [{'x, ' * 6000}]", "session 'x' is named twice"),
        ("sessions: [demo-day1]", f"sessions: [{'x, ' * 60000}]", "more than the 131072 that"),
        ("sessions: [demo-day1]", "sessions: 1e5", """-S "sessions=['1e5']\""""),
        ("int8: false", "int8: off", "export.int8 is 'off', but must be true or false"),
        ("sessions", "\a", "#x0007"),
    ],
)
def test_what_would_break_the_reader_is_one_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    shipped = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    assert old in shipped
    path = tmp_path / "params.yaml"
    path.write_text(shipped.replace(old, new, 1), encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        load_params(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    assert time.monotonic() - began < 20


def test_words_are_words_as_for_dvc(tmp_path: Path) -> None:
    """YAML 1.1 would read them as truth values, DVC does not."""
    shipped = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    path = tmp_path / "params.yaml"
    path.write_text(shipped.replace("[demo-day1]", "[on, off, yes, No]"), encoding="utf-8")
    assert load_params(path).sessions == ("on", "off", "yes", "No")


def test_params_yaml_has_to_be_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    with pytest.raises(InputError, match=r"params\.yaml: is no regular file; run this in the pro"):
        load_params(tmp_path / "params.yaml")
