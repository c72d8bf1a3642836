"""Files put where a run or a model keeps them, here or through a server.

MLflow's client writes below a file:// root by itself. But where it speaks with a server, that root
is a folder of the server's machine (a run made there without the server has made the experiment):
then the files go through the server, as they do where it has chosen the root.
"""

from pathlib import Path
from typing import Any

from custom_gaze.common.errors import CustomGazeError


def attach_files(client: Any, run_id: str, files: list[tuple[Path, str]]) -> None:
    """Attach (file, folder in the run) to a run.

    Raises:
        CustomGazeError: the server keeps its files somewhere else.
    """
    info = client.get_run(run_id).info
    through = _through_server(client, info.experiment_id, info.artifact_uri)
    if through is None:
        for path, folder in files:
            client.log_artifact(run_id, str(path), folder)
        return
    for path, folder in files:
        through.log_artifact(str(path), folder)
    uri = client.tracking_uri
    if not all(_server_has(uri, run_id, f"{folder}/{path.name}") for path, folder in files):
        root = client.get_experiment(info.experiment_id).artifact_location
        raise CustomGazeError(f"its server does not reach {root}; name another tracking.experiment")


def fill_model(client: Any, model: Any, folder: Path) -> None:
    """Put what is in a folder where a logged model keeps its files."""
    through = _through_server(client, model.experiment_id, model.artifact_location)
    if through is None:
        client.log_model_artifacts(model.model_id, str(folder))
    else:
        through.log_artifacts(str(folder))


def _through_server(client: Any, experiment_id: str, target: str) -> Any:
    """What writes through the server where the client would write on this machine; else None."""
    uri = client.tracking_uri
    if not (uri.startswith("http") and target.startswith("file:")):
        return None
    # MLflow's public functions write where the run says, here on this machine.
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    root = client.get_experiment(experiment_id).artifact_location
    relative = target.removeprefix(root).strip("/")
    return get_artifact_repository(f"mlflow-artifacts:/{relative}", tracking_uri=uri)


def _server_has(uri: str, run_id: str, file: str) -> bool:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    reply = http_request(
        get_default_host_creds(uri),
        "/api/2.0/mlflow/artifacts/list",
        "GET",
        params={"run_id": run_id, "path": file.rpartition("/")[0]},
    )
    return file in [entry["path"] for entry in reply.json().get("files", [])]
