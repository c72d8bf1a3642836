"""Importing a data set of another format: made a captured folder first, then imported as one."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.files import whole_folder
from custom_gaze.common.temporary import temporary_place
from custom_gaze.config.params import SplitParams
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import check_new_session_id
from custom_gaze.data.adapters.foreign import Options
from custom_gaze.data.adapters.formats import read_foreign
from custom_gaze.data.adapters.writing import write_session
from custom_gaze.data.importing import ImportResult, import_session
from custom_gaze.data.prepared import LeftOut
from custom_gaze.geometry import ScreenGeometry


@dataclass(frozen=True)
class ForeignImport:
    """What became of a data set: the session, what is none of it by the set's own names, and what
    whoever imports it should know."""

    result: ImportResult
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]

    def by_reason(self) -> list[str]:
        """What was left out, a line for each reason: how many, and the first of them."""
        counts = Counter(entry.reason for entry in self.left_out)
        first = {entry.reason: entry.filename for entry in reversed(self.left_out)}
        return [
            f"{first[reason]}{f' and {count - 1} more' if count > 1 else ''}: {reason}"
            for reason, count in counts.most_common()
        ]


def import_foreign(
    source: Path,
    name: str,
    session_id: str,
    paths: Paths,
    geometry: ScreenGeometry,
    options: Options,
    same_target_px: float = SplitParams.same_target_px,
) -> ForeignImport:
    """Import `source`, which is of the format `name`, as the session data/sessions/<id>.

    Its own screen, where the format has one, goes into data/sessions/<id>.yaml. `source` is only
    read; done twice, the session is the same, byte for byte.

    Raises:
        InputError: the id is not allowed or taken; `source` is not of that format, or nothing of it
            can be used.
        CustomGazeError: writing or `dvc add` failed; the project is then as it was before.
    """
    check_new_session_id(session_id, "--session")
    foreign = read_foreign(source, name, options)
    target = paths.sessions / session_id
    try:
        paths.sessions.mkdir(parents=True, exist_ok=True)
        with temporary_place(target) as place:
            with whole_folder(place / session_id) as folder:
                unwritten = write_session(foreign, folder)
            result = import_session(
                place / session_id, session_id, paths, geometry, same_target_px, foreign.geometry
            )
    except OSError as error:
        raise CustomGazeError(f"{target}: cannot be written ({error.strerror})") from None
    return ForeignImport(result, (*foreign.left_out, *unwritten), foreign.notes)
