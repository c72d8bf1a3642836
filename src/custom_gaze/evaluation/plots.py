"""The reports' pictures: loss per epoch, predictions on the screen, error over the screen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from custom_gaze.common.files import whole_file
from custom_gaze.common.framing import Area, Framed, framed
from custom_gaze.common.look import LIGHT
from custom_gaze.config.paths import Paths
from custom_gaze.evaluation.results import TESTED_AS, Evaluation, PredictionRow, TrainingLog
from custom_gaze.geometry import ScreenGeometry

TARGET, PREDICTION, LINE = LIGHT.target, LIGHT.gaze, LIGHT.edge
ROOM_SHARE = 0.1  # of the screen, around it
ARROWS = {"left": "<", "top": "^", "right": ">", "bottom": "v"}


def draw(evaluation: Evaluation, paths: Paths, geometry: ScreenGeometry) -> None:
    """Draw all three pictures; `geometry` is that of the targets' screen."""
    _loss(evaluation.log, paths.loss_plot)
    _screen(evaluation.predictions, paths.screen_plot, geometry)
    _error_map(evaluation.predictions, paths.error_plot, geometry)


def _loss(log: TrainingLog, path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(log.epoch, log.train_loss, color=TARGET, label="training (augmented samples)")
    label = "targets left out of training in turn, or set aside (plain frames)"
    axes.plot(log.epoch, log.validation_loss, color=PREDICTION, label=label)
    title = "Loss per epoch of the fine-tuned candidate, which is not exported"
    for row in np.flatnonzero(log.exported):  # one at most
        axes.plot(log.epoch[row], log.validation_loss[row], "o", color=PREDICTION)
        error_deg = log.validation_error_deg[row]
        title = f"Loss per epoch; exported: epoch {row}, {error_deg:.2f}° on targets left out"
    axes.set(xlabel="epoch", ylabel="mean squared error (degrees²)", title=title)
    axes.set_ylim(0, 1.15 * max(log.train_loss.max(), log.validation_loss.max()))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


def _screen(rows: Sequence[PredictionRow], path: Path, geometry: ScreenGeometry) -> None:
    tested = _tested(rows)
    figure = Figure(figsize=(6.5 * len(tested), 4.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(tested)))
    for (name, mine), axes in zip(tested.items(), panels, strict=True):
        _screen_frame(axes, geometry)
        targets, predicted = _points(mine)
        shown = framed(predicted, _area(geometry), targets)
        ends = np.stack([targets, shown.places])  # (2, N, 2): a line a frame
        axes.plot(ends[..., 0], ends[..., 1], color=LINE, linewidth=1, zorder=1)
        axes.scatter(*targets.T, color=TARGET, marker="+", s=70, label="target")
        axes.scatter(*shown.inside.T, color=PREDICTION, s=14, label="prediction", zorder=3)
        _mark_edges(axes, shown, "prediction", PREDICTION)
        error = float(np.mean([row.error_deg for row in mine]))
        axes.set_title(f"{name}: {error:.2f}° over {len(mine)} frames")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2, frameon=False)
    save(figure, path)


def _error_map(rows: Sequence[PredictionRow], path: Path, geometry: ScreenGeometry) -> None:
    """Each target as a disc: its colour is the mean error, its arrow the mean shift."""
    tested = _tested(rows)
    figure = Figure(figsize=(7 * len(tested), 4.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(tested)))
    worst = max(row.error_deg for row in rows)
    for (name, mine), axes in zip(tested.items(), panels, strict=True):
        discs = _error_discs(axes, mine, geometry, worst)
        axes.set_title(f"Error over the screen: {name}")
    figure.colorbar(discs, label="mean error (degrees)")
    save(figure, path)


def _error_discs(
    axes: Axes, rows: Sequence[PredictionRow], geometry: ScreenGeometry, worst: float
) -> PathCollection:
    _screen_frame(axes, geometry)
    targets, predicted = _points(rows)
    errors = np.array([row.error_deg for row in rows])
    _, group = np.unique([row.target for row in rows], return_inverse=True)
    counts = np.bincount(group)
    mean = np.bincount(group, errors) / counts
    where = np.stack([np.bincount(group, c) / counts for c in targets.T], axis=1)
    shift = np.stack([np.bincount(group, d) / counts for d in (predicted - targets).T])
    discs = axes.scatter(
        *(where[:, 0], where[:, 1]),
        c=mean,
        s=220,
        cmap="viridis_r",
        vmin=0,
        vmax=worst,
        edgecolors="white",
        zorder=2,
    )
    ends = framed(where + shift.T, _area(geometry), where)
    axes.quiver(
        *(*where.T, *(ends.places - where).T),
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.003,
        alpha=0.6,
        zorder=3,
    )
    _mark_edges(axes, ends, "arrow", "black")
    return discs


def _mark_edges(axes: Axes, shown: Framed, what: str, color: str) -> None:
    """An arrowhead at the edge for each point beside the plotted area, and how many there are."""
    for edge in shown.edges():
        axes.plot(
            *edge.places.T, ARROWS[edge.side], color=color, markersize=6, clip_on=False, zorder=4
        )
        said = f"{edge.count} {what}{'s' if edge.count > 1 else ''} outside"
        across = edge.side in ("top", "bottom")
        axes.annotate(
            said,
            edge.middle,
            xytext={"left": (8, 0), "right": (-8, 0), "top": (0, -8), "bottom": (0, 8)}[edge.side],
            textcoords="offset points",
            ha="center" if across else edge.side,
            va={"top": "top", "bottom": "bottom"}.get(edge.side, "center"),
            rotation=0 if across else 90,
            color=color,
            fontsize=8,
            zorder=5,
        )


def _screen_frame(axes: Axes, geometry: ScreenGeometry) -> None:
    width, height = 2 * geometry.center_x_px, 2 * geometry.center_y_px
    axes.plot([0, width, width, 0, 0], [0, 0, height, height, 0], color="black", linewidth=1)
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)", aspect="equal")
    left, top, right, bottom = _area(geometry)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)  # down is positive, as on the screen


def _area(geometry: ScreenGeometry) -> Area:
    """What is plotted, in pixels of the screen: all of it and some room."""
    width, height = 2 * geometry.center_x_px, 2 * geometry.center_y_px
    room = ROOM_SHARE * np.array([width, height])
    return (-float(room[0]), -float(room[1]), width + float(room[0]), height + float(room[1]))


def _tested(rows: Sequence[PredictionRow]) -> dict[str, list[PredictionRow]]:
    """The rows of what was tested, by its name in words."""
    found: dict[str, list[PredictionRow]] = {}
    for row in rows:
        found.setdefault(TESTED_AS[row.tested_as], []).append(row)
    return found


def _points(rows: Sequence[PredictionRow]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 2) each: the targets and the predictions, in pixels."""
    points = [(row.target_x, row.target_y, row.predicted_x, row.predicted_y) for row in rows]
    targets, predicted = np.split(np.array(points), 2, axis=1)
    return targets, predicted


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with whole_file(path) as temporary:
        # No date and no version in the file: the same picture is the same bytes.
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})
