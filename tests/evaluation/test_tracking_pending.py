"""Runs that could not be recorded: kept, and delivered once."""

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.evaluation.tracking import addresses, pending, record, store
from custom_gaze.evaluation.tracking.pending import (
    deliver_pending,
    keep,
    pending_folder,
    read_record,
    waiting,
)
from custom_gaze.evaluation.tracking.record import Record
from gaze_files import write_network

START_MS = 1_766_068_421_000


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def kept(number: int, tmp_path: Path) -> Record:
    """A record that waits, `number` minutes younger than the first."""
    made = Record(
        id=f"{number:032x}",
        experiment="x",
        run_name=f"run {number}",
        start_ms=START_MS + 60_000 * number,
        params={"train.seed": "1"},
        tags={"sessions": "one"},
        metrics=[("test/error_deg", 2.5, 0), ("train_loss", 9.0, 0), ("train_loss", 4.0, 1)],
    )
    (tmp_path / "screen.png").write_bytes(b"a picture")
    write_network(tmp_path / "custom_gaze.onnx", size_px=8)
    keep(made, [(tmp_path / "screen.png", "reports"), (tmp_path / "custom_gaze.onnx", "model")])
    return made


def runs() -> list[Any]:
    client = store.open_store()
    found = client.search_runs([store.experiment_id(client, "x")], order_by=["start_time"])
    return list(found)


def test_what_waits_is_delivered_whole_once_the_oldest_first(root: Path, tmp_path: Path) -> None:
    kept(10, tmp_path)
    kept(2, tmp_path)
    for number in (2, 10):  # what it was made of may have changed or gone meanwhile
        (tmp_path / "custom_gaze.onnx").write_bytes(b"another model")
        assert len(waiting()) == 2
        assert waiting()[0].name.endswith(f"{2:032x}"), number
    found = deliver_pending()
    assert (found.delivered, found.left, found.reason) == (2, 0, "")
    where = addresses.tracking_uri()
    assert found.lines() == [f"MLflow: 2 runs that had been waiting now in {where}"]
    first, second = runs()
    assert [first.info.run_name, second.info.run_name] == ["run 2", "run 10"]
    assert first.info.start_time == START_MS + 120_000
    assert first.info.status == "FINISHED"
    assert first.data.metrics == {"test/error_deg": 2.5, "train_loss": 4.0}
    assert first.data.params == {"train.seed": "1"}
    assert first.data.tags["sessions"] == "one"
    files = root / "mlartifacts" / first.info.run_id / "artifacts"
    written = write_network(tmp_path / "custom_gaze.onnx", size_px=8).read_bytes()
    sent = list((root / "mlartifacts" / "models").rglob("model.onnx"))
    assert [path.read_bytes() for path in sent] == [written, written]
    assert (files / "reports/screen.png").read_bytes() == b"a picture"
    assert waiting() == []
    assert [path.name for path in pending_folder().iterdir()] == [".lock"]
    assert deliver_pending().lines() == []
    assert len(runs()) == 2


def test_a_crash_at_any_point_of_a_delivery_makes_no_second_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ConnectionError("the line went dead")

    kept(1, tmp_path)
    with monkeypatch.context() as crash:  # in the middle: a run without its files, not ended
        crash.setattr(record, "attach_files", fails)
        crash.setattr("mlflow.MlflowClient.set_terminated", fails)
        found = deliver_pending()
    assert (found.delivered, found.left, found.reached) == (0, 1, False)
    assert "the line went dead" in found.lines()[0]
    [half] = runs()
    assert half.info.status == "RUNNING"
    with monkeypatch.context() as crash:  # behind it: the run is there, the record too
        crash.setattr(Path, "unlink", fails)
        assert deliver_pending().left == 1
    [whole] = runs()
    assert (whole.info.status, whole.data.metrics["train_loss"]) == ("FINISHED", 4.0)
    assert deliver_pending().delivered == 1
    assert [run.info.run_id for run in runs()] == [whole.info.run_id]


def test_two_commands_at_once_deliver_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(1, tmp_path)
    sent: list[str] = []
    both_started = threading.Barrier(2)

    def send(_: object, found: Record, files: object) -> str:
        sent.append(found.id)
        return found.id

    monkeypatch.setattr(pending, "open_store", lambda: None)
    monkeypatch.setattr(pending, "is_there", lambda *_: False)
    monkeypatch.setattr(pending, "deliver", send)

    def command() -> None:
        both_started.wait()
        deliver_pending()

    threads = [threading.Thread(target=command) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sent == [f"{1:032x}"]
    assert waiting() == []


def test_a_refused_or_damaged_record_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        kept(number, tmp_path)
    damaged = waiting()[0] / "record.json"
    sent: list[int] = []

    def send(_: object, found: Record, files: object) -> str:
        number = int(found.id, 16)
        if number == 1:
            raise MlflowException("no such value", error_code=INVALID_PARAMETER_VALUE)
        if number == 2:
            raise CustomGazeError("its server does not reach file:///x")
        sent.append(number)
        return found.id

    monkeypatch.setattr(pending, "open_store", lambda: None)
    monkeypatch.setattr(pending, "is_there", lambda *_: False)
    monkeypatch.setattr(pending, "deliver", send)
    words = damaged.read_text()
    for damage in ("", "{", "[]", words.replace('"id"', '"di"'), words.replace("00", "';--", 1)):
        damaged.write_text(damage)
        with pytest.raises(InputError, match=r"record.json: is damaged; remove .* cannot have"):
            read_record(damaged.parent)
    found = deliver_pending()
    assert sent == [3]
    assert (found.delivered, found.left, found.reached) == (1, 3, True)
    assert found.reason == "its server does not reach file:///x"


def test_an_interrupt_is_no_reason_to_keep_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC runs the stage again, and that makes the run."""
    made = kept(1, tmp_path)
    shutil.rmtree(pending_folder())

    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(pending, "deliver", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pending.record(made, [])
    assert waiting() == []

    def gone(*_: object) -> str:
        raise CustomGazeError("no store")

    monkeypatch.setattr(pending, "deliver", gone)
    said = pending.record(made, [])
    assert "did not record this run (no store); it waits in" in said
    assert len(waiting()) == 1


def test_a_store_that_cannot_be_opened_keeps_the_run_and_says_what_helps(
    root: Path, tmp_path: Path
) -> None:
    store.open_store()
    with closing(sqlite3.connect(root / "mlflow.db")) as opened, opened:
        opened.execute("CREATE TABLE _alembic_tmp_runs (a)")
    kept(1, tmp_path)
    found = deliver_pending()
    assert (found.delivered, found.left, found.reached) == (0, 1, False)
    assert "half changed" in found.reason
    assert "mv " in found.reason
