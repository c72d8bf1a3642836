"""What the accuracy bench knows about the number of targets, for whoever is about to calibrate.

From docs/demo_world.md, "What calibration gains": the mean error over ten simulated persons of what
is exported (auto, embedded base). A test holds these figures to that page.
"""

from collections.abc import Iterable

# Degrees, by the number of targets that were calibrated on.
SAME_DAY_DEG = {9: 2.17, 25: 1.66}
OTHER_DAY_DEG = {9: 2.62, 25: 2.41}

FEW, GOOD = 9, 25  # targets: a 3 x 3 grid, a 5 x 5 grid
ENOUGH = 16


EMBEDDED = "embedded"  # fetch.base, and the kind of base that it gives
DRAWN_BASE = (
    "the embedded base network has seen drawings of one face only, and these frames are of a real "
    "person; docs/real_people.md says how that went, fetch.base names another network"
)


def drawn_base(base: str, drawn: Iterable[bool]) -> str:
    """What to know where the base network of this word or kind has seen drawings alone and not all
    frames are `drawn`; '' elsewhere."""
    return DRAWN_BASE if base == EMBEDDED and not all(drawn) else ""


def few_targets(targets: int) -> tuple[str, str] | None:
    """What to know about so few targets, and what to do; None from 16 on."""
    if targets >= ENOUGH:
        return None
    but = "" if targets >= FEW else "even "
    what = (
        f"{targets} target{'s' * (targets != 1)} only: in the bench {but}{FEW} left "
        f"{SAME_DAY_DEG[FEW]:.1f}° the same day and {OTHER_DAY_DEG[FEW]:.1f}° another day, where "
        f"{GOOD} left {SAME_DAY_DEG[GOOD]:.1f}° and {OTHER_DAY_DEG[GOOD]:.1f}°"
    )
    return what, f"capture {GOOD - targets} more all over the screen"


def another_day(targets: int) -> str:
    """What to know where nothing of another day was tested."""
    like = max((k for k in OTHER_DAY_DEG if k <= targets), default=FEW)
    return (
        f"Nothing of another session was tested. In the bench {like} targets of one day left "
        f"{SAME_DAY_DEG[like]:.1f}° that day and {OTHER_DAY_DEG[like]:.1f}° another day: capture a "
        "session another day and name it in evaluate.sessions to see yours."
    )
