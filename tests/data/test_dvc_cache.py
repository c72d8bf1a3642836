"""One reader of DVC's cache, wherever DVC's settings put it."""

import json
from pathlib import Path

import pytest

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.data.dvc_cache import Cache, files_in


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, and a home of its own for DVC's global settings."""
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("DVC_SYSTEM_CONFIG_DIR", str(tmp_path / "system"))
    for folder in ("home", "system", "project/.dvc"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path / "project"


def test_the_cache_lies_where_dvc_puts_it(root: Path) -> None:
    assert (Cache(root).folder, Cache(root).is_shared) == (root / ".dvc" / "cache", False)
    elsewhere = root.parent / "one for all"
    (root.parent / "home" / "config").write_text(f"[cache]\n    dir = {elsewhere}\n")
    assert Cache(root).folder == elsewhere  # of all projects of this user
    (root / ".dvc" / "config.local").write_text("[cache]\n    shared = group\n    dir = ../near\n")
    assert (Cache(root).folder, Cache(root).is_shared) == (root / "near", True)
    assert Cache(root).path("ab" + "0" * 30) == root / "near/files/md5/ab" / ("0" * 30)
    with pytest.raises(CustomGazeError, match="is no object of DVC's cache"):
        Cache(root).path("../../etc/passwd")


@pytest.mark.parametrize(
    "content", ["", "[1]", "{}x", '[{"md5": "x", "relpath": "a"}]', "[" * 100_000]
)
def test_what_is_no_list_of_files(content: str) -> None:
    with pytest.raises(ValueError, match="list of files|no file inside|JSON|Expecting|Extra"):
        files_in(content.encode())
    outside = json.dumps([{"md5": "0" * 32, "relpath": "../out"}]).encode()
    with pytest.raises(ValueError, match="no file inside a folder"):
        files_in(outside)
