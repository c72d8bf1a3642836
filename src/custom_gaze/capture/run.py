"""A session captured in the browser, from the empty page to the imported session."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from custom_gaze.capture.desk import Desk, Options, Outcome
from custom_gaze.capture.folder import CaptureFolder, capturing
from custom_gaze.capture.looking import load_watcher
from custom_gaze.capture.routes import routes_of
from custom_gaze.capture.server import Served, serving
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import check_new_session_id
from custom_gaze.data.dvc_sessions import is_tracked
from custom_gaze.data.importing import ImportResult, import_session

TELLS_S = 10.0  # for the page to ask how the import went


@dataclass(frozen=True)
class CaptureResult:
    """`imported` is None where the page ended without that; `frames` then wait to be gone on
    with."""

    session: str
    frames: int
    imported: ImportResult | None


def run(
    session: str, params: Params, paths: Paths, options: Options, opened: Callable[[str], None]
) -> CaptureResult:
    """Serve the page until it has captured the session, or ends; then import it.

    What was captured stays where it is until it is imported, whatever ends this: the same command
    goes on.

    Args:
        session: its name, a new one.
        params: the project's.
        paths: the project's.
        options: how it is captured.
        opened: called with the page's address once it answers.

    Raises:
        InputError: there is such a session, another command captures it, or it cannot be imported.
        CustomGazeError: no port can be had, or something cannot be written.
    """
    check_new_session_id(session, "capture")
    folder = paths.sessions / session
    if os.path.lexists(folder) or is_tracked(folder):
        raise InputError(f"capture: {session!r} exists already in {paths.sessions}; name another")
    with capturing(session, paths) as place:
        captured = CaptureFolder(place)
        desk = Desk(session, captured, load_watcher(params.prepare, paths), options)
        pages: list[Served] = []
        with serving("capture", routes_of(desk, lambda: pages[0])) as served:
            pages.append(served)
            opened(served.url)
            served.wait()
            imported = _import(desk, captured, params, paths) if desk.finishing.is_set() else None
        record = desk.record
        result = CaptureResult(session, record.frames if record else 0, imported)
        if imported is not None or not result.frames:
            captured.clear()
        return result


def _import(desk: Desk, captured: CaptureFolder, params: Params, paths: Paths) -> ImportResult:
    assert desk.record is not None
    geometry = desk.record.screen.screen().geometry()
    try:
        imported = import_session(
            captured.path, desk.session, paths, geometry, params.split.same_target_px, geometry
        )
    except CustomGazeError as error:
        desk.outcome = Outcome(error=str(error))
        raise
    else:
        desk.outcome = Outcome(imported.frames, imported.targets)
        return imported
    finally:
        if desk.outcome is not None:
            desk.told.wait(TELLS_S)
