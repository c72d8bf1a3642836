"""What a checkpoint and the file exported from it say of how they were made."""

from dataclasses import dataclass

from custom_gaze.config.candidate import Candidate


@dataclass(frozen=True)
class BaseProvenance:
    """What the base network was."""

    source: str  # the file it came from, in words
    sha256: str  # of that file; '' where there was none
    kind: str  # one of weights/base.py's KINDS
    trunk: str  # its name, or a few words for an architecture that has none
    bins: int  # of each of its heads; 0 where it had none
    batchnorm_folded: bool  # into its convolutions, in that file


@dataclass(frozen=True)
class TrainingRecord:
    """The epoch whose network this is, 0 for a closed form; losses in degrees².

    `trained_on` are the sides of the split that it was fitted to.
    """

    trained_on: list[str]
    epoch: int
    train_loss: float
    validation_loss: float
    validation_error_deg: float


@dataclass(frozen=True)
class ChoiceRecord:
    """Which candidate it is and why; each candidate's mean error in degrees on targets its fit had
    not seen."""

    method: Candidate
    reason: str
    held_out_deg: dict[Candidate, float]
