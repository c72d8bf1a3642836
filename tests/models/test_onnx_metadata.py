"""What a model says of itself comes back as it was written, or not at all."""

import json
from pathlib import Path

import pytest

from custom_gaze.common.errors import InputError
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.specification import Preprocessing, Specification
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.models.onnx_metadata import OUTPUT, PREFIX, ModelMetadata, facts_in
from custom_gaze.models.records import BaseProvenance

MODEL = Path("models/custom_gaze.onnx")
METADATA = ModelMetadata(
    sessions=["monday"],
    code_version="0.1.0+abc",
    prepared_by=["0.1.0+def"],
    trained_on=["train", "validation"],
    validation_error_deg=2.5,
    specification=Specification(
        ScreenGeometry(800.0), Preprocessing(2.0, 64), "mesh", "12" * 32, "34" * 32
    ),
    base=BaseProvenance("a file", "ab" * 32, "onnx", "resnet18", 90, True),
    trunk="resnet18",
    inner_share=0.5,
    method=Candidate.PROBE,
    why="better by far",
    output=OUTPUT,
    checkpoint_sha256="cd" * 32,
)


def test_what_is_written_comes_back() -> None:
    props = METADATA.to_props()
    assert all(key.startswith(PREFIX) for key in props)
    assert props[PREFIX + "method"] == "probe"
    assert json.loads(props[PREFIX + "geometry"])["center_x_px"] == 800.0
    assert json.loads(props[PREFIX + "base"])["bins"] == 90
    assert ModelMetadata.from_props({**props, "someone.else": "kept"}, MODEL) == METADATA


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sessions", None),
        ("sessions", "[1]"),
        ("trained_on", "train"),
        ("validation_error_deg", '"2.5"'),
        ("inner_share", '"half"'),
        ("method", "best"),
        ("base", '{"source": "a file"}'),
        ("preprocessing", '{"margin": 2.0}'),
        ("geometry", "[" * 100_000),
        ("crop_from", "elsewhere"),
        ("mesh_sha256", '"34"'),
        ("another", "1"),
    ],
)
def test_metadata_has_to_be_whole(name: str, value: str | None) -> None:
    props = METADATA.to_props() | {PREFIX + name: value}
    with pytest.raises(InputError, match=r"onnx: does not say what it was trained on.*export"):
        ModelMetadata.from_props({k: v for k, v in props.items() if v is not None}, MODEL)


def test_a_model_of_an_earlier_version_is_read_without_the_hashes_of_its_faces() -> None:
    hashes = {PREFIX + "detector_sha256", PREFIX + "mesh_sha256"}
    props = {key: value for key, value in METADATA.to_props().items() if key not in hashes}
    said = facts_in(props, "").specification
    assert said == ModelMetadata.from_props(props, MODEL).specification
    assert said is not None
    assert (said.crop_from, said.detector_sha256, said.mesh_sha256) == ("mesh", None, None)
