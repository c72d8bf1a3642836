"""What stands on the report's page; how it looks in a browser: test_page_browser.py."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Project
from custom_gaze.cli import main
from custom_gaze.config.specification import Preprocessing
from custom_gaze.data.index import Sample
from custom_gaze.data.known_accuracy import another_day
from custom_gaze.data.sessions import load_frame, read_session
from custom_gaze.demo.session import write_session
from custom_gaze.evaluation.page import write
from custom_gaze.evaluation.page.content import Page, captured, page_of
from custom_gaze.evaluation.page.eyes import eyes_of
from custom_gaze.evaluation.page.screens import mean_errors, screen_of
from custom_gaze.faces.crops import gaze_crop, jpeg
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.faces.finder import load_finder
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.stages import evaluate

GEOMETRY = ScreenGeometry()
SPEC = Preprocessing(size_px=64)  # of the small project


def found_by(project: Project, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    """What an evaluation hands to the page."""
    caught: list[tuple[Any, ...]] = []
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "write_pages", lambda *arguments: caught.append(arguments))
        evaluate.run(project.params, project.paths)
    return caught[0]


@pytest.fixture
def page(chosen: Project, monkeypatch: pytest.MonkeyPatch) -> Page:
    evaluation, comparison, *_ = found_by(chosen, monkeypatch)
    return page_of(evaluation, comparison, [], GEOMETRY, [])


def text_of(html: str) -> str:
    """Roughly what a reader sees."""
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.S))


def test_the_headline_is_that_of_the_figures_in_degrees_pixels_and_centimetres(
    chosen: Project,
) -> None:
    head = json.loads(chosen.paths.figures.read_text())["headline"]
    text = text_of(chosen.paths.report.read_text())
    assert f"{head['error_deg']:.1f}° from where you look" in text
    assert f"{head['error_px']:.0f} pixels" in text
    cm = head["error_px"] * 60 * np.tan(np.deg2rad(0.0307))
    assert f"{cm:.1f} cm" in text
    assert "where the eyes are 60 cm away" in text
    assert f"best correction left {head['correction_deg']:.1f}°" in text
    assert head["measured"] == "cross-validated"  # two test targets of nine
    assert "cross-validated over" in text


def test_held_out_means_one_thing_on_the_page(chosen: Project) -> None:
    """Targets that no fit and no choice has seen; of all others it says cross-validated."""
    text = text_of(chosen.paths.report.read_text())
    said = {match.lower() for match in re.findall(r"held[- ]out \w+", text, flags=re.I)}
    assert said == {"held-out targets"}
    assert "cross-validated error on the calibration targets" in text


def test_before_and_after_are_the_figures_of_the_table(page: Page, chosen: Project) -> None:
    figures = json.loads(chosen.paths.figures.read_text())
    for tested, name in zip(page.tested, ("test", "cross_session"), strict=True):
        errors = [view.error_deg for view in tested.views]
        wanted = [figures[name][key] for key in ("base_deg", "best_correction_deg", "error_deg")]
        assert errors == pytest.approx(wanted, abs=1e-3)
        assert [view.kind for view in tested.views] == ["base", "corrected", "gaze"]
        for view in tested.views:
            outside = sum(edge.count for edge in view.screen.beyond)
            assert len(view.screen.dots) + outside == tested.frames
            assert len(view.screen.lines) == tested.frames


def test_trained_on_counts_what_was_trained_on(
    chosen: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many frames only some are measured again; the page says of how many they are."""
    monkeypatch.setattr(evaluate, "TRAIN_FRAMES", 7)
    evaluation, comparison, *_ = found_by(chosen, monkeypatch)
    page = page_of(evaluation, comparison, [], GEOMETRY, [])
    assert page.errors[1][-1][:2] == ("7 of 14 frames it was trained on", "7")
    assert page.session_lines[-1].measured_on == "some of the frames trained on"
    assert ("frames trained on", "14") in page.made_with


def test_predictions_beside_the_picture_are_marked_and_counted() -> None:
    targets = [[100.0, 100.0], [1600.0, 500.0], [800.0, 1000.0], [900.0, 500.0]]
    predicted = [[-900.0, 120.0], [2600.0, 500.0], [820.0, 3000.0], [910.0, 480.0]]
    screen = screen_of(targets, predicted, GEOMETRY)
    assert screen.dots == [(910.0, 480.0)]
    assert {edge.side: edge.count for edge in screen.beyond} == {"left": 1, "right": 1, "bottom": 1}
    x1, y1, x2, y2 = screen.area
    for *_, x, y in screen.lines:
        assert x1 - 0.1 <= x <= x2 + 0.1
        assert y1 - 0.1 <= y <= y2 + 0.1
    [left] = [edge for edge in screen.beyond if edge.side == "left"]
    assert left.anchor == "start"


def test_an_error_map_has_a_disc_for_each_target_with_its_mean() -> None:
    found = mean_errors([7, 7, 3], [[10, 20], [12, 20], [50, 60]], [30.0, 50.0, 8.0])
    assert found == [(50.0, 60.0, 8.0), (11.0, 20.0, 40.0)]


def test_what_was_left_out_and_what_is_suspect_stand_apart(page: Page) -> None:
    suspects = [("one", "img_1767600322684.jpg", "the eyes look closed")] * 3
    excluded = [("one", "img_2.jpg", "a <sneeze>")]
    shown = text_of(write.rendered(dataclasses.replace(page, suspects=suspects, excluded=excluded)))
    assert "3 frames are suspect and still in" in shown
    assert shown.index("Suspect, and used") < shown.index("Excluded by you")
    assert "a &lt;sneeze&gt;" in shown  # escaped, not parsed as a tag
    assert "no &lt;face&gt; in it" in shown  # the session's own
    alone = text_of(write.rendered(dataclasses.replace(page, suspects=suspects[:1])))
    assert "1 frame is suspect" in alone
    assert "suspect and still in" not in text_of(write.rendered(page))


def test_the_page_says_of_when_and_of_which_experiment_it_is(
    page: Page, chosen: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert re.fullmatch(r"[0-9]+ \w+ 20[0-9]{2}, [0-9]{2}:[0-9]{2} \S+", page.made)
    monkeypatch.setenv("DVC_EXP_NAME", "brave-owl")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "0123456789abcdef0123")
    evaluation, comparison, *_ = found_by(chosen, monkeypatch)
    named = page_of(evaluation, comparison, [], GEOMETRY, [])
    assert named.experiment == "brave-owl"
    assert ("which started from commit", "0123456789ab") in named.made_with
    assert ("frames trained on", "14") in named.made_with  # seven targets, two frames each
    assert page.experiment == ""


def test_the_days_of_a_capture_are_in_the_frames_names() -> None:
    def sample(filename: str) -> Sample:
        return Sample("one", filename, 0, 0, 0, 0, 0, "train", "0" * 64)

    one, other = sample("img_1767600322684.jpg"), sample("img_1767718161712.jpg")
    assert captured([other, one]) == "5 January 2026 to 6 January 2026"
    assert captured([one, one]) == "5 January 2026"
    assert captured([sample("img_5.jpg")]) == ""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "one"
    write_session(folder, person=2050, grid=(2, 2), frames_per_target=1, purpose="tuning")
    return folder


def with_faces(project: Project, demo: Path) -> None:
    """Put a simulated person's crops in the place of the synthetic ones, hashes and all."""
    import hashlib

    project.paths.faces.mkdir(parents=True)
    (project.paths.faces / "face_detection.onnx").write_bytes(embedded_detector())
    finder = load_finder(project.paths.faces, 0.7)
    contents = []
    for frame in read_session(demo, GEOMETRY).frames:
        pixels = load_frame(frame.image)
        contents.append(jpeg(gaze_crop(pixels, finder.find(pixels).box, SPEC), 95))
    index = project.paths.index.read_text().splitlines()
    for number, line in enumerate(index[1:], 1):
        cells = line.split(",")
        content = contents[number % 4] + b"\0" * number  # no two alike; a decoder stops before
        (project.paths.dataset / cells[0] / cells[1]).write_bytes(content)
        index[number] = line.replace(cells[-1], hashlib.sha256(content).hexdigest())
    project.paths.index.write_text("\n".join(index) + "\n")
    manifests = json.loads(project.paths.index_manifests.read_text())
    manifests["index_sha256"] = hashlib.sha256(project.paths.index.read_bytes()).hexdigest()
    project.paths.index_manifests.write_text(json.dumps(manifests))


def test_the_page_says_that_the_embedded_base_knows_drawings_alone(
    chosen: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation, comparison, *_ = found_by(chosen, monkeypatch)
    provenance = evaluation.provenance
    base = dataclasses.replace(provenance.model.base, kind="embedded")
    model = dataclasses.replace(provenance.model, base=base)
    first, *others = provenance.manifests
    all_drawn = [each.model_copy(update={"drawn": True}) for each in provenance.manifests]
    said = "The embedded base network has seen drawings of one face only"
    for manifests, warned in (([first, *others], True), (all_drawn, False)):
        made = dataclasses.replace(provenance, model=model, manifests=manifests)
        page = page_of(
            dataclasses.replace(evaluation, provenance=made), comparison, [], GEOMETRY, []
        )
        assert any(said in warning for warning in page.warnings) == warned


def test_the_page_says_what_another_day_would_cost_where_none_was_tested(
    chosen: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation, comparison, *_ = found_by(chosen, monkeypatch)
    assert evaluation.metrics.cross_session is not None
    alone = evaluation.metrics.model_copy(update={"cross_session": None})
    targets = len({sample.target for sample in comparison.known})
    for metrics, warned in ((evaluation.metrics, 0), (alone, 1)):
        found = dataclasses.replace(evaluation, metrics=metrics)
        warnings = page_of(found, comparison, [], GEOMETRY, []).warnings
        assert warnings.count(another_day(targets)) == warned


def test_faces_are_shown_where_they_are_asked_for_and_never_in_what_mlflow_gets(
    chosen: Project, demo: Path
) -> None:
    with_faces(chosen, demo)
    shared = chosen.paths.shared_report
    evaluate.run(chosen.params, chosen.paths)
    assert "data:image" not in chosen.paths.report.read_text()
    chosen.change(evaluate={"show_faces": True})
    evaluate.run(chosen.params, chosen.paths)
    shown = chosen.paths.report.read_text()
    assert shown.count("data:image/jpeg;base64,") == 6
    assert shown.count('class="arrow l-target"') == 12  # two eyes each
    assert len(shown) < 2_000_000
    assert "data:image" not in shared.read_text()
    kept = list((chosen.paths.root / "mlartifacts").rglob("report.html"))
    assert len(kept) == 2
    assert all("data:image" not in path.read_text() for path in kept)


def test_arrows_begin_at_the_eyes_and_go_where_the_gaze_goes(chosen: Project, demo: Path) -> None:
    with_faces(chosen, demo)
    from custom_gaze.data.index import read_index

    sample = dataclasses.replace(read_index(chosen.paths.index)[0], yaw_deg=-20.0, pitch_deg=10.0)
    [eyes] = eyes_of([sample], [np.array([15.0, 0.0])], SPEC, chosen.paths)
    assert eyes is not None
    left, right = eyes.true
    assert left.x1 < 240 < right.x1
    assert right.x1 - left.x1 == pytest.approx(480 / 2.1, rel=0.02)
    for arrow in eyes.true:
        assert arrow.x2 < arrow.x1
        assert arrow.y2 > arrow.y1
    for arrow in eyes.predicted:
        assert arrow.x2 > arrow.x1
        assert arrow.y2 == pytest.approx(arrow.y1, abs=0.1)


def test_report_opens_the_page(
    chosen: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    assert main(["report", "--open"]) == 0
    captured_output = capsys.readouterr()
    page = chosen.paths.report.resolve()
    assert f"no browser here; the page is {page}" in captured_output.err
    assert "measured on" in captured_output.out
    assert opened == []
    monkeypatch.setenv("DISPLAY", ":0")
    assert main(["report", "--open"]) == 0
    assert opened == [page.as_uri()]
    assert "no browser" not in capsys.readouterr().err
    assert main(["report"]) == 0
    assert len(opened) == 1
    chosen.paths.report.unlink()
    assert main(["report", "--open"]) == 2
    assert "dvc checkout" in capsys.readouterr().err
