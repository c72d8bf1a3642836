"""What the agent does for setup, with a real venv and pip; no other machine is needed."""

import importlib.util
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from custom_gaze.common.files import sha256_of
from custom_gaze.remote import agent_setup
from custom_gaze.remote.agent import Link, Refused

# What pip installs: a package with the names that setup asks for, made without any index.
PYPROJECT = """
[project]
name = "tiny"
version = "1"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import zipfile
from pathlib import Path

FILES = {
    "tiny.py": "def main(): pass",
    "torch.py": "class cuda:\\n    is_available = bool\\nclass version:\\n    cuda = None\\n"
    "__version__ = '9.9'",
    "tiny-1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1",
    "tiny-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any",
    "tiny-1.dist-info/entry_points.txt":
    "[console_scripts]\\ndvc = tiny:main\\ncustom-gaze = tiny:main",
}
FILES["tiny-1.dist-info/RECORD"] = "\\n".join(f"{name},," for name in FILES)

def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(Path(folder) / "tiny-1-py3-none-any.whl", "w") as wheel:
        for name, content in FILES.items():
            wheel.writestr(name, content + "\\n")
    return "tiny-1-py3-none-any.whl"
"""


class Collector:
    """A link that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, reply: dict[str, Any]) -> None:
        self.sent.append(reply)

    def run(self, command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)


def asked(verb: Any, header: dict[str, Any]) -> list[dict[str, Any]]:
    """What a verb of the agent answers."""
    link = Collector()
    reply = verb(cast(Link, link), header)
    return [*link.sent, reply]


@pytest.mark.long
def test_setup_makes_the_environment_that_the_project_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made once; a run whose commit pins other versions waits for setup, which may fail."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    project = tmp_path / "project"
    project.mkdir()
    requirements = project / "requirements.txt"
    requirements.write_text("# nothing\n")
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "backend.py").write_text(BACKEND)
    header = {"dir": str(tmp_path), "sub": "", "python": "", "engine": "local"}
    header["requirements"] = sha256_of(requirements)
    with pytest.raises(Refused, match="no environment there yet; run `custom-gaze remote setup`"):
        asked(agent_setup.ready, header)

    with monkeypatch.context() as without:
        without.setattr(importlib.util, "find_spec", lambda _: None)
        with pytest.raises(Refused, match="python3 has no venv there"):
            asked(agent_setup.environment, header)

    *notes, last = asked(agent_setup.environment, header)
    assert ["-m venv" in note["note"] for note in notes] == [True, False, False]
    assert last["changed"][-1] == f"runs use {tmp_path}/env/bin/python"
    assert asked(agent_setup.torch, header)[0]["torch"] == ["9.9", None, None]
    assert asked(agent_setup.ready, header) == [{"ready": 1}]
    assert asked(agent_setup.environment, header) == [{"changed": []}]

    requirements.write_text("no-such-package==1\n")
    header["requirements"] = sha256_of(requirements)
    with pytest.raises(Refused, match="requirements.txt has changed; `custom-gaze remote setup`"):
        asked(agent_setup.ready, header)
    with pytest.raises(Refused, match="pip install failed there: ERROR: No matching distribution"):
        asked(agent_setup.environment, header)
