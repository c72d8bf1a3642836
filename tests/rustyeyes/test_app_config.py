"""config.json: nothing changes but what has to, and what the app would discard is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import visible
from custom_gaze.rustyeyes.config import AppConfig, Edit
from custom_gaze.rustyeyes.contract import Correction
from pretend_app import CONFIG

APP = Path("/some/app")
TWO_SPACE = json.dumps(CONFIG, indent=2, ensure_ascii=False).encode()


def test_round_trip_is_byte_for_byte() -> None:
    assert AppConfig(TWO_SPACE, APP).dump() == TWO_SPACE
    ending = TWO_SPACE + b"\n"
    assert AppConfig(ending, APP).dump() == ending
    odd = TWO_SPACE.replace(b"1e-07", b"1.00E-7").replace(b"6.74", b"6.7400000000000000001")
    assert odd.count(b"1.00E-7") == 1  # digits that a float does not keep
    assert AppConfig(odd, APP).dump() == odd


def test_other_layouts_become_two_space_json() -> None:
    for layout in ({"indent": 4}, {"separators": (",", ":")}, {"indent": "\t"}):
        text = json.dumps(CONFIG, ensure_ascii=True, **layout).encode()  # type: ignore[arg-type]
        assert AppConfig(text, APP).dump() == TWO_SPACE


def test_edits_touch_seven_values_and_keep_the_order() -> None:
    config = AppConfig(TWO_SPACE, APP)
    edits = config.point_to_model(Correction())
    assert edits[0] == Edit(
        "models.l2cs_path", '"models/l2cs_net.onnx"', '"models/custom_gaze.onnx"'
    )
    assert Edit("calibration.models.l2cs.pitch_offset", "-22.6", "0.0") in edits
    assert len(edits) == 7
    before = TWO_SPACE.decode().splitlines()
    after = config.dump().decode().splitlines()
    changed = [
        (old.strip(), new.strip()) for old, new in zip(before, after, strict=True) if old != new
    ]
    assert changed == [
        ('"l2cs_path": "models/l2cs_net.onnx",', '"l2cs_path": "models/custom_gaze.onnx",'),
        ('"yaw_offset": 6.74,', '"yaw_offset": 0.0,'),
        ('"pitch_offset": -22.6,', '"pitch_offset": 0.0,'),
        ('"yaw_gain": 6.35,', '"yaw_gain": 1.0,'),
        ('"pitch_gain": 0.89,', '"pitch_gain": 1.0,'),
        ('"yaw_curve": -0.23,', '"yaw_curve": 0.0,'),
        ('"pitch_curve": 0.38', '"pitch_curve": 0.0'),
    ]


def test_values_in_place_are_no_edits() -> None:
    config = AppConfig(TWO_SPACE, APP)
    wanted = Correction(yaw_gain=1 / (0.0307 * 20), pitch_gain=1.0)
    assert len(config.point_to_model(wanted)) == 7
    again = config.dump()
    as_float32 = again.replace(b"1.6286644951140066", b"1.6286645").replace(b" 1.0", b" 1")
    assert as_float32 != again
    reread = AppConfig(as_float32, APP)
    assert reread.point_to_model(wanted) == []
    assert reread.correction() == Correction(yaw_gain=1.6286645)
    assert len(reread.point_to_model(Correction(yaw_gain=1.6287))) == 1


def test_a_correction_that_is_not_there_is_added() -> None:
    text = b'{"models": {"l2cs_path": "a.onnx"}, "last": 1}'
    config = AppConfig(text, APP)
    assert config.correction() is None
    edits = config.point_to_model(Correction())
    assert Edit("calibration.models.l2cs.yaw_gain", None, "1.0") in edits
    assert list(json.loads(config.dump())) == ["models", "last", "calibration"]
    assert config.correction() == Correction()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (TWO_SPACE[:-3], "line"),
        (b"\xef\xbb\xbf" + TWO_SPACE, "BOM"),
        (b"\xff" + TWO_SPACE, "utf-8"),
        (TWO_SPACE.replace(b"6.74", b"NaN"), "NaN is no JSON"),
        (TWO_SPACE.replace(b"6.74", b"-Infinity"), "-Infinity is no JSON"),
        (TWO_SPACE.replace(b'"first": null', b'"first": "\\ud800"'), "surrogates"),
        (TWO_SPACE.replace(b'"first"', b'"kept"'), "the key 'kept' stands there twice"),
        (
            b'{"a":' * 127 + b"{}" + b"}" * 127,
            "nested beyond the 127 levels",
        ),
        (TWO_SPACE.replace(b"6.74", b"1e999"), "the number 1e999… is too large"),
        (TWO_SPACE.replace(b"6.74", b"9" * 5000), "the number 999999999999… is too large"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "recursion"),
    ],
)
def test_what_the_app_would_throw_away_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(
        InputError, match=rf"(?s)config.json: no valid JSON \(.*{reason}.*repair"
    ) as e:
        AppConfig(content, APP)
    assert "at its next start the app would throw it away" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "content", ["[]", "3", "{}", '{"models": 1}', '{"models": {"l2cs_path": 1}}']
)
def test_other_json_is_not_the_apps(content: str) -> None:
    with pytest.raises(InputError, match=r"holds no models\.l2cs_path"):
        AppConfig(content.encode(), APP)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("l2cs_path", "../elsewhere/net.onnx"),
        ("l2cs_path", "/etc/net.onnx"),
        ("mobile_path", "models/../../net.onnx"),
        ("l2cs_path", "/some/app2/net.onnx"),
        ("\x1b[31m_path", "../\x1b[31m"),
    ],
)
def test_paths_that_leave_the_folder_are_refused(key: str, value: str) -> None:
    config: dict[str, Any] = {"models": {"l2cs_path": "a.onnx", **{key: value}}}
    with pytest.raises(
        InputError,
        match=re.escape(f"models.{visible(key)} is {value!r}, which leaves the app's folder"),
    ):
        AppConfig(json.dumps(config).encode(), APP)


@pytest.mark.parametrize("value", ["models/../a.onnx", "/some/app/models/a.onnx", "..a.onnx", ""])
def test_paths_inside_the_folder_are_fine(value: str) -> None:
    config = {"models": {"l2cs_path": value, "number_path": 3}}
    assert AppConfig(json.dumps(config).encode(), APP).model_path == value


@pytest.mark.parametrize("place", ["null", '{"models": []}', '{"models": {"l2cs": 3}}'])
def test_a_correction_of_another_kind_is_refused(place: str) -> None:
    text = f'{{"models": {{"l2cs_path": "a.onnx"}}, "calibration": {place}}}'
    with pytest.raises(InputError, match=r"config.json: calibration[.a-z2]* is no object"):
        AppConfig(text.encode(), APP).point_to_model(Correction())
