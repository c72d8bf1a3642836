"""data/sessions/ID.yaml: what is said of a session besides its frames, under git beside ID.dvc.

The frames themselves are never changed. `import`, `demo` and the `session` verbs make the file;
`prepare` heeds it, and dvc.yaml names it among that stage's dependencies, so that what is said of
one session prepares that one anew. It does not repeat the session's id: renamed, it stays as it is.
"""

import json
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, Field

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import write_text
from custom_gaze.common.stage_files import Strict, model_of
from custom_gaze.common.untrusted import printable
from custom_gaze.common.yaml_files import read_yaml
from custom_gaze.config.paths import Paths
from custom_gaze.data.prepared import WholeGeometry
from custom_gaze.data.sessions import Session, read_session
from custom_gaze.geometry import ScreenGeometry

HEAD = """\
# What `custom-gaze prepare` heeds of this session besides its frames, which are never changed.
# The verbs write this file whole: custom-gaze session exclude | include, custom-gaze screen ID.
# excluded: frames that are not used. geometry: the screen of the capture; null: params.yaml's.
"""
EXCLUDED_FRAME = r"img_[0-9]{1,18}\.jpg"
MOST_EXCLUDED = 100_000
MOST_WORDS = 300  # characters of a reason
REMEDY = "put that right by hand, or take it back with `git checkout`"


def _one_line(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("must be one line of printable characters, without space around it")
    return text


def _once(excluded: "tuple[Exclusion, ...]") -> "tuple[Exclusion, ...]":
    seen: set[str] = set()
    for entry in excluded:
        if entry.frame in seen:
            raise ValueError(f"names {entry.frame} twice")
        seen.add(entry.frame)
    return excluded


Because = Annotated[str, Field(min_length=1, max_length=MOST_WORDS), AfterValidator(_one_line)]


class Exclusion(Strict):
    """A frame that is not to be used, by its image's name, and why."""

    frame: str = Field(pattern=f"^{EXCLUDED_FRAME}$")
    because: Because


class SessionFile(Strict):
    """data/sessions/ID.yaml; `geometry` is None for that of params.yaml."""

    excluded: Annotated[
        tuple[Exclusion, ...], Field(max_length=MOST_EXCLUDED), AfterValidator(_once)
    ]
    geometry: WholeGeometry | None

    def reasons(self) -> dict[str, str]:
        """Why each excluded frame is not used, by its image's name."""
        return {entry.frame: entry.because for entry in self.excluded}

    def geometry_or(self, default: ScreenGeometry) -> ScreenGeometry:
        """The screen of the capture: the session's own, else params.yaml's."""
        return self.geometry or default


NOTHING_SAID = SessionFile(excluded=(), geometry=None)


def session_file(folder: Path) -> Path:
    """The file of the session whose frames are in `folder`, as data/sessions/ID.yaml."""
    return folder.with_name(f"{folder.name}.yaml")


def read_session_file(folder: Path) -> SessionFile:
    """What is said of the session in `folder`; nothing, where its file is not there.

    Raises:
        InputError: the file is not what this module writes; the message names the first mistake.
    """
    path = session_file(folder)
    if not path.exists():
        return NOTHING_SAID
    content = read_yaml(path)
    try:
        text = json.dumps(content, default=str)
    except (TypeError, ValueError, RecursionError):  # keys that are no words
        raise InputError(f"{printable(path)}: has a key that is no word; {REMEDY}") from None
    return model_of(text, SessionFile, path, REMEDY)


def read_heeded(
    folder: Path, paths: Paths, default: ScreenGeometry
) -> tuple[Session, ScreenGeometry]:
    """A session without the frames that its file excludes, and its own screen, else `default`.

    A folder elsewhere than in data/sessions has no such file, whatever lies beside it.

    Raises:
        InputError: the session or its file cannot be read.
    """
    here = folder.parent.resolve() == paths.sessions.resolve()
    said = read_session_file(folder) if here else NOTHING_SAID
    geometry = said.geometry_or(default)
    return read_session(folder, geometry, said.reasons()), geometry


def write_session_file(folder: Path, said: SessionFile) -> Path:
    """Write the file of the session in `folder`, whole or not at all; returns its path.

    Raises:
        CustomGazeError: it cannot be written.
    """
    content = said.model_dump(mode="json")
    content["excluded"] = sorted(content["excluded"], key=_by_time)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    path = session_file(folder)
    write_text(path, HEAD + text)
    return path


def _by_time(entry: dict[str, str]) -> tuple[int, str]:
    digits = entry["frame"].removeprefix("img_").removesuffix(".jpg")
    return int(digits), digits
