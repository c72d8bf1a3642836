"""The agent: MLflow's server, one for all who look at it; it ends with the last of them.

Whoever looks holds a shared lock of the file `mlflow.users`. `mlflow.port` says where the server
listens, which holds its lock.
"""

import fcntl
import os
import socket
import subprocess
import time
from pathlib import Path

from custom_gaze.remote.agent import Place, Refused, Replies
from custom_gaze.remote.agent_runs import python_of
from custom_gaze.remote.engine import is_held

# Looks after the server: no connection does, for another may still be looking. Standard input is
# the file that is locked, which the server alone keeps open. With MLflow's own pool of 15 two
# thirds of 50 runs that end at once are lost (docs/scaling.md); job execution is eight more
# processes that nobody uses.
_SERVER = """
users=$1 python=$2 port=$3 database=$4 artifacts=$5
export MLFLOW_SQLALCHEMYSTORE_POOL_SIZE=60 MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true
exec 3<&0 </dev/null
"$python" -m mlflow server --host 127.0.0.1 --port "$port" --workers 1 \\
    --backend-store-uri "$database" --artifacts-destination "$artifacts" <&3 &
exec 3<&-
flock "$users" true  # waits for the last who looks
kill $!
sleep 5
kill -9 0
"""


def serve(place: Place) -> Replies:
    """The port of the server on the loopback, which is started where none runs yet.

    It runs for as long as this connection lasts, or another one that has asked for it.
    """
    users, path, log = (place.path(f"mlflow.{name}") for name in ("users", "port", "log"))
    # While a server ends, this waits; then it is ours until we go.
    fcntl.flock(os.open(users, os.O_CREAT | os.O_RDWR), fcntl.LOCK_SH)
    with open(path, "a+", encoding="ascii") as known, open(place.path("lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # nobody else starts one meanwhile
        if not is_held(path):
            fcntl.flock(known, fcntl.LOCK_EX)
            known.truncate(0)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = str(probe.getsockname()[1])
            known.write(port)
            artifacts = Path(place.project, "mlartifacts").as_uri()
            where = (port, f"sqlite:///{place.project}/mlflow.db", artifacts)
            with open(log, "wb") as said:
                subprocess.Popen(
                    ["sh", "-c", _SERVER, "sh", users, python_of(place), *where],
                    stdin=known,
                    stdout=said,
                    stderr=said,
                    cwd=place.project,
                    start_new_session=True,
                )
        known.seek(0)
        yield {"port": int(known.read())}
    while is_held(path):
        time.sleep(0.5)
    *_, last = [
        "no word of it",
        *Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines(),
    ]
    raise Refused(f"MLflow stopped there: {last}")
