"""MLflow's store in the project: its address, its making, a project that was moved."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from sqlalchemy import create_engine, text

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import sha256_of
from custom_gaze.evaluation.tracking import addresses, registry, schema, store
from gaze_files import write_network

AWKWARD = ("plain", "que?stion", "per%20cent", "two words #1", "ü%3F")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return enter(folder, monkeypatch)


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def run_of(client: Any, name: str, words: str) -> str:
    """A run in the experiment x, with one file."""
    run_id: str = client.create_run(store.experiment_id(client, "x"), run_name=name).info.run_id
    client.log_text(run_id, words, "model/words.txt")
    return run_id


def change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as opened, opened:
        for statement in statements:
            opened.execute(statement)


def test_an_address_names_its_file_whatever_its_characters(tmp_path: Path) -> None:
    for name in AWKWARD:
        database = tmp_path / name / "mlflow.db"
        database.parent.mkdir()
        address = addresses.address_of(database)
        engine = create_engine(address)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE here (there)"))
        engine.dispose()
        assert database.stat().st_size > 0, name
        assert addresses.sqlite_file(address) == database
    assert {path.name for path in tmp_path.iterdir()} == set(AWKWARD)
    assert addresses.sqlite_file("https://server:5000/x") is None
    assert addresses.sqlite_file("no address") is None


def test_an_awkward_folder_keeps_its_runs_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = enter(tmp_path / "que?stion per%20cent" / "project", monkeypatch)
    folder.mkdir(parents=True)
    client = store.open_store()
    run_id = run_of(client, "one", "words")
    assert list(tmp_path.iterdir()) == [folder.parent]
    [sent] = folder.rglob("words.txt")
    assert sent.parent == folder / "mlartifacts" / run_id / "artifacts" / "model"
    assert schema.look_at(folder / "mlflow.db") == schema.Condition(runs=1)
    assert not list(folder.glob("mlflow.db.new*"))


def test_a_killed_making_leaves_nothing_in_the_way(root: Path) -> None:
    (root / "mlflow.db.new").write_bytes(b"half a database")
    store.open_store().search_experiments()
    assert schema.look_at(root / "mlflow.db") == schema.Condition(runs=0)


def test_two_first_runs_at_once_share_one_store(root: Path) -> None:
    """Really at once, and really made: the tables of a new store are not the suite's copy here."""
    code = (
        "import sys, mlflow; from custom_gaze.evaluation.tracking import store;"
        "print('ready', flush=True);"
        "sys.stdin.readline(); client = store.open_store();"
        "print(client.create_run(store.experiment_id(client, 'x')).info.run_id)"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MLFLOW_LOGGING_LEVEL": "ERROR"},
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert schema.look_at(root / "mlflow.db") == schema.Condition(runs=2)
    assert len({run for run, _ in said}) == 2


def test_a_moved_project_writes_where_it_is(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store.open_store()
    came_along, left_behind = run_of(client, "one", "1"), run_of(client, "two", "2")
    moved = tmp_path / "moved"
    shutil.copytree(root, moved, ignore=shutil.ignore_patterns(left_behind))
    before = sorted(root.rglob("*"))
    client = store.open_store()  # nothing changes where nothing has moved
    assert client.get_run(came_along).info.artifact_uri.startswith(root.as_uri())

    enter(moved, monkeypatch)
    client = store.open_store()
    third = run_of(client, "three", "3")
    assert (moved / "mlartifacts" / third / "artifacts/model/words.txt").read_text() == "3"
    assert sorted(root.rglob("*")) == before
    there, away = (client.get_run(run).info.artifact_uri for run in (came_along, left_behind))
    assert there == (moved / "mlartifacts" / came_along / "artifacts").as_uri()
    assert away == (root / "mlartifacts" / left_behind / "artifacts").as_uri()


def test_a_registered_model_is_loaded_by_its_alias_after_a_move(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As anybody does who knows MLflow; what was left behind is gone."""
    network = write_network(tmp_path / "custom_gaze.onnx", size_px=16)
    client = store.open_store()
    run_id = client.create_run(store.experiment_id(client, "x")).info.run_id
    registry.log_model(client, run_id, network)
    registry.log_model(client, run_id, network)  # again, after a crash
    assert len(client.search_model_versions("name = 'custom-gaze'")) == 1
    moved = tmp_path / "moved"
    shutil.move(root, moved)

    enter(moved, monkeypatch)
    client = store.open_store()
    version = client.get_model_version_by_alias("custom-gaze", "candidate")
    assert version.source.startswith(moved.as_uri())
    assert registry.mark_live(sha256_of(network)) == "MLflow: custom-gaze version 1 is now `live`"
    assert registry.mark_live("0" * 64) == ""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", addresses.tracking_uri())
    loaded = mlflow.pyfunc.load_model("models:/custom-gaze@live")
    example = loaded.input_example["input"]  # no face
    assert (example.shape, example.dtype, example.max()) == ((1, 3, 16, 16), np.float32, 0.0)
    assert loaded.predict(loaded.input_example)["output"].shape == (1, 2)
    assert mlflow.onnx.load_model("models:/custom-gaze@candidate").graph.output[0].name == "output"
    [kept] = moved.rglob("model.onnx")  # once, and byte for byte
    assert kept.read_bytes() == network.read_bytes()
    for path in kept.parent.iterdir():
        if path != kept:
            assert str(tmp_path) not in path.read_text(), path


def test_no_store_is_made_to_say_what_is_live(root: Path) -> None:
    assert registry.mark_live("0" * 64) == ""
    assert list(root.iterdir()) == []


def test_what_a_store_says_of_folders_is_not_believed(root: Path, tmp_path: Path) -> None:
    client = store.open_store()
    run_id = run_of(client, "one", "1")
    outside = tmp_path / "outside"
    (tmp_path / run_id / "artifacts").mkdir(parents=True)
    change(
        root / "mlflow.db",
        f"UPDATE experiments SET artifact_location = '{outside.as_uri()}'",
        f"UPDATE runs SET artifact_uri = '{outside.as_uri()}/../{run_id}/artifacts'",
    )
    other = run_of(store.open_store(), "two", "2")
    assert (root / "mlartifacts" / other).is_dir()
    assert not outside.exists()
    bucket = "UPDATE experiments SET artifact_location = 's3://bucket/x'"
    change(root / "mlflow.db", bucket)
    client = store.open_store()  # somebody's own choice, and no folder
    assert client.get_experiment_by_name("x").artifact_location == "s3://bucket/x"


def test_a_deleted_experiment_of_the_name_comes_back(root: Path) -> None:
    client = store.open_store()
    number = store.experiment_id(client, "x")
    client.delete_experiment(number)
    assert store.experiment_id(client, "x") == number
    client.create_run(number)


@pytest.mark.parametrize(
    ("statements", "said", "advice"),
    [
        (["CREATE TABLE _alembic_tmp_runs (a)"], "half changed (_alembic_tmp_runs)", "mv "),
        (
            ["CREATE TABLE _alembic_tmp_runs (a)", "INSERT INTO runs (run_uuid) VALUES ('1')"],
            "half changed (_alembic_tmp_runs)",
            "sqlite3.connect(",
        ),
        (
            ["CREATE TABLE _alembic_tmp_gone (a)", "INSERT INTO runs (run_uuid) VALUES ('1')"],
            "half changed (_alembic_tmp_gone)",
            "mv ",
        ),
        (
            [
                "UPDATE alembic_version SET version_num = '90e64c465722'",
                "INSERT INTO runs (run_uuid) VALUES ('1')",
            ],
            "of an older MLflow (90e64c465722, here ",
            "mlflow.db.old && mlflow db upgrade sqlite:////",
        ),
        (
            ["UPDATE alembic_version SET version_num = 'fromthefuture'"],
            "was written by a newer MLflow",
            "pip install --upgrade mlflow",
        ),
        (["DROP TABLE runs"], "cannot be read as MLflow's store (no such table: runs)", "mv "),
    ],
)
def test_a_store_that_opening_cannot_mend_is_named_with_what_does(
    root: Path, statements: list[str], said: str, advice: str
) -> None:
    store.open_store()
    change(root / "mlflow.db", *statements)
    before = (root / "mlflow.db").read_bytes()
    with pytest.raises(CustomGazeError) as caught:
        store.open_store()
    found = schema.look_at(root / "mlflow.db")
    assert str(caught.value) == f"{found.problem}; {found.advice}"
    assert said in str(found.problem)
    assert advice in str(found.advice)
    assert (root / "mlflow.db").read_bytes() == before


@pytest.mark.long
def test_a_store_of_an_older_mlflow_is_brought_up_to_date_by_what_is_said(root: Path) -> None:
    """Tables made by the last but one of MLflow's own migrations."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    database = root / "mlflow.db"
    address = addresses.address_of(database)
    scripts = Path(mlflow.__file__).parent / "store" / "db_migrations"
    older = ScriptDirectory(str(scripts)).get_revisions("head")[0].down_revision
    engine = create_engine(address)
    Base.metadata.create_all(engine)
    config = _get_alembic_config(address)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, str(older))
    engine.dispose()
    change(database, "INSERT INTO runs (run_uuid, experiment_id) VALUES ('1', 0)")
    before = database.read_bytes()
    with pytest.raises(CustomGazeError, match=f"older MLflow .{older}, here .* db upgrade sqlite"):
        store.open_store()
    found = schema.look_at(database)
    subprocess.run(str(found.advice), shell=True, check=True, capture_output=True)
    assert (root / "mlflow.db.old").read_bytes() == before
    assert schema.look_at(database) == schema.Condition(runs=1)
    store.open_store().search_experiments()
