"""bench/mlflow_postgres.py: MLflow on a PostgreSQL whose password stands nowhere in sight."""

import importlib
import os
import socket
import tempfile
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from conftest import REPOSITORY

DRIVER = "PSYCOPG2"  # the folder where psycopg2 is installed, as the bench's --driver
PASSWORD = "kept-to-itself-0123456789"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY / "bench"))
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")
    return importlib.import_module("mlflow_postgres")


@pytest.mark.long
def test_runs_reach_a_database_whose_password_no_command_line_or_log_has(
    bench: ModuleType,
) -> None:
    driver = Path(os.environ.get(DRIVER, "/nowhere"))
    if not (driver / "psycopg2").is_dir():
        pytest.skip(f"psycopg2 is not at hand: name its folder in {DRIVER}")
    with tempfile.TemporaryDirectory(prefix="mlflow-") as scratch, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        folder, database = Path(scratch), Path(scratch) / "database"
        folder.chmod(0o755)
        database.mkdir()
        try:
            with (
                bench.postgres(database, PASSWORD) as store,
                bench.mlflow_server(folder, store, driver, port) as address,
            ):
                seen = bench.measure(address, 2, folder)
                commands = [
                    " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])
                ]
                log = (folder / "server.log").read_text() + (database / "log").read_text()
        except SystemExit as reason:
            if "not installed" not in str(reason):
                raise
            pytest.skip(f"PostgreSQL is not at hand: {reason}")
    assert seen.errors == []
    assert seen.kept == 2 * (bench.FIGURES_EACH + bench.FIGURES)
    assert any("mlflow" in command for command in commands)
    assert not any(PASSWORD in said for said in (*commands, log, store.uri))
