"""What a finding is."""

from dataclasses import dataclass
from enum import Enum

from custom_gaze.common.untrusted import printable

MOST_OF_A_LINE = 1000  # characters
NAMES_SHOWN = 5  # of a finding's frames, in text; JSON has them all


class Severity(str, Enum):
    """How much a finding matters, the worst first."""

    ERROR = "error"  # training fails or learns something wrong
    WARNING = "warning"  # training gets worse
    NOTE = "note"  # worth knowing


@dataclass(frozen=True)
class Finding:
    """Something to know before training: what, about which frames, and what to do about it.

    `check` is one of: session, face, border, eyes, duplicate, coverage, geometry, label,
    mirror, environment. `session` is None and `frames` is empty where it is about neither.
    """

    severity: Severity
    check: str
    what: str
    advice: str
    session: str | None = None
    frames: tuple[str, ...] = ()

    def line(self) -> str:
        """The finding as one line, whatever the files are called."""
        shown = ", ".join(self.frames[:NAMES_SHOWN])
        more = len(self.frames) - NAMES_SHOWN
        names = f"{shown} and {more} more: " if more > 0 else f"{shown}: " if shown else ""
        said = printable(f"{names}{self.what}; {self.advice}", MOST_OF_A_LINE)
        return f"{self.severity.value:<8}{self.check:<12}{said}"


def worst_first(findings: list[Finding]) -> tuple[Finding, ...]:
    """Sorted by severity; the order within one severity stays."""
    order = list(Severity)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))
