"""data/specification.json: what prepare applied, owned by the index."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Project
from custom_gaze.common.errors import InputError
from custom_gaze.config.specification import Preprocessing, Specification, specification_of
from custom_gaze.data.index import read_specification
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.stages import index
from custom_gaze.stages.index import agreed

SPEC = Specification(ScreenGeometry(), Preprocessing(), "detector box")


def test_the_index_keeps_what_was_prepared_whatever_params_say(
    project: Project, prepare_synthetic: Callable[..., None]
) -> None:
    prepare_synthetic("one")
    project.change(geometry={"deg_per_pixel": 0.05}, prepare={"margin": 2.0, "size_px": 96})
    index.run(project.params, project.paths)
    kept = read_specification(project.paths.specification)
    assert kept == replace(SPEC, preprocessing=Preprocessing(size_px=64), detector_sha256="0" * 64)


def test_sessions_that_were_prepared_differently_are_named(
    project: Project, prepare_synthetic: Callable[..., None]
) -> None:
    prepare_synthetic("one")
    project.change(prepare={"size_px": 96})
    prepare_synthetic("other")
    project.change(evaluate={"sessions": ["other"]})
    said = (
        r"^sessions one and other were prepared differently: preprocessing.size_px is 64 in the "
        r"one and 96 in the other; prepare both again: custom-gaze prepare one and"
    )
    with pytest.raises(InputError, match=said):
        index.run(project.params, project.paths)
    assert not project.paths.index.exists()
    other = replace(SPEC, preprocessing=Preprocessing(margin=1.6), crop_from="mesh")
    with pytest.raises(InputError, match="a and c .*: preprocessing.margin is 1.5 .* and 1.6 in"):
        agreed([("a", SPEC), ("b", SPEC), ("c", other)])
    by_one, by_another = (replace(SPEC, mesh_sha256=digit * 64) for digit in "12")
    with pytest.raises(InputError, match="a and b .*: mesh_sha256 is '1+' in the one and '2+' in"):
        agreed([("a", by_one), ("b", by_another)])


def changed(path: str, value: Any) -> dict[str, Any]:
    """SPEC as JSON gives it back, with one value changed, or without it where it is `...`."""
    content: dict[str, Any] = json.loads(json.dumps(SPEC.as_dict()))
    *parents, last = path.split("/")
    inner = content
    for name in parents:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (changed("geometry", ...), "does not say by which geometry it was made, as files of an"),
        (changed("crop_from", ...), "does not say by which crop_from"),
        ([], "does not say by which geometry"),
        (None, "does not say by which geometry"),
        (changed("geometry/deg_per_pixel", 0), "geometry.deg_per_pixel is 0, but must lie in"),
        (changed("geometry/center_x_px", float("nan")), "geometry.center_x_px is nan"),
        (changed("geometry/extra", 1), "unknown key 'extra'"),
        (changed("geometry", "x"), "geometry must be a mapping"),
        (changed("preprocessing/mean", [0.5, 0.5, 0.5]), "not one of this version's"),
        (changed("preprocessing/size_px", 10**6), "not one of this version's"),
        (changed("preprocessing/margin", float("inf")), "not one of this version's"),
        (changed("preprocessing", [1]), "not one of this version's"),
        (changed("crop_from", "\x1b[2J" * 99), r"crop_from is '\\\\x1b\[2J"),
        (changed("crop_from", ["mesh"]), "crop_from is "),
        (changed("detector_sha256", "0" * 63), "detector_sha256 is '0+…', no SHA-256"),
        (changed("mesh_sha256", [1]), "mesh_sha256 is "),
    ],
)
def test_what_prepare_did_not_write_is_refused_in_one_line(content: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        specification_of(content, Path("m.json"), "prepare the session again")
    assert str(caught.value).startswith("m.json: ")
    assert str(caught.value).endswith("; prepare the session again")
    assert "\n" not in str(caught.value)


def test_it_comes_back_as_it_was_written() -> None:
    found = replace(SPEC, detector_sha256="a" * 64, mesh_sha256="b" * 64)
    for spec in (SPEC, found):
        assert specification_of(json.loads(json.dumps(spec.as_dict())), Path("m"), "") == spec


def test_a_file_of_an_earlier_version_does_not_say_which_files_found_the_faces() -> None:
    content = changed("detector_sha256", ...)
    del content["mesh_sha256"]
    assert specification_of(content, Path("m.json"), "").detector_sha256 is None
