"""What an evaluation found, in memory and as the files that keep it.

reports/figures.json is `Metrics`, written and read by the same schema; reports/metrics.json is
the few numbers of it that DVC compares, reports/sessions.json and reports/predictions.csv have the
same figures session by session and each prediction. Beside them stands reports/training.csv, which
`train` writes, as `TrainingLog`.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from custom_gaze.common.files import write_json, write_text
from custom_gaze.common.stage_files import Strict, read_json, read_table
from custom_gaze.config.candidate import Candidate
from custom_gaze.config.paths import Paths
from custom_gaze.data.prepared import Manifest
from custom_gaze.data.splits import CROSS_SESSION, TEST, TRAIN
from custom_gaze.evaluation.headline import Headline
from custom_gaze.evaluation.metrics import Degrees, Measure
from custom_gaze.models.onnx_metadata import ModelMetadata

REMEDY = "run `dvc repro`, or `custom-gaze evaluate`"
TESTED_AS = {TEST: "held-out targets", CROSS_SESSION: "another session"}
MOST_LOSS = 1e30  # degrees²; a training may go far astray before it is stopped


class Figures(Measure):
    """Errors over some frames: the exported file's, and mean errors in degrees of what was
    measured beside it, on the same frames; what there is not is None."""

    constant_deg: Degrees
    base_deg: Degrees | None = None
    best_correction_deg: Degrees | None = None
    corrected_deg: Degrees | None = None
    probe_deg: Degrees | None = None
    finetuned_deg: Degrees | None = None


class Choice(Strict):
    """Which candidate is exported, why, and each candidate's error on calibration targets that its
    fit had not seen."""

    model_config = ConfigDict(frozen=True)

    exported: Candidate
    reason: Annotated[str, Field(max_length=2000)]
    held_out_base_deg: Degrees | None = None
    held_out_probe_deg: Degrees | None = None
    held_out_finetune_deg: Degrees | None = None


class Metrics(Strict):
    """reports/figures.json: the headline, the choice, and the figures of each group of frames."""

    model_config = ConfigDict(frozen=True)

    headline: Headline
    choice: Choice
    test: Figures
    cross_session: Figures | None = None
    train: Figures

    def groups(self) -> dict[str, Figures]:
        """The figures by group, of those that were measured."""
        named = {TEST: self.test, CROSS_SESSION: self.cross_session, TRAIN: self.train}
        return {name: figures for name, figures in named.items() if figures is not None}

    def compared(self) -> dict[str, float | int]:
        """reports/metrics.json: what `dvc exp show` and `dvc metrics diff` compare, numbers alone
        and few, for a table of theirs has to fit a terminal. What there is not is left out."""
        headline, other = self.headline, self.cross_session
        named = {
            "error_deg": headline.error_deg,
            "error_px": headline.error_px,
            "cross_session_deg": None if other is None else other.error_deg,
            "correction_deg": headline.correction_deg,
            "frames": headline.frames,
            "targets": headline.targets,
        }
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True)
class SessionFigures:
    """The figures of one tested session; `group` is TEST or CROSS_SESSION."""

    session: str
    group: str
    figures: Figures


@dataclass(frozen=True)
class PredictionRow:
    """One line of predictions.csv, a tested frame: where its target is and where the exported file
    predicts it, in pixels of the screen, and the angle between in degrees."""

    session: str
    filename: str
    tested_as: str  # TEST or CROSS_SESSION
    target: int  # its number in the index
    target_x: float
    target_y: float
    predicted_x: float
    predicted_y: float
    error_deg: float


@dataclass(frozen=True)
class TrainingLog:
    """reports/training.csv by column, float64 (epochs,).

    Errors and losses (degrees²) are of the ends of epochs, so the first is the start, number 0;
    `exported` is 1 in the epoch that is exported, if it is one of these.
    """

    epoch: NDArray[np.float64]
    train_loss: NDArray[np.float64]
    validation_loss: NDArray[np.float64]
    validation_error_deg: NDArray[np.float64]
    exported: NDArray[np.float64]


@dataclass(frozen=True)
class Provenance:
    """What the measured model was made with.

    Attributes:
        model: what the exported file says of itself.
        model_sha256: of that file.
        dataset_sha256: of data/index.csv.
        train_frames: how many it was trained on.
        manifests: of the sessions in the index, those trained on first.
        correction: the best of the app's corrections, or "none" for a base without angles.
    """

    model: ModelMetadata
    model_sha256: str
    dataset_sha256: str
    train_frames: int
    manifests: Sequence[Manifest]
    correction: str


@dataclass(frozen=True)
class Evaluation:
    """All that one evaluation found, and what it found it of."""

    metrics: Metrics
    sessions: Sequence[SessionFigures]
    predictions: Sequence[PredictionRow]
    log: TrainingLog
    provenance: Provenance


def write_results(evaluation: Evaluation, paths: Paths) -> None:
    """Write figures.json, metrics.json, sessions.json and predictions.csv, each whole or not at
    all."""
    write_json(paths.figures, evaluation.metrics.model_dump(mode="json", exclude_none=True))
    write_json(paths.metrics, evaluation.metrics.compared())  # DVC takes no null for a metric
    sessions = {
        each.session: {"tested_as": TESTED_AS[each.group], **each.figures.as_dict()}
        for each in evaluation.sessions
    }
    write_json(paths.session_metrics, sessions)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(field.name for field in fields(PredictionRow))
    writer.writerows(astuple(row) for row in evaluation.predictions)
    write_text(paths.predictions, out.getvalue())


def read_metrics(path: Path) -> Metrics:
    """reports/figures.json.

    Raises:
        InputError: it is missing, or not what `evaluate` writes; the message names the key.
    """
    return read_json(path, Metrics, REMEDY)


def read_training_log(path: Path) -> TrainingLog:
    """reports/training.csv, checked whole.

    Raises:
        InputError: it is missing, or not what `train` writes; the message names the line.
    """
    columns = [field.name for field in fields(TrainingLog)]
    rows = read_table(path, columns, "run `dvc repro -f train`, or `custom-gaze train`")
    for number, row in enumerate(rows):
        if row.whole("epoch", 10**6) != number:
            raise row.refused("epoch", str(number))
        row.whole("exported", 1)
    values = {name: [row.number(name, 0.0, MOST_LOSS) for row in rows] for name in columns}
    if sum(values["exported"]) > 1:
        raise rows[-1].error("exported is 1 in more than one epoch")
    return TrainingLog(**{name: np.array(column) for name, column in values.items()})
