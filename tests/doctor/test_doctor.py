import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from conftest import REPOSITORY, Project
from custom_gaze import doctor
from custom_gaze.cli import main
from custom_gaze.common.errors import InputError
from custom_gaze.data.frame_looks import FrameLook
from custom_gaze.data.session_file import Exclusion, SessionFile, write_session_file
from custom_gaze.data.sessions import Frame, load_frame, read_session
from custom_gaze.demo import session as demo_session
from custom_gaze.demo.session import write_session
from custom_gaze.doctor import environment, frames, labels, screen
from custom_gaze.doctor.findings import Finding, Severity, worst_first
from custom_gaze.evaluation.tracking.store import open_store
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.geometry import ScreenGeometry

GEOMETRY = ScreenGeometry()
SCREEN_PX = np.array([1728.0, 1117.0])
PERSON = 2060


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 x 3 targets with two frames each; two frames, known by name, are blinks."""
    folder = tmp_path_factory.mktemp("demo") / "one"
    draw, count = demo_session.draw_moment, 0

    def with_blinks(*arguments: object) -> object:
        nonlocal count
        count += 1
        return replace(draw(*arguments), closed=0.8 if count in (4, 11) else 0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_session, "draw_moment", with_blinks)
        write_session(folder, person=PERSON, grid=(3, 3), purpose="tuning")
    return folder


@pytest.fixture
def ready(project: Project, demo: Path) -> Project:
    shutil.copytree(demo, project.paths.sessions / "one")
    project.paths.faces.mkdir(parents=True)
    (project.paths.faces / "face_detection.onnx").write_bytes(embedded_detector())
    return project


def found(result: doctor.DoctorResult, check: str) -> list[Finding]:
    return [finding for finding in result.findings if finding.check == check]


def images(project: Project) -> list[Path]:
    return [f.image for f in read_session(project.paths.sessions / "one", GEOMETRY).frames]


def relabel(image: Path, x: float, y: float) -> None:
    path = image.with_suffix(".json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "screen_x": x, "screen_y": y}))


def targets_of(points: np.ndarray) -> list[Frame]:
    return [
        Frame(Path(f"img_{n}.jpg"), n, float(x), float(y), None) for n, (x, y) in enumerate(points)
    ]


def grid(columns: int, rows: int, margin: float = 0.03, size: np.ndarray = SCREEN_PX) -> np.ndarray:
    x, y = np.meshgrid(
        np.linspace(margin, 1 - margin, columns), np.linspace(margin, 1 - margin, rows)
    )
    return np.stack([x.ravel(), y.ravel()], axis=1) * size


def test_the_blinks_and_nothing_else(ready: Project) -> None:
    result = doctor.run("one", ready.params, ready.paths)
    names = [image.name for image in images(ready)]
    closed = {finding.frames for finding in found(result, "eyes")}
    assert closed == {(names[3],), (names[10],)}
    assert all("capture this target again" in f.advice for f in found(result, "eyes"))
    for check in ("face", "border", "duplicate", "geometry", "session", "label", "mirror"):
        assert not found(result, check), check
    (look,) = result.sessions
    assert (look.frames, look.with_face, look.targets, look.add_px) == (18, 18, 9, ())
    assert look.label_error_deg is not None
    assert look.guess_error_deg is not None
    assert look.label_error_deg < 0.5 * look.guess_error_deg


def test_a_session_with_everything_wrong(ready: Project) -> None:
    here = images(ready)
    with Image.open(here[0]) as image:
        pixels = np.asarray(image)
    Image.fromarray(np.full_like(pixels, 80)).save(here[0], "JPEG")  # no face
    face = pixels[:, 500:]  # the left half of the head is out of the picture
    box = frames_face(ready, here[2])
    with Image.open(here[2]) as image:
        face = np.asarray(image)[:, int(box[0]) :]
    Image.fromarray(face).save(here[2], "JPEG", quality=95)
    with Image.open(here[5]) as image:  # the same picture again, written anew, other target
        image.save(here[6], "JPEG", quality=70)
    relabel(here[8], 1900.0, 500.0)  # beside the screen
    here[12].with_suffix(".json").unlink()
    with Image.open(here[14]) as image:
        exif = image.getexif()
        exif[ExifTags.Base.Orientation] = 3  # upside down
        image.save(here[14], "JPEG", quality=95, exif=exif)
    result = doctor.run("one", ready.params, ready.paths)
    (faceless,) = found(result, "face")
    assert faceless.frames == (here[0].name,)
    assert faceless.what.startswith("no face")
    (border,) = found(result, "border")
    assert border.frames == (here[2].name,)
    assert "(left)" in border.what
    (twin,) = found(result, "duplicate")
    assert twin.frames == (here[5].name, here[6].name)
    same = json_target(here[5]) == json_target(here[6])
    assert twin.severity is (Severity.NOTE if same else Severity.ERROR)
    geometry = found(result, "geometry")
    assert geometry[0].frames == (here[8].name,)
    assert "(1900, 500)" in geometry[0].what
    left_out, turned = found(result, "session")
    assert turned.frames == (here[14].name,)
    assert "which the app and training ignore" in turned.what
    assert (left_out.frames, left_out.what) == (
        (here[12].name,),
        f"has no {here[12].with_suffix('.json').name} beside it",
    )
    severities = [finding.severity for finding in result.findings]
    assert severities == sorted(severities, key=list(Severity).index)


def json_target(image: Path) -> tuple[float, float]:
    record = json.loads(image.with_suffix(".json").read_text())
    return record["screen_x"], record["screen_y"]


def frames_face(project: Project, image: Path) -> tuple[float, float, float, float]:
    from custom_gaze.faces.finder import load_finder

    return load_finder(project.paths.faces, 0.7).find(load_frame(image)).box


def test_a_wrong_label_is_found(ready: Project) -> None:
    folder = ready.paths.sessions / "five"
    write_session(folder, person=PERSON, grid=(5, 4), frames_per_target=1, purpose="tuning")
    session = read_session(folder, GEOMETRY)
    before = doctor.run("five", ready.params, ready.paths)
    assert not found(before, "label")
    victim = next(f for f in session.frames if f.target_x_px < 100 and f.target_y_px > 500)
    relabel(victim.image, 1676.0, victim.target_y_px)
    (finding,) = found(doctor.run("five", ready.params, ready.paths), "label")
    assert finding.frames == (victim.image.name,)
    assert f"from the target at (1676, {victim.target_y_px:.0f})" in finding.what
    seen_x = float(finding.what.split("look at (")[1].split(",")[0])
    assert seen_x < 500  # where the person really looked


def test_labels_are_judged_only_where_they_can_be() -> None:
    rng = np.random.default_rng(5)
    points = np.repeat(grid(4, 4), 2, axis=0)
    truth = GEOMETRY.to_degrees(points)
    features = np.tanh(truth @ rng.normal(size=(2, 60)) / 60) + rng.normal(0, 0.01, (32, 60))

    def looks(eyes: np.ndarray) -> list[FrameLook]:
        return [
            FrameLook(frame, None, eyes=row.astype(np.float32))
            for frame, row in zip(targets_of(points), eyes, strict=True)
        ]

    check, nothing = labels.check_labels(looks(features), GEOMETRY, 20.0)
    assert check is not None
    assert check.useful
    assert not nothing
    points[[9, 20]] = points[[30, 3]]  # the labels, not the looks
    _, wrong = labels.check_labels(looks(features), GEOMETRY, 20.0)
    assert [finding.frames for finding in wrong] == [("img_9.jpg",), ("img_20.jpg",)]
    seen = GEOMETRY.to_pixels(truth[9])
    assert f"look at ({seen[0]:.0f}"[:-1] in wrong[0].what
    noise = rng.normal(size=(32, 60))
    _, (note,) = labels.check_labels(looks(noise), GEOMETRY, 20.0)
    assert note.severity is Severity.NOTE
    assert note.what.startswith("labels cannot be judged")
    none, (note,) = labels.check_labels(looks(features)[:6], GEOMETRY, 20.0)
    assert none is None
    assert "3 targets tell too little" in note.what


@pytest.mark.parametrize(("columns", "rows", "margin"), [(5, 5, 0.03), (3, 3, 0.03), (3, 3, 0.1)])
def test_grids_that_cover_the_screen(columns: int, rows: int, margin: float) -> None:
    coverage, findings = screen.look_at_screen(
        targets_of(grid(columns, rows, margin)), GEOMETRY, 20.0
    )
    assert (coverage.targets, coverage.add_px) == (columns * rows, ())
    assert [finding.severity for finding in findings] == [Severity.NOTE] * (columns == 3)
    assert sum(character == "1" for character in coverage.map) == columns * rows


def test_a_missing_side_is_worth_adding() -> None:
    points = grid(5, 5)
    left = points[points[:, 0] < 1000]
    coverage, findings = screen.look_at_screen(targets_of(left), GEOMETRY, 20.0)
    assert len(coverage.add_px) >= 3
    assert all(1200 < x <= 0.96 * 1728 + 1 for x, _ in coverage.add_px)
    assert coverage.map.count("+") == len(coverage.add_px)
    few, finding = findings
    assert few.advice == "capture 10 more all over the screen"
    assert finding.check == "coverage"
    assert str(coverage.add_px[0]) in finding.advice
    again = np.concatenate([left, np.array(coverage.add_px)])
    assert screen.look_at_screen(targets_of(again), GEOMETRY, 20.0)[0].add_px == ()


def test_a_missing_corner_is_worth_adding() -> None:
    coverage, _ = screen.look_at_screen(targets_of(grid(5, 5)[1:]), GEOMETRY, 20.0)
    assert coverage.add_px == ((69, 45),)


def test_few_targets() -> None:
    """What the bench knows of so few, and how many more to capture."""
    found = {}
    for columns, rows in ((2, 2), (3, 2), (3, 3), (5, 3), (4, 4)):
        points = targets_of(grid(columns, rows))
        _, findings = screen.look_at_screen(points, GEOMETRY, 20.0)
        found[columns * rows] = next((f for f in findings if "in the bench" in f.what), None)
    assert found[4] is not None
    assert found[4].severity is Severity.ERROR
    assert found[4].advice.startswith("capture 21 more")
    assert found[6] is not None
    assert found[6].severity is Severity.WARNING
    assert "in the bench even 9 left 2.2° the same day and 2.6° another day" in found[6].what
    assert found[15] is not None
    assert found[15].severity is Severity.NOTE
    assert found[15].what == (
        "15 targets only: in the bench 9 left 2.2° the same day and 2.6° another day, where 25 "
        "left 1.7° and 2.4°"
    )
    assert found[15].advice == "capture 10 more all over the screen"
    assert found[16] is None


@pytest.mark.parametrize(
    ("size", "severity"),
    [
        ((1440, 900), Severity.WARNING),
        ((1920, 1080), Severity.ERROR),
        ((3456, 2234), Severity.ERROR),
    ],
)
def test_targets_of_another_screen(size: tuple[int, int], severity: Severity) -> None:
    points = grid(4, 4, size=np.array(size))
    _, findings = screen.look_at_screen(targets_of(points), GEOMETRY, 20.0)
    other = next(f for f in findings if "lie as on a screen" in f.what)
    assert other.severity is severity
    assert f"about {size[0]} × {size[1]} pixels" in other.what
    assert f"custom-gaze screen --size {size[0]}x{size[1]} " in other.advice
    beside = [f for f in findings if "beside the screen" in f.what]
    assert [f.frames for f in beside] == (
        [tuple(f"img_{n}.jpg" for n, p in enumerate(points) if (p > SCREEN_PX).any())]
        if severity is Severity.ERROR
        else []
    )


@pytest.mark.parametrize(("grey_levels", "same"), [(2, True), (4, False)])
def test_pictures_are_the_same_only_if_every_block_is(grey_levels: int, same: bool) -> None:
    rng = np.random.default_rng(1)
    small = rng.integers(20, 200, (90, 160), dtype=np.uint8)
    other = small.copy()
    other[36:45, 70:80] += np.uint8(grey_levels)  # one of 160 blocks: an eye, say
    first, second = targets_of(np.array([[100.0, 100.0], [900.0, 500.0]]))
    pair = [FrameLook(first, None, small=small), FrameLook(second, None, small=other)]
    findings = [f for f in frames.check_frames(pair, 20.0) if f.check == "duplicate"]
    assert [f.severity for f in findings] == ([Severity.ERROR] if same else [])
    for shift_px in (0.0, 0.6, 19.0):  # the app's targets jitter by pixels
        pair[1] = replace(pair[1], frame=replace(first, target_x_px=100.0 + shift_px))
        findings = [f for f in frames.check_frames(pair, 20.0) if f.check == "duplicate"]
        assert [f.severity for f in findings] == ([Severity.NOTE] if same else [])


@pytest.mark.parametrize(("moved", "same"), [(0.1, True), (0.3, False)])
def test_a_still_face_is_another_picture_where_its_eyes_are(moved: float, same: bool) -> None:
    """Real people keep still: all that changes with the target is the eyes."""
    small = np.full((90, 160), 90, np.uint8)
    eyes = np.random.default_rng(2).normal(size=1120).astype(np.float32)
    first, second = targets_of(np.array([[100.0, 100.0], [900.0, 500.0]]))
    other = eyes + np.float32(moved) * np.where(np.arange(1120) % 2, 1, -1).astype(np.float32)
    pair = [
        FrameLook(first, None, small=small, eyes=eyes),
        FrameLook(second, None, small=small, eyes=other),
    ]
    findings = [f for f in frames.check_frames(pair, 20.0) if f.check == "duplicate"]
    assert [f.severity for f in findings] == ([Severity.ERROR] if same else [])


def test_sessions_of_the_parameters(ready: Project) -> None:
    ready.change(evaluate={"sessions": ["two"]})
    result = doctor.run(None, ready.params, ready.paths)
    assert [look.id for look in result.sessions] == ["one"]
    (missing,) = found(result, "session")
    assert (missing.severity, missing.session) == (Severity.ERROR, "two")
    assert "take two out of params.yaml" in missing.advice


def test_what_is_said_of_a_session_is_heeded(ready: Project) -> None:
    folder = ready.paths.sessions / "one"
    names = [image.name for image in images(ready)]
    folder.with_name("one.dvc").write_text("outs:\n")
    (made,) = [
        f for f in doctor.run("one", ready.params, ready.paths).findings if "is made" in f.what
    ]
    assert (made.session, made.advice) == ("one", "git commit it with one.dvc")
    excluded = tuple(Exclusion(frame=names[n], because="a blink") for n in (3, 10))
    wide = ScreenGeometry(8640.0, 5585.0, 0.003)
    write_session_file(folder, SessionFile(excluded=excluded, geometry=wide))
    result = doctor.run("one", ready.params, ready.paths)
    assert not found(result, "eyes")
    (note,) = found(result, "session")
    assert (note.severity, note.frames) == (Severity.NOTE, (names[3], names[10]))
    assert result.sessions[0].with_face == 16
    assert any("far from any target" in f.what for f in found(result, "coverage"))  # of that screen


def test_a_session_that_cannot_be_read(ready: Project) -> None:
    with pytest.raises(InputError, match="nobody: no such file or folder"):
        doctor.run("nobody", ready.params, ready.paths)
    with pytest.raises(InputError, match="no calibration session"):
        doctor.run(str(ready.paths.faces), ready.params, ready.paths)


def test_without_a_detector_the_rest_is_checked(ready: Project, demo: Path) -> None:
    shutil.rmtree(ready.paths.faces)
    result = doctor.run(str(demo), ready.params, ready.paths)
    (finding,) = found(result, "face")
    assert "run `custom-gaze fetch` first" in finding.what
    assert result.sessions[0].with_face is None
    assert result.sessions[0].targets == 9


def test_text_and_json(ready: Project) -> None:
    result = doctor.run("one", ready.params, ready.paths)
    text = doctor.as_text(result)
    assert "one: 18 frames, 18 with one clear face, 9 targets" in text
    assert result.sessions[0].map in text
    assert f"warning eyes        {found(result, 'eyes')[0].frames[0]}: the eyes look closed" in text
    assert text.splitlines()[-1].startswith("1 error, 2 warnings, 2 notes")
    assert main(["doctor", "one"]) == 1  # there is an error
    content = json.loads(doctor.as_json(result))
    assert len(content["findings"]) == len(result.findings)
    assert content["findings"][0]["severity"] == "error"
    assert content["sessions"][0]["label_error_deg"] == result.sessions[0].label_error_deg
    assert content["environment"]["Python"].startswith("3.")


def test_a_finding_with_many_frames_stays_short() -> None:
    names = tuple(f"img_{n}.jpg" for n in range(8))
    line = Finding(Severity.NOTE, "face", "what", "advice", None, names).line()
    assert line.endswith("img_4.jpg and 3 more: what; advice")
    other = Finding(Severity.ERROR, "face", "what", "advice")
    assert worst_first([Finding(Severity.NOTE, "a", "", ""), other])[0] is other


def environment_of(project: Project) -> environment.Environment:
    return environment.look_at_environment(project.params, project.paths)


def test_pinned_versions(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"numpy": "2.0.0", "torch": "2.11.0+cpu", "pillow": "1.0"}

    def version(name: str) -> str:
        if name not in here:
            raise environment.metadata.PackageNotFoundError(name)
        return here[name]

    monkeypatch.setattr(environment.metadata, "version", version)
    monkeypatch.setattr(
        environment.metadata, "requires", lambda _: ["numpy", "dvc==3.67.1", 'ruff; extra == "dev"']
    )
    (project.paths.root / "requirements.txt").write_text(
        "# made by a tool\nnumpy==2.0.0\n    # via torch\ntorch==2.11.0\nPillow==2.0 \\\n"
        "    --hash=sha256:00\ndvc==3.67.1\nruff==0.1\n"
        "old==1 ; python_full_version < '3.0'\n"
    )
    looked = environment_of(project)
    assert looked.facts["packages"] == "2 of 4 as pinned in requirements.txt"
    said = {finding.what: finding.severity for finding in looked.findings}
    assert said["not installed: dvc 3.67.1"] is Severity.ERROR
    assert said["other versions: pillow 1.0 (pinned 2.0)"] is Severity.WARNING


def test_the_shipped_requirements_can_be_read() -> None:
    pinned = dict(environment._pinned((REPOSITORY / "requirements.txt").read_text()))
    assert pinned["dvc"] == "3.67.1"
    assert len(pinned) > 100


def test_a_device_that_is_not_there(project: Project) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    assert "training runs on the CPU" in environment_of(project).facts["GPU"]
    project.change(train={"device": "cuda"})
    (finding,) = [f for f in environment_of(project).findings if "train.device" in f.what]
    assert finding.severity is Severity.ERROR


def test_the_dvc_remote(project: Project) -> None:
    folder = project.paths.root / ".dvc"
    folder.mkdir()
    (folder / "config").write_text("[core]\n    analytics = false\n")
    assert any("no default remote" in f.what for f in environment_of(project).findings)
    (folder / "config").write_text(
        "[core]\n    remote = spark\n['remote \"spark\"']\n    url = ssh://me:secret@spark/store\n"
    )
    looked = environment_of(project)
    assert looked.facts["DVC remote"] == "spark, ssh://spark/store (not contacted)"
    assert not any("DVC" in finding.what for finding in looked.findings)
    (folder / "config").write_text("[core\n")
    assert any("cannot read its configuration" in f.what for f in environment_of(project).findings)


def test_the_mlflow_store(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    store = project.paths.root / "mlflow.db"
    assert environment_of(project).facts["MLflow store"].endswith("made by the first evaluation")
    assert not store.exists()
    open_store()
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("insert into runs (run_uuid) values (1)")
    (project.paths.root / "mlpending" / "1-a").mkdir(parents=True)
    (project.paths.root / "mlpending" / "1-a" / "record.json").touch()
    waits = f", 1 more waiting in {project.paths.root / 'mlpending'}"
    assert environment_of(project).facts["MLflow store"] == f"{store}, 1 run{waits}"
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("update alembic_version set version_num = '90e64c465722'")
    [old] = [f for f in environment_of(project).findings if "older MLflow" in f.what]
    assert old.advice.endswith(f" && mlflow db upgrade sqlite:///{store}")
    store.write_bytes(b"no database")
    assert any(
        "cannot be read as MLflow's store" in f.what for f in environment_of(project).findings
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@there:5000/x")
    assert environment_of(project).facts["MLflow store"] == (
        f"https://there:5000/x (not contacted){waits}"
    )


def test_where_dvc_loses_experiments_is_named(tmp_path: Path) -> None:
    """A path that is not ASCII, and a shallow clone."""
    who = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    whole, cut = tmp_path / "whole", tmp_path / "Größe"
    for words in (
        ["init", "-q", str(whole)],
        *([["-C", str(whole), *who, "commit", "-q", "--allow-empty", "-m", "x"]] * 2),
        ["clone", "-q", "--depth", "1", whole.as_uri(), str(cut)],
    ):
        subprocess.run(["git", *words], check=True)
    assert environment._experiments(whole)[1] == []
    fact, (path, shallow) = environment._experiments(cut)
    assert fact == "with limits"
    assert "Größe is not named in ASCII letters alone: `dvc exp run --temp`" in path.what
    assert "this clone is shallow: DVC loses experiments in it" in shallow.what
    assert shallow.advice == "git fetch --unshallow"
    assert environment._experiments(tmp_path)[0] == "not looked at"


def test_a_finding_is_one_line_whatever_its_files_are_called() -> None:
    finding = Finding(Severity.NOTE, "face", "x\nis \x1b[31mred", "look", frames=("a\n\x9b2J.jpg",))
    assert finding.line() == "note    face        a \\x9b2J.jpg: x is \\x1b[31mred; look"
