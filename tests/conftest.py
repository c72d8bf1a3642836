"""Small projects on disk: the shipped params.yaml made small, in a folder of their own."""

import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock

import custom_gaze  # noqa: F401  sets what torch and onnxruntime read when they are loaded
from custom_gaze.config.params import Params, load_params
from custom_gaze.config.paths import Paths
from custom_gaze.config.specification import Preprocessing
from custom_gaze.data.prepared import COLUMNS, MANIFEST_FORMAT
from custom_gaze.models import onnx_trial
from custom_gaze.models.network import GazeNetwork
from custom_gaze.stages import evaluate, export, index, train
from custom_gaze.weights.base import BaseNetwork, save_base

REPOSITORY = Path(__file__).parent.parent
SEED = int(os.environ.get("CUSTOM_GAZE_TEST_SEED", "1"))  # of trainings and of random worlds
THREADS = int(os.environ.get("OMP_NUM_THREADS", "0"))
NUMERIC = {  # what `make test-matrix` runs: these files train, infer, quantise, compare networks
    *("base", "bench_train_speed", "candidates", "corrections", "evaluate", "export"),
    *("feature_cache", "l2cs_export", "linear_probe", "load", "network", "pretrain", "quantise"),
    *("selection", "starting_head", "train", "train_methods", "trainer"),
}
SMALL = {
    "sessions": ["one"],
    "prepare": {"size_px": 64},
    "augment": {"samples": 2},
    "train": {"schedule": "constant", "epochs": 3, "visits": 8, "device": "cpu", "seed": SEED},
}


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    for item in items:
        if item.path.stem.removeprefix("test_") in NUMERIC:
            item.add_marker("numeric")
    yield  # what is not asked for goes
    # The stories begin first, each in a process of its own, so that none goes on alone at the end:
    # every process gets as long a part of the row.
    stories = [item for item in items if item.get_closest_marker("story")]
    rest = [item for item in items if item not in stories]
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    for number, story in enumerate(stories):
        rest.insert(len(items) // processes * (number % processes), story)
    items[:] = rest


Make = Callable[[Path], object]
Once = Callable[[str, Make], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`once(name, make)`: the folder that `make` fills, once for all of the suite's processes.

    Tests read it, or copy it before they change it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name: str, make: Make) -> Path:
        folder, done = shared / "once" / name, shared / "once" / f"{name}.done"
        done.parent.mkdir(exist_ok=True)
        with FileLock(shared / "once" / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what failed in another process
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session", autouse=True)
def _sessions_of_few_threads() -> Iterator[None]:
    """onnxruntime does not read OMP_NUM_THREADS: a thread a core, which wait in busy loops."""
    import onnxruntime

    begin = onnxruntime.InferenceSession.__init__

    def with_few(self: Any, model: Any, sess_options: Any = None, *rest: Any, **named: Any) -> None:
        options = sess_options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.intra_op_num_threads or THREADS
        begin(self, model, options, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime.InferenceSession, "__init__", with_few)
        yield


@pytest.fixture
def torch_threads() -> Iterator[Callable[[int], None]]:
    """Gives torch so many threads until the test ends; the tests have one each."""
    own = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(own)


@pytest.fixture(scope="session", autouse=True)
def _mlflow_s_tables_made_once(once: Once) -> Iterator[None]:
    """An empty MLflow store goes through all its migrations, for seconds; here it is a copy."""
    from mlflow.store.db import utils

    migrate = utils._initialize_tables

    def make(folder: Path) -> None:
        migrate(utils.create_sqlalchemy_engine(f"sqlite:///{folder / 'empty.db'}"))

    def copied(engine: Any) -> None:
        empty = once("mlflow", make) / "empty.db"
        with closing(sqlite3.connect(empty)) as source, closing(engine.raw_connection()) as target:
            source.backup(target.driver_connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", copied)
        yield


def frozen_state(network: GazeNetwork) -> dict[str, torch.Tensor]:
    """Weights and BatchNorm statistics of a network's frozen blocks, by name."""
    blocks = tuple(f"{name}." for name in network._frozen_names)
    return {n: t for n, t in network.trunk.state_dict().items() if n.startswith(blocks)}


@dataclass(frozen=True)
class Project:
    """A project's folder with its parameters, rewritten by `change`."""

    paths: Paths

    @property
    def params(self) -> Params:
        return load_params(self.paths.params)

    def change(self, **sections: Any) -> None:
        content = yaml.safe_load(self.paths.params.read_text())
        for name, values in sections.items():
            if isinstance(values, dict):
                content[name].update(values)
            else:
                content[name] = values
        self.paths.params.write_text(yaml.safe_dump(content))


def copy_working_tree(root: Path) -> None:
    """What git knows and what it would add, without dvc.lock and the sessions, to `root`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = REPOSITORY / name
        a_session_s = name.startswith("data/sessions/") and not name.endswith(".gitignore")
        if source.is_file() and name != "dvc.lock" and not a_session_s:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, root / name)


def make_project(root: Path) -> Project:
    """The shipped parameters, made small, in the folder `root`."""
    root.mkdir()
    shutil.copy(REPOSITORY / "params.yaml", root)
    small = Project(Paths(root))
    small.change(**SMALL)
    return small


@pytest.fixture(autouse=True)
def _networks_are_tried_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the process of its own, which takes most of a second: test_onnx_trial.py has it."""
    monkeypatch.setattr(
        onnx_trial, "_apart", lambda content, shape, _: onnx_trial.tried(content, shape)
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A small project in an empty folder that is its root and the working folder."""
    small = make_project(tmp_path / "project")
    enter(small, monkeypatch)
    return small


def enter(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `project` the one that the code under test finds."""
    monkeypatch.setenv("DVC_ROOT", str(project.paths.root))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(project.paths.root)


def synthetic_crop(yaw_deg: float, pitch_deg: float, size_px: int, noise: int) -> np.ndarray:
    """A grey face with two dark discs that move with the gaze: enough for a network to learn."""
    image = np.full((size_px, size_px, 3), 150, np.uint8)
    for eye in (0.3, 0.7):
        x = (eye + yaw_deg / 200) * size_px
        y = (0.4 + pitch_deg / 120) * size_px
        cv2.circle(image, (round(x * 16), round(y * 16)), size_px, (30, 40, 60), -1, shift=4)
    speckle = np.random.default_rng(noise).integers(-6, 7, image.shape)
    return np.clip(image + speckle, 0, 255).astype(np.uint8)


def write_synthetic(
    project: Project, session: str, columns: int = 4, rows: int = 4, per_target: int = 2
) -> None:
    """Write data/dataset_clean/<id> as the prepare stage would, with synthetic crops."""
    geometry, size_px = project.params.geometry, project.params.prepare.size_px
    folder = project.paths.dataset / session
    folder.mkdir(parents=True)
    lines = [",".join(COLUMNS)]
    for number in range(columns * rows * per_target):
        place = number // per_target
        x = 100.0 + 1500 * (place % columns) / (columns - 1)
        y = 80.0 + 950 * (place // columns) / (rows - 1) + number % per_target
        yaw, pitch = geometry.to_degrees([x, y]).tolist()
        name = f"img_{1766068421000 + number}.jpg"
        crop = synthetic_crop(
            yaw, pitch, size_px, noise=zlib.crc32(name.encode() + session.encode())
        )
        cv2.imwrite(str(folder / name), crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
        lines.append(f"{name},{yaw!r},{pitch!r},{session},{x!r},{y!r},0.9,10.0,10.0,50.0,50.0")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    frames = columns * rows * per_target
    manifest = {
        "format": MANIFEST_FORMAT,
        "session": session,
        "code": "0.1.0+prepared",
        "detector": {"kind": "CenterFace", "sha256": "0" * 64, "min_score": 0.7},
        "mesh": None,
        "geometry": dataclasses.asdict(geometry),
        "preprocessing": Preprocessing(size_px=size_px).as_dict(),
        "crop_from": "detector box",
        "jpeg_quality": 100,
        "counts": {"frames": frames + 1, "used": frames, "left_out": 1},
        "left_out": [{"filename": "img_1.jpg", "reason": "no <face> in it"}],
        "suspects": [],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def prepare_synthetic(project: Project) -> Callable[..., None]:
    """`write_synthetic` for this test's project."""
    return lambda *args, **named: write_synthetic(project, *args, **named)


def small_base() -> BaseNetwork:
    """The smallest known trunk, with random weights."""
    torch.manual_seed(5)
    state = GazeNetwork("slim18", "layer3").trunk.state_dict()
    trunk = {name: value for name, value in state.items() if "num_batches" not in name}
    return BaseNetwork("slim18", trunk, None, "random weights, seed 5", "", "random")


def make_ready(project: Project) -> None:
    """Everything that training needs: synthetic crops, an index, a small random base."""
    write_synthetic(project, "one", 4, 4)
    write_synthetic(project, "other", 3, 3)
    project.change(evaluate={"sessions": ["other"]})
    index.run(project.params, project.paths)
    save_base(small_base(), project.paths.base)


def filled(project: Project, made: Path) -> Project:
    """The project with what is in the one in the folder `made`, its MLflow store left behind."""
    left_behind = shutil.ignore_patterns("mlflow.db", "mlartifacts")
    shutil.copytree(made, project.paths.root, ignore=left_behind, dirs_exist_ok=True)
    return project


def made_once(name: str, once: Once, make: Callable[[Project], object]) -> Path:
    """A project that `make` makes ready, once for all of the suite's processes; to be copied."""

    def in_folder(folder: Path) -> None:
        project = make_project(folder / "project")
        with pytest.MonkeyPatch.context() as monkeypatch:
            enter(project, monkeypatch)
            make(project)

    return once(name, in_folder) / "project"


@pytest.fixture
def ready(project: Project, once: Once) -> Project:
    """A project that only has to train."""
    return filled(project, made_once("ready", once, make_ready))


def make_headed(project: Project) -> None:
    """The same with a base network that has heads, and nine targets."""
    from headed_base import headed_base

    write_synthetic(project, "one", 3, 3, 2)
    write_synthetic(project, "other", 2, 2)
    project.change(evaluate={"sessions": ["other"]}, augment={"samples": 1})
    project.change(train={"schedule": "cosine", "steps": 20})
    index.run(project.params, project.paths)
    save_base(headed_base(), project.paths.base)


@pytest.fixture
def headed(project: Project, once: Once) -> Project:
    """A project of nine targets that only has to train, its base network one with heads."""
    return filled(project, made_once("headed", once, make_headed))


@pytest.fixture(scope="session")
def chosen_once(once: Once) -> Path:
    def make(project: Project) -> None:
        filled(project, made_once("headed", once, make_headed))
        train.run(project.params, project.paths)
        export.run(project.params, project.paths)
        evaluate.run(project.params, project.paths)

    return made_once("chosen", once, make)


@pytest.fixture
def chosen(project: Project, chosen_once: Path) -> Project:
    """A project with a headed base in which every stage has run, `train.method` auto."""
    return filled(project, chosen_once)


@pytest.fixture(scope="session")
def trained_once(once: Once) -> Path:
    def make(project: Project) -> None:
        filled(project, made_once("ready", once, make_ready))
        train.run(project.params, project.paths)

    return made_once("trained", once, make)


@pytest.fixture
def trained(project: Project, trained_once: Path) -> Project:
    """A project that was trained and only has to be exported."""
    return filled(project, trained_once)


@pytest.fixture(scope="session")
def evaluated_once(once: Once, trained_once: Path) -> Path:
    def make(project: Project) -> None:
        filled(project, trained_once)
        export.run(project.params, project.paths)
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setenv("DVC_EXP_NAME", "brave-owl")
            evaluate.run(project.params, project.paths)

    return made_once("evaluated", once, make)


@pytest.fixture
def evaluated(project: Project, evaluated_once: Path) -> Project:
    """A project in which every stage has run; MLflow's experiment was called brave-owl."""
    return filled(project, evaluated_once)


@pytest.fixture(autouse=True)
def _outside_of_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run under DVC; the code under test must not notice."""
    for name in [name for name in os.environ if name.startswith(("DVC_EXP_", "DVC_STAGE"))]:
        monkeypatch.delenv(name)
