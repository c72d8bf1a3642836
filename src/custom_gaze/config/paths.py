"""Where everything lies, in one place. dvc.yaml is held to these names by a test."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """The project's files below `root`, and what all its copies share below `main_root`."""

    root: Path = Path()

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def sessions(self) -> Path:
        """Raw calibration sessions, one folder each, never rewritten."""
        return self.root / "data" / "sessions"

    @property
    def dataset(self) -> Path:
        """Crops, labels.csv and manifest.json, one folder a session."""
        return self.root / "data" / "dataset_clean"

    @property
    def index(self) -> Path:
        """The frames of one run with their split: all that later stages know of the dataset."""
        return self.root / "data" / "index.csv"

    @property
    def index_manifests(self) -> Path:
        """The manifests of the sessions in the index."""
        return self.root / "data" / "index.json"

    @property
    def specification(self) -> Path:
        """The screen of the index's labels and how its crops were cut."""
        return self.root / "data" / "specification.json"

    @property
    def faces(self) -> Path:
        """Face detector and, where the user has one, face mesh."""
        return self.root / "models" / "faces"

    @property
    def base(self) -> Path:
        """The base network as one PyTorch file."""
        return self.root / "models" / "base.pt"

    @property
    def checkpoint(self) -> Path:
        """The candidate that is exported; where it was fine-tuned, its best epoch."""
        return self.root / "models" / "checkpoint.pt"

    @property
    def last_checkpoint(self) -> Path:
        """The fine-tuned weights of the last epoch; the same as `checkpoint` without training."""
        return self.root / "models" / "checkpoint_last.pt"

    @property
    def candidates(self) -> Path:
        """What it takes to measure the candidates that are not exported."""
        return self.root / "models" / "candidates.pt"

    @property
    def model(self) -> Path:
        """What the app loads."""
        return self.root / "models" / "custom_gaze.onnx"

    @property
    def int8_model(self) -> Path:
        """The same in 8 bits, where it was written; models/custom_gaze.int8.onnx links to it."""
        return self.root / "models" / "int8" / "custom_gaze.int8.onnx"

    @property
    def int8_report(self) -> Path:
        """Both models' errors and latencies, or why there is no 8-bit one."""
        return self.reports / "int8.json"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def training_log(self) -> Path:
        """Losses per epoch."""
        return self.reports / "training.csv"

    @property
    def metrics(self) -> Path:
        """The figures that `dvc exp show` compares."""
        return self.reports / "metrics.json"

    @property
    def session_metrics(self) -> Path:
        """The same figures session by session."""
        return self.reports / "sessions.json"

    @property
    def predictions(self) -> Path:
        """Target and prediction of every tested frame."""
        return self.reports / "predictions.csv"

    @property
    def loss_plot(self) -> Path:
        return self.reports / "loss.png"

    @property
    def screen_plot(self) -> Path:
        return self.reports / "screen.png"

    @property
    def error_plot(self) -> Path:
        return self.reports / "error_map.png"

    @property
    def report(self) -> Path:
        """One page with everything, readable without a network."""
        return self.reports / "report.html"

    @property
    def main_root(self) -> Path:
        """The main repository's root, also inside the temporary copies DVC runs experiments in."""
        return Path(os.environ.get("DVC_ROOT", self.root)).resolve()

    @property
    def unfinished(self) -> Path:
        """What an interrupted run leaves for the next one."""
        return self.main_root / ".dvc" / "tmp" / "custom-gaze"

    @property
    def mlflow_database(self) -> Path:
        """The project's own MLflow store."""
        return self.main_root / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """The files of that store's runs."""
        return self.main_root / "mlartifacts"

    @property
    def mlflow_pending(self) -> Path:
        """Runs that wait until the store can be written."""
        return self.main_root / "mlpending"
