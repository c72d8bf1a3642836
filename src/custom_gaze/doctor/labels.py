"""The findings about labels that disagree with what the session's other targets teach."""

from collections.abc import Sequence

from custom_gaze.data.frame_looks import FrameLook
from custom_gaze.data.label_check import LEAST_TARGETS, LabelCheck, judge_labels
from custom_gaze.data.suspects import label_does_not_fit
from custom_gaze.doctor.findings import Finding, Severity
from custom_gaze.doctor.frames import RECAPTURE
from custom_gaze.geometry import ScreenGeometry


def check_labels(
    looks: Sequence[FrameLook], geometry: ScreenGeometry, same_target_px: float
) -> tuple[LabelCheck | None, list[Finding]]:
    """Find the frames whose label the other targets contradict; None where it was not done."""
    judged = judge_labels(looks, geometry, same_target_px)
    check = judged.check
    if check is None:
        what = f"labels were not checked: {judged.targets} targets tell too little about each other"
        advice = f"capture at least {LEAST_TARGETS}"
        return None, [Finding(Severity.NOTE, "label", what, advice)]
    if not check.useful:
        what = (
            f"labels cannot be judged: from the other targets' eyes a target is found to within "
            f"{check.errors_deg.mean():.1f}°, by guessing to within {check.guess_deg:.1f}°"
        )
        advice = "more light on the face and more targets help; so does a sharper camera"
        return check, [Finding(Severity.NOTE, "label", what, advice)]
    advice = f"look at it; {RECAPTURE}"
    return check, [
        Finding(
            Severity.WARNING,
            "label",
            label_does_not_fit(look.frame, wrong, check, geometry),
            advice,
            frames=(look.name,),
        )
        for look, wrong in judged.wrong
    ]
