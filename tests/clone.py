"""A clone of this working tree, and the commands that a user types in it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow

from conftest import copy_working_tree

MINUTES = 60  # a machine may be busy with other things


@dataclass(frozen=True)
class Clone:
    """A clone of the project and the commands a user types in it."""

    root: Path
    programs: Path = Path(sys.executable).parent

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        searched = [str(self.programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        environment = {
            **os.environ,
            "PATH": os.pathsep.join(searched),
            "DVC_NO_ANALYTICS": "true",
        }
        done = subprocess.run(
            words,
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=20 * MINUTES,
        )
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words).stdout)

    def runs(self) -> list[Any]:
        """MLflow's runs in the clone's own store."""
        client = mlflow.MlflowClient(f"sqlite:///{self.root / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("custom-gaze")
        return list(client.search_runs([experiment.experiment_id]))


def empty_clone(root: Path) -> Clone:
    """The working tree as a fresh repository, without sessions; nothing is committed yet."""
    copy_working_tree(root)
    clone = Clone(root)
    clone.run("git", "init", "--quiet", "-b", "main")
    clone.run("git", "config", "user.email", "tests@example.invalid")
    clone.run("git", "config", "user.name", "tests")
    return clone
