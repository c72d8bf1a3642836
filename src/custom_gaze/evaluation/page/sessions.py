"""Session against session: each one's error on one scale, with its interval."""

from dataclasses import dataclass

from custom_gaze.data.splits import TRAIN
from custom_gaze.evaluation.comparisons import Comparison
from custom_gaze.evaluation.results import TESTED_AS, Figures
from custom_gaze.geometry import ScreenGeometry


@dataclass(frozen=True)
class SessionLine:
    """One session's figures; places are in percent of the scale, None where there is none."""

    session: str
    measured_on: str
    figures: Figures
    at: float
    low: float | None
    high: float | None
    corrected: float | None
    scale_deg: float


def trained_frames(measured: int, trained: int) -> str:
    """What is measured of the frames trained on: all of them, or so many that they tell enough."""
    what = "frames it was trained on"
    return what if measured >= trained else f"{measured} of {trained} {what}"


def session_lines(
    comparison: Comparison, trained: int, geometry: ScreenGeometry
) -> list[SessionLine]:
    """Every session of every group, those tested first, all on one scale; `trained` is the number
    of frames trained on."""
    measured = sum(len(group.samples) for group in comparison.groups if group.name == TRAIN)
    fitted = "frames it was trained on" if measured >= trained else "some of the frames trained on"
    found = [
        (session, TESTED_AS.get(group.name, fitted), mine.figures(geometry))
        for group in sorted(comparison.groups, key=lambda group: group.name == TRAIN)
        for session, mine in group.by_session().items()
    ]
    everything = [
        value
        for _, _, each in found
        for value in (each.error_deg, each.high_deg, each.best_correction_deg)
        if value is not None
    ]
    scale = max([*everything, 1e-9]) * 1.02

    def at(value: float | None) -> float | None:
        return None if value is None else round(100 * value / scale, 2)

    return [
        SessionLine(
            *(session, measured_on, each, round(100 * each.error_deg / scale, 2)),
            *(at(each.low_deg), at(each.high_deg), at(each.best_correction_deg), scale),
        )
        for session, measured_on, each in found
    ]
