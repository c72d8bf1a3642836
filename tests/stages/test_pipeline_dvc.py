"""What reruns and what does not, as DVC sees it; the stages' commands only write their outs."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from conftest import REPOSITORY
from custom_gaze.common.provenance import PACKAGE

WRITE = (
    "import pathlib, sys\n"
    "for name in sys.argv[1:]:\n"
    "    path = pathlib.Path(name)\n"
    "    path = path if path.suffix else path / 'file'\n"
    "    path.parent.mkdir(parents=True, exist_ok=True)\n"
    "    path.write_text('always the same')\n"
)


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped dvc.yaml with the package's code, all of it up to date, in the working folder."""
    from dvc.repo import Repo

    shutil.copytree(PACKAGE, tmp_path / "src/custom_gaze", ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    (tmp_path / "data/sessions/demo-day1").mkdir(parents=True)
    (tmp_path / "data/sessions/demo-day1/img_1.json").write_text("{}")
    (tmp_path / "data/sessions/demo-day1.yaml").write_text("excluded: []")
    (tmp_path / "write.py").write_text(WRITE)
    content = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
    for stage in content["stages"].values():
        outs = [*stage.get("outs", []), *stage.get("metrics", [])]
        names = [next(iter(out)) if isinstance(out, dict) else out for out in outs]
        stage["cmd"] = f"{shlex.quote(sys.executable)} -I -S write.py {' '.join(names)}"
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    with Repo.init(no_scm=True) as repo:
        repo.reproduce()


def stale() -> set[str]:
    """The stages that `dvc repro` would look at, without what follows from their outs."""
    from dvc.repo import Repo

    with Repo() as repo:
        return {name.partition("@")[0] for name in repo.status()}


CODE = "src/custom_gaze"
# Files that change together, and the stages that are stale then.
CHANGES: dict[str, set[str]] = {
    f"{CODE}/models/onnx_runtime.py": {"export", "quantise", "evaluate"},  # it has predict_onnx
    f"{CODE}/calibration/trainer.py {CODE}/weights/embedded_base.pt": {"train", "fetch"},
    f"{CODE}/evaluation/tracking/server.py {CODE}/remote/runs.py {CODE}/cli/__init__.py "
    f"{CODE}/common/errors.py": set(),
    "data/index.json": {"index", "export", "evaluate"},  # frames left out, and who prepared
    "data/specification.json": {"index", "train", "evaluate"},
}


def test_what_changed_reruns_what_it_decides_and_nothing_else(pipeline: None) -> None:
    from dvc.repo import Repo

    for names, wanted in CHANGES.items():
        before = {Path(name): Path(name).read_bytes() for name in names.split()}
        for path, content in before.items():
            path.unlink()  # some are links into DVC's cache
            path.write_bytes(content + b"\n# changed\n")
        assert stale() == wanted, names
        for path, content in before.items():
            path.write_bytes(content)

    # A limit of `prepare` that no frame reaches, and a screen, change no crop here.
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["prepare"]["max_unusable_share"] = 0.5
    params["geometry"]["center_x_px"] = 900.0
    Path("params.yaml").write_text(yaml.safe_dump(params))
    assert stale() == {"prepare"}
    with Repo() as repo:
        ran = {stage.addressing.partition("@")[0] for stage in repo.reproduce()}
    assert ran == {"prepare"}
    assert stale() == set()
