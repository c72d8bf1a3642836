"""What can be exported (calibration/candidates.py), and every name that it goes by."""

from enum import Enum

AUTO = "auto"  # of train.method: the candidate that held-out targets prefer


class Candidate(str, Enum):
    """A candidate, from the simplest to the least simple; as text its value, as in params.yaml."""

    BASE = "base"
    PROBE = "probe"
    FINETUNE = "finetune"

    def __str__(self) -> str:
        return self.value

    @property
    def label(self) -> str:
        """Its name in tables and messages."""
        return _LABELS[self]

    @property
    def metric(self) -> str:
        """The key of its mean error in degrees in the metrics."""
        return _METRICS[self]

    @property
    def held_out(self) -> str:
        """The key of its mean error in degrees on calibration targets held out."""
        return f"held_out_{self}_deg"


_LABELS = dict(zip(Candidate, ("corrected base", "probe", "fine-tuned"), strict=True))
_METRICS = dict(zip(Candidate, ("corrected_deg", "probe_deg", "finetuned_deg"), strict=True))
