"""The frames of a session that are perhaps better excluded, and why."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from custom_gaze.data.frame_looks import FrameLook, closed_eyes, duplicates
from custom_gaze.data.label_check import LabelCheck, WrongLabel, judge_labels
from custom_gaze.data.prepared import Suspect
from custom_gaze.data.sessions import Frame
from custom_gaze.geometry import ScreenGeometry


def suspects_among(
    looks: Sequence[FrameLook], geometry: ScreenGeometry, same_target_px: float
) -> tuple[Suspect, ...]:
    """The suspect frames of a session, `looks` in the order of capture, each with all that is
    said of it: eyes that look closed, a label that the other targets contradict, a picture that
    was there already, and both of two like ones where their targets differ.
    """
    said: dict[str, list[str]] = defaultdict(list)
    for look, share in closed_eyes(looks):
        said[look.name].append(eyes_look_closed(share))
    judged = judge_labels(looks, geometry, same_target_px)
    for look, wrong in judged.wrong:
        assert judged.check is not None
        said[look.name].append(label_does_not_fit(look.frame, wrong, judged.check, geometry))
    for pair in duplicates(looks, same_target_px):
        where = "" if pair.same_target else ", which has another target"
        said[pair.second.name].append(f"shows the same picture as {pair.first.name}{where}")
        if not pair.same_target:
            said[pair.first.name].append(f"shows the same picture as {pair.second.name}{where}")
    names = (look.name for look in looks if look.name in said)
    return tuple(Suspect(filename=name, why="; ".join(said[name])) for name in names)


def eyes_look_closed(share: float) -> str:
    """What is said of a frame whose eyes have `share` of the openness that is usual."""
    return f"the eyes look closed or blurred ({share:.0%} of the session's usual detail)"


def label_does_not_fit(
    frame: Frame, wrong: WrongLabel, check: LabelCheck, geometry: ScreenGeometry
) -> str:
    """What is said of a frame whose label the session's other targets contradict."""
    x, y = geometry.to_pixels(wrong.predicted_deg)
    return (
        f"the eyes seem to look at ({x:.0f}, {y:.0f}), {wrong.error_deg:.1f}° from the target at "
        f"({frame.target_x_px:.0f}, {frame.target_y_px:.0f}); usual are "
        f"{float(np.median(check.errors_deg)):.1f}°"
    )
