"""What import prints next, pasted into a real shell, with git and DVC as they are."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from conftest import REPOSITORY, Project
from custom_gaze.config.paths import Paths

# The shipped matrix over the sessions, whose stage only writes; enough for DVC to run it.
STAGE = {
    "prepare": {
        "matrix": {"session": "${sessions}"},
        "cmd": "mkdir -p data/dataset_clean && date > data/dataset_clean/${item.session}",
        "deps": ["data/sessions/${item.session}"],
        "outs": ["data/dataset_clean/${item.session}"],
    },
    "evaluate": {"cmd": "date > out", "params": ["evaluate.sessions"], "outs": ["out"]},
}


@pytest.mark.long
def test_it_works_where_comments_stand_behind_lists(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    text = (REPOSITORY / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("sessions: [demo-day1]", "sessions: [old] # the one of the demo")
    start, behind = text.index("evaluate:"), text.index("tracking:")
    section = "evaluate:\n  seed: 1\n  sessions: [other] # only tested on\n"
    (root / "params.yaml").write_text(f"{text[:start]}{section}{text[behind:]}", encoding="utf-8")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGE}), encoding="utf-8")
    for name in (".gitignore", "data/.gitignore", "data/sessions/.gitignore"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    def shell(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=root, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    shell("git init -q -b main && dvc init -q && dvc config core.analytics false")
    shell("git config user.email tests@example.invalid && git config user.name tests")
    shell("git add -A && git commit -q -m start")
    for day, name in ((1, "mon"), (2, "tue")):
        source = tmp_path / f"captured{day}"
        source.mkdir()
        for number in range(4):
            name_of = source / f"img_{number}"
            pixels = np.full((24, 32, 3), 40 * day + number, np.uint8)
            Image.fromarray(pixels).save(name_of.with_suffix(".jpg"))
            record = {"screen_x": 100.0 + 400 * number, "screen_y": 300.0}
            name_of.with_suffix(".json").write_text(json.dumps(record))
        said = shell(f"custom-gaze import {source} --session {name}")
        (line,) = [line for line in said.splitlines() if line.startswith("next: ")]
        shell(line.removeprefix("next: "))  # as a user pastes it
        params = Project(Paths(root)).params
        assert (params.sessions, params.evaluate.sessions) == ((name,), ())
        assert "# the one of the demo" in (root / "params.yaml").read_text(encoding="utf-8")
        text = (root / "params.yaml").read_text(encoding="utf-8")
        assert text.count("  sessions: []\n") == 1
        text = text.replace("  sessions: []\n", "  sessions: [other] # again\n")
        (root / "params.yaml").write_text(text, encoding="utf-8")
