"""Where on the screen targets are missing."""

import numpy as np
from numpy.typing import NDArray

# The farthest that a point of the screen may be from a target, in screens: a grid of 3 x 3 passes.
# A network has to guess beyond the outermost targets, so the edge counts for more.
REACH, EDGE_REACH = 0.35, 0.25
EDGE_SHARE = 0.04  # how far from the edge new targets are proposed
PLACES = (13, 9)  # columns and rows of places a new target may have
MOST_ADDED = 24


def places() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The screen's grid of places (N, 2) in shares of it, and where there a target is proposed:
    the same (N, 2) away from the edge, where nobody can click."""
    columns, rows = PLACES
    grid = np.stack(
        np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows)), axis=-1
    ).reshape(-1, 2)
    return grid, np.clip(grid, EDGE_SHARE, 1 - EDGE_SHARE)


def worth_adding(targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where targets are missing: targets (T, 2) and result (N, 2) in shares of the screen, 0 … 1.

    Taken greedily, each time the place that is farthest beyond its reach from every target. The
    distance that counts is that of the screen's own edge or corner, not of the place proposed.
    """
    grid, proposed = places()
    at_edge = ((grid == 0) | (grid == 1)).any(axis=1)
    reach = np.where(at_edge, EDGE_REACH, REACH)
    distance = np.full(len(grid), np.inf)
    for target in targets:
        distance = np.minimum(distance, np.hypot(*(grid - target).T))
    added: list[NDArray[np.float64]] = []
    while len(added) < MOST_ADDED and (distance > reach).any():
        place = proposed[int(np.argmax(distance / reach))]
        added.append(place)
        distance = np.minimum(distance, np.hypot(*(grid - place).T))
    return np.array(added).reshape(-1, 2)
