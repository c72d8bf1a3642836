"""The findings about single frames: turned, without a face, at the border, eyes, duplicates."""

from collections.abc import Sequence

from custom_gaze.data.frame_looks import FrameLook, closed_eyes, duplicates
from custom_gaze.data.sessions import TURNED, UPRIGHT
from custom_gaze.data.suspects import eyes_look_closed
from custom_gaze.doctor.findings import Finding, Severity

RECAPTURE = "capture this target again, or exclude the frame: custom-gaze session exclude"
CUT_SHARE = 0.03  # of the crop's side; less is lost without distorting the face visibly


def check_frames(looks: Sequence[FrameLook], same_target_px: float) -> list[Finding]:
    """All findings about single frames of a session; `looks` in the order of capture."""
    return [
        *_turned(looks),
        *_faceless(looks),
        *_at_the_border(looks),
        *_closed_eyes(looks),
        *_duplicates(looks, same_target_px),
    ]


def _turned(looks: Sequence[FrameLook]) -> list[Finding]:
    names = tuple(look.name for look in looks if look.turned)
    return [Finding(Severity.WARNING, "session", TURNED, UPRIGHT, frames=names)] if names else []


def _faceless(looks: Sequence[FrameLook]) -> list[Finding]:
    return [
        Finding(Severity.WARNING, "face", look.reason, RECAPTURE, frames=(look.name,))
        for look in looks
        if look.face is None
    ]


def _at_the_border(looks: Sequence[FrameLook]) -> list[Finding]:
    advice = "sit so that the whole head stays in the picture"
    return [
        Finding(
            Severity.WARNING,
            "border",
            f"{look.cut_share:.0%} of the crop lies beyond the frame ({', '.join(look.cut_edges)}) "
            "and the face is stretched to fill it",
            advice,
            frames=(look.name,),
        )
        for look in looks
        if look.cut_share > CUT_SHARE
    ]


def _closed_eyes(looks: Sequence[FrameLook]) -> list[Finding]:
    return [
        Finding(
            Severity.WARNING,
            "eyes",
            eyes_look_closed(share),
            RECAPTURE,
            frames=(look.name,),
        )
        for look, share in closed_eyes(looks)
    ]


def _duplicates(looks: Sequence[FrameLook], same_target_px: float) -> list[Finding]:
    findings = []
    for pair in duplicates(looks, same_target_px):
        if pair.same_target:
            said = (Severity.NOTE, "show the same picture; the second adds nothing", RECAPTURE)
        else:
            what = "show the same picture with different targets: at least one label is wrong"
            said = (Severity.ERROR, what, "see whether the webcam hung, and capture both again")
        severity, what, advice = said
        names = (pair.first.name, pair.second.name)
        findings.append(Finding(severity, "duplicate", what, advice, frames=names))
    return findings
