"""What this project knows of the model that is live: which calibration it is, how well it did, and
what was captured since it was deployed."""

import subprocess
from dataclasses import dataclass
from datetime import datetime

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import SESSION_ID
from custom_gaze.evaluation.metrics import Measure
from custom_gaze.history.calibrations import history
from custom_gaze.history.comparison import shown
from custom_gaze.history.reference import Measurable, measured, reference_for
from custom_gaze.history.revisions import Tested


@dataclass(frozen=True)
class Standing:
    """The live model's calibration. `reference` is the session that `on_reference` is of."""

    calibration: str
    commit: str
    sessions: tuple[str, ...]
    test: Tested | None
    reference: str
    on_reference: Measure | None
    sessions_since: tuple[str, ...]  # imported after the deploy

    def lines(self) -> list[str]:
        """For a person, one fact a line."""
        lines = []
        if self.calibration:
            at = f" ({self.commit[:7]})" if self.commit else ""
            lines.append(f"calibration: {self.calibration}{at}")
        if self.test is not None:
            of = f", {self.test.measured}" if self.test.measured else ""
            lines.append(f"test error: {self.test}{of}")
        if self.on_reference is not None:
            lines.append(f"error on {self.reference}: {shown(self.on_reference)}")
        names = ", ".join(self.sessions_since) or "none"
        return [*lines, f"sessions imported since: {names}"]


def standing(sha256: str, since: datetime, params: Params, paths: Paths) -> Standing:
    """What is known of the live model, by its SHA-256: no model is run for it."""
    everything = history(paths, ask_a_server=False)
    known = everything.of_model(sha256)
    reference, figures = "", None
    if known is not None and known.model is not None:
        mine = Measurable(known.model, known.index_md5)
        models = [Measurable(c.model, c.index_md5) for c in everything.calibrations if c.model]
        try:
            session = reference_for(models, params, paths)  # the same that `history` takes
            if session is not None:
                (found,) = measured([mine], session, paths, only_known=True)
                reference, figures = session.session, found.comparable if found else None
        except CustomGazeError:
            pass  # a session that cannot be read is no fault of the app's folder
    return Standing(
        calibration=known.name if known else "",
        commit=known.commit if known else "",
        sessions=known.sessions if known else (),
        test=known.test if known else None,
        reference=reference if figures else "",
        on_reference=figures,
        sessions_since=tuple(_imported_since(since, paths)),
    )


def _imported_since(when: datetime, paths: Paths) -> list[str]:
    """The sessions whose .dvc files came after that: into git or, before that, onto the disk."""
    committed = _committed_s(paths)
    found = []
    for path in sorted(paths.sessions.glob("*.dvc")):
        at = committed.get(path.name, path.stat().st_mtime)
        if SESSION_ID.fullmatch(path.stem) and at > when.timestamp():
            found.append(path.stem)
    return found


def _committed_s(paths: Paths) -> dict[str, int]:
    """When each .dvc file of a session was first committed; one that was renamed keeps its time."""
    where = f"{paths.sessions.relative_to(paths.root)}"
    command = ["git", "-C", str(paths.root), "log", "--reverse", "--diff-filter=AR"]
    shape = ["--find-renames=50%", "--format=%ct", "--name-status", "--", where]
    done = subprocess.run([*command, *shape], capture_output=True, check=False)
    found: dict[str, int] = {}
    at = 0
    for line in done.stdout.decode(errors="replace").splitlines():
        if line.isdecimal():
            at = int(line)
        elif line.endswith(".dvc"):
            names = [path.rpartition("/")[2] for path in line.split("\t")[1:]]
            found.setdefault(names[-1], found.get(names[0], at))
    return found
