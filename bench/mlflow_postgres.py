"""Fifty runs that log to one MLflow server at once, with PostgreSQL and with SQLite behind it.

    apt-get install postgresql                             # Debian; nothing of it has to be started
    pip install --target /tmp/psycopg2 psycopg2-binary     # for this bench alone
    python bench/mlflow_postgres.py --driver /tmp/psycopg2 [--runs 50] [--pool 60]

Each run logs as much as a calibration of ours does (50 parameters, 24 tags, 280 figures in batches
as they come, a picture and a model), from a thread of its own; all begin together. A request has
MLflow's own two minutes (the product gives it 20 seconds, and keeps what did not get through).
PostgreSQL has a folder and a socket of its own, and runs as the user `postgres` where root starts
it; it asks for a password, which the server finds as docs/mlflow.md says: in no command line and no
address. Both servers have the pool of `custom-gaze remote mlflow`.
"""

import argparse
import getpass
import os
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speed_world import machine, markdown

PARAMETERS, TAGS, EPOCHS, FIGURES_EACH, FIGURES = 50, 24, 40, 5, 80
PICTURE_BYTES, MODEL_BYTES = 60_000, 1_500_000
START_S = 120.0


@dataclass
class Seen:
    """Seconds of each run and of all, what went wrong, and how many figures the server keeps."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    whole_s: float = 0.0
    kept: int = 0


@dataclass(frozen=True)
class Store:
    """A database as MLflow's server is told of it: its address, and what else it finds it by."""

    uri: str
    found_by: dict[str, str] = field(default_factory=dict)


@contextmanager
def postgres(folder: Path, password: str = "") -> Iterator[Store]:
    """A PostgreSQL in a folder, reached through a socket in it, with a password."""
    password = password or secrets.token_hex(16)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    where = str(found[-1]) if found else ""
    programs = [shutil.which(name, path=where or None) for name in ("initdb", "postgres")]
    if None in programs:
        raise SystemExit("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    initdb, server = map(str, programs)
    as_user, user = [], getpass.getuser()
    if os.getuid() == 0:  # it refuses to be root's
        as_user, user = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"],
            "postgres",
        )
        shutil.chown(folder, user)
    data, service, known = folder / "data", folder / "service.conf", folder / "pgpass"
    service.write_text(f"[mlflow]\nhost={folder}\nuser={user}\ndbname=postgres\n")
    for path, text in ((known, f"*:*:*:{user}:{password}\n"), (folder / "first", password)):
        path.touch(mode=0o600)  # libpq reads no other
        path.write_text(text)
    shutil.chown(folder / "first", user)
    made = [*as_user, initdb, "-D", str(data), "-U", user, "-A", "scram-sha-256", "--no-sync"]
    made += [f"--pwfile={folder / 'first'}"]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    (folder / "first").unlink()
    command = [*as_user, server, "-D", str(data), "-k", str(folder), "-c", "listen_addresses="]
    log = folder / "log"
    with running(command, folder, log) as process:
        _wait((folder / ".s.PGSQL.5432").exists, process, log)
        found_by = {"PGSERVICEFILE": str(service), "PGPASSFILE": str(known)}
        yield Store("postgresql+psycopg2:///?service=mlflow", found_by)


@contextmanager
def running(
    command: list[str], folder: Path, log: Path, **more: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server for as long as the block lasts; what it says goes into `log`."""
    around = {**os.environ, **more}
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file, env=around)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def _wait(ready: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + START_S
    while not ready():
        if time.monotonic() > until or process.poll() is not None:
            raise SystemExit(f"does not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


@contextmanager
def mlflow_server(folder: Path, store: Store, driver: Path, port: int) -> Iterator[str]:
    """`mlflow server` with this store; its address."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port)]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONPATH": str(driver),
        "MLFLOW_BACKEND_STORE_URI": store.uri,
        "MLFLOW_ARTIFACTS_DESTINATION": (folder / "artifacts").as_uri(),
        **store.found_by,
    }
    address = f"http://127.0.0.1:{port}"
    log = folder / "server.log"

    def answers() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.read() == b"OK")
        return False

    with running(command, folder, log, **quiet) as process:
        _wait(answers, process, log)
        yield address


def log_run(client: Any, experiment: str, number: int, files: list[Path]) -> None:
    """A calibration's run, in the pieces in which ours come."""
    from mlflow.entities import Metric, Param, RunTag

    run = client.create_run(experiment, run_name=f"run-{number}").info.run_id
    params = [Param(f"section.parameter_{n}", str(n / 7)) for n in range(PARAMETERS)]
    tags = [RunTag(f"tag_{n}", "x" * 40) for n in range(TAGS)]
    client.log_batch(run, params=params, tags=tags)
    for epoch in range(EPOCHS):
        now = int(time.time() * 1000)
        client.log_batch(run, [Metric(f"loss_{n}", n, now, epoch) for n in range(FIGURES_EACH)])
    client.log_batch(run, [Metric(f"test/{n}", n, now, 0) for n in range(FIGURES)])
    for path in files:
        client.log_artifact(run, str(path))
    client.set_terminated(run)


def measure(address: str, runs: int, folder: Path) -> Seen:
    """Log all of them at once and count what is there afterwards."""
    from mlflow import MlflowClient

    client, seen = MlflowClient(address), Seen()
    files = [folder / "picture.png", folder / "model.onnx"]
    for path, size in zip(files, (PICTURE_BYTES, MODEL_BYTES), strict=True):
        path.write_bytes(os.urandom(size))
    experiment = client.create_experiment("bench")
    together = threading.Barrier(runs)

    def one(number: int) -> None:
        together.wait()
        started = time.perf_counter()
        try:
            log_run(client, experiment, number, files)
        except Exception as error:  # whatever it is, it is what is counted here
            seen.errors.append(f"{type(error).__name__}: {str(error)[:200]}")
        seen.seconds.append(time.perf_counter() - started)

    started = time.perf_counter()
    with ThreadPoolExecutor(runs) as pool:
        list(pool.map(one, range(runs)))
    seen.whole_s = time.perf_counter() - started
    done = client.search_runs([experiment], "status = 'FINISHED'", max_results=runs)
    seen.kept = sum(len(run.data.metrics) for run in done)
    return seen


def row(name: str, seen: Seen, runs: int) -> list[str]:
    expected = runs * (FIGURES_EACH + FIGURES)
    median = f"{statistics.median(seen.seconds):.1f}"
    kept = f"{seen.kept} of {expected}"
    times = [f"{seen.whole_s:.1f}", median, f"{max(seen.seconds):.1f}"]
    return [name, *times, str(len(seen.errors)), kept]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--driver", type=Path, required=True, help="the folder with psycopg2")
    parser.add_argument("--port", type=int, default=5317)
    parser.add_argument("--pool", type=int, default=60, help="connections; MLflow's own are 5")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # the servers end with us
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] = str(asked.pool)
    rows, errors = [], []
    with tempfile.TemporaryDirectory(prefix="mlflow-bench-") as scratch:
        Path(scratch).chmod(0o755)
        for name in ("PostgreSQL", "SQLite"):
            folder = Path(scratch) / name
            folder.mkdir()
            database = folder / "database"
            database.mkdir()
            begun = postgres(database) if name == "PostgreSQL" else sqlite(database)
            with begun as store, mlflow_server(folder, store, asked.driver, asked.port) as address:
                seen = measure(address, asked.runs, folder)
            rows.append(row(name, seen, asked.runs))
            errors += [f"{name}: {error}" for error in dict.fromkeys(seen.errors)]
    print(f"{machine()}; {asked.runs} runs at once\n")
    header = ["store", "all of them, s", "one, s", "the slowest, s", "failed", "figures kept"]
    print(markdown(header, rows))
    print("\n".join(errors[:10]))


@contextmanager
def sqlite(folder: Path) -> Iterator[Store]:
    yield Store(f"sqlite:///{folder}/mlflow.db")


if __name__ == "__main__":
    main()
