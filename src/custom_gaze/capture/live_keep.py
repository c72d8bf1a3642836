"""A round's frames kept as a session like any other: the app's files, imported, under DVC."""

import json

from custom_gaze.capture.live_round import Round, Taken
from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import whole_folder
from custom_gaze.common.temporary import temporary_place
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import check_new_session_id
from custom_gaze.data.importing import ImportResult, import_session
from custom_gaze.geometry import ScreenGeometry


def keep(
    taken: Round,
    session_id: str,
    paths: Paths,
    default: ScreenGeometry,
    same_target_px: float,
) -> ImportResult:
    """Make the session data/sessions/<id> of a round; its own screen goes into the session's file
    where it is not the `default`.

    Raises:
        InputError: the id is not allowed or taken.
        CustomGazeError: it cannot be written, or `dvc add` failed; nothing is left of it then.
    """
    check_new_session_id(session_id, "the session's name")
    target = paths.sessions / session_id
    own = None if taken.geometry == default else taken.geometry
    try:
        paths.sessions.mkdir(parents=True, exist_ok=True)
        with temporary_place(target) as place:
            with whole_folder(place / session_id) as folder:
                for one in taken.taken:
                    stem = folder / f"img_{one.timestamp_ms}"
                    stem.with_suffix(".jpg").write_bytes(one.content)
                    stem.with_suffix(".json").write_bytes(_record(taken, one))
            return import_session(
                place / session_id, session_id, paths, default, same_target_px, own
            )
    except OSError as error:
        raise CustomGazeError(f"{target}: cannot be written ({error.strerror})") from None


def _record(taken: Round, one: Taken) -> bytes:
    """The frame's JSON with every key that the app writes; no network of the app has looked."""
    x_px, y_px = taken.targets_px[one.target].tolist()
    record = {
        "timestamp": one.timestamp_ms,
        "screen_x": round(x_px, 4),
        "screen_y": round(y_px, 4),
        "inference": None,
        "moondream_result": None,
    }
    return (json.dumps(record, indent=2) + "\n").encode()
