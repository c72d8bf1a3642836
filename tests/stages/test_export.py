import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from conftest import Project
from custom_gaze.common import provenance
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.common.provenance import code_version
from custom_gaze.data.index import load_crop, read_index
from custom_gaze.faces.crops import normalise
from custom_gaze.models.checkpoint import load_checkpoint
from custom_gaze.stages import export


def test_the_file_keeps_the_app_s_contract(evaluated: Project) -> None:
    model = onnx.load(evaluated.paths.model)
    onnx.checker.check_model(model, full_check=True)
    [entry], [output] = model.graph.input, model.graph.output
    assert entry.name == "input"
    assert [d.dim_value for d in entry.type.tensor_type.shape.dim] == [1, 3, 64, 64]
    assert [d.dim_value for d in output.type.tensor_type.shape.dim] == [1, 2]
    assert entry.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert model.opset_import[0].version == evaluated.params.export.opset == 18


def test_onnxruntime_predicts_what_pytorch_predicts(evaluated: Project) -> None:
    samples = read_index(evaluated.paths.index)[:6]
    x = normalise(np.stack([load_crop(sample, evaluated.paths) for sample in samples]))
    session = onnxruntime.InferenceSession(evaluated.paths.model)
    with torch.inference_mode():
        ours = load_checkpoint(evaluated.paths.checkpoint).network()(torch.from_numpy(x)).numpy()
    theirs = np.concatenate([session.run(None, {"input": x[i : i + 1]})[0] for i in range(6)])
    apart_deg = 1e-3
    # They differ from crop to crop by much more, however little a few epochs have taught.
    assert np.ptp(ours, axis=0).min() > 10 * apart_deg
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=apart_deg)


def test_one_file_without_paths_of_this_machine(evaluated: Project) -> None:
    content = evaluated.paths.model.read_bytes()
    assert list(evaluated.paths.model.parent.glob("custom_gaze.onnx*")) == [evaluated.paths.model]
    model = onnx.load_from_string(content)
    assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
    for said in (b"site-packages", b"custom_gaze/", str(evaluated.paths.root).encode(), b"/home"):
        assert said not in content
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_the_metadata_says_where_the_model_is_from(trained: Project) -> None:
    trained.change(geometry={"deg_per_pixel": 0.05}, prepare={"size_px": 96})  # of the next crops
    export.run(trained.params, trained.paths)
    metadata = {p.key: p.value for p in onnx.load(trained.paths.model).metadata_props}
    checkpoint = load_checkpoint(trained.paths.checkpoint)
    assert json.loads(metadata["custom_gaze.sessions"]) == ["one"]
    assert json.loads(metadata["custom_gaze.geometry"])["deg_per_pixel"] == 0.0307
    assert json.loads(metadata["custom_gaze.preprocessing"])["size_px"] == 64
    assert metadata["custom_gaze.crop_from"] == "detector box"
    assert metadata["custom_gaze.detector_sha256"] == f'"{"0" * 64}"'
    assert metadata["custom_gaze.mesh_sha256"] == "null"
    assert json.loads(metadata["custom_gaze.base"])["kind"] == "random"
    assert float(metadata["custom_gaze.validation_error_deg"]) == pytest.approx(
        checkpoint.training.validation_error_deg
    )
    assert metadata["custom_gaze.code_version"] == checkpoint.code == code_version("stages.train")
    assert json.loads(metadata["custom_gaze.prepared_by"]) == ["0.1.0+prepared"]


def test_the_same_checkpoint_gives_the_same_bytes(
    evaluated: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changed some code meanwhile: the file says which code trained and prepared."""
    first = sha256_of(evaluated.paths.model)
    evaluated.paths.model.unlink()
    monkeypatch.setattr(provenance, "code_version", lambda _: "0.1.0+changed")
    result = export.run(evaluated.params, evaluated.paths)
    assert sha256_of(evaluated.paths.model) == first
    assert result.crops == 6
    assert result.difference_deg < 1e-4


def test_a_network_that_changes_on_the_way_is_not_written(
    trained: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    faithful = export.to_onnx

    def lossy(network: torch.nn.Module, size_px: int, opset: int) -> onnx.ModelProto:
        with torch.no_grad():
            network.head.bias += 0.02  # type: ignore[union-attr,operator]
        model = faithful(network, size_px, opset)
        with torch.no_grad():
            network.head.bias -= 0.02  # type: ignore[union-attr,operator]
        return model

    trained.paths.model.write_bytes(b"an earlier model")
    monkeypatch.setattr(export, "to_onnx", lossy)
    with pytest.raises(CustomGazeError, match=r"not written; .* by 0\.0200 degrees") as caught:
        export.run(trained.params, trained.paths)
    assert caught.value.exit_code == 1
    assert trained.paths.model.read_bytes() == b"an earlier model"
    assert [
        path.name for path in trained.paths.model.parent.iterdir() if ".part" in path.name
    ] == []


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_a_damaged_checkpoint_is_named(trained: Project, content: bytes) -> None:
    trained.paths.checkpoint.write_bytes(content)
    with pytest.raises(InputError, match=r"no checkpoint: is .*damaged.*custom-gaze train"):
        export.run(trained.params, trained.paths)


def test_a_checkpoint_with_code_in_it_is_data(trained: Project, tmp_path: object) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.mkdir, (str(trained.paths.root / "harm"),)

    torch.save({"format": Harm()}, trained.paths.checkpoint)
    with pytest.raises(InputError, match=r"checkpoint.pt: no checkpoint"):
        export.run(trained.params, trained.paths)
    assert not (trained.paths.root / "harm").exists()


def test_a_missing_checkpoint(trained: Project) -> None:
    trained.paths.checkpoint.unlink()
    with pytest.raises(InputError, match=r"not found; run `custom-gaze train` first"):
        export.run(trained.params, trained.paths)
