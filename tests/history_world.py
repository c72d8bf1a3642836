"""A project of git, DVC and MLflow with three calibrations made over two commits, in seconds.

The first is the suite's evaluated project, whose MLflow run is called brave-owl; the others predict
a few degrees beside it. DVC's stages are copies of what lies ready, so that commits, dvc.lock, the
cache and the experiments are real ones.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from conftest import Project, enter, write_synthetic
from custom_gaze.config.paths import Paths
from custom_gaze.stages import index

PIPELINE = {
    "index": ["data/index.csv", "data/index.json", "data/specification.json"],
    "export": ["models/custom_gaze.onnx"],
    "evaluate": ["reports/predictions.csv"],
}
GIT_KEEPS = ("reports/metrics.json", "reports/figures.json", "reports/sessions.json")
PUT = """
import pathlib, re, shutil, sys
seed = re.search(r"split:.*?seed: (\\d+)", pathlib.Path("params.yaml").read_text(), re.S)[1]
made = pathlib.Path(sys.argv[1]) / seed
for name in sys.argv[2:]:
    pathlib.Path(name).parent.mkdir(exist_ok=True)
    shutil.copy(made / name, name)
"""
# Each experiment's sessions, and how many degrees of yaw it predicts beside the first. The seed of
# the split, by which the stages tell them apart, is the place in this list, from 1.
DAYS = {"brave-owl": (["one"], 0.0), "day2": (["one"], 2.0), "day3": (["one", "two"], 4.0)}


def call(root: Path, *words: str) -> str:
    """Run a program as the user of the project in `root`."""
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def make_week(folder: Path, evaluated: Path) -> None:
    """In `folder` / "project": brave-owl and day2 on the first commit, day3 on the second, which
    took day2 over; brave-owl is then removed from DVC, and MLflow alone remembers it. In `folder` /
    "made" lies what the stages wrote, by the seed."""
    from dvc.repo import Repo

    root, made = folder / "project", folder / "made"
    shutil.copytree(evaluated, root, ignore=shutil.ignore_patterns(".dvc"))
    project = Project(Paths(root))
    with pytest.MonkeyPatch.context() as patch:
        enter(project, patch)
        patch.setenv("DVC_SITE_CACHE_DIR", str(root / "site"))
        write_synthetic(project, "two", 3, 3)
        for session in ("one", "two", "other"):
            (root / "data/sessions" / session).mkdir(parents=True)
        for number, (sessions, beside_deg) in enumerate(DAYS.values(), 1):
            _lay_ready(project, made / str(number), sessions, beside_deg)
        for name in (*(out for outs in PIPELINE.values() for out in outs), *GIT_KEEPS):
            (root / name).unlink()
        _commit_pipeline(root, made)
        experiment("brave-owl")
        experiment("day2", "split.seed=2")
        call(root, "git", "add", "--all")
        call(root, "git", "commit", "--quiet", "-m", "The second day")
        experiment("day3", "split.seed=3", "sessions=[one,two]")
        with Repo() as repo:
            repo.experiments.remove(["brave-owl"])


def experiment(name: str, *changes: str) -> None:
    """`dvc exp run` in the working folder."""
    from dvc.repo import Repo

    with Repo() as repo:
        repo.experiments.run(name=name, params=list(changes))


def _lay_ready(project: Project, made: Path, sessions: list[str], beside_deg: float) -> None:
    """What the stages would write for a model trained on `sessions`."""
    project.change(sessions=sessions)
    index.run(project.params, project.paths)
    for name in (*(out for outs in PIPELINE.values() for out in outs), *GIT_KEEPS):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project.paths.root / name, made / name)
    project.change(sessions=["one"])
    if beside_deg:
        path = made / "models/custom_gaze.onnx"
        model = onnx.load(path)
        last = model.graph.node[-1].input[2]  # of a Gemm: the head's bias
        bias = next(each for each in model.graph.initializer if each.name == last)
        shifted = numpy_helper.to_array(bias) + np.array([beside_deg, 0], np.float32)
        bias.CopyFrom(numpy_helper.from_array(shifted, bias.name))
        props = {each.key: each.value for each in model.metadata_props}
        props["custom_gaze.sessions"] = json.dumps(sessions)
        onnx.helper.set_model_props(model, props)
        onnx.save(model, path)
        figures = json.loads((made / "reports/figures.json").read_text())
        figures["headline"]["error_deg"] += beside_deg
        (made / "reports/figures.json").write_text(json.dumps(figures))


def _commit_pipeline(root: Path, made: Path) -> None:
    """Make `root` a repository whose pipeline copies from `made`."""
    from dvc.repo import Repo

    stages = {}
    for name, outs in PIPELINE.items():
        figures = GIT_KEEPS if name == "evaluate" else ()
        stages[name] = {
            "cmd": " ".join([sys.executable, "-I", "-S", "put.py", str(made), *outs, *figures]),
            "params": ["sessions", "split.seed"],
            "outs": [*outs, *({figure: {"cache": False}} for figure in figures[1:])],
            "metrics": [{figure: {"cache": False}} for figure in figures[:1]],
        }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    (root / "put.py").write_text(PUT)
    ignored = "/data\n/models\n/reports/*\n!/reports/*.json\n/mlflow.db*\n/mlartifacts\n/site\n"
    (root / ".gitignore").write_text(f"{ignored}/deployments.jsonl\n")
    call(root, "git", "init", "--quiet", "-b", "main")
    call(root, "git", "config", "user.email", "tests@example.invalid")
    call(root, "git", "config", "user.name", "tests")
    Repo.init(os.fspath(root)).close()
    call(root, "git", "add", "--all")
    call(root, "git", "commit", "--quiet", "-m", "A project of its own")
