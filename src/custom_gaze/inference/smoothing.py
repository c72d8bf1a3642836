"""Filters for what is shown live: the app's exponential smoothing, and the one euro filter.

Both take one gaze after the other, (2,) [yaw, pitch] in degrees, and remember what came before.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

SHARE = 0.4  # of the newest prediction in what the app shows
# One euro: the cutoff at rest, how much it rises with speed, and the cutoff of the speed itself.
# On fixations with 1° of noise these leave 0.46° at 25 frames a second and 0.61° at 12, where the
# app's smoothing leaves 0.7°, and a jump of 15° is followed sooner: 0.16 and 0.20 s, not 0.19 and
# 0.41 (tests/inference/test_smoothing.py holds them to it).
REST_HZ, RISE_HZ_PER_DEG_S, SPEED_HZ = 0.4, 0.06, 1.0
LONGEST_GAP_S = 1.0  # after a longer one what came before says nothing

Angles = NDArray[np.float64]


class Exponential:
    """The app's: a fixed share of the newest; the first one counts in full."""

    def __init__(self, share: float = SHARE) -> None:
        self._share = share
        self._shown: Angles | None = None

    def __call__(self, angles_deg: ArrayLike) -> Angles:
        """The newest angles drawn towards those before them."""
        newest = np.asarray(angles_deg, np.float64)
        before = newest if self._shown is None else self._shown
        shown: Angles = self._share * newest + (1 - self._share) * before
        self._shown = shown
        return np.array(shown)


class OneEuro:
    """The one euro filter (Casiez, Roussel & Vogel 2012): a low-pass filter whose cutoff rises with
    the speed, so that a resting gaze is steady and a moving one is not late.

    Yaw and pitch share one cutoff, of the speed of both: a jump to the side is no reason for the
    other angle to lag.
    """

    def __init__(
        self,
        rest_hz: float = REST_HZ,
        rise: float = RISE_HZ_PER_DEG_S,
        speed_hz: float = SPEED_HZ,
    ) -> None:
        """`rise` in Hz for each degree a second."""
        self._rest_hz, self._rise, self._speed_hz = rest_hz, rise, speed_hz
        self._seconds: float | None = None
        self._newest = self._shown = self._speed = np.zeros(2)

    def __call__(self, seconds: float, angles_deg: ArrayLike) -> Angles:
        """The filtered angles at a time that does not go back; after LONGEST_GAP_S it starts anew.

        A time that is not later than the one before counts as that one's own repetition: nothing
        is learned of the speed, and the newest angles count in full.
        """
        newest = np.asarray(angles_deg, np.float64)
        step_s = None if self._seconds is None else seconds - self._seconds
        if step_s is None or not 0 < step_s <= LONGEST_GAP_S:
            self._speed, self._shown = np.zeros_like(newest), newest
        else:
            speed = (newest - self._newest) / step_s
            self._speed = _towards(self._speed, speed, self._speed_hz, step_s)
            cutoff_hz = self._rest_hz + self._rise * float(np.hypot(*self._speed))
            self._shown = _towards(self._shown, newest, cutoff_hz, step_s)
        self._seconds, self._newest = seconds, newest
        return np.array(self._shown)


def _towards(before: Angles, newest: Angles, cutoff_hz: float, step_s: float) -> Angles:
    """A first-order low-pass filter's next value."""
    share = 1 / (1 + 1 / (2 * math.pi * cutoff_hz * step_s))
    drawn: Angles = share * newest + (1 - share) * before
    return drawn
