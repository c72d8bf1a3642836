"""All calibrations that were ever made here, each model once, from git, DVC, MLflow, the journal.

Two revisions whose dvc.lock names the same model are one calibration: an experiment, and the commit
that took it over. MLflow's runs belong to the model whose SHA-256 they recorded; a run whose model
is in no commit and no experiment any more is a calibration of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.config.paths import Paths
from custom_gaze.geometry import ScreenGeometry
from custom_gaze.history.deployments import Deployment, deployments
from custom_gaze.history.models import ModelFile, Models
from custom_gaze.history.revisions import (
    WORKSPACE,
    Committed,
    Revision,
    Tested,
    revision,
    revisions,
)
from custom_gaze.history.runs import Run, runs


@dataclass(frozen=True)
class Calibration:
    """One calibration.

    Attributes:
        revisions: that have it, the oldest first; none where only MLflow remembers it.
        runs: MLflow's, the oldest first.
        model: its file and what that says; None where it is not here.
        missing: why it is not here; '' where it is.
        deployed: when it was put live.
    """

    revisions: tuple[Revision, ...]
    runs: tuple[Run, ...]
    model: ModelFile | None
    missing: str
    deployed: tuple[Deployment, ...]

    @property
    def name(self) -> str:
        """What `deploy --experiment` takes, and people say: an experiment's name, a tag, the name
        of its run in MLflow's experiment that is gone, a commit."""
        names = [
            *(each.name for each in self.revisions if each.baseline),
            *(each.name for each in self.revisions if each.name not in ("", WORKSPACE)),
            *(run.experiment or run.name for run in self.runs if run.experiment or self.gone),
            self.commit[:7] or WORKSPACE,
        ]
        return printable(next(name for name in names if name), 60)

    @property
    def gone(self) -> bool:
        """Whether no commit and no experiment has it any more."""
        return not self.revisions

    @property
    def commit(self) -> str:
        """A commit that has it, rather one of a branch than an experiment's; of one that is gone,
        the commit that it started from; '' for what is not committed."""
        made = sorted((each for each in self.revisions if each.commit), key=_is_experiment)
        if made:
            return made[0].commit
        return self.runs[0].commit if self.gone and self.runs else ""

    @property
    def when_s(self) -> int:
        """When it was made, in seconds since 1970."""
        return (self.revisions or self.runs)[0].when_s

    @property
    def sessions(self) -> tuple[str, ...]:
        """What it was trained on."""
        said = self.model.facts.sessions if self.model else None
        return said or next((each.sessions for each in self._said), ())

    @property
    def screen(self) -> ScreenGeometry | None:
        """The screen of its labels."""
        said = self.model.facts.geometry if self.model else None
        return said or next((each.said.screen for each in self.revisions), None)

    @property
    def base(self) -> str:
        """What its base network was, in words."""
        said = self.model.facts.base if self.model else None
        if said is not None:
            return printable(f"{said.trunk} {said.kind}", 60)
        return next((each.base for each in self._said), "")

    @property
    def exported(self) -> str:
        """Which candidate it is."""
        said = self.model.facts.method if self.model else None
        return said.value if said else next((each.exported for each in self._said), "")

    @property
    def test(self) -> Tested | None:
        """Its error on its own held-out targets, as it was reported first."""
        return next((each.test for each in self._said if each.test), None)

    @property
    def cross_session(self) -> Tested | None:
        """Its error on the sessions that were named with it, as it was reported first."""
        return next((each.cross_session for each in self._said if each.cross_session), None)

    @property
    def index_md5(self) -> str | None:
        """Of the frames that it was made of, in DVC's cache."""
        return next((r.said.index_md5 for r in self.revisions if r.said.index_md5), None)

    @property
    def _said(self) -> list[Committed | Run]:
        return [*(each.said for each in self.revisions), *self.runs]

    @property
    def sha256(self) -> str:
        """Of its model; '' where that is not known."""
        if self.model is not None:
            return self.model.facts.sha256
        return next((run.model_sha256 for run in self.runs), "")

    def is_called(self, name: str) -> bool:
        """Whether an experiment or a run of this name made it."""
        names = {each.name for each in self.revisions if each.baseline}
        for run in self.runs:
            names |= {run.id, run.name, run.experiment}
        return bool(name) and name in names


def _is_experiment(each: Revision) -> bool:
    return bool(each.baseline)


@dataclass
class _Parts:
    """A calibration being put together."""

    revisions: list[Revision] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    model: ModelFile | None = None
    missing: str = ""

    def belongs(self, run: Run) -> bool:
        """Whether `run` recorded it, where its model is not here to be compared."""
        if self.model is not None:
            return self.model.facts.sha256 == run.model_sha256
        if self.runs:
            return any(known.model_sha256 == run.model_sha256 != "" for known in self.runs)
        return any(
            each.baseline == run.commit and each.name == run.experiment != ""
            for each in self.revisions
        )


@dataclass(frozen=True)
class History:
    """All calibrations, the oldest first, and what could not be read."""

    calibrations: tuple[Calibration, ...]
    notes: tuple[str, ...]

    def of_model(self, sha256: str) -> Calibration | None:
        """The calibration whose model has this SHA-256."""
        return next((each for each in self.calibrations if each.sha256 == sha256), None)


def history(paths: Paths, ask_a_server: bool = True) -> History:
    """All calibrations; MLflow's runs are among them where its store is a file here, or a server
    that is to be asked.

    Raises:
        InputError: DVC's configuration cannot be read.
    """
    models = Models(paths)
    parts: dict[str, _Parts] = {}
    for each in revisions(paths):
        assert each.said.model_md5 is not None
        parts.setdefault(each.said.model_md5, _Parts()).revisions.append(each)
    for md5, mine in parts.items():
        _load(mine, md5, models)
    groups = list(parts.values())
    tracked, note = runs(ask_a_server)
    for run in tracked:
        known = next((each for each in groups if each.belongs(run)), None)
        if known is None:
            groups.append(known := _Parts())
            _find(known, run, models)
        known.runs.append(run)
    journal = deployments(paths)
    made = [_calibration(each, journal) for each in groups]
    made.sort(key=lambda each: each.when_s)
    return History(tuple(made), (note,) if note else ())


def _load(mine: _Parts, md5: str, models: Models) -> None:
    try:
        mine.model = models.cached(md5)
    except InputError as error:
        mine.missing = str(error)


def _find(mine: _Parts, run: Run, models: Models) -> None:
    """The model of a run that git does not know, where MLflow kept it on this machine."""
    mine.missing = "its experiment is gone from git, and MLflow does not have its model here"
    for path in run.model_files():
        try:
            mine.model, mine.missing = models.file(path, run.model_sha256), ""
            return
        except InputError:
            continue


def _calibration(mine: _Parts, journal: Sequence[Deployment]) -> Calibration:
    made = Calibration(tuple(mine.revisions), tuple(mine.runs), mine.model, mine.missing, ())
    mine_too = [each for each in journal if each.model_sha256 == made.sha256 != ""]
    put_live = tuple(each for each in mine_too if each.what == "deploy")
    return Calibration(made.revisions, made.runs, made.model, made.missing, put_live)


def named(name: str, paths: Paths) -> Calibration:
    """The calibration of an experiment, of a commit, branch or tag, or of an MLflow run.

    Raises:
        InputError: there is none of this name, or more than one.
    """
    known = history(paths)
    found = [each for each in known.calibrations if each.is_called(name)]
    in_git = [each for each in found if not each.gone]
    if len(in_git or found) > 1:
        which = ", ".join(f"{each.commit[:7] or each.runs[0].id}" for each in in_git or found)
        raise InputError(
            f"{len(in_git or found)} calibrations are called {printable(name, 80)}: name one by "
            f"its commit or its run ({which})"
        )
    if found:
        return (in_git or found)[0]
    commit = revision(name, paths)
    if commit is None:
        raise InputError(
            f"{printable(name, 80)}: no experiment, commit, branch, tag or MLflow run is called "
            "that; `custom-gaze history` lists them"
        )
    for each in known.calibrations:
        if commit.said.model_md5 in [one.said.model_md5 for one in each.revisions]:
            return each
    if commit.said.model_md5 is None:
        raise InputError(
            f"{printable(name, 80)}: commit {commit.commit[:7]} has no model in its dvc.lock; "
            "`custom-gaze history` lists those that have"
        )
    alone = _Parts([commit])
    _load(alone, commit.said.model_md5, Models(paths))
    return _calibration(alone, deployments(paths))
