"""The page's charts over numbers: what more targets would bring, and how training went."""

from collections.abc import Sequence

from custom_gaze.data.splits import CROSS_SESSION
from custom_gaze.evaluation.learning_curve import MORE_TARGETS, LearningCurve
from custom_gaze.evaluation.page.charts import Chart, Series, chart
from custom_gaze.evaluation.results import TESTED_AS, TrainingLog


def curve_chart(curves: Sequence[LearningCurve]) -> Chart | None:
    """The probe's error over the number of targets, and an estimate of what follows."""
    series = []
    for curve in curves:
        kind = "corrected" if curve.group == CROSS_SESSION else "gaze"
        points = curve.points
        series.append(
            Series(
                *(TESTED_AS[curve.group], kind),
                [point.targets for point in points],
                [point.error_deg for point in points],
                [point.low_deg for point in points],
                [point.high_deg for point in points],
            )
        )
        if (more := curve.expected) is not None:
            last = points[-1]
            series.append(
                Series(
                    *("" if series[-2:-1] else "estimate, with more", kind),
                    [last.targets, more.targets],
                    [last.error_deg, more.error_deg],
                    [last.error_deg, more.low_deg],
                    [last.error_deg, more.high_deg],
                    dashed=True,
                )
            )
    return chart(series, "targets to calibrate on", "mean error (degrees)") if series else None


def curve_sentences(curves: Sequence[LearningCurve]) -> list[str]:
    """What MORE_TARGETS more would bring on each group of frames."""
    said = []
    for curve in curves:
        now, more = curve.points[-1], curve.expected
        where = TESTED_AS[curve.group]
        if more is None:
            said.append(
                f"The linear probe on {where}: {now.error_deg:.1f}° now, and no longer falling: "
                "more targets of this kind promise nothing."
            )
        else:
            said.append(
                f"The linear probe on {where}: {now.error_deg:.1f}° with the {now.targets} targets "
                f"of now, about {more.error_deg:.1f}° ({more.low_deg:.1f}–{more.high_deg:.1f}°) "
                f"with {MORE_TARGETS} more."
            )
    return said


def loss_chart(log: TrainingLog) -> Chart | None:
    """Both losses per epoch; None where nothing was trained and there is one figure alone."""
    epochs = log.epoch.tolist()
    if len(epochs) < 2:
        return None
    series = [
        Series("frames trained on", "target", epochs, log.train_loss.tolist()),
        Series("targets left out", "gaze", epochs, log.validation_loss.tolist()),
    ]
    for row, out in enumerate(log.exported.tolist()):
        if out:
            loss = float(log.validation_loss[row])
            series.append(Series("exported", "gaze", [epochs[row]], [loss]))
    return chart(series, "epoch", "mean squared error (degrees²)")
