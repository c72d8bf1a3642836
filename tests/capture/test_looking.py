"""The quality line, told the truth by frames of a demo person."""

import dataclasses

import numpy as np
import pytest

from custom_gaze.capture.looking import load_watcher
from custom_gaze.common.errors import InputError
from custom_gaze.config.params import PrepareParams
from custom_gaze.config.paths import Paths
from custom_gaze.demo.world.conditions import FOCAL_PX, draw_conditions, draw_moment
from custom_gaze.demo.world.person import draw_person
from custom_gaze.demo.world.render import Scene
from custom_gaze.faces.crops import jpeg


def test_what_is_wrong_with_a_picture_is_seen(tmp_path: object) -> None:
    who = draw_person(3)
    conditions = draw_conditions(who, 1, 1)
    scene = Scene(who, conditions)
    moment = draw_moment(who, conditions, (0.0, -5.0), (3, 1, 1, 0, 0))
    moment = dataclasses.replace(moment, closed=0.0)
    frame = scene.frame(moment)
    shut = scene.frame(dataclasses.replace(moment, closed=1.0))
    watcher = load_watcher(PrepareParams(), Paths(tmp_path))  # type: ignore[arg-type]

    def look(picture: np.ndarray) -> dict[str, bool]:
        return watcher.look(jpeg(np.ascontiguousarray(picture), 95)).checks()

    def bad(picture: np.ndarray) -> set[str]:
        return {name for name, good in look(picture).items() if not good}

    for _ in range(5):
        assert bad(frame) == set()
    assert bad(shut) == {"eyes"}
    assert bad(frame // 5) == {"light"}
    assert bad(np.roll(frame, 430, axis=1)) >= {"middle"}
    assert bad(np.zeros_like(frame)) == {"face", "size", "light", "eyes", "middle"}
    assert watcher.look(jpeg(np.zeros_like(frame), 90)).problem == "no face"
    half = [np.ascontiguousarray(frame[:, 320:960])] * 2
    assert watcher.look(jpeg(np.concatenate(half, axis=1), 95)).problem == "several faces"
    small = np.full_like(frame, 128)
    small[180:540, 320:960] = frame[::2, ::2]
    assert bad(small) >= {"size"}

    seen = watcher.look(jpeg(frame, 95))
    assert seen.distance_cm is not None
    assert seen.distance_cm == pytest.approx(conditions.distance_mm / 10, rel=0.12)
    assert pytest.approx(1.42, abs=0.01) == FOCAL_PX / 720  # the demo's camera is this page's
    with pytest.raises(InputError, match="is no JPEG image"):
        watcher.look(b"GIF89a")
