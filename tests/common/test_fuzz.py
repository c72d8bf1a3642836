"""Files that anybody may have written, mutated by the thousand: refused in one line, or read right.

`make test` tries a few hundred of each kind, the same ones every time; `make fuzz` other ones, as
many as FUZZ_EXAMPLES says.
"""

import copy
import csv
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import REPOSITORY
from custom_gaze.common.errors import InputError
from custom_gaze.common.stage_files import PLAIN_NAME
from custom_gaze.config.params import load_params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import SESSION_ID
from custom_gaze.data.index import SIDES, read_index
from custom_gaze.data.prepared import MANIFEST_FORMAT, read_labels, read_manifest
from custom_gaze.data.sessions import read_session
from custom_gaze.evaluation.report import closing_table
from custom_gaze.evaluation.results import read_metrics
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.rustyeyes.config import MODEL_FILE, AppConfig
from custom_gaze.rustyeyes.contract import Correction
from custom_gaze.rustyeyes.deploy import TOUCHED, deploy
from custom_gaze.rustyeyes.records import read_record
from custom_gaze.rustyeyes.status import status
from pretend_app import color_model, make_app, tree
from time_limit import ends_within

EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
LONGEST_S = 20  # of one example; a hang takes for ever
fuzzed = settings(
    max_examples=int(EXAMPLES or 100),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

# What readers stumble over, as values and as they stand in a file.
WORDS = ("", "../x", "/etc/passwd", "a\0b", "\x1b[31m\n", "\u202e", "~nosuchuser/x", "one", "é→")
LITERALS = ("NaN", "-Infinity", "1e999", "9" * 5000, "0x" + "f" * 5000, "2026-13-45", "null", "on")
LITERALS += (
    "[" * 2000,
    '{"a":' * 2000,
    "&a [*a, *a]",
    "!!python/name:os.system",
    "'",
    '"',
    ",",
    "-0",
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**400)
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)


@st.composite
def mutated(draw: st.DrawFn, example: Any, dump: Callable[[Any], str]) -> bytes:
    """A file's content: `example` with a few values changed, then a few places of its text."""
    content = copy.deepcopy(example)
    for _ in range(draw(st.integers(0, 2))):
        _change_value(draw, content)
    try:
        raw = dump(content).encode("utf-8", "surrogatepass")
    except (ValueError, yaml.YAMLError, csv.Error):  # no such file can be written
        raw = dump(example).encode()
    for _ in range(draw(st.integers(0, 2))):
        raw = _change_text(draw, raw)
    return raw


def _change_value(draw: st.DrawFn, content: Any) -> None:
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        if (
            not isinstance(place[key], dict | list)
            or not place[key]
            or draw(st.integers(0, 3)) == 0
        ):
            break
        place = place[key]
    what = draw(st.sampled_from(["replace", "remove", "add"]))
    if what == "remove":
        del place[key]
    elif what == "add" and isinstance(place, dict):
        place[draw(st.text(max_size=5) | st.sampled_from(WORDS))] = draw(VALUES)
    else:
        place[key] = draw(VALUES)


def _change_text(draw: st.DrawFn, raw: bytes) -> bytes:
    what = draw(st.sampled_from(["cut", "insert", "flip", "number", "twice"]))
    at = draw(st.integers(0, len(raw)))
    if what == "cut":
        return raw[:at]
    if what == "insert":
        return raw[:at] + draw(st.binary(min_size=1, max_size=4)) + raw[at:]
    if what == "flip" and at < len(raw):
        return raw[:at] + bytes([raw[at] ^ draw(st.integers(1, 255))]) + raw[at + 1 :]
    if what == "number":
        found = list(re.finditer(rb"[-\d.]+", raw))
        if found:
            match = draw(st.sampled_from(found))
            literal = draw(st.sampled_from(LITERALS)).encode()
            return raw[: match.start()] + literal + raw[match.end() :]
    end = draw(st.integers(at, len(raw)))
    return raw[:end] + raw[at:end] + raw[end:]


@contextmanager
def refused_in_one_line(folder: Path) -> Iterator[None]:
    """Allow nothing but an InputError of one printable line; nothing changes, nothing hangs."""
    before = tree(folder)
    said = ""
    try:
        with ends_within(LONGEST_S):
            yield
    except InputError as error:
        said = str(error)
    assert said.isprintable(), ascii(said)
    assert len(said) < 2000
    assert tree(folder) == before


def finite(values: Any) -> bool:
    """Whether all numbers in nested dicts and lists are."""
    if isinstance(values, dict):
        return all(finite(value) for value in values.values())
    if isinstance(values, list | tuple):
        return all(finite(value) for value in values)
    return not isinstance(values, float) or math.isfinite(values)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibration session of two frames."""
    folder = tmp_path_factory.mktemp("fuzz") / "session"
    folder.mkdir()
    for number in (1, 2):
        (folder / f"img_{number}.jpg").write_bytes(b"\xff\xd8 frame %d" % number)
        (folder / f"img_{number}.json").write_text(json.dumps(FRAME))
    return folder


EYE = {"x": 918.5, "y": 406.4, "z": 0.0}
GAZE = {"left_eye": EYE, "right_eye": EYE, "yaw": -3.36, "pitch": -13.56, "roll": 1.12}
FRAME = {
    "timestamp": 1766068421832,
    **{"screen_x": 675.2773, "screen_y": 20.574219},
    "inference": {"Gaze": {**GAZE, "vector": {"x": 0.0, "y": 0.0, "z": 1.0}, "landmarks": None}},
    "moondream_result": None,
}


@fuzzed
@given(content=mutated(FRAME, json.dumps))
def test_a_frame_s_json(session: Path, content: bytes) -> None:
    """The other frame of the session is read in any case."""
    (session / "img_1.json").write_bytes(content)
    with refused_in_one_line(session):
        found = read_session(session, ScreenGeometry())
        assert finite([asdict(frame) for frame in found.frames])
        assert "img_2.jpg" in [frame.image.name for frame in found.frames]
        assert len(found.frames) + len(found.left_out) == 2
        assert all(entry.reason.isprintable() for entry in found.left_out)


SHIPPED = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))


@fuzzed
@given(content=mutated(SHIPPED, lambda value: yaml.safe_dump(value, allow_unicode=True)))
def test_params_yaml(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "params"
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_bytes(content)
    with refused_in_one_line(folder):
        params = load_params(folder / "params.yaml")
        assert finite(asdict(params))
        named = [*params.sessions, *params.evaluate.sessions]
        assert named
        assert all(SESSION_ID.fullmatch(name) for name in named)
        assert params.tracking.experiment.isprintable()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app's folder with one deploy on record."""
    root = tmp_path_factory.mktemp("fuzz_app")
    folder = make_app(root / "app")
    deploy(folder, color_model(root / "mine.onnx"), ScreenGeometry())
    return folder


CONFIG = {
    "ui": {"opacity": 0.3, "big": 12345678901234567890, "list": [1, {"a": None}]},
    "models": {"l2cs_path": "models/l2cs_net.onnx", "mobile_path": "./models/mobile.onnx"},
    "calibration": {"models": {"l2cs": {"yaw_gain": 6.35, "pitch_gain": 0.89, "yaw_curve": -0.2}}},
}


@fuzzed
@given(content=mutated(CONFIG, lambda value: json.dumps(value, indent=2)))
def test_config_json(app: Path, content: bytes) -> None:
    """What is accepted comes out as JSON of the same settings, with only our own changed."""
    (app / "config.json").write_bytes(content)
    with refused_in_one_line(app):
        config = AppConfig(content, app)
        assert json.loads(config.dump()) == json.loads(content)
        assert all(line.isprintable() for line in status(app).lines())
        edits = config.point_to_model(Correction())
        written = json.loads(config.dump())
        assert written["models"]["l2cs_path"] == MODEL_FILE
        assert written["calibration"]["models"]["l2cs"]["yaw_gain"] == 1.0
        assert {edit.key.split(".")[0] for edit in edits} <= {"models", "calibration"}
        for key in set(written) - {"models", "calibration"}:
            assert written[key] == json.loads(content)[key]


RECORD = {
    "made": "2026-11-25T10-11-12Z",
    "files": [{"path": name, "before_sha256": "0" * 64, "after_sha256": None} for name in TOUCHED],
    **{"undoes": None, "keep": True, "about": {"model": "a", "app_pixels_per_degree": 20.0}},
}


@fuzzed
@given(content=mutated(RECORD, json.dumps))
def test_the_record_of_a_deploy(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "0001-2026-deploy"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    with refused_in_one_line(folder):
        record = read_record(folder, TOUCHED)
        assert {entry.path for entry in record.files} <= TOUCHED
        assert re.fullmatch(r"[0-9TZ-]+", record.made)


def as_csv(rows: Any) -> str:
    """A table as our stages write it, its header the first row's keys."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0] if rows and isinstance(rows[0], dict) else [])
    writer.writerows(row.values() if isinstance(row, dict) else [row] for row in rows)
    return text.getvalue()


LABELS = [
    {
        **{"filename": f"img_{number}.jpg", "yaw": -3.5, "pitch": 1e-3, "session": "one"},
        **{"target_x": 100.0 + number, "target_y": 20.25, "face_score": 0.9},
        **{"box_x1": 10.0, "box_y1": 10.0, "box_x2": 50.5, "box_y2": 50.5},
    }
    for number in range(3)
]


@fuzzed
@given(content=mutated(LABELS, as_csv))
def test_labels_csv(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "labels"
    folder.mkdir(exist_ok=True)
    (folder / "labels.csv").write_bytes(content)
    with refused_in_one_line(folder):
        labels = read_labels(folder / "labels.csv", "one")
        assert finite([asdict(label) for label in labels])
        assert all(PLAIN_NAME.fullmatch(label.filename) for label in labels)
        assert len({label.filename for label in labels}) == len(labels) > 0


SAMPLES = [
    {
        **{"session": "one", "filename": f"img_{number}.jpg", "yaw_deg": -3.5, "pitch_deg": 1e-3},
        **{"target_x_px": 100.0 + number, "target_y_px": 20.25, "target": number},
        **{"split": ("train", "validation", "test")[number], "crop_sha256": f"{number}" * 64},
    }
    for number in range(3)
]
MANIFEST = {
    "format": MANIFEST_FORMAT,
    **{"session": "one", "code": "0.1.0+abc", "mesh": None, "crop_from": "detector box"},
    "detector": {"kind": "CenterFace", "sha256": "0" * 64, "min_score": 0.7},
    "geometry": {"center_x_px": 864.0, "center_y_px": 558.5, "deg_per_pixel": 0.0307},
    "preprocessing": {"margin": 1.5, "size_px": 448},
    **{"jpeg_quality": 100, "counts": {"frames": 4, "used": 3, "left_out": 1}},
    "left_out": [{"filename": "img_9.jpg", "reason": "no face", "excluded": False}],
    "suspects": [{"filename": "img_1.jpg", "why": "closed"}],
}


@fuzzed
@given(content=mutated(SAMPLES, as_csv))
def test_index_csv(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Even where the hash beside it was made to fit."""
    folder = tmp_path_factory.getbasetemp() / "index"
    folder.mkdir(exist_ok=True)
    (folder / "index.csv").write_bytes(content)
    beside = {"index_sha256": hashlib.sha256(content).hexdigest(), "manifests": [MANIFEST]}
    (folder / "index.json").write_text(json.dumps(beside))
    with refused_in_one_line(folder):
        samples = read_index(folder / "index.csv")
        assert finite([asdict(sample) for sample in samples])
        assert {sample.split for sample in samples} <= set(SIDES)
        for sample in samples:
            assert SESSION_ID.fullmatch(sample.session)
            assert PLAIN_NAME.fullmatch(sample.filename)
            assert sample.target >= 0


@fuzzed
@given(content=mutated(MANIFEST, json.dumps))
def test_manifest_json(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "manifest"
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    with refused_in_one_line(folder):
        manifest = read_manifest(folder / "manifest.json", "one")
        assert manifest.session == "one"
        assert manifest.counts.left_out == len(manifest.left_out)
        assert finite([manifest.specification.as_dict(), manifest.detector.model_dump()])


FIGURES = {
    **{"error_deg": 2.5, "low_deg": 2.0, "high_deg": 3.0, "median_deg": 2.4, "p95_deg": 5.0},
    **{"error_px": 81.0, "frames": 10, "targets": 5, "constant_deg": 19.0, "base_deg": 15.0},
}
METRICS = {
    "headline": {
        **{key: FIGURES[key] for key in ("error_deg", "error_px", "frames", "targets")},
        **{"measured": "cross-validated", "low_deg": 2.0, "high_deg": 3.0},
    },
    "choice": {"exported": "probe", "reason": "it is better", "held_out_probe_deg": 2.7},
    **{"test": FIGURES, "cross_session": FIGURES, "train": FIGURES},
}


@fuzzed
@given(content=mutated(METRICS, json.dumps))
def test_figures_json(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """What is accepted makes a table."""
    paths = Paths(tmp_path_factory.getbasetemp() / "metrics")
    paths.reports.mkdir(parents=True, exist_ok=True)
    paths.figures.write_bytes(content)
    with refused_in_one_line(paths.root):
        assert "nan" not in closing_table(paths)
        assert finite(read_metrics(paths.figures).model_dump(exclude_none=True))
