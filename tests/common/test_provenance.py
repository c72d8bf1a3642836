"""Which code made a file: the imports of the module that made it, and nothing else."""

import shutil
from pathlib import Path

from custom_gaze.common.provenance import PACKAGE, code_of, code_version, imports_of

STAGES = ("stages.prepare", "stages.train", "demo.pretrain.run")
# A file that somebody edits, and the stages whose version changes with it.
EDITS = {
    "remote/runs.py": (),
    "cli/__init__.py": (),
    "stages/export.py": (),  # what exports says nothing of itself in the file
    "common/errors.py": (),
    "calibration/trainer.py": ("stages.train",),
    "data/sessions.py": ("stages.prepare",),
    "demo/world/eyes.py": ("demo.pretrain.run",),
    "faces/crops.py": STAGES,
    "__init__.py": STAGES,
}


def test_a_version_changes_with_the_code_that_decides_wherever_it_lies(tmp_path: Path) -> None:
    package = tmp_path / PACKAGE.name
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "*.pt"))
    before = {stage: code_version(stage) for stage in STAGES}
    for file, changed in {"nothing": (), **EDITS}.items():
        source = package / file
        content = source.read_bytes() if source.exists() else b""
        source.write_bytes(content + b"# a word more\n")
        code_version.cache_clear()
        after = {stage: code_version(stage, package) for stage in STAGES}
        assert tuple(stage for stage in STAGES if after[stage] != before[stage]) == changed, file
        source.write_bytes(content)
    code_version.cache_clear()


def test_every_form_of_an_import_is_found(tmp_path: Path) -> None:
    package = tmp_path / "custom_gaze"
    files = {
        "__init__.py": "VERSION = 1\n",
        "start.py": "import custom_gaze.a\nfrom custom_gaze import b as other, VERSION\n"
        "from custom_gaze.parts.c import thing\nfrom .d import more\n\n"
        "def late():\n    from custom_gaze.e import rest\n    import numpy.f\n",
        "parts/__init__.py": "from . import g\n",
        "parts/c.py": "from ..h import deep\nfrom .i import near\n",
        "empty/__init__.py": '"""Only words."""\n',
        "empty/j.py": "",
        **{f"{name}.py": "" for name in ("a", "b", "d", "h", "f", "unused")},
        "e.py": "import custom_gaze.empty.j\n",
        **{f"parts/{name}.py": "" for name in ("g", "i", "unused")},
    }
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    left_out = {"f.py", "unused.py", "parts/unused.py", "empty/__init__.py"}
    found = {path.relative_to(package).as_posix() for path in code_of("start", package)}
    assert found == set(files) - left_out
    assert package / "empty/__init__.py" in imports_of(package / "e.py", package)


def test_no_code_is_loaded_in_ways_that_imports_do_not_show() -> None:
    """By name or as another process, what decides a result would be missing among the deps."""
    hidden = ("import_module", "__import__", "runpy", '"custom_gaze.', "'custom_gaze.", "exec(")
    allowed = {  # the keys of the model's metadata, and the module itself in a process of its own
        "models/onnx_trial.py": '"custom_gaze.models.onnx_trial"',
        "models/onnx_metadata.py": '"custom_gaze."',
    }
    for stage in (
        "stages.fetch",
        "data.index",
        "stages.export",
        "stages.quantise",
        "stages.evaluate",
        *STAGES,
    ):
        for path in code_of(stage):
            name = path.relative_to(PACKAGE).as_posix()
            text = path.read_text().replace(allowed.get(name, "\0"), "")
            if name != "common/provenance.py":
                assert not [word for word in hidden if word in text], name
