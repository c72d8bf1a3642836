"""Killed at each step in turn: the app's folder is as before or as after, and comes back whole."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from custom_gaze.common.errors import InputError
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.rustyeyes.deploy import deploy, plan_deploy, rollback
from custom_gaze.rustyeyes.status import status
from pretend_app import color_model, everything, make_app, tree

GEOMETRY = ScreenGeometry()
DRIVER = Path(__file__).parents[1] / "kill_at_each_step.py"


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against power cuts, not kills, and takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def kill_at_each_step(template: Path, work: Path, action: str, model: Path) -> list[Path]:
    """The folders of all attempts in order; only the last one was not killed."""
    work.mkdir()
    command = [sys.executable, str(DRIVER), str(template), str(work), action, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return sorted(work.iterdir(), key=lambda path: int(path.name))


def test_deploy_killed_at_each_step(tmp_path: Path) -> None:
    template = make_app(tmp_path / "app")
    original = everything(template)
    before = tree(template)
    model = color_model(tmp_path / "mine.onnx")
    killed = kill_at_each_step(template, tmp_path / "work", "deploy", model)
    after = tree(killed[-1])
    assert after["models/custom_gaze.onnx"] == model.read_bytes()
    assert len(killed) > 30
    deployed = []
    for app in killed:
        found = tree(app)
        assert found in (before, after), f"neither before nor after: step {app.name}"
        deployed.append(found == after)
        live = status(app)  # never stumbles over what a kill left
        assert live.is_personal == deployed[-1]
        assert bool(live.svr_files) != deployed[-1]
        plan_deploy(app, model, GEOMETRY)

        again = tmp_path / "again"
        shutil.copytree(app, again, symlinks=True)
        deploy(again, model, GEOMETRY, app_pixels_per_degree=20.0)
        assert tree(again) == after
        assert not status(again).interrupted
        assert len(status(again).deploys) == 1
        rollback(again)
        assert everything(again) == original, f"step {app.name}, deployed again"
        shutil.rmtree(again)

        if deployed[-1] or status(app).interrupted:
            rollback(app)
        else:  # killed before it had begun, so that no rollback is due
            with pytest.raises(InputError, match="nothing to roll back"):
                rollback(app)
        assert everything(app) == original, f"step {app.name}"
    assert deployed == sorted(deployed)  # one instant, no way back
    assert 10 < deployed.index(True) < len(killed) - 5


def test_second_deploy_killed_at_each_step(tmp_path: Path) -> None:
    """Here the model itself is replaced, and an older backup must stay as it is."""
    template = make_app(tmp_path / "app")
    deploy(template, color_model(tmp_path / "first.onnx"), GEOMETRY)
    original, before = everything(template), tree(template)
    second = color_model(tmp_path / "second.onnx", scale=0.5)
    killed = kill_at_each_step(template, tmp_path / "work", "deploy", second)
    after = tree(killed[-1])
    assert after["models/custom_gaze.onnx"] == second.read_bytes()
    for app in killed:
        found = tree(app)
        assert found in (before, after), f"neither before nor after: step {app.name}"
        if found == after or status(app).interrupted:
            rollback(app)
        assert everything(app) == original, f"step {app.name}"


def test_second_rollback_of_a_killed_one_goes_no_further(tmp_path: Path) -> None:
    """Two deploys; whenever the rollback of the second is killed, repeating it keeps the first."""
    template = make_app(tmp_path / "app")
    deploy(template, color_model(tmp_path / "first.onnx"), GEOMETRY)
    first = everything(template)
    model = color_model(tmp_path / "second.onnx", scale=0.5)
    deploy(template, model, GEOMETRY)
    killed = kill_at_each_step(template, tmp_path / "work", "rollback", model)
    for app in killed[:-2]:  # the last kill came after all was done, and nothing shows it
        rollback(app)
        assert everything(app) == first, f"step {app.name}"


@pytest.mark.parametrize("changed", [False, True])
def test_rollback_killed_at_each_step(tmp_path: Path, changed: bool) -> None:
    template = make_app(tmp_path / "app")
    model = color_model(tmp_path / "mine.onnx")
    original, after = everything(template), tree(template)
    deploy(template, model, GEOMETRY)
    if changed:  # the user's version has to outlast the rollback, whenever that is killed
        (template / "config.json").write_text('{"models": {"l2cs_path": "mine"}}')
    before = tree(template)
    killed = kill_at_each_step(template, tmp_path / "work", "rollback", model)
    assert len(killed) > 25
    rolled_back = []
    for app in killed:
        found = tree(app)
        assert found in (before, after), f"neither before nor after: step {app.name}"
        rolled_back.append(found == after)
        if rolled_back[-1] and not status(app).interrupted:
            with pytest.raises(InputError, match="nothing to roll back"):
                rollback(app)
        else:
            rollback(app)
        assert tree(app) == after
        assert not status(app).interrupted
        kept = [path.read_text() for path in app.glob("custom_gaze_backups/*/before/config.json")]
        assert kept == (['{"models": {"l2cs_path": "mine"}}'] if changed else [])
        assert changed or everything(app) == original, f"step {app.name}"
    assert rolled_back == sorted(rolled_back)
    assert any(rolled_back[:-5])
    assert not all(rolled_back[10:])


@pytest.mark.long
def test_clearing_up_can_be_killed_too(tmp_path: Path) -> None:
    """A deploy is killed, then the rollback that clears it up is killed at each of its steps."""
    template = make_app(tmp_path / "app")
    original, before = everything(template), tree(template)
    model = color_model(tmp_path / "mine.onnx")
    first = kill_at_each_step(template, tmp_path / "first", "deploy", model)
    after = tree(first[-1])
    linked = [app for app in first if (app / "config.json").is_symlink()]
    for start in (linked[0], linked[-1]):  # the one is undone, the other finished and rolled back
        work = tmp_path / f"second{start.name}"
        for app in kill_at_each_step(start, work, "rollback", model):
            assert tree(app) in (before, after), f"neither before nor after: step {app.name}"
            deploy(app, model, GEOMETRY, app_pixels_per_degree=20.0)
            assert tree(app) == after
            rollback(app)
            assert everything(app) == original, f"step {app.name}"
    assert tree(linked[0]) == before
    assert tree(linked[-1]) == after


def test_a_living_app_may_write_while_links_stand_in(tmp_path: Path) -> None:
    """After a kill between the links and the turn, the app starts and rewrites its settings."""
    template = make_app(tmp_path / "app")
    model = color_model(tmp_path / "mine.onnx")
    linked = [
        app
        for app in kill_at_each_step(template, tmp_path / "work", "deploy", model)
        if (app / "config.json").is_symlink()
    ]
    assert len(linked) > 2
    for app in linked:
        text = (app / "config.json").read_text().replace("0.30000001192092896", "0.5")
        assert text.count("0.5") == 1
        (app / "config.json").write_text(text)
        deployed = status(app).is_personal
        rollback(app)
        if deployed:  # the settings are those of before, and what the app wrote is kept
            assert "0.30000001192092896" in (app / "config.json").read_text()
            (kept,) = app.glob("custom_gaze_backups/*/before/config.json")
            assert kept.read_text() == text
        else:
            assert (app / "config.json").read_text() == text
            assert not (app / "custom_gaze_backups").exists()
