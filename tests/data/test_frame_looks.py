"""Whose eyes the look at a frame is about."""

from pathlib import Path

import numpy as np
import pytest

from custom_gaze.data.frame_looks import Examiner
from custom_gaze.data.sessions import Frame
from custom_gaze.faces.detectors import embedded_detector, load_detector
from custom_gaze.faces.eye_points import load_eye_finder
from custom_gaze.faces.finder import FaceFinder, FoundFace


@pytest.mark.parametrize("by_mesh", [True, False])
def test_the_eyes_are_the_meshs_where_it_has_them(tmp_path: Path, by_mesh: bool) -> None:
    from skimage import data

    (tmp_path / "detector.onnx").write_bytes(embedded_detector())
    finder, eyes = load_eye_finder(), ((204.0, 102.0), (246.0, 104.0))
    examiner = Examiner(
        FaceFinder(load_detector(tmp_path / "detector.onnx"), None, 0.7), finder, 1.5
    )
    pixels = np.ascontiguousarray(data.astronaut())
    box = (179.0, 62.0, 270.0, 182.0)
    face = FoundFace(box, box, 0.9, eyes if by_mesh else None)
    look = examiner.seen(Frame(tmp_path / "img_1.jpg", 1, 0.0, 0.0, None), pixels, face)
    assert look.eyes_px == (eyes if by_mesh else finder.find(pixels, box))
    assert look.openness is not None
    assert look.openness > 0
