"""Frames that doctor would flag, excluded at once: `custom-gaze import --drop-flagged`."""

from custom_gaze.common.console import bar
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.frame_looks import Examiner
from custom_gaze.data.prepared import Suspect
from custom_gaze.data.session_changes import exclude_each
from custom_gaze.data.session_file import read_heeded
from custom_gaze.data.suspects import suspects_among
from custom_gaze.faces.eye_points import load_eye_finder
from custom_gaze.faces.finder import load_finder


def load_examiner(params: Params, paths: Paths) -> Examiner:
    """What it takes to look at frames as `prepare` does.

    Raises:
        InputError: `custom-gaze fetch` was not run yet.
    """
    settings = params.prepare
    finder = load_finder(paths.faces, settings.min_score)
    return Examiner(finder, load_eye_finder(), settings.margin)


def exclude_suspects(
    name: str, examiner: Examiner, params: Params, paths: Paths
) -> tuple[Suspect, ...]:
    """Exclude the frames of a session whose eyes look closed, whose label the others contradict
    or that show what another does, each for that reason; returns them.

    Raises:
        InputError: there is no such session, or it cannot be read.
        CustomGazeError: its file cannot be written.
    """
    session, geometry = read_heeded(paths.sessions / name, paths, params.geometry)
    looks = [examiner.look(frame) for frame in bar(session.frames, f"looking at {name}")]
    with_face = [look for look in looks if look.face is not None]
    suspects = suspects_among(with_face, geometry, params.split.same_target_px)
    exclude_each(name, {entry.filename: entry.why for entry in suspects}, paths)
    return suspects
