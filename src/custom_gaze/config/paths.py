"""Where everything lies, in one place. dvc.yaml is held to these names by a test."""

import os
from dataclasses import dataclass
from pathlib import Path


def project_root(folder: Path) -> Path | None:
    """The project that `folder` is in: the nearest of it and the folders above that has params.yaml
    beside .dvc; None where there is none."""
    for each in (folder, *folder.parents):
        if (each / "params.yaml").is_file() and (each / ".dvc").is_dir():
            return each
    return None


@dataclass(frozen=True)
class _Below:
    """A path below the project's root, or below the main repository's where that is `shared`."""

    name: str
    shared: bool = False

    def __get__(self, paths: "Paths", owner: type["Paths"]) -> Path:
        return (paths.main_root if self.shared else paths.root) / self.name


@dataclass(frozen=True)
class Paths:
    """The project's files below `root`, and what all its copies share below `main_root`."""

    root: Path = Path()

    params = _Below("params.yaml")
    # Raw calibration sessions, one folder each, never rewritten.
    sessions = _Below("data/sessions")
    # Crops, labels.csv and manifest.json, one folder a session.
    dataset = _Below("data/dataset_clean")
    # The frames of one run with their split: all that later stages know of the dataset.
    index = _Below("data/index.csv")
    # The manifests of the sessions in the index.
    index_manifests = _Below("data/index.json")
    # The screen of the index's labels and how its crops were cut.
    specification = _Below("data/specification.json")

    # Face detector and, where the user has one, face mesh.
    faces = _Below("models/faces")
    # The base network as one PyTorch file.
    base = _Below("models/base.pt")
    # The candidate that is exported; where it was fine-tuned, its best epoch.
    checkpoint = _Below("models/checkpoint.pt")
    # The fine-tuned weights of the last epoch; the same as `checkpoint` without training.
    last_checkpoint = _Below("models/checkpoint_last.pt")
    # What it takes to measure the candidates that are not exported.
    candidates = _Below("models/candidates.pt")
    # What the app loads.
    model = _Below("models/custom_gaze.onnx")
    # The same in 8 bits, where it was written; models/custom_gaze.int8.onnx links to it.
    int8_model = _Below("models/int8/custom_gaze.int8.onnx")

    reports = _Below("reports")
    # Both models' errors and latencies, or why there is no 8-bit one.
    int8_report = _Below("reports/int8.json")
    # Losses per epoch.
    training_log = _Below("reports/training.csv")
    # The few figures that `dvc exp show` compares.
    metrics = _Below("reports/metrics.json")
    # All figures, and which candidate was chosen, and why.
    figures = _Below("reports/figures.json")
    # The same figures session by session.
    session_metrics = _Below("reports/sessions.json")
    # Target and prediction of every tested frame.
    predictions = _Below("reports/predictions.csv")
    loss_plot = _Below("reports/loss.png")
    screen_plot = _Below("reports/screen.png")
    error_plot = _Below("reports/error_map.png")
    # The error of every calibration on one session, one after the other.
    history_plot = _Below("reports/history.png")
    # One page with everything, readable without a network.
    report = _Below("reports/report.html")
    # The same for others, MLflow first: whatever evaluate.show_faces says, without a face.
    shared_report = _Below("reports/shared/report.html")

    # What an interrupted run leaves for the next one.
    unfinished = _Below(".dvc/tmp/custom-gaze", shared=True)
    # Sessions that `capture` has not imported yet, a folder each.
    captures = _Below(".dvc/tmp/custom-gaze-captures", shared=True)
    # What `history` has found once: each model's figures on a reference session, and the like.
    history_cache = _Below(".dvc/tmp/custom-gaze-history", shared=True)
    # When which model was deployed, a line each; it outlives every branch and experiment.
    deployments = _Below("deployments.jsonl", shared=True)
    # The project's own MLflow store, the files of its runs, and runs that wait for it.
    mlflow_database = _Below("mlflow.db", shared=True)
    mlflow_artifacts = _Below("mlartifacts", shared=True)
    mlflow_pending = _Below("mlpending", shared=True)

    @property
    def main_root(self) -> Path:
        """The main repository's root, also inside the temporary copies DVC runs experiments in."""
        return Path(os.environ.get("DVC_ROOT", self.root)).resolve()
