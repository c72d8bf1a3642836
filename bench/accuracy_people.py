"""Real people for bench/accuracy.py: sessions of a project, grouped by whom they are of."""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock

from accuracy_person import (
    Person,
    Settings,
    hash_of,
    person_of,
    source_hash,
)
from accuracy_results import OTHER, SAME, Outcome
from custom_gaze.common.download import is_address
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of, whole_folder
from custom_gaze.config.params import FetchParams, Params, load_params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import SESSION_ID, check_session_id
from custom_gaze.data.prepared_samples import prepared_samples
from custom_gaze.data.session_file import session_file
from custom_gaze.data.splits import number_targets
from custom_gaze.stages import fetch, prepare
from custom_gaze.weights.embedded import EMBEDDED

PEOPLE = "people"
# What decides about the crops: these modules, and what they import.
PEOPLE_CODE = ("stages.prepare", "stages.fetch", "data.prepared_samples", "data.splits")
GROUP = re.compile(r"([^=]*)=(.*)", re.DOTALL)
HELD_OUT_SHARE, HELD_OUT_LEAST = 0.2, 3  # of the targets of the session calibrated on


@dataclass(frozen=True)
class People:
    """Persons by name: the session that is calibrated on, then those only tested on.

    The project's params.yaml says which detector and mesh cut the crops, how, and, of a session
    that has no screen of its own, which screen it was.
    """

    project: Path
    sessions: Mapping[str, tuple[str, ...]]
    settings: Settings

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.sessions)

    def key(self, name: str) -> str:
        params, paths = self._params(), Paths(self.project)
        faces = self._faces(params)
        parts = [repr(params.geometry), repr(params.prepare), repr(faces)]
        files = [
            Path(each) for each in (faces.detector, faces.mesh) if each and Path(each).is_file()
        ]
        parts += map(sha256_of, files)
        for session in self.sessions[name]:
            folder = paths.sessions / session
            if not folder.is_dir():
                raise InputError(
                    f"--sessions {name}=…: {folder} is not there; import the session, or bring it "
                    f"with `dvc pull`"
                )
            named = session_file(folder)
            parts += [session, sha256_of(named) if named.exists() else ""]
            parts += [f"{file.name} {sha256_of(file)}" for file in sorted(_files(folder))]
        return hash_of(*parts, str(params.split.same_target_px), source_hash(PEOPLE_CODE))

    def person(self, name: str, work: Path) -> Person:
        params = self._params()
        folder = work / "people" / f"{name}-{self.key(name)}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # two jobs may begin with the same person
            if not folder.exists():
                with whole_folder(folder) as temporary:
                    self._prepare(name, params, Paths(temporary))
        paths = Paths(folder)
        read = [prepared_samples(session, paths) for session in self.sessions[name]]
        own, *others = [samples for samples, _ in read]
        numbers, last = [], -1
        for samples in (own, *others):
            numbers.append(number_targets(samples, params.split.same_target_px) + last + 1)
            last = int(numbers[-1].max())
        present = int(numbers[0].max()) + 1
        held_out = max(HELD_OUT_LEAST, round(HELD_OUT_SHARE * present))
        both = own, [sample for samples in others for sample in samples]
        crop_from = " and ".join(dict.fromkeys(manifest.crop_from for _, manifest in read))
        targets = np.concatenate(numbers)
        seed = zlib.crc32(name.encode())
        return person_of(name, seed, paths, both, targets, held_out, crop_from)

    def facts(self, outcomes: Sequence[Outcome]) -> list[str]:
        crops = sorted({each.crop_from for each in outcomes})
        lines = [f"sessions of a project, crops cut by the {' and the '.join(crops)}"]
        for each in {each.person: each for each in outcomes}.values():
            held = each.tested[SAME]
            lines.append(
                f"{each.person}: {each.of_targets} targets in the session calibrated on, "
                f"{held.targets} of them ({held.frames} frames) held out; {_others(each)}"
            )
        return lines

    def _params(self) -> Params:
        return load_params(Paths(self.project).params)

    def _faces(self, params: Params) -> FetchParams:
        """Where detector and mesh come from, paths from the project's root made absolute."""
        wanted = params.fetch
        mesh = None if wanted.mesh is None else self._absolute(wanted.mesh)
        detector = self._absolute(wanted.detector)
        base = FetchParams.base  # decides about no crop
        return replace(wanted, detector=detector, mesh=mesh, base=base, base_sha256=None)

    def _absolute(self, source: str) -> str:
        named = source == EMBEDDED or source.startswith("~") or is_address(source)
        return source if named else str((self.project / source).resolve())

    def _prepare(self, name: str, params: Params, paths: Paths) -> None:
        """The person's crops, in a project of their own with links to the raw sessions."""
        fetch.run(replace(params, fetch=self._faces(params)), paths)
        paths.sessions.mkdir(parents=True)
        for session in self.sessions[name]:
            raw = Paths(self.project).sessions.resolve() / session
            (paths.sessions / session).symlink_to(raw)
            if session_file(raw).exists():
                session_file(paths.sessions / session).symlink_to(session_file(raw))
            prepare.run(session, params, paths, progress=False)


def people_of(groups: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`anna=monday,tuesday` → {'anna': ('monday', 'tuesday')}.

    Raises:
        InputError: a word is not of that form, or a name or session stands there twice.
    """
    people: dict[str, tuple[str, ...]] = {}
    for group in groups:
        found = GROUP.fullmatch(group)
        if found is None or not SESSION_ID.fullmatch(found[1]):
            raise InputError(
                f"--sessions {group!r}: write whom they are of, '=' and the ids, that to calibrate "
                "on first, as in anna=monday,tuesday"
            )
        if found[1] in people:
            raise InputError(f"--sessions names {found[1]} twice; put the ids together")
        ids = found[2].split(",")
        people[found[1]] = tuple(check_session_id(each, f"--sessions {found[1]}") for each in ids)
    every = [session for ids in people.values() for session in ids]
    twice = sorted({session for session in every if every.count(session) > 1})
    if twice:
        raise InputError(f"--sessions names {twice[0]} twice; its frames would test themselves")
    return people


def _others(outcome: Outcome) -> str:
    other = outcome.tested.get(OTHER)
    return f"{other.frames} frames in other sessions" if other else "no other session"


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.is_file()]
