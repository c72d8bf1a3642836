"""Deploy, look, undo, on a pretend app's folder."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.config.specification import Preprocessing, Specification
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.models.onnx_metadata import PREFIX
from custom_gaze.rustyeyes.deploy import DeployPlan, deploy, plan_deploy, rollback
from custom_gaze.rustyeyes.status import status
from pretend_app import (
    CONFIG,
    DEG_PER_PIXEL,
    SCREEN_PX,
    app_dot_px,
    color_heads,
    color_model,
    everything,
    make_app,
    save_model,
    tree,
)

GEOMETRY = ScreenGeometry()
BACKUPS = "custom_gaze_backups"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return make_app(tmp_path / "app")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    metadata = {
        "custom_gaze.sessions": '["monday", "tuesday"]',
        "custom_gaze.validation_error_deg": "1.254",
        "custom_gaze.code_version": "0.1.0+abc",
    }
    return color_model(tmp_path / "mine.onnx", metadata=metadata)


def colored(red: int, green: int) -> np.ndarray:
    crop = np.zeros((300, 500, 3), dtype=np.uint8)  # the app's crops are not always square
    crop[..., 0], crop[..., 1] = red, green
    return crop


LOOKS = [(0, 0), (255, 0), (0, 255), (255, 255), (128, 128), (200, 31)]


@pytest.mark.parametrize("look", LOOKS)
def test_the_dot_lands_on_the_target(app: Path, model: Path, look: tuple[int, int]) -> None:
    """The whole chain: the color says where on the screen the dot has to be."""
    assert app_dot_px(app, colored(*look)) == (20_000, 20_000)  # driven by the old regressor
    deploy(app, model, GEOMETRY, app_pixels_per_degree=20.0)
    x_px, y_px = app_dot_px(app, colored(*look))
    wanted_px = [SCREEN_PX[axis] * (look[axis] / 255 - 0.5) for axis in (0, 1)]
    assert x_px == pytest.approx(wanted_px[0], abs=1)
    assert y_px == pytest.approx(wanted_px[1], abs=1)


def test_plain_gain_covers_part_of_the_way(app: Path, model: Path) -> None:
    result = deploy(app, model, GEOMETRY)
    x_px, y_px = app_dot_px(app, colored(255, 0))
    assert (x_px, y_px) == pytest.approx((530.5, -342.9), abs=1)  # 20 / 32.6 of 864 and 558.5
    assert result.plan.scale_note == (
        "gain 1: for a look at the screen's edge, 864 px from its centre, the app's dot moves "
        "530 px (61%); --app-pixels-per-degree 20 would put it on the target"
    )


def test_the_models_own_geometry_sets_the_gain(app: Path, tmp_path: Path) -> None:
    metadata = {
        "custom_gaze.geometry": '{"center_x_px": 500, "center_y_px": 300, "deg_per_pixel": 0.05}'
    }
    model = color_model(tmp_path / "mine.onnx", metadata=metadata)
    plan = deploy(app, model, GEOMETRY, app_pixels_per_degree=40.0).plan
    correction = status(app).correction
    assert correction is not None
    assert correction.yaw_gain == correction.pitch_gain == 0.5  # 1 / (0.05 * 40)
    assert plan.scale_note == (
        "gain 0.5: for a look at the screen's edge, 500 px from its centre, "
        "the app's dot moves 500 px (100%)"
    )


def test_two_outputs_land_on_the_target_too(app: Path, tmp_path: Path) -> None:
    weights, bias = color_heads()
    bins_deg = -180 + 4 * np.arange(90)
    # logits -(angle - bin)^2 / 2s^2 without the term all bins share: linear in the angle
    spread = 8.0**2
    path = save_model(
        tmp_path / "stock.onnx",
        np.hstack([np.outer(weights[:, axis], bins_deg) / spread for axis in (0, 1)]),
        np.hstack([bias[axis] * bins_deg / spread - bins_deg**2 / 2 / spread for axis in (0, 1)]),
        outputs=2,
    )
    deploy(app, path, GEOMETRY, app_pixels_per_degree=20.0)
    for look in LOOKS:
        wanted_px = [SCREEN_PX[axis] * (look[axis] / 255 - 0.5) for axis in (0, 1)]
        assert app_dot_px(app, colored(*look)) == pytest.approx(wanted_px, abs=1)


def test_plan_says_all_and_writes_nothing(app: Path, model: Path) -> None:
    before = everything(app)
    plan = plan_deploy(app, model, GEOMETRY)
    assert everything(app) == before
    lines = plan.lines()
    assert lines[0] == f"models/custom_gaze.onnx: new, a copy of {model}"
    assert lines[1] == "svr_l2cs_x.model: moved away, it was fitted to the network before"
    assert "config.json: calibration.models.l2cs.yaw_gain: 6.35 → 1.0" in lines
    assert len(lines) == 3 + 7 + 1 + 1
    assert lines[-2] == f"backup of all this: {app / BACKUPS}"
    shown: list[DeployPlan] = []

    def show(plan: DeployPlan) -> None:
        assert everything(app) == before
        shown.append(plan)

    assert deploy(app, model, GEOMETRY, show=show).plan == shown[0] == plan


def test_deploy_changes_only_what_it_says(app: Path, model: Path) -> None:
    before = tree(app)
    result = deploy(app, model, GEOMETRY)
    after = tree(app)
    assert after.pop("models/custom_gaze.onnx") == model.read_bytes()
    config = json.loads(after.pop("config.json"))
    wanted = json.loads(before.pop("config.json"))
    wanted["models"]["l2cs_path"] = "models/custom_gaze.onnx"
    for key in ("yaw", "pitch"):
        terms = {f"{key}_gain": 1.0, f"{key}_offset": 0.0, f"{key}_curve": 0.0}
        wanted["calibration"]["models"]["l2cs"].update(terms)
    assert json.dumps(config) == json.dumps(wanted)  # the order too
    saved = [before.pop(f"svr_l2cs_{axis}.model") for axis in "xy"]
    assert after == before
    assert not any(path.is_symlink() for path in app.rglob("*"))

    assert result.backup is not None
    manifest = json.loads((result.backup / "manifest.json").read_text())
    assert [entry["path"] for entry in manifest["files"]] == [
        "models/custom_gaze.onnx",
        "svr_l2cs_x.model",
        "svr_l2cs_y.model",
        "config.json",
    ]
    assert manifest["files"][0]["before_sha256"] is None
    assert manifest["files"][1]["after_sha256"] is None
    kept = result.backup / "before"
    assert [(kept / f"svr_l2cs_{axis}.model").read_bytes() for axis in "xy"] == saved
    assert json.loads((kept / "config.json").read_text()) == CONFIG
    names = sorted(path.name for path in (app / BACKUPS).rglob("*"))
    expected = ["before", "config.json", "manifest.json", "svr_l2cs_x.model", "svr_l2cs_y.model"]
    assert names == sorted([result.backup.name, "models", *expected])


def test_deploying_twice_changes_nothing(app: Path, model: Path) -> None:
    deploy(app, model, GEOMETRY, app_pixels_per_degree=20.0)
    config = app / "config.json"
    text = config.read_text().replace("1.6286644951140066", "1.6286645")  # as the app rewrites it
    config.write_text(text)
    before = everything(app)
    result = deploy(app, model, GEOMETRY, app_pixels_per_degree=20.0)
    assert result.backup is None
    assert result.plan.lines()[0].endswith("this model is deployed already, nothing to change")
    assert everything(app) == before
    assert len(status(app).deploys) == 1


def test_rollback_restores_byte_for_byte_and_leaves_no_trace(app: Path, model: Path) -> None:
    os.chmod(app / "config.json", 0o640)
    os.utime(app / "svr_l2cs_x.model", (1e9, 1e9))
    before = everything(app)
    deploy(app, model, GEOMETRY)
    assert (app / "config.json").stat().st_mode & 0o777 == 0o640
    result = rollback(app)
    assert everything(app) == before
    assert (app / "svr_l2cs_x.model").stat().st_mtime == 1e9
    assert result.kept is None
    assert set(result.restored) == {
        "config.json",
        "models/custom_gaze.onnx",
        "svr_l2cs_x.model",
        "svr_l2cs_y.model",
    }
    with pytest.raises(InputError, match="nothing to roll back, no deploy is on record"):
        rollback(app)
    assert everything(app) == before


def test_rollbacks_go_back_one_deploy_each(app: Path, model: Path, tmp_path: Path) -> None:
    original = everything(app)
    deploy(app, model, GEOMETRY)
    first = everything(app)
    second_model = color_model(tmp_path / "second.onnx", scale=0.5)
    deploy(app, second_model, GEOMETRY)
    assert (app / "models" / "custom_gaze.onnx").read_bytes() == second_model.read_bytes()
    assert len(status(app).deploys) == 2
    deploy(app, second_model, GEOMETRY, app_pixels_per_degree=30.0)  # the config alone changes
    rollback(app)
    rollback(app)
    assert everything(app) == first
    rollback(app)
    assert everything(app) == original


def test_what_changed_since_the_deploy_is_kept(app: Path, model: Path) -> None:
    before = tree(app)
    deploy(app, model, GEOMETRY)
    (app / "config.json").write_text('{"the user": "changed this"}')
    (app / "svr_l2cs_x.model").write_bytes(b"fitted anew")
    result = rollback(app)
    assert tree(app) == before
    assert result.kept is not None
    assert (result.kept / "config.json").read_text() == '{"the user": "changed this"}'
    assert (result.kept / "svr_l2cs_x.model").read_bytes() == b"fitted anew"
    with pytest.raises(InputError, match="nothing to roll back"):
        rollback(app)


def test_rollback_works_where_the_config_is_gone(app: Path, model: Path) -> None:
    before = everything(app)
    deploy(app, model, GEOMETRY)
    (app / "config.json").unlink()
    rollback(app)
    assert everything(app) == before


def test_status_before_and_after(app: Path, model: Path) -> None:
    found = status(app)
    assert (found.model, found.is_personal) == ("models/l2cs_net.onnx", False)
    assert found.correction is not None
    assert found.correction.yaw_gain == 6.35
    assert found.svr_files == ("svr_l2cs_x.model", "svr_l2cs_y.model")
    assert "sessions: unknown" in found.lines()
    assert "in its place the app uses: svr_l2cs_x.model, svr_l2cs_y.model" in found.lines()
    before = everything(app)
    deploy(app, model, GEOMETRY)
    lines = status(app).lines()
    assert lines[0] == "live model: models/custom_gaze.onnx (a personal network)"
    assert "sessions: monday, tuesday" in lines
    assert "error on held-out targets: 1.25 degrees" in lines
    assert "made by: 0.1.0+abc" in lines
    assert "yaw: gain 1, offset 0, curve 0" in lines
    assert lines[-1] == "deploys that can be rolled back: 1"
    (app / "models" / "custom_gaze.onnx").unlink()
    assert any("cannot load it: " in line and "not found" in line for line in status(app).lines())
    rollback(app)
    assert everything(app) == before


def refused(app: Path, model: Path, message: str, kind: type[Exception] = InputError) -> None:
    before = everything(app) if app.is_dir() else None
    for attempt in (plan_deploy, deploy):
        with pytest.raises(kind, match=message) as caught:
            attempt(app, model, GEOMETRY)
        assert "\n" not in str(caught.value)
    assert (everything(app) if app.is_dir() else None) == before


def test_folders_that_are_not_the_app(tmp_path: Path, app: Path, model: Path) -> None:
    refused(tmp_path / "nowhere", model, "nowhere: no folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", model, r"not the RustyEyes app's folder, it holds no config\.json")
    shutil.rmtree(app / "models")
    refused(app, model, "not the RustyEyes app's folder, it holds no models")
    for attempt in (status, rollback):
        with pytest.raises(InputError, match="nowhere: no folder"):
            attempt(tmp_path / "nowhere")
    with pytest.raises(InputError, match="it holds no config"):
        status(tmp_path / "empty")


def test_bad_configs_and_models_are_refused(tmp_path: Path, app: Path, model: Path) -> None:
    bad = save_model(tmp_path / "bad.onnx", np.zeros((3, 2)), np.array([np.nan, 0.0]))
    refused(app, bad, "yaw nan, pitch 0")
    refused(app, tmp_path / "none.onnx", "not found")
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    config["models"]["mobile_path"] = "../mobile.onnx"
    (app / "config.json").write_text(json.dumps(config))
    refused(app, model, "models.mobile_path is '../mobile.onnx', which leaves the app's folder")
    (app / "config.json").write_text(json.dumps(CONFIG)[:-5])
    refused(app, model, "config.json: no valid JSON .* the app would throw it away")


@pytest.mark.parametrize("scale", [0.0, -20.0, 0.5, 1001.0, float("nan"), float("inf")])
def test_odd_scales_are_refused(app: Path, model: Path, scale: float) -> None:
    with pytest.raises(InputError, match=r"--app-pixels-per-degree is .* must lie in 1 … 1000"):
        deploy(app, model, GEOMETRY, app_pixels_per_degree=scale)


@pytest.mark.parametrize("name", ["config.json", "models", "svr_l2cs_y.model", BACKUPS])
def test_links_are_refused(tmp_path: Path, app: Path, model: Path, name: str) -> None:
    outside = tmp_path / "outside"
    if (app / name).exists():
        (app / name).rename(outside)
    else:
        outside.mkdir()
    (app / name).symlink_to(outside)
    refused(app, model, f"{name}: is a link; put the real thing in its place")


def test_a_folder_in_the_models_place(app: Path, model: Path) -> None:
    (app / "models" / "custom_gaze.onnx").mkdir()
    (app / "models" / "custom_gaze.onnx" / "inside").write_text("x")
    refused(app, model, r"custom_gaze\.onnx: is no regular file; move it away first")


def test_a_backup_that_is_not_what_was_saved_is_not_restored(app: Path, model: Path) -> None:
    backup = deploy(app, model, GEOMETRY).backup
    assert backup is not None
    (backup / "before" / "config.json").write_text("{}")
    before = everything(app)
    with pytest.raises(InputError, match=r"before/config\.json: damaged, it is not what was"):
        rollback(app)
    assert everything(app) == before


HASH = "0" * 64


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("{", "", r"Invalid JSON: .*"),
        ("svr_l2cs_x.model", "../victim", "names a file that no deploy touches, or one twice"),
        (
            "svr_l2cs_x.model",
            "svr_l2cs_y.model",
            "names a file that no .*",
        ),
        ('"undoes": null', '"undoes": "../../victim"', "undoes: String should match pattern .*"),
        ('"undoes": null', '"undoes": "0001-2-rollback"', "undoes: String should match pattern .*"),
        ('"keep": true', '"keep": "yes"', "keep: Input should be a valid boolean"),
        ('"keep": true', '"keep": true, "more": 1', "more: Unexpected keyword argument"),
        ('"keep": true, ', "", "keep: Field required"),
        ('"made": "2', '"made": "\\u001b[31m', "made: String should match pattern .*"),
        ('"about": {', '"about": {"x": [1], ', r"about\.x\.str: Input should be a valid string"),
        ('"files": [', '"files": [[], ', r"files\.0: Input should be .*"),
        ('"files": [', f'"files": [{{"path": "a", "sha": "{HASH}"}}, ', r"files\.0\..*"),
        ('"before_sha256": null', '"before_sha256": "00"', r"files\.\d\.before_sha256: String .*"),
    ],
)
def test_a_manifest_is_read_as_it_was_written_or_not_at_all(
    app: Path, model: Path, old: str, new: str, reason: str
) -> None:
    backup = deploy(app, model, GEOMETRY).backup
    assert backup is not None
    manifest = backup / "manifest.json"
    text = json.dumps(json.loads(manifest.read_text()))
    assert old in text
    manifest.write_text(text.replace(old, new, 1))
    before = everything(app)
    for attempt in (rollback, status):
        with pytest.raises(
            InputError, match=rf"manifest\.json: damaged \({reason}\); .* put it back by hand"
        ) as caught:
            attempt(app)
        assert str(caught.value).isprintable()
    assert everything(app) == before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is a link; put the real thing in its place"),
        ("{record}", "is a link; no deploy has made it"),
        ("{record}/before", "is a link; no deploy has made it"),
        ("{record}/before/models", "is a link; no deploy has made it"),
        ("{record}/before/models/custom_gaze.onnx", "is no regular file; no deploy has made it"),
        ("{record}/manifest.json", r"damaged \(is a link\)"),
    ],
)
def test_links_in_the_backups_are_not_followed(
    tmp_path: Path, app: Path, model: Path, name: str, said: str
) -> None:
    deploy(app, color_model(tmp_path / "first.onnx", scale=0.5), GEOMETRY)
    backup = deploy(app, model, GEOMETRY).backup
    assert backup is not None
    part = app / BACKUPS / name.format(record=backup.name)
    part.rename(tmp_path / "outside")
    part.symlink_to(tmp_path / "outside")
    before, outside = everything(app), everything(tmp_path)
    for attempt in (rollback, status):
        with pytest.raises(InputError, match=f"{part.name}: {said}"):
            attempt(app)
    if "manifest" not in name:  # which a deploy does not need
        with pytest.raises(InputError, match=f"{part.name}: {said}"):
            deploy(app, model, GEOMETRY, app_pixels_per_degree=20.0)
    assert (everything(app), everything(tmp_path)) == (before, outside)


def test_pipes_are_not_opened(app: Path, model: Path) -> None:
    backup = deploy(app, model, GEOMETRY).backup
    assert backup is not None
    for path in (backup / "before" / "config.json", app / "config.json"):
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(InputError, match=r"config\.json: is no regular file; (no deploy|move)"):
            status(app)
        path.unlink()
        path.write_bytes(b"{}")


def test_a_forged_link_is_not_followed(tmp_path: Path, app: Path, model: Path) -> None:
    victim = tmp_path / "0001-2000-deploy"
    (victim / "after").mkdir(parents=True)
    (victim / "plan.json").write_text("{}")
    deploy(app, model, GEOMETRY)
    current = app / BACKUPS / "current"
    for target in ("../../0001-2000-deploy/after", "0001-2000-deploy/before/../../..", "\x1b[31m"):
        current.symlink_to(target)
        with pytest.raises(InputError, match="current: points out of"):
            rollback(app)
        current.unlink()
    assert victim.is_dir()
    (app / "config.json").unlink()
    (app / "config.json").symlink_to(f"../{BACKUPS}/current/config.json")  # not the switch's own
    with pytest.raises(InputError, match=r"config\.json: is a link; put the real thing"):
        rollback(app)


def test_status_says_foreign_words_on_their_line(tmp_path: Path, app: Path) -> None:
    """A network of somebody else, named in config.json, with escape codes in its metadata."""
    said = {"sessions": '["a\\u001b[2J\\nb"]', "code_version": "1\x1b[31m\n2"}
    color_model(app / "models" / "l2cs_net.onnx", metadata=as_ours(said))
    lines = status(app).lines()
    assert "sessions: a\\x1b[2J b" in lines
    assert "made by: 1\\x1b[31m 2" in lines
    config = json.loads((app / "config.json").read_text())
    for path in ("models/\x1b[31m\n.onnx", "a\0b", "n" * 300, "models"):
        config["models"]["l2cs_path"] = path
        (app / "config.json").write_text(json.dumps(config))
        lines = status(app).lines()
        assert all(line.isprintable() for line in lines)
        assert lines[1].startswith("the app cannot load it: ")
    config["calibration"]["models"]["l2cs"]["yaw_gain"] = {"\x9b31m": "\n" * 500}
    config["models"]["l2cs_path"] = "a"
    (app / "config.json").write_text(json.dumps(config))
    plan = plan_deploy(app, color_model(tmp_path / "mine.onnx"), GEOMETRY)
    assert all(line.isprintable() and len(line) < 400 for line in plan.lines())


def as_ours(facts: dict[str, str]) -> dict[str, str]:
    return {f"{PREFIX}{key}": value for key, value in facts.items()}


def test_foreign_folders_among_the_backups_stay(app: Path, model: Path) -> None:
    (app / BACKUPS / "mine").mkdir(parents=True)
    (app / BACKUPS / "mine" / "notes.txt").write_text("mine")
    (app / BACKUPS / ".DS_Store").write_text("finder's")
    before = everything(app)
    assert not status(app).interrupted
    deploy(app, model, GEOMETRY)
    rollback(app)
    assert everything(app) == before


DEPLOY_IN_CHILD = """
import sys
from pathlib import Path
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.rustyeyes.deploy import deploy

def show(plan):
    print("planned", flush=True)
    sys.stdin.readline()

try:
    deploy(Path(sys.argv[1]), Path(sys.argv[2]), ScreenGeometry(), show=show)
except CustomGazeError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_two_deploys_at_once(app: Path, model: Path) -> None:
    """Real processes: the first one holds still after its plan, the second one is refused."""
    command = [sys.executable, "-c", DEPLOY_IN_CHILD, str(app), str(model)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stdout.readline() == "planned\n"
        second = subprocess.run(command, input="\n", capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert second.stdout == (
            f"{app}: another deploy or rollback is at work there; wait until it is done\n"
        )
        with pytest.raises(CustomGazeError, match="another deploy or rollback is at work"):
            rollback(app)
        first.stdin.write("\n")
        first.stdin.flush()
        assert first.wait(timeout=60) == 0
    assert (app / "models" / "custom_gaze.onnx").exists()
    assert len(status(app).deploys) == 1
    third = subprocess.run(command, input="\n", capture_output=True, text=True, check=False)
    assert (third.returncode, third.stdout) == (0, "planned\n")  # the lock is free again


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("only root may mount a small file system, and not everywhere")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(disk: Path, model: Path) -> None:
    app = make_app(disk / "app")
    filler = disk / "filler"
    free = shutil.disk_usage(disk).free
    said = []
    for left in range(0, 40_960, 4096):  # the disk is full after ever more has been written
        filler.write_bytes(b"\0" * (free - left))
        before = everything(app)
        try:
            deploy(app, model, GEOMETRY)
            break
        except CustomGazeError as error:
            said.append(str(error))
            assert everything(app) == before
    assert len(said) > 2
    assert all("(No space left on device); the app's folder is as it was" in line for line in said)
    assert (app / "models" / "custom_gaze.onnx").read_bytes() == model.read_bytes()


def test_read_only_disk(disk: Path, model: Path) -> None:
    app = make_app(disk / "app")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    before = everything(app)
    with pytest.raises(CustomGazeError, match=r"\(Read-only file system\); the app's folder is as"):
        deploy(app, model, GEOMETRY)
    assert everything(app) == before


def test_models_on_another_disk(disk: Path, app: Path, model: Path) -> None:
    subprocess.run(["mount", "--bind", str(disk), str(app / "models")], check=True)
    try:
        refused(app, model, "models: lies on another file system")
    finally:
        subprocess.run(["umount", str(app / "models")], check=True)


def test_file_size_limit(app: Path, model: Path) -> None:
    """A refused write where no small disk can be mounted."""
    before = everything(app)
    code = (
        "import resource; limit = 200; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n" + DEPLOY_IN_CHILD
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(app), str(model)],
        input="\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "(File too large); the app's folder is as it was" in done.stdout
    assert everything(app) == before


def test_the_app_writing_meanwhile_is_noticed(app: Path, model: Path) -> None:
    def show(_: DeployPlan) -> None:
        (app / "config.json").write_text(json.dumps(CONFIG | {"new": 1}))

    with pytest.raises(CustomGazeError, match=r"config\.json: was changed by another program just"):
        deploy(app, model, GEOMETRY, show=show)
    assert json.loads((app / "config.json").read_text())["new"] == 1
    assert "svr_l2cs_x.model" in tree(app)
    assert not (app / BACKUPS).exists()


def test_a_write_in_the_last_moment_is_not_lost(
    app: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app rewrites its settings after they were copied, when half of the links stand."""
    real, text = os.replace, json.dumps(CONFIG | {"new": 1})

    def replace(source: Path, target: Path) -> None:
        real(source, target)
        if Path(target).name == "svr_l2cs_y.model":
            (app / "config.json").write_text(text)

    monkeypatch.setattr(os, "replace", replace)
    before = tree(app)
    with pytest.raises(CustomGazeError, match=r"config\.json: was changed by another program just"):
        deploy(app, model, GEOMETRY)
    assert tree(app) == before | {"config.json": text.encode()}
    assert not (app / BACKUPS).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read(app: Path, model: Path) -> None:
    app.chmod(0)
    try:
        with pytest.raises(InputError, match=r"config\.json: cannot be read \(Permission denied\)"):
            deploy(app, model, GEOMETRY)
    finally:
        app.chmod(0o755)


def test_the_screen_is_the_specifications() -> None:
    assert (2 * GEOMETRY.center_x_px, 2 * GEOMETRY.center_y_px) == SCREEN_PX
    assert GEOMETRY.deg_per_pixel == DEG_PER_PIXEL


def faces_of(config: Path, detector: object, mesh: object) -> None:
    """Let the app's config.json name these files."""
    content = json.loads(config.read_text())
    content["models"] |= {"face_detection_path": detector, "face_mesh_path": mesh}
    config.write_text(json.dumps(content, indent=2))


def test_the_app_s_own_detector_and_mesh_are_compared_with_the_models(
    app: Path, tmp_path: Path
) -> None:
    """A warning in the plan, no refusal; the app's files stay as they are."""
    trained = Specification(GEOMETRY, Preprocessing(), "mesh", "1" * 64, "2" * 64)
    said = trained.as_dict()
    metadata = {
        PREFIX + key: value if key == "crop_from" else json.dumps(value)
        for key, value in said.items()
    }
    model = color_model(tmp_path / "mine.onnx", metadata=metadata)
    assert plan_deploy(app, model, GEOMETRY).other_faces == ""  # it names none
    faces_of(app / "config.json", 3, "models/mesh.onnx")
    assert plan_deploy(app, model, GEOMETRY).other_faces == ""
    faces_of(app / "config.json", "models/detector.onnx", "models/mesh.onnx")
    plan = plan_deploy(app, model, GEOMETRY)
    assert "by a face mesh, the app has none: expect" in plan.other_faces
    assert plan.lines()[-1] == f"warning: {plan.other_faces}"
    (app / "models/mesh.onnx").write_bytes(b"another")
    plan = deploy(app, model, GEOMETRY).plan
    assert "by the face mesh 222222222222, the app has ae448ac86c4e" in plan.other_faces
    assert (app / "models/mesh.onnx").read_bytes() == b"another"
