"""The model as MLflow has models: logged with its signature, registered as `custom-gaze`.

Its file is kept byte for byte, once: by its SHA-256 a deployed model is found among the versions.
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from custom_gaze.common.files import sha256_of
from custom_gaze.evaluation.tracking.addresses import sqlite_file, tracking_uri
from custom_gaze.evaluation.tracking.upload import fill_model
from custom_gaze.models.onnx_files import inputs_of, outputs_of, read_onnx

NAME = "custom-gaze"
CANDIDATE, LIVE = "candidate", "live"  # the newest that was evaluated, the one in the app
SHA_TAG = "model_sha256"
FILE = "model.onnx"  # MLflow's name of it
EXAMPLE = "input_example.json"


def log_model(client: Any, run_id: str, path: Path) -> None:
    """Log an ONNX file as the model of a run, and register it; what is there already is kept.

    Raises:
        Exception: whatever a server, a database or a proxy may answer.
    """
    sha256 = sha256_of(path)
    run = client.get_run(run_id)
    made = _logged(client, run, sha256) or _log(client, run, path, sha256)
    if not any(version.run_id == run_id for version in _versions(client, sha256)):
        _register(client, run_id, made, sha256)


def mark_live(model_sha256: str) -> str:
    """Point the alias `live` at the version whose file was deployed; says so, or nothing.

    A store that has no such version, is not there or does not answer is no reason to fail.
    """
    database = sqlite_file(tracking_uri())
    if database is not None and not database.exists():
        return ""
    from custom_gaze.evaluation.tracking.store import open_store, quiet

    try:
        with quiet():
            client = open_store()
            versions = _versions(client, model_sha256)
            if not versions:
                return ""
            newest = max(versions, key=lambda version: int(version.version))
            client.set_registered_model_alias(NAME, LIVE, newest.version)
    except Exception:  # whatever a server, a database or a proxy may answer
        return ""
    return f"MLflow: {NAME} version {newest.version} is now `{LIVE}`"


def _logged(client: Any, run: Any, sha256: str) -> Any:
    """The whole model of this file that a run has already; None where it has none."""
    mine = f"source_run_id = '{run.info.run_id}'"
    for model in client.search_logged_models([run.info.experiment_id], mine):
        if model.tags.get(SHA_TAG) == sha256 and str(model.status) == "READY":
            return model
    return None


def _log(client: Any, run: Any, path: Path, sha256: str) -> Any:
    from mlflow.entities import LoggedModelOutput

    run_id, tags = run.info.run_id, {SHA_TAG: sha256}
    model = client.create_logged_model(
        run.info.experiment_id, name=NAME, source_run_id=run_id, tags=tags
    )
    with TemporaryDirectory(prefix="custom-gaze-") as scratch:
        folder = Path(scratch) / "model"
        save(path, folder, run_id, model.model_id)
        fill_model(client, model, folder)
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return model


def save(path: Path, folder: Path, run_id: str, model_id: str) -> None:
    """Write an ONNX file as MLflow's onnx flavour, into a new folder; its bytes stay as they are.

    The input example is no face: an image of the mean colour, zeros to the network.

    Raises:
        InputError: it is no ONNX file.
    """
    from importlib.metadata import version

    import mlflow.onnx
    from mlflow.models import Model

    network, _ = read_onnx(path)
    described = Model(run_id=run_id, model_id=model_id, signature=_signature(network))
    described.saved_input_example_info = {
        "artifact_path": EXAMPLE,
        "type": "ndarray",
        "format": "tf-serving",
    }
    packages = [f"{name}=={version(name)}" for name in ("mlflow", "numpy", "onnx", "onnxruntime")]
    mlflow.onnx.save_model(
        network,
        str(folder),
        mlflow_model=described,
        pip_requirements=packages,
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
    shutil.copyfile(path, folder / FILE)
    example = {name: _zeros(shape) for name, shape in inputs_of(network)}
    (folder / EXAMPLE).write_text(json.dumps(example, separators=(",", ":")), encoding="utf-8")


def _zeros(shape: tuple[int, ...]) -> object:
    return [_zeros(shape[1:])] * max(1, shape[0]) if shape else 0


def _signature(network: Any) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(values: list[tuple[str, tuple[int, ...]]]) -> Any:
        kind = np.dtype("float32")
        return Schema(
            [TensorSpec(kind, tuple(size or -1 for size in shape), name) for name, shape in values]
        )

    return ModelSignature(schema(inputs_of(network)), schema(outputs_of(network)))


def _versions(client: Any, sha256: str) -> list[Any]:
    return list(client.search_model_versions(f"name = '{NAME}' and tags.{SHA_TAG} = '{sha256}'"))


def _register(client: Any, run_id: str, model: Any, sha256: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(NAME)
    except MlflowException:
        client.get_registered_model(NAME)  # it is there, or the first error counts
    version = client.create_model_version(
        NAME,
        model.artifact_location,
        run_id,
        tags={SHA_TAG: sha256},
        model_id=model.model_id,
    )
    client.set_registered_model_alias(NAME, CANDIDATE, version.version)
