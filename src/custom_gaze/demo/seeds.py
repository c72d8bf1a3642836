"""Which person seeds serve which purpose, and the random streams drawn from them.

The ranges are disjoint, so no person seen in pretraining or in choosing a setting can appear in a
measurement. A session's streams start from its person's seed: sessions of different persons share
no random number, whatever their own seeds are.
"""

import numpy as np

from custom_gaze.common.errors import InputError

PERSON_SEEDS = {
    "demo": range(1, 1_000),
    "bench": range(1_000, 2_000),
    "tuning": range(2_000, 3_000),
    "pretrain": range(10_000, 1_000_000),
}
MAX_SESSION_SEED = 2**31 - 1
MAX_DAY = 10_000

# First word of each stream's entropy: what the stream is for.
STREAM_PERSON, STREAM_SESSION, STREAM_FRAME, STREAM_TARGETS, STREAM_ROOM = range(1, 6)
STREAM_CROP = 6


def check_person_seed(seed: int, purpose: str) -> int:
    """Return `seed` if it may be used for `purpose`, one of the keys of PERSON_SEEDS.

    Raises:
        InputError: the purpose is unknown or the seed lies outside its range.
    """
    if purpose not in PERSON_SEEDS:
        raise InputError(
            f"purpose {purpose!r} is unknown; a person seed serves one of {', '.join(PERSON_SEEDS)}"
        )
    allowed = PERSON_SEEDS[purpose]
    if seed not in allowed:
        raise InputError(
            f"person seed {seed} is not one for {purpose}; choose from "
            f"{allowed.start} to {allowed.stop - 1}"
        )
    return seed


def check_session_seed(seed: int, day: int) -> None:
    """Refuse a session seed or a day that names no session.

    Raises:
        InputError: one of the two is out of range.
    """
    if not 0 <= seed <= MAX_SESSION_SEED:
        raise InputError(
            f"session seed {seed} is out of range; choose from 0 to {MAX_SESSION_SEED}"
        )
    if not 1 <= day <= MAX_DAY:
        raise InputError(f"day {day} is out of range; choose from 1 to {MAX_DAY}")


def stream(*words: int) -> np.random.Generator:
    """An independent random stream named by whole numbers, the first one a STREAM_ constant."""
    return np.random.default_rng(np.random.SeedSequence(words))
