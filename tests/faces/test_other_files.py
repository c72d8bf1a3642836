"""A model used with another detector or mesh than the one that its crops came from."""

import pytest

from custom_gaze.config.specification import CropFrom, Preprocessing, Specification
from custom_gaze.faces.other_files import other_files
from custom_gaze.geometry import ScreenGeometry

ONE, TWO, MESH, OTHER_MESH = (digit * 64 for digit in "1234")


def made_by(crop_from: CropFrom, *hashes: str | None) -> Specification:
    return Specification(ScreenGeometry(), Preprocessing(), crop_from, *hashes)


@pytest.mark.parametrize(
    ("trained", "detector", "mesh"),
    [
        (None, ONE, MESH),
        (made_by("mesh", ONE, MESH), ONE, MESH),
        (made_by("mesh", ONE, MESH), None, MESH),
        (made_by("detector box", ONE), ONE, None),
        (made_by("detector box", ONE), None, None),
        (made_by("detector box"), ONE, None),  # of an earlier version
        (made_by("mesh"), ONE, MESH),
    ],
)
def test_the_same_files_or_unknown_ones_are_nothing_to_say(
    trained: Specification | None, detector: str | None, mesh: str | None
) -> None:
    assert other_files(trained, detector, mesh, "the app") == ""


@pytest.mark.parametrize(
    ("trained", "detector", "mesh", "said"),
    [
        (made_by("mesh", ONE, MESH), ONE, None, "by a face mesh, the app has none: expect 1.6"),
        (made_by("mesh"), ONE, None, "by a face mesh, the app has none: expect"),
        (made_by("detector box", ONE), ONE, MESH, "by the detector's box, the app has a face mesh"),
        (
            made_by("mesh", ONE, MESH),
            *(ONE, OTHER_MESH, "by the face mesh 333333333333, the app has 444444444444: expect"),
        ),
        (
            made_by("detector box", ONE),
            *(
                TWO,
                None,
                "by the detector 111111111111, the app has 222222222222: expect up to 1.4",
            ),
        ),
        (
            made_by("mesh", ONE, MESH),  # the detector says where the mesh looks
            *(
                TWO,
                MESH,
                "by the detector 111111111111, the app has 222222222222: expect up to 1.2",
            ),
        ),
    ],
)
def test_another_file_is_one_line(
    trained: Specification, detector: str, mesh: str | None, said: str
) -> None:
    line = other_files(trained, detector, mesh, "the app")
    assert line.startswith(f"the model was trained on crops {said}")
    assert line.endswith("; train again with those files (fetch.detector, fetch.mesh)")
    assert "\n" not in line
