"""What the agent does for setup, with a real venv and pip; no other machine is needed."""

import importlib.util
from pathlib import Path

import pytest

from custom_gaze.common.files import sha256_of
from custom_gaze.remote import agent, agent_runs, agent_setup
from custom_gaze.remote.agent import Place, Refused, Replies

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


RUN: agent.Reply = {"name": "x", "commit": "", "jobs": 1, "experiments": [{}]}
RUN["engine"] = {"engine": "local"}


def asked(replies: Replies) -> list[str]:
    """What a verb of the agent says that it does."""
    return [reply["note"] for reply in replies if "note" in reply]


@pytest.mark.long
def test_setup_makes_the_environment_that_the_project_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made once; a run whose commit pins other versions waits for setup, which may fail."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    project, place = tmp_path / "project", Place(str(tmp_path))
    project.mkdir()
    requirements = project / "requirements.txt"
    requirements.write_text("# nothing\n")
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "backend.py").write_text(BACKEND)
    (project / ".dvc").mkdir()
    asked(agent_setup.make(place))

    def commit() -> str:
        agent.git(str(project), "add", "-A")
        who = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
        agent.git(str(project), *who, "commit", "-q", "--allow-empty", "-m", "next")
        return agent.git(str(project), "rev-parse", "HEAD")

    first, pinned = commit(), sha256_of(requirements)
    with pytest.raises(Refused, match="no environment there yet; run `custom-gaze remote setup`"):
        asked(agent_runs.ready(place, RUN, [], pinned))

    with monkeypatch.context() as without:
        without.setattr(importlib.util, "find_spec", lambda _: None)
        with pytest.raises(Refused, match="python3 has no venv there"):
            asked(agent_setup.prepare(place, first, ""))

    *_, last = agent_setup.prepare(place, first, "")
    assert last["torch"] == ["9.9", None, None]
    assert asked(agent_runs.ready(place, RUN, [], pinned)) == []
    assert asked(agent_setup.prepare(place, first, "")) == []
    (tmp_path / "machine.json").unlink()
    notes = asked(agent_setup.prepare(place, first, ""))
    assert ["-m pip" in note for note in notes] == [True, True, False, False]
    assert notes[-1] == f"runs use {tmp_path}/env/bin/python"

    requirements.write_text("no-such-package==1\n")
    second, pinned = commit(), sha256_of(requirements)
    with pytest.raises(Refused, match="requirements.txt has changed; `custom-gaze remote setup`"):
        asked(agent_runs.ready(place, RUN, [], pinned))
    with pytest.raises(Refused, match="pip install failed there: ERROR: No matching distribution"):
        asked(agent_setup.prepare(place, second, ""))
    requirements.write_text("")
    with pytest.raises(Refused, match="changes of its own there: requirements.txt; commit or"):
        asked(agent_setup.prepare(place, second, ""))


@pytest.mark.parametrize("content", [None, "", "{", "null", "5", '["a"]'])
def test_a_damaged_record_is_none(tmp_path: Path, content: str | None) -> None:
    """A machine that lost its power in the middle of a run still answers."""
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert agent_runs.read(str(path)) == {}
