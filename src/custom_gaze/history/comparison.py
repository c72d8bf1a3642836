"""A model that is to be deployed and the live one, compared on a session neither was trained on."""

from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import sha256_of
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.evaluation.metrics import Measure
from custom_gaze.history.calibrations import History
from custom_gaze.history.models import Models
from custom_gaze.history.reference import Measurable, Measured, Reference, measured, reference_for

NO_SESSION = (
    "no prepared session that neither of them was trained on; name one in evaluate.sessions, "
    "or run `custom-gaze prepare ID`"
)


@dataclass(frozen=True)
class Comparison:
    """Two models' errors on the reference session, or why they cannot be compared."""

    reference: Reference | None
    new: Measure | None
    live: Measure | None
    live_name: str
    problem: str

    @property
    def is_worse(self) -> bool:
        """Whether the new one errs more, in hundredths of a degree."""
        if self.new is None or self.live is None:
            return False
        return round(self.new.error_deg, 2) > round(self.live.error_deg, 2)

    def line(self) -> str:
        """What was found, for a person."""
        if self.reference is None or self.new is None or self.live is None:
            return f"not compared with {self.live_name}, which is live: {self.problem}"
        return (
            f"on {self.reference.session} ({self.new.frames} frames of {self.new.targets} targets, "
            f"neither was trained on it): {shown(self.new)}; {self.live_name}, which is live, "
            f"{shown(self.live)}"
        )


def shown(figures: Measure) -> str:
    """An error with its interval."""
    if figures.low_deg is None:
        return f"{figures.error_deg:.2f}°"
    return f"{figures.error_deg:.2f}° ({figures.low_deg:.2f}–{figures.high_deg:.2f}°)"


def compare(
    new: Path, live: Path, live_name: str, known: History, params: Params, paths: Paths
) -> Comparison:
    """Compare two model files; whatever prevents it is said, for a deploy needs no comparison.

    `live_name` is what the live one is called where no calibration in `known` has it.
    """
    of_live = known.of_model(sha256_of(live))
    name = of_live.name if of_live else live_name
    try:
        pair = [_measurable(path, known, paths) for path in (new, live)]
        reference = reference_for(pair, params, paths)
        if reference is None:
            return Comparison(None, None, None, name, NO_SESSION)
        found = [each for each in measured(pair, reference, paths) if each is not None]
    except CustomGazeError as error:
        return Comparison(None, None, None, name, str(error))
    ours, theirs = (each.comparable for each in found)
    return Comparison(reference, ours, theirs, name, _problem(found))


def _measurable(path: Path, known: History, paths: Paths) -> Measurable:
    sha256 = sha256_of(path)
    calibration = known.of_model(sha256)
    model = Models(paths).file(path, sha256)
    return Measurable(model, calibration.index_md5 if calibration else None)


def _problem(found: list[Measured]) -> str:
    for each, which in zip(found, ("it", "the live model"), strict=True):
        if each.problem:
            return f"{which} {each.problem}"
        if each.trained_on:
            return NO_SESSION
    return ""
