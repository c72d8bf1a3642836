"""MLflow's server on the far machine, one for all who look at it, seen through our connection."""

import contextlib
import time

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.remote import agent_mlflow
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.display import print_now
from custom_gaze.remote.programs import call, last_line

_SERVER_S = 180.0  # MLflow takes seconds to load, on a busy machine a minute; then its database
_RUNNING_S = 10.0  # of a server that somebody else runs


def serve(connection: Connection, port: int) -> None:
    """Lead to the far machine's server, which runs at least as long as this connection.

    Where remote.yaml names the server of several people, to that one; none is started then.
    """
    import urllib.request

    host, address = connection.host, f"http://127.0.0.1:{port}"
    far, patience_s = connection.settings.engine.mlflow.removeprefix("http://"), _RUNNING_S
    if far:
        connection.open()
    else:
        far, patience_s = f"127.0.0.1:{connection.ask(agent_mlflow.serve).port}", _SERVER_S
    own = ("-F", "none", "-S", connection.socket)  # no forwarding that the user's config has
    done = call("ssh", *own, "-O", "forward", "-L", f"127.0.0.1:{port}:{far}", host)
    if done.returncode:
        if "cannot listen" in done.stderr or "forwarding failed" in done.stderr:
            raise CustomGazeError("the port is taken on this machine; choose another with --port")
        raise CustomGazeError(f"{host}: {last_line(done.stderr)}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until, answered = time.monotonic() + patience_s, False
    while not answered:
        if connection.waiting():
            connection.receive()
        if time.monotonic() > until:
            raise CustomGazeError(f"{host}: MLflow did not answer within {patience_s:g} seconds")
        with contextlib.suppress(OSError), opener.open(f"{address}/health", timeout=2) as answer:
            answered = answer.read() == b"OK"
        time.sleep(0.2)
    print_now(f"MLflow of {host}: {address} (Ctrl-C ends it)")
    print_now(f"runs made here go there too with: export MLFLOW_TRACKING_URI={address}")
    connection.receive()  # until it ends, or the connection
