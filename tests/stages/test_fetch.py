import shutil
from pathlib import Path

import pytest
import torch

from conftest import Project
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of
from custom_gaze.faces.finder import load_finder
from custom_gaze.stages import fetch
from custom_gaze.weights.base import read_base
from custom_gaze.weights.embedded import EMBEDDED_BASE
from synthetic_faces import write_detector, write_mesh
from weights_nets import gaze_network


def test_by_default_the_embedded_detector_and_the_embedded_base(project: Project) -> None:
    result = fetch.run(project.params, project.paths)
    assert result.detector.value == "CenterFace"
    assert not result.mesh
    assert [path.name for path in project.paths.faces.iterdir()] == ["face_detection.onnx"]
    base = read_base(project.paths.base)
    assert (base.trunk, base.kind, base.heads is not None) == ("slim18", "embedded", True)
    assert base.sha256 == sha256_of(EMBEDDED_BASE)
    first = project.paths.base.read_bytes()
    fetch.run(project.params, project.paths)
    assert project.paths.base.read_bytes() == first


def test_a_base_that_knows_nothing_where_it_is_asked_for(project: Project) -> None:
    project.change(fetch={"base": "random"})
    fetch.run(project.params, project.paths)
    base = read_base(project.paths.base)
    assert (base.trunk, base.kind, base.heads) == ("resnet50", "random", None)


def test_the_user_s_own_files_are_recognised(project: Project, tmp_path: Path) -> None:
    detector = write_detector(tmp_path / "mine.onnx", decoded=True)
    mesh = write_mesh(tmp_path / "mesh.onnx")
    weights = tmp_path / "L2CSNet_gaze360.pkl"
    torch.save(gaze_network("resnet18").state_dict(), weights)
    project.change(
        fetch={
            "detector": str(detector),
            "detector_sha256": sha256_of(detector),
            "mesh": str(mesh),
            "base": str(weights),
            "base_sha256": sha256_of(weights),
        }
    )
    result = fetch.run(project.params, project.paths)
    assert result.detector.value.startswith("RFB-320")
    assert load_finder(project.paths.faces, 0.7).crop_from == "mesh"
    base = read_base(project.paths.base)
    assert (base.trunk, base.heads is not None) == ("resnet18", True)
    assert base.source == "L2CSNet_gaze360.pkl"  # not the folder it lay in
    assert base.sha256 == sha256_of(weights)


def test_paths_start_at_the_project_also_in_a_temporary_copy(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_detector(project.paths.root / "mine.onnx", decoded=False)
    project.change(fetch={"detector": "mine.onnx"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert fetch.run(project.params, project.paths).detector.value.startswith("RFB-320")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"detector": "missing.onnx"}, "missing.onnx"),
        ({"detector": "noise.bin"}, r"fetch\.detector: noise\.bin"),
        ({"detector": "noise.bin", "detector_sha256": "0" * 64}, r"noise\.bin.*SHA-256"),
        ({"detector_sha256": "0" * 64}, "fetch.detector_sha256 is set"),
        ({"base_sha256": "0" * 64}, "fetch.base_sha256 is set"),
        ({"mesh": "noise.bin"}, r"fetch\.mesh: noise\.bin"),
        ({"base": "missing.pkl"}, r"missing\.pkl"),
        ({"base": "noise.bin"}, r"noise\.bin"),
        ({"base": "noise.bin", "base_sha256": "0" * 64}, "not the one that fetch.base_sha256"),
        ({"base": "https://example.invalid/l2cs.pkl"}, "needs the SHA-256"),
        ({"base": "http://example.invalid/l2cs.pkl", "base_sha256": "0" * 64}, "https"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing(
    project: Project, change: dict[str, str], said: str
) -> None:
    fetch.run(project.params, project.paths)
    shutil.copy(project.paths.faces / "face_detection.onnx", project.paths.root / "kept.onnx")
    before = sha256_of(project.paths.base)
    (project.paths.root / "noise.bin").write_bytes(b"\x07" * 5000)
    project.change(fetch=change)
    with pytest.raises(InputError, match=said) as caught:
        fetch.run(project.params, project.paths)
    assert "\n" not in str(caught.value)
    assert ".part" not in str(caught.value)
    assert sha256_of(project.paths.base) == before
    assert [path.name for path in project.paths.faces.iterdir()] == ["face_detection.onnx"]
    assert sha256_of(project.paths.faces / "face_detection.onnx") == sha256_of(
        project.paths.root / "kept.onnx"
    )
