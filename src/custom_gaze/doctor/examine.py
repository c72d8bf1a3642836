"""The whole examination: every session asked for, then the environment."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.console import bar
from custom_gaze.common.errors import InputError
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.dvc_sessions import complete_sessions
from custom_gaze.data.frame_looks import Examiner, FrameLook
from custom_gaze.data.session_file import read_heeded
from custom_gaze.data.sessions import Session
from custom_gaze.doctor.environment import look_at_environment
from custom_gaze.doctor.findings import Finding, Severity, worst_first
from custom_gaze.doctor.frames import check_frames
from custom_gaze.doctor.labels import check_labels
from custom_gaze.doctor.mirror import between_sessions, check_mirrored
from custom_gaze.doctor.screen import look_at_screen
from custom_gaze.faces.eye_points import load_eye_finder
from custom_gaze.faces.finder import load_finder
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.inference.predict import session_folder


@dataclass(frozen=True)
class SessionLook:
    """One session's examination. `map` draws the screen, `add_px` are targets worth adding.

    `label_error_deg` is the mean error of leaving one target out, `guess_error_deg` that of
    guessing; None where labels were not checked.
    """

    id: str
    folder: Path
    frames: int
    with_face: int | None  # None: there is no face detector yet
    targets: int
    map: str
    add_px: tuple[tuple[int, int], ...]
    label_error_deg: float | None
    guess_error_deg: float | None


@dataclass(frozen=True)
class DoctorResult:
    """What `custom-gaze doctor` says; the findings come worst first."""

    environment: dict[str, str]
    sessions: tuple[SessionLook, ...]
    findings: tuple[Finding, ...]


def run(session: str | None, params: Params, paths: Paths) -> DoctorResult:
    """Examine one session, an id or a folder, or all that params.yaml names; and the environment.

    Raises:
        InputError: the session asked for cannot be read. One that params.yaml names and that
            cannot be read is a finding.
    """
    findings: list[Finding] = _completed(paths)
    if session is not None:
        sessions = [read_heeded(session_folder(session, paths), paths, params.geometry)]
    else:
        sessions = _named(params, paths, findings)
    environment = look_at_environment(params, paths)
    findings.extend(environment.findings)
    examiner = _examiner(params, paths, findings)
    looked = [_examine(*one, examiner, params, findings) for one in sessions]
    findings += between_sessions(
        [
            (look.id, frames, geometry)
            for (look, frames), (_, geometry) in zip(looked, sessions, strict=True)
        ]
    )
    looks = tuple(look for look, _ in looked)
    return DoctorResult(environment.facts, looks, worst_first(findings))


def _completed(paths: Paths) -> list[Finding]:
    """Sessions of earlier versions have no file of ours, which is made: DVC would stop there."""
    return [
        Finding(
            Severity.WARNING,
            "session",
            f"{path} was not there, and `dvc repro` would miss its data; it is made",
            f"git commit it with {path.with_suffix('.dvc').name}",
            path.stem,
        )
        for path in complete_sessions(paths)
    ]


def _named(
    params: Params, paths: Paths, findings: list[Finding]
) -> list[tuple[Session, ScreenGeometry]]:
    """The sessions that params.yaml names, as far as they can be read, and their screens."""
    sessions = []
    for name in (*params.sessions, *params.evaluate.sessions):
        try:
            sessions.append(read_heeded(paths.sessions / name, paths, params.geometry))
        except InputError as error:
            advice = f"import or pull it, or take {name} out of params.yaml"
            findings.append(Finding(Severity.ERROR, "session", str(error), advice, name))
    return sessions


def _examiner(params: Params, paths: Paths, findings: list[Finding]) -> Examiner | None:
    """The tools to look at frames; what is missing of them is a finding."""
    try:
        finder = load_finder(paths.faces, params.prepare.min_score)
    except InputError as error:
        what = f"faces, eyes and labels were not checked ({error})"
        findings.append(Finding(Severity.ERROR, "face", what, "then run this again"))
        return None
    return Examiner(finder, load_eye_finder(), params.prepare.margin)


def _examine(
    session: Session,
    geometry: ScreenGeometry,
    examiner: Examiner | None,
    params: Params,
    findings: list[Finding],
) -> tuple[SessionLook, list[FrameLook]]:
    """Look at every frame once, then at the session as a whole."""
    found = _left_out(session)
    looks: list[FrameLook] = []
    if examiner:
        looks = [examiner.look(frame) for frame in bar(session.frames, f"examine {session.id}")]
    usable = [look.frame for look in looks if look.face] if examiner else list(session.frames)
    same_px = params.split.same_target_px
    coverage, of_screen = look_at_screen(usable, geometry, same_px)
    found += [*check_frames(looks, same_px), *of_screen, *check_mirrored(looks, geometry)]
    label = None
    if examiner:
        label, of_labels = check_labels(looks, geometry, same_px)
        found += of_labels
    findings += [dataclasses.replace(finding, session=session.id) for finding in found]
    look = SessionLook(
        id=session.id,
        folder=session.folder,
        frames=len(session.frames) + len(session.left_out),
        with_face=len(usable) if examiner else None,
        targets=coverage.targets,
        map=coverage.map,
        add_px=coverage.add_px,
        label_error_deg=float(label.errors_deg.mean()) if label else None,
        guess_error_deg=label.guess_deg if label else None,
    )
    return look, looks


def _left_out(session: Session) -> list[Finding]:
    """A finding for each frame that cannot be used, one for all that are excluded."""
    advice = "capture it again if the target matters"
    found = [
        Finding(Severity.WARNING, "session", entry.reason, advice, frames=(entry.filename,))
        for entry in session.left_out
        if not entry.excluded
    ]
    names = tuple(entry.filename for entry in session.left_out if entry.excluded)
    if names:
        what = f"{len(names)} excluded and not looked at"
        advice = f"custom-gaze session show {session.id} says why"
        found.append(Finding(Severity.NOTE, "session", what, advice, frames=names))
    return found


def as_json(result: DoctorResult) -> str:
    """The whole result as indented JSON."""
    content = dataclasses.asdict(result)
    for entry in content["sessions"]:
        entry["map"] = entry["map"].split("\n")
    return json.dumps(content, indent=2, allow_nan=False, default=str)


def as_text(result: DoctorResult) -> str:
    """The result for people: facts, each session with its map, findings worst first."""
    width = max(len(name) for name in result.environment)
    lines = [f"{name:<{width}}  {fact}" for name, fact in result.environment.items()]
    for look in result.sessions:
        lines += ["", *_about(look)]
    lines.append("")
    lines += [_named_line(finding, result.sessions) for finding in result.findings]
    return "\n".join([*lines, _sum(result.findings)])


def _about(look: SessionLook) -> list[str]:
    faces = "" if look.with_face is None else f", {look.with_face} with one clear face"
    lines = [f"{look.id}: {look.frames} frames{faces}, {look.targets} targets"]
    if look.label_error_deg is not None:
        lines.append(
            f"a target left out is found from the others' eyes to within "
            f"{look.label_error_deg:.1f}° (by guessing: {look.guess_error_deg:.1f}°)"
        )
    added = ", + a target worth adding" if look.add_px else ""
    return [*lines, f"frames on each part of the screen{added}:", look.map]


def _named_line(finding: Finding, sessions: Sequence[SessionLook]) -> str:
    """Where several sessions were looked at, a finding says which one it is about."""
    if len(sessions) < 2 or finding.session is None:
        return finding.line()
    what = f"{finding.what} (session {finding.session})"
    return dataclasses.replace(finding, what=what).line()


def _sum(findings: Sequence[Finding]) -> str:
    if not findings:
        return "nothing found: all is well"
    counts = [(s.value, sum(f.severity is s for f in findings)) for s in Severity]
    return ", ".join(
        f"{count} {name}{'s' if count != 1 else ''}" for name, count in counts if count
    )
