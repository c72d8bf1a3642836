"""reports/metrics.json and reports/sessions.json, read again as `evaluate` writes them."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, RootModel, model_validator

from custom_gaze.common.stage_files import Strict, read_json
from custom_gaze.config.candidate import Candidate

REMEDY = "run `dvc repro`, or `custom-gaze evaluate`"
Degrees = Annotated[float, Field(ge=0.0, le=1e15)]  # an error; a dead network's may be large
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Line = Annotated[str, Field(max_length=2000)]


class _Figures(Strict):
    """Errors over some frames: the exported file's, and what was measured beside it."""

    error_deg: Degrees
    low_deg: Degrees | None = None
    high_deg: float | None = Field(default=None, ge=0.0)
    median_deg: Degrees
    p95_deg: Degrees
    error_px: float = Field(ge=0.0)
    frames: Count
    targets: Count
    constant_deg: Degrees
    base_deg: Degrees | None = None
    best_correction_deg: Degrees | None = None
    corrected_deg: Degrees | None = None
    probe_deg: Degrees | None = None
    finetuned_deg: Degrees | None = None

    @model_validator(mode="after")
    def _whole_interval(self) -> "_Figures":
        if (self.low_deg is None) != (self.high_deg is None):
            raise ValueError("low_deg and high_deg go together")
        return self


class _OfSession(_Figures):
    tested_as: Line


class _Choice(Strict):
    exported: Candidate
    reason: Line
    held_out_base_deg: Degrees | None = None
    held_out_probe_deg: Degrees | None = None
    held_out_finetune_deg: Degrees | None = None


class _Metrics(Strict):
    choice: _Choice
    test: _Figures
    cross_session: _Figures | None = None
    train: _Figures


class _Sessions(RootModel[dict[str, _OfSession]]):
    pass


def read_metrics(path: Path) -> dict[str, Any]:
    """reports/metrics.json: the choice, the figures of "test", "cross_session", "train" by name.

    What was not measured has no key.

    Raises:
        InputError: it is missing, or not what `evaluate` writes; the message names the key.
    """
    return read_json(path, _Metrics, REMEDY).model_dump(exclude_none=True)


def read_session_metrics(path: Path) -> dict[str, dict[str, Any]]:
    """reports/sessions.json: the figures of each tested session by its id.

    Raises:
        InputError: as `read_metrics`.
    """
    return dict(read_json(path, _Sessions, REMEDY).model_dump(exclude_none=True))
