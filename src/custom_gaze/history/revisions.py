"""What git has of calibrations: every commit that brought a model, and every DVC experiment.

A commit never changes, so what was read of one is kept. Experiments and branches may have come from
another machine: their files are data, of a sensible size, and what cannot be read says nothing.
"""

import json
import re
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.untrusted import MOST_TEXT_BYTES, printable, read_text
from custom_gaze.common.yaml_files import parse_yaml
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import SESSION_ID
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.history.kept import Kept

WORKSPACE = "workspace"
LOCK, PARAMS = "dvc.lock", "params.yaml"
METRICS, FIGURES = "reports/metrics.json", "reports/figures.json"
READ = (LOCK, PARAMS, METRICS, FIGURES)
_EXPERIMENT = re.compile(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/([^/]+)")
_Md5 = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
_Degrees = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]


class Tested(BaseModel):
    """An error as one revision reports it, in degrees, with its 95 % interval where it has one; as
    text both."""

    model_config = ConfigDict(frozen=True)

    error_deg: _Degrees
    low_deg: _Degrees | None = None
    high_deg: _Degrees | None = None
    frames: _Count | None = None
    targets: _Count | None = None
    measured: str = ""  # on what, where it is no test part: "cross-validated"

    def __str__(self) -> str:
        interval = f" ({self.low_deg:.2f}–{self.high_deg:.2f}°)" if self.low_deg is not None else ""
        return f"{self.error_deg:.2f}°{interval}"


class Committed(BaseModel):
    """What one revision says of its calibration; None and nothing where it does not say it."""

    model_config = ConfigDict(frozen=True)

    model_md5: _Md5 | None = None
    index_md5: _Md5 | None = None
    sessions: tuple[str, ...] = ()
    tested_on: tuple[str, ...] = ()
    screen: ScreenGeometry | None = None
    base: str = ""
    exported: str = ""
    test: Tested | None = None
    cross_session: Tested | None = None


@dataclass(frozen=True)
class Revision:
    """A commit, an experiment or the workspace, and its calibration.

    Attributes:
        commit: its full name; '' for the workspace.
        when_s: when it was made, in seconds since 1970.
        name: an experiment's or a tag's; WORKSPACE; '' for any other commit.
        baseline: the commit that an experiment started from; '' for anything else.
        said: what it says.
    """

    commit: str
    when_s: int
    name: str
    baseline: str
    said: Committed


def revisions(paths: Paths) -> list[Revision]:
    """Every revision with a model, the oldest first; none where there is no git.

    Commits are those of all branches and tags that changed dvc.lock, experiments those of all
    commits, whatever `dvc exp show` lists. The workspace counts where it has a model.
    """
    root, found = paths.root, []
    with suppress(CustomGazeError):
        found = [*_commits(root), *_experiments(root)]
    said = _said_by([commit for commit, *_ in found], paths)
    known = [Revision(*entry, said[entry[0]]) for entry in found]
    return sorted(
        (each for each in [*known, *_workspace(paths)] if each.said.model_md5 is not None),
        key=lambda each: each.when_s,
    )


def revision(name: str, paths: Paths) -> Revision | None:
    """The commit that git knows by a name: a branch, a tag, a hash; None where there is none."""
    if name.startswith("-"):
        return None
    try:
        found = _git(paths.root, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        commit = found.decode().split()[0]
        when = _git(paths.root, "log", "-1", "--no-walk", "--format=%ct", commit).decode()
    except (CustomGazeError, IndexError):
        return None
    return Revision(commit, int(when), name, "", _said_by([commit], paths)[commit])


def _commits(root: Path) -> list[tuple[str, int, str, str]]:
    """(commit, when, name, '') of those that changed dvc.lock."""
    tags = {}
    shape = "--format=%(objectname) %(*objectname) %(refname:strip=2)"
    for line in _git(root, "for-each-ref", shape, "refs/tags").decode(errors="replace").split("\n"):
        one, _, rest = line.partition(" ")
        peeled, _, name = rest.partition(" ")
        tags[peeled or one] = name
    everywhere = ("--branches", "--tags", "--remotes", "HEAD", "--full-history")
    listed = _git(root, "log", *everywhere, "--format=%H %ct", "--", LOCK).decode()
    lines = [line.split() for line in listed.splitlines()]
    return [(commit, int(when), tags.get(commit, ""), "") for commit, when in lines]


def _experiments(root: Path) -> list[tuple[str, int, str, str]]:
    """(commit, when, name, baseline) of DVC's experiments."""
    shape = "--format=%(objectname) %(committerdate:unix) %(refname)"
    found = []
    for line in _git(root, "for-each-ref", shape, "refs/exps").decode(errors="replace").split("\n"):
        commit, _, rest = line.partition(" ")
        when, _, ref = rest.partition(" ")
        if match := _EXPERIMENT.fullmatch(ref):
            found.append((commit, int(when), match[3], match[1] + match[2]))
    return found


def _said_by(commits: list[str], paths: Paths) -> dict[str, Committed]:
    """What each commit says; git is asked once for all that were never read before."""
    kept = Kept(Committed, paths)
    known = {commit: kept.get(commit) for commit in dict.fromkeys(commits)}
    new = [commit for commit, said in known.items() if said is None]
    files = _contents(paths.root, [f"{commit}:./{name}" for commit in new for name in READ])
    for commit in new:
        said = said_in({name: files.get(f"{commit}:./{name}", "") for name in READ})
        known[commit] = kept.put(commit, said)
    return {commit: said for commit, said in known.items() if said is not None}


def _contents(root: Path, wanted: list[str]) -> dict[str, str]:
    """The files of commits that are there and not too large, by how git calls them."""
    if not wanted:
        return {}
    listed = _git(root, "cat-file", "--batch-check", given=wanted).decode(errors="replace")
    blobs = {}
    for name, line in zip(wanted, listed.splitlines(), strict=True):
        blob, kind, size = [*line.rsplit(" ", 2), "", ""][:3]
        if kind == "blob" and int(size) <= MOST_TEXT_BYTES:
            blobs[name] = blob
    found: dict[str, str] = {}
    raw, at = _git(root, "cat-file", "--batch", given=blobs.values()), 0
    for name in blobs:
        end = raw.index(b"\n", at)
        start, length = end + 1, int(raw[at:end].split()[-1])
        found[name] = raw[start : start + length].decode(errors="replace")
        at = start + length + 1
    return found


def _workspace(paths: Paths) -> list[Revision]:
    """What was last run here, whether or not it was committed."""
    files = {}
    for name in READ:
        with suppress(InputError):
            files[name] = read_text(paths.root / name)
    if LOCK not in files:
        return []
    when = int((paths.root / LOCK).stat().st_mtime)
    return [Revision("", when, WORKSPACE, "", said_in({**dict.fromkeys(READ, ""), **files}))]


def said_in(files: dict[str, str]) -> Committed:
    """What the files READ of one revision say, '' for one that is not there."""
    lock, params = files[LOCK], _yaml(files[PARAMS])
    figures = _json(files[FIGURES]) or _json(files[METRICS])
    choice, geometry = figures.get("choice"), params.get("geometry")
    base, tested = params.get("fetch"), params.get("evaluate")
    said = {
        "model_md5": _out(lock, "export", "models/custom_gaze.onnx"),
        "index_md5": _out(lock, "index", "data/index.csv"),
        "sessions": _ids(params.get("sessions")),
        "tested_on": _ids(tested.get("sessions") if isinstance(tested, dict) else None),
        "screen": geometry,
        "base": _base(base.get("base") if isinstance(base, dict) else None),
        "exported": choice.get("exported") if isinstance(choice, dict) else None,
        # metrics.json was nested once and had no headline; where it is flat, it is the headline.
        "test": figures.get("headline", figures.get("test", figures or None)),
        "cross_session": figures.get("cross_session", _flat_cross_session(figures)),
    }
    known = {}
    for key, value in said.items():
        with suppress(ValidationError):  # as of another version: it says nothing of that
            said_of_it = json.dumps({key: value}, default=str)
            known[key] = getattr(Committed.model_validate_json(said_of_it), key)
    return Committed(**known)


def _flat_cross_session(figures: dict[str, Any]) -> dict[str, Any] | None:
    error_deg = figures.get("cross_session_deg")
    return None if error_deg is None else {"error_deg": error_deg}


def _out(lock: str, stage: str, path: str) -> str | None:
    """The MD5 of a stage's output in a dvc.lock, of which that stage alone is parsed: the whole
    takes a quarter of a second."""
    block = re.search(rf"^  {stage}:\n(?:    .*\n|\n)*", lock, re.MULTILINE)
    content = _yaml(f"stages:\n{block[0]}" if block else lock)
    with suppress(LookupError, TypeError, AttributeError):
        outs = content["stages"][stage]["outs"]
        return next((str(out["md5"]) for out in outs if out["path"] == path), None)
    return None


def _yaml(text: str) -> dict[str, Any]:
    with suppress(InputError):
        content = parse_yaml(text, "it")
        return content if isinstance(content, dict) else {}
    return {}


def _json(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        content = json.loads(text)
        return content if isinstance(content, dict) else {}
    return {}


def _ids(value: Any) -> tuple[str, ...]:
    ids = value if isinstance(value, list) else []
    return tuple(str(name) for name in ids if SESSION_ID.fullmatch(str(name)))


def _base(value: Any) -> str:
    """How params.yaml calls the base network, without the folders on its way."""
    return printable(str(value or "").rpartition("/")[2], 60)


def _git(root: Path, *words: str, given: Iterable[str] = ()) -> bytes:
    """What a git command prints.

    Raises:
        CustomGazeError: it failed, or there is no git.
    """
    lines = "".join(f"{line}\n" for line in given).encode()
    command = ["git", "-C", str(root), *words]
    try:
        done = subprocess.run(command, input=lines, capture_output=True, check=False)
    except FileNotFoundError:
        raise CustomGazeError("git is not installed here") from None
    if done.returncode:
        said = printable(done.stderr.decode(errors="replace").strip())
        raise CustomGazeError(f"git {words[0]}: {said}")
    return done.stdout
