import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import REPOSITORY, Project
from custom_gaze.errors import InputError
from custom_gaze.params import Params, check_session_id, load_params


def test_the_shipped_file_holds_the_specification() -> None:
    params = load_params(REPOSITORY / "params.yaml")
    assert params.geometry == type(params.geometry)(864.0, 558.5, 0.0307)
    assert (params.prepare.margin, params.prepare.size_px) == (1.5, 448)
    assert params.augment.copies == 50
    assert params.train.frozen_through == "layer3"
    assert (params.train.learning_rate, params.train.epochs) == (1e-4, 50)


def test_the_defaults_in_the_code_are_the_shipped_values() -> None:
    shipped = load_params(REPOSITORY / "params.yaml")
    for entry in dataclasses.fields(Params):
        if dataclasses.is_dataclass(getattr(shipped, entry.name)):
            assert getattr(shipped, entry.name) == getattr(Params(), entry.name), entry.name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": {"epoch": 5}}, "unknown key 'epoch'; allowed are method, start, frozen_through"),
        ({"train": {"epochs": 0}}, "train.epochs is 0, but must lie in 1 … 10000"),
        ({"train": {"epochs": "ten"}}, "train.epochs is 'ten', but must be a whole number"),
        ({"train": {"epochs": 2.5}}, "train.epochs is 2.5, but must be a whole number"),
        ({"train": {"epochs": True}}, "train.epochs is True, but must be a whole number"),
        ({"train": {"learning_rate": float("nan")}}, "train.learning_rate is nan, but must lie in"),
        ({"train": {"device": "gpu"}}, "train.device is 'gpu', but must be one of auto, cpu, cuda"),
        ({"prepare": {"margin": 0.5}}, "prepare.margin is 0.5, but must lie in 1.0 … 4.0"),
        ({"geometry": {"deg_per_pixel": 0}}, "geometry.deg_per_pixel is 0.0, but must lie in"),
        ({"sessions": []}, "sessions is empty"),
        ({"sessions": "one"}, r"-S 'sessions=[one]'"),
        ({"sessions": ["../up"]}, "'../up' is no session id"),
        ({"sessions": ["a b"]}, "'a b' is no session id"),
        ({"sessions": [12]}, "sessions holds 12; put the id in quotes"),
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


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "-x", "a" * 65, "ä", "a\n"])
def test_bad_session_ids(name: str) -> None:
    with pytest.raises(InputError, match="is no session id"):
        check_session_id(name, "--session")
