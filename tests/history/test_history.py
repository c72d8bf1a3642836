"""All calibrations of a project, measured on one session, and deployed by name: on real git, DVC
and MLflow."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Once, Project, enter
from custom_gaze.cli import main
from custom_gaze.common.files import sha256_of
from custom_gaze.config.paths import Paths
from custom_gaze.history import reference
from custom_gaze.history.calibrations import history
from custom_gaze.history.deployments import deployments, note
from custom_gaze.history.revisions import FIGURES as FIGURES_FILE
from custom_gaze.history.revisions import METRICS, READ, said_in
from custom_gaze.rustyeyes import contract
from history_world import DAYS, call, make_week
from pretend_app import everything, make_app

NAMES = list(DAYS)


@dataclass(frozen=True)
class Week:
    """The project, an app's folder, and what the stages wrote for each day."""

    project: Project
    app: Path
    made: Path

    def figures(self, day: str) -> dict[str, Any]:
        number = NAMES.index(day) + 1
        return dict(json.loads((self.made / f"{number}/reports/figures.json").read_text()))

    def model(self, day: str) -> Path:
        return self.made / f"{NAMES.index(day) + 1}/models/custom_gaze.onnx"

    def live(self) -> bytes:
        return (self.app / "models/custom_gaze.onnx").read_bytes()


@pytest.fixture
def week(
    tmp_path: Path, once: Once, evaluated_once: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Week]:
    made = once("week", lambda folder: make_week(folder, evaluated_once))
    shutil.copytree(made / "project", tmp_path / "project", symlinks=True)
    project = Project(Paths(tmp_path / "project"))
    enter(project, monkeypatch)
    monkeypatch.setattr(contract, "INPUT_SHAPE", (1, 3, 64, 64))  # the app takes 448
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    yield Week(Project(Paths()), make_app(tmp_path / "app"), made / "made")
    reference._frames_of_training.cache_clear()


def listed(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, dict[str, Any]]:
    """What `custom-gaze history --json` says, by the calibrations' names."""
    capsys.readouterr()
    assert main(["history", "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)["calibrations"]
    assert [row["name"] for row in found] == NAMES  # the oldest first
    return {row["name"]: row for row in found}


def test_every_calibration_is_listed_wherever_it_is_left(
    week: Week, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of brave-owl, MLflow alone knows; of day2 a commit, which is another than day3's."""
    rows = listed(capsys)
    assert [rows[day]["found_in"] for day in NAMES] == ["MLflow", "git", "experiment"]
    assert [rows[day]["sessions"] for day in NAMES] == [["one"], ["one"], ["one", "two"]]
    assert rows["day2"]["commit"] == call(Path(), "git", "rev-parse", "HEAD")
    assert all(row["exported"] == "finetune" for row in rows.values())
    assert all(row["screen"]["center_x_px"] == 864 for row in rows.values())
    assert [len(rows[day]["mlflow_runs"]) for day in NAMES] == [1, 0, 0]
    for day, row in rows.items():
        assert row["model_sha256"] == sha256_of(week.model(day))
        assert row["test"]["error_deg"] == week.figures(day)["headline"]["error_deg"]
    assert len({row["model_sha256"] for row in rows.values()}) == len(NAMES)


def test_figures_on_the_reference_are_those_of_evaluate(
    week: Week, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["history", "--json", "--reference", "other"]) == 0
    said = json.loads(capsys.readouterr().out)
    first, *others = said["calibrations"]
    wanted = week.figures(first["name"])["cross_session"]
    on_it = {key: round(value, 3) for key, value in first["on_reference"].items()}
    assert {key: wanted[key] for key in on_it} == on_it
    assert {"error_deg", "low_deg", "high_deg", "frames", "targets"} <= on_it.keys()
    assert not first["trained_on_reference"]
    errors = [row["on_reference"]["error_deg"] for row in (first, *others)]
    assert len(set(errors)) == 3
    assert Path("reports/history.png").read_bytes()[1:4] == b"PNG"
    assert call(Path(), "git", "status", "--porcelain", "reports/history.png") == ""


def test_a_second_call_runs_no_model(
    week: Week, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = listed(capsys)
    with monkeypatch.context() as patch:
        patch.setattr(reference, "cpu_session", None)
        patch.setattr("custom_gaze.history.models.read_onnx", None)
        patch.setattr("custom_gaze.evaluation.trend_plot.draw_trend", None)
        assert listed(capsys) == first
    # Another prepared session, or the same one prepared anew, is another matter.
    labels = Path("data/dataset_clean/other/labels.csv")
    lines = labels.read_text().splitlines(keepends=True)
    labels.write_text("".join(lines[:-1]))
    manifest = labels.with_name("manifest.json")
    counts = json.loads(manifest.read_text())
    counts["counts"] |= {"used": len(lines) - 2}
    manifest.write_text(json.dumps(counts))
    picture = Path("reports/history.png").read_bytes()
    again = listed(capsys, "--reference", "other")
    assert Path("reports/history.png").read_bytes() != picture
    assert again["day2"]["on_reference"]["frames"] == len(lines) - 2


def test_what_a_model_was_trained_on_is_no_comparison(
    week: Week, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = listed(capsys, "--reference", "two")
    assert [rows[day]["trained_on_reference"] for day in NAMES] == [False, False, True]
    assert main(["history", "--reference", "two"]) == 0
    said = capsys.readouterr().out
    assert said.count("trained on it") == 1
    # Renamed, it has the same frames: day3's index, in DVC's cache, tells them.
    _rename("two", "tuesday")
    rows = listed(capsys, "--reference", "tuesday")
    assert [rows[day]["trained_on_reference"] for day in NAMES] == [False, False, True]


def _rename(session: str, name: str) -> None:
    for folder in ("data/sessions", "data/dataset_clean"):
        Path(folder, session).rename(Path(folder, name))
    for file in ("labels.csv", "manifest.json"):
        path = Path("data/dataset_clean", name, file)
        path.write_text(path.read_text().replace(session, name))


def test_the_default_reference_is_what_the_most_can_be_compared_on(
    week: Week, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the newest nor the first, but one that no model knows; removed, it does not count."""
    assert main(["history"]) == 0
    assert "other is the newest prepared session" in capsys.readouterr().out
    shutil.rmtree("data/sessions/other")  # its crops are still there
    assert main(["history"]) == 0
    assert "two is the newest prepared session" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("margin", 2.0, "margin 1.5, in other 2.0"),
        ("crop_from", "mesh", "crop_from detector box, in other mesh"),
    ],
)
def test_other_crops_are_no_reference(
    week: Week, capsys: pytest.CaptureFixture[str], key: str, value: Any, said: str
) -> None:
    path = Path("data/dataset_clean/other/manifest.json")
    manifest = json.loads(path.read_text())
    place = manifest if key in manifest else manifest["preprocessing"]
    place[key] = value
    path.write_text(json.dumps(manifest))
    rows = listed(capsys, "--reference", "other")
    assert all(row["on_reference"] is None for row in rows.values())
    assert all(row["problem"].endswith(said) for row in rows.values())


def test_a_model_that_is_not_here_is_listed_with_what_to_do(
    week: Week, capsys: pytest.CaptureFixture[str]
) -> None:
    cached = _cached("day3")
    cached.unlink()
    rows = listed(capsys)
    assert rows["day3"]["problem"] == "the model is not in DVC's cache; `dvc pull` may bring it"
    assert rows["day3"]["on_reference"] is None
    assert rows["day3"]["screen"]["center_x_px"] == 864  # from the commit's params.yaml
    assert rows["day3"]["test"]["error_deg"] == week.figures("day3")["headline"]["error_deg"]
    assert rows["day2"]["on_reference"] is not None
    assert main(["deploy", str(week.app), "--experiment", "day3"]) == 2
    assert "day3: the model is not in DVC's cache" in capsys.readouterr().err


def _cached(day: str) -> Path:
    """Where DVC's cache has the model of an experiment."""
    ref = call(Path(), "git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{day}")
    lock = yaml.safe_load(call(Path(), "git", "show", f"{ref}:dvc.lock"))
    md5 = lock["stages"]["export"]["outs"][0]["md5"]
    return Path(".dvc/cache/files/md5", md5[:2], md5[2:])


def test_a_damaged_model_is_never_deployed(week: Week, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither one that was damaged before it was first read, nor one that was afterwards."""
    before = everything(week.app)
    cached, other = _cached("day3"), week.model("day2").read_bytes()
    for read_first in (False, True):
        good = cached.read_bytes()
        if read_first:
            listed(capsys)
        cached.chmod(0o644)
        cached.write_bytes(other)
        assert main(["deploy", str(week.app), "--experiment", "day3"]) == 2
        assert "damaged" in capsys.readouterr().err
        cached.write_bytes(good)
    assert everything(week.app) == before


@pytest.mark.parametrize(
    ("name", "day"),
    [("brave-owl", "brave-owl"), ("day3", "day3"), ("main", "day2"), ("HEAD", "day2")],
)
def test_any_is_deployed_by_name_and_nothing_is_checked_out(
    week: Week, name: str, day: str, capsys: pytest.CaptureFixture[str]
) -> None:
    state = call(Path(), "git", "status", "--porcelain")
    refs = call(Path(), "git", "for-each-ref")
    workspace = Path("models/custom_gaze.onnx").read_bytes()
    assert main(["deploy", str(week.app), "--experiment", name]) == 0
    assert week.live() == week.model(day).read_bytes()
    assert (week.app / "models/custom_gaze.onnx").stat().st_mode & 0o777 == 0o644
    assert f"a copy of the model of {day}" in capsys.readouterr().out
    assert call(Path(), "git", "status", "--porcelain") == state
    assert call(Path(), "git", "for-each-ref") == refs
    assert Path("models/custom_gaze.onnx").read_bytes() == workspace
    assert listed(capsys)[day]["is_live"]
    (entry,) = deployments(week.project.paths)
    assert (entry.experiment, entry.model_sha256) == (day, sha256_of(week.model(day)))


def test_no_such_name_and_two_of_one_name(week: Week, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(week.app)
    for name in ("day9", "--all", "-n", "HEAD~1", "brave-owl;ls", "../x"):
        assert main(["deploy", str(week.app), f"--experiment={name}"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    refs = call(Path(), "git", "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps")
    commit, ref = next(line.split() for line in refs.splitlines() if line.endswith("/day2"))
    call(Path(), "git", "update-ref", ref.replace("day2", "day3"), commit)
    assert main(["deploy", str(week.app), "--experiment", "day3"]) == 2
    assert "2 calibrations are called day3: name one by its commit" in capsys.readouterr().err
    assert everything(week.app) == before


def by_error(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """The errors of two days, on a session that neither knows, the smaller one first."""
    shutil.rmtree("data/sessions/two")
    rows = listed(capsys)
    errors = {day: float(rows[day]["on_reference"]["error_deg"]) for day in NAMES[:2]}
    return dict(sorted(errors.items(), key=lambda entry: entry[1]))


def test_worse_than_what_is_live_is_asked_about(
    week: Week, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = by_error(capsys)
    better, worse = errors
    app = str(week.app)
    assert main(["deploy", app, "--experiment", better]) == 0
    before = everything(week.app)

    assert main(["deploy", app, "--experiment", worse]) == 2  # nobody is there to answer
    said = capsys.readouterr().err
    assert "--yes agrees beforehand" in said
    assert all(f"{error:.2f}° (" in said for error in errors.values())
    assert everything(week.app) == before

    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda text: asked.append(text) or "")
    assert main(["deploy", app, "--experiment", worse]) == 2
    assert asked == ["It is worse than what is live. Deploy it all the same? [y/N] "]
    assert everything(week.app) == before
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert main(["deploy", app, "--experiment", worse]) == 0
    assert week.live() == week.model(worse).read_bytes()

    monkeypatch.setattr("builtins.input", None)  # better than what is live: nothing is asked
    assert main(["deploy", app, "--experiment", better]) == 0
    assert main(["deploy", app, "--experiment", worse, "--dry-run"]) == 0
    assert week.live() == week.model(better).read_bytes()
    assert main(["deploy", app, "--experiment", worse, "--yes"]) == 0


def test_a_plain_deploy_is_asked_about_too(week: Week, capsys: pytest.CaptureFixture[str]) -> None:
    better, worse = by_error(capsys)
    assert main(["deploy", str(week.app), "--model", str(week.model(better))]) == 0
    assert main(["deploy", str(week.app), "--model", str(week.model(worse))]) == 2
    assert "it would be worse than what is live" in capsys.readouterr().err
    shutil.rmtree("data/sessions/other")  # no figure to compare
    assert main(["deploy", str(week.app), "--model", str(week.model(worse))]) == 0
    assert f"not compared with {better}, which is live: no prepared" in capsys.readouterr().out


def test_a_session_that_one_of_the_two_knows_is_no_judge(
    week: Week, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("data/sessions/other")
    assert main(["deploy", str(week.app), "--experiment", "day2"]) == 0
    assert main(["deploy", str(week.app), "--experiment", "day3"]) == 0
    assert "not compared with day2, which is live" in capsys.readouterr().out


def test_status_tells_when_which_how_good_and_what_came_since(
    week: Week, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status"]) == 2
    assert "nothing was deployed from this project yet" in capsys.readouterr().err
    assert main(["deploy", str(week.app), "--experiment", "day2", "--yes"]) == 0
    for number in (1, 10**12, 4 * 10**12, 4 * 10**12 + 1):  # the last two: in the year 2096
        (week.app / f"calibration_data/img_{number}.jpg").touch()
    Path("data/sessions/new.dvc").touch()
    old = Path("data/sessions/old.dvc")
    old.write_text("outs:\n- md5: 0\n  path: old\n")
    call(Path(), "git", "add", "-f", str(old))
    day = {"GIT_COMMITTER_DATE": "2020-01-01T00:00:00", "GIT_AUTHOR_DATE": "2020-01-01T00:00:00"}
    commit = [f"{key}={value}" for key, value in day.items()]
    call(Path(), "env", *commit, "git", "commit", "-qm", "Long ago", "--", str(old))
    call(Path(), "git", "mv", str(old), "data/sessions/older.dvc")  # renamed just now
    call(Path(), "git", "commit", "-qm", "Renamed", "--", "data/sessions")

    measured = listed(capsys)["day2"]["on_reference"]["error_deg"]
    assert main(["status", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["app"]["frames_since"] == 2
    assert said["app"]["deployed"]["experiment"] == "day2"
    assert said["project"]["sessions_since"] == ["new"]
    assert said["project"]["reference"] == "other"
    on_it = said["project"]["on_reference"]["error_deg"]
    assert on_it == measured
    assert said["project"]["test"]["error_deg"] == week.figures("day2")["headline"]["error_deg"]
    assert main(["status", str(week.app)]) == 0
    said = capsys.readouterr().out
    assert "frames captured since, in calibration_data: 2" in said
    assert f"error on other: {on_it:.2f}°" in said
    assert "sessions imported since: new" in said


def test_a_rollback_is_journalled(week: Week, capsys: pytest.CaptureFixture[str]) -> None:
    for day in ("brave-owl", "day3"):
        assert main(["deploy", str(week.app), "--experiment", day, "--yes"]) == 0
    assert main(["rollback", str(week.app)]) == 0
    rows = listed(capsys)
    assert [row["is_live"] for row in rows.values()] == [True, False, False]
    assert [len(row["deployed"]) for row in rows.values()] == [1, 0, 1]
    assert main(["rollback", str(week.app)]) == 0
    assert not any(row["is_live"] for row in listed(capsys).values())
    journal = deployments(week.project.paths)
    assert [entry.what for entry in journal] == ["deploy", "deploy", "rollback", "rollback"]
    assert call(Path(), "git", "status", "--porcelain", "deployments.jsonl") == ""


def test_a_journal_of_foreign_lines_is_passed_over(project: Project, tmp_path: Path) -> None:
    project.paths.deployments.write_text('nonsense\n{"at": 1}\n\x00\n')
    note("deploy", tmp_path / "an\napp", "0" * 64, project.paths, experiment="brave-owl")
    (entry,) = deployments(project.paths)
    assert (entry.experiment, entry.app) == ("brave-owl", f"{tmp_path}/an app")


def test_without_git_there_is_the_workspace_alone(
    evaluated: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor has it DVC: what MLflow recorded is there."""
    assert main(["history"]) == 0
    assert "no calibration was made here yet" in capsys.readouterr().out
    assert history(Paths()).notes == ()


def test_git_is_asked_once_for_hundreds_of_experiments(
    week: Week, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not at all for those that it was asked about before."""
    ref = call(Path(), "git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/day3")
    tree = call(Path(), "git", "rev-parse", f"{ref}^{{tree}}")
    lines = []
    for number in range(40):
        commit = call(Path(), "git", "commit-tree", "-m", f"{number}", tree)
        lines.append(f"create {ref.removesuffix('day3')}more{number} {commit}\n")
    subprocess.run(["git", "update-ref", "--stdin"], input="".join(lines), text=True, check=True)
    asked = []
    run = subprocess.run

    def counted(command: list[str], **named: Any) -> Any:
        asked.append(command)
        return run(command, **named)

    monkeypatch.setattr(subprocess, "run", counted)
    known = history(week.project.paths, ask_a_server=False)
    assert len(known.calibrations) == 3  # the same model over and over
    assert len(asked) == 5
    asked.clear()
    assert history(week.project.paths, ask_a_server=False) == known
    assert len(asked) == 3


NESTED = {"choice": {"exported": "probe"}, "test": {"error_deg": 4.0, "low_deg": 3.0, "frames": 9}}
FLAT = {"error_deg": 2.0, "cross_session_deg": 3.0, "frames": 40, "targets": 20}
FIGURES = {**NESTED, "headline": {"error_deg": 2.0, "measured": "cross-validated"}}


@pytest.mark.parametrize(
    ("metrics", "figures", "test", "cross_session", "exported"),
    [
        (NESTED, {}, 4.0, None, "probe"),  # as it was before figures.json
        (FLAT, {}, 2.0, 3.0, ""),
        (FLAT, FIGURES, 2.0, None, "probe"),
        ({"test": "nonsense", "choice": [1]}, {}, None, None, ""),
        ([1], {}, None, None, ""),
    ],
)
def test_metrics_of_every_version(
    metrics: Any, figures: Any, test: float | None, cross_session: float | None, exported: str
) -> None:
    files = {METRICS: json.dumps(metrics), FIGURES_FILE: json.dumps(figures)}
    said = said_in({"dvc.lock": "", "params.yaml": "", **files})
    assert (said.test and said.test.error_deg) == test
    assert (said.cross_session and said.cross_session.error_deg) == cross_session
    assert said.exported == exported


def test_a_lock_of_another_form_is_read_whole() -> None:
    """And what is no lock, or no MD5, says nothing."""
    out = {"path": "models/custom_gaze.onnx", "hash": "md5", "md5": "0" * 32}
    files = dict.fromkeys(READ, "")
    for text, found in (
        (json.dumps({"stages": {"export": {"outs": [out]}}}), "0" * 32),
        (yaml.safe_dump({"schema": "2.0", "stages": {"export": {"outs": [out]}}}), "0" * 32),
        (yaml.safe_dump({"stages": {"export": {"outs": [{**out, "md5": "../../x"}]}}}), None),
        (yaml.safe_dump({"stages": {"export": {"outs": {"path": 1}}}}), None),
        ("stages:\n  export:\n    outs: &a [*a]\n", None),
        ("\x00", None),
    ):
        assert said_in({**files, "dvc.lock": text}).model_md5 == found


def test_experiments_and_what_differs_fit_the_terminal(
    week: Week, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    assert main(["experiments", "--all-commits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 90
    at = next(number for number, line in enumerate(lines) if line.startswith("day3 "))
    assert f"{week.figures('day3')['headline']['error_px']:.0f}" in lines[at].split()
    assert lines[at + 1] == "    sessions=[one,two]  split.seed=3"
    assert main(["experiments", "--json"]) == 0
    of_head = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert of_head.keys() >= {"workspace", "main", "day3"}
    assert "day2" not in of_head  # of the commit before
    assert of_head["day3"]["differing"] == {"sessions": "[one,two]", "split.seed": "3"}
