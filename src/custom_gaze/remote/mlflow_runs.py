"""MLflow's records on the far machine: brought into the store here, or seen through a tunnel."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.evaluation.tracking import addresses, registry, store, upload
from custom_gaze.remote.committed import Out
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.objects import fetch_objects
from custom_gaze.remote.replies import AllTracked, Done, FreePort, Tracked
from custom_gaze.remote.settings import Settings
from custom_gaze.remote.ssh import OPTIONS, VERIFY, explain

FAR_RUN = "far_run"  # the tag that tells where a run came from, so that it comes once
# A tunnel ends with the command that opened it, however that ended: then its input is closed.
_WATCH = """
import subprocess, sys, threading
ssh = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def end():
    sys.stdin.buffer.read()
    ssh.terminate()
threading.Thread(target=end, daemon=True).start()
sys.exit(ssh.wait())
"""
_SERVER_S = 180.0  # MLflow takes seconds to load, on a busy machine a minute; then its database


def import_tracked(connection: Connection, cache: Cache, settings: Settings, name: str) -> str:
    """Bring the MLflow runs of an experiment into the store here, once each.

    A store that cannot be reached does not undo a fetch: the line returned says so.
    """
    runs = connection.ask("tracked", AllTracked, **settings.place, name=name).runs
    if not runs:
        return f"MLflow there has no run of {name}"
    files = [[path, md5] for run in runs for _, path, md5 in run.files]
    if files:
        connection.ask("offer", Done, **settings.place, files=files)
    wanted = [Out(path, md5) for path, md5 in files if not cache.has(md5)]
    if wanted:
        fetch_objects(connection, cache, settings.store, wanted)
    uri = addresses.shown_uri(addresses.tracking_uri())
    try:
        with store.quiet():
            new = [run.id for run in runs if _import(settings.host, run, cache)]
    except Exception as error:  # whatever a server, a database or a proxy may answer
        reason = printable(error) or type(error).__name__
        return f"MLflow at {uri} did not take {name} ({reason}); fetch it again to try again"
    return f"MLflow: {len(new)} of {len(runs)} runs are new in {uri}"


def _import(host: str, run: Tracked, cache: Cache) -> bool:
    """Copy one run; False where it is here already. One that was copied in part is made anew."""
    client = store.open_store()
    if _is_known(client, run.id):  # the store here is the far machine's, through a tunnel
        return False
    experiment_id = store.experiment_id(client, run.experiment)
    origin = f"{host}:{run.id}"
    for known in client.search_runs([experiment_id], f"tags.{FAR_RUN} = '{origin}'"):
        if known.info.status != "RUNNING":
            return False
        client.delete_run(known.info.run_id)
    copy = client.create_run(
        experiment_id,
        start_time=run.start_ms,
        # MLflow's own tags tell it what to show and whose run it is.
        tags={**{k: v for k, v in run.tags if not k.startswith("mlflow.")}, FAR_RUN: origin},
        run_name=run.name,
    )
    run_id = copy.info.run_id
    store.log_figures(client, run_id, run.params, run.metrics)
    # Of a model as MLflow has it the network alone is taken: the rest is made here, from that.
    logged = any(relative == "model/MLmodel" for relative, _, _ in run.files)
    with TemporaryDirectory(prefix="custom-gaze-") as scratch:
        for relative, _, md5 in run.files:
            if logged and relative.startswith("model/"):
                if relative == f"model/{registry.FILE}":
                    registry.log_model(client, run_id, cache.path(md5))
                continue
            source = Path(scratch) / Path(relative).name
            source.symlink_to(cache.path(md5))
            upload.attach_files(client, run_id, [(source, str(Path(relative).parent))])
            source.unlink()
    client.set_terminated(run_id, run.status, run.end_ms)
    return True


def _is_known(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_run(run_id)
    except MlflowException:
        return False
    return True


def serve(settings: Settings, port: int) -> None:
    """Run the far machine's server for as long as this command runs, and a tunnel to it.

    Raises:
        CustomGazeError: the port is taken here, or the server or the tunnel ended.
    """
    with Connection(settings.host) as connection:
        far_port = connection.ask("free_port", FreePort).port
        connection.send({"do": "serve", **settings.place, "port": far_port})
        with _tunnel(settings.host, port, far_port) as tunnel:
            _wait_for_answer(connection, tunnel, settings.host, port)
            print(
                f"MLflow of {settings.host}: http://127.0.0.1:{port} (Ctrl-C ends it)\n"
                f"runs made here go there too with: export "
                f"MLFLOW_TRACKING_URI=http://127.0.0.1:{port}",
                flush=True,
            )
            while tunnel.poll() is None:
                if connection.waiting():
                    connection.receive(Done)
                time.sleep(0.5)
            raise _tunnel_ended(settings.host, tunnel)


@contextlib.contextmanager
def _tunnel(host: str, port: int, far_port: int) -> Iterator["subprocess.Popen[str]"]:
    forward = f"127.0.0.1:{port}:127.0.0.1:{far_port}"
    strict = ["-o", "ExitOnForwardFailure=yes"]
    command = ["ssh", *OPTIONS, *VERIFY, *strict, "-N", "-L", forward, host]
    tunnel = subprocess.Popen(
        [sys.executable, "-I", "-c", _WATCH, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="surrogateescape",
        start_new_session=True,
    )
    try:
        yield tunnel
    finally:
        assert tunnel.stdin is not None
        tunnel.stdin.close()
        tunnel.wait()


def _wait_for_answer(
    connection: Connection, tunnel: "subprocess.Popen[str]", host: str, port: int
) -> None:
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    health, deadline = f"http://127.0.0.1:{port}/health", time.monotonic() + _SERVER_S
    while True:
        if tunnel.poll() is not None:
            raise _tunnel_ended(host, tunnel)
        if connection.waiting():
            connection.receive(Done)
        with contextlib.suppress(OSError), opener.open(health, timeout=2) as answer:
            if answer.read() == b"OK":
                return
        if time.monotonic() > deadline:
            raise CustomGazeError(f"{host}: MLflow did not answer within {_SERVER_S:g} seconds")
        time.sleep(0.2)


def _tunnel_ended(host: str, tunnel: "subprocess.Popen[str]") -> CustomGazeError:
    assert tunnel.stderr is not None
    lines = tunnel.stderr.read().splitlines()
    if any("Address already in use" in line or "cannot listen" in line for line in lines):
        return CustomGazeError("the port is taken on this machine; choose another with --port")
    return explain(host, lines, tunnel.returncode, had_answered=False)
