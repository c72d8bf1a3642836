"""MLflow's page over the project's own store, for as long as the command runs.

It is this process and no other: MLflow's own command would be three, and ten with its runners of
jobs, which nobody here has. So whatever ends the command ends the page.
"""

import json
import os
import socket
import warnings
from collections.abc import Callable
from typing import Any

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.evaluation.tracking.addresses import artifact_root, sqlite_file, tracking_uri
from custom_gaze.evaluation.tracking.store import experiment_id, open_store, quiet

HOST = "127.0.0.1"
ENDS_S = 2  # for requests under way
VIEW = "custom-gaze"  # the shared view that the page opens with
# The page shows no metric before somebody has chosen some; these are chosen.
COLUMNS = (*("error_deg", "error_px", "cross_session_deg", "correction_deg", "frames", "targets"),)
KIND = {"mlflow.experimentKind": "custom_model_development"}  # no GenAI


def serve(port: int, experiment: str, opened: Callable[[str], None]) -> None:
    """Run MLflow's page on the loopback until this command is ended.

    Args:
        port: of the loopback.
        experiment: whose runs the page shows first.
        opened: called with the page's address once it answers.

    Raises:
        InputError: MLFLOW_TRACKING_URI names a server, which has a page of its own.
        CustomGazeError: the port is taken, or the store cannot be opened.
    """
    uri = tracking_uri()
    if sqlite_file(uri) is None:
        raise InputError(
            "MLFLOW_TRACKING_URI names a server: open its own page, or unset MLFLOW_TRACKING_URI "
            "to see the runs that were recorded here"
        )
    with _bound(port) as listening:
        with quiet():
            client = open_store()
            number = experiment_id(client, experiment)
            _prepare_view(client, number)
        page = f"#/experiments/{number}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"
        _run(uri, listening, lambda: opened(f"http://{HOST}:{port}/{page}"))


def _bound(port: int) -> socket.socket:
    listening = socket.socket()
    # As the server would: a port that a page of a minute ago used is free.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or "no port"
        raise CustomGazeError(
            f"{HOST}:{port} cannot be used ({reason}); name another port: "
            "custom-gaze mlflow --port N"
        ) from None
    return listening


def _prepare_view(client: Any, number: str) -> None:
    """Set what the page shows of an experiment, where it is not set so already."""
    view = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [*(f"metrics.`{name}`" for name in COLUMNS), "tags.`progress`"],
    }
    there = client.get_experiment(number).tags
    for name, value in {**KIND, f"mlflow.sharedViewState.{VIEW}": json.dumps(view)}.items():
        if there.get(name) != value:
            client.set_experiment_tag(number, name, value)


def _run(uri: str, listening: socket.socket, started: Callable[[], None]) -> None:
    """Serve with MLflow's own application, set up as `mlflow server` sets up its workers."""
    from mlflow.server import constants

    root = artifact_root(uri)
    assert root is not None
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: uri,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: root,
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "_MLFLOW_SGI_NAME": "uvicorn",
    }
    import uvicorn

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow's, about what it uses itself
        from mlflow.server.fastapi_app import app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                started()

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=ENDS_S)
    Server(config).run(sockets=[listening])
