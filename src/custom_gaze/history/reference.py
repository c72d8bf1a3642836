"""One prepared session on which models are measured, whatever each of them was evaluated on.

A model runs over the crops as they were prepared for that session, exactly as `evaluate` runs it,
so its crops have to be such as it was trained on: the same margin, size and face box. The screen
may be another one, for angles are the same on all of them.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from custom_gaze.common.console import bar
from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import check_session_id
from custom_gaze.config.specification import Specification
from custom_gaze.data.index import Sample, labels_deg, load_crop, read_index
from custom_gaze.data.prepared import (
    LABELS_FILE,
    MANIFEST_FILE,
    Manifest,
    read_labels,
    read_manifest,
)
from custom_gaze.data.prepared_samples import prepared_samples
from custom_gaze.data.splits import CROSS_SESSION, number_targets
from custom_gaze.evaluation.metrics import Measure, measure
from custom_gaze.history.kept import Kept
from custom_gaze.history.models import ModelFile, Models
from custom_gaze.models.onnx_runtime import cpu_session, predict_onnx


@dataclass(frozen=True)
class Measurable:
    """A model that is to be measured, and the MD5 of the index that it was trained by, if known."""

    model: ModelFile
    index_md5: str | None


@dataclass(frozen=True)
class Reference:
    """A prepared session: its frames, with their targets' numbers, and how they were made.

    `sha256` is of all that decides a figure on it; `why` says how it was chosen.
    """

    session: str
    samples: tuple[Sample, ...]
    specification: Specification
    sha256: str
    why: str


@dataclass(frozen=True)
class Measured:
    """A model's error on the reference session.

    Attributes:
        figures: None where there are none; `problem` says why.
        trained_on: whether the model was trained on that session: then it is not compared.
        problem: '' where there are figures.
    """

    figures: Measure | None
    trained_on: bool
    problem: str = ""

    @property
    def comparable(self) -> Measure | None:
        """The figures, where they may be compared with other models'."""
        return None if self.trained_on else self.figures


class Figures(BaseModel):
    """A measure as it is kept."""

    model_config = ConfigDict(frozen=True)

    measure: Measure


def reference_for(
    models: Sequence[Measurable], params: Params, paths: Paths, named: str | None = None
) -> Reference | None:
    """The session `named`, or else the newest of the prepared ones on which the most models can be
    compared: that were not trained on it, and whose crops are such as its; None where no session is
    prepared.

    Raises:
        InputError: the session named is not prepared, or its files are damaged.
    """
    if named is not None:
        check_session_id(named, "--reference")
        return _reference(named, "the session that was named", params, paths)
    most = {
        manifest.session: sum(
            manifest.session not in (each.model.facts.sessions or ())
            and _crops(each.model.facts.specification) == _crops(manifest.specification)
            for each in models
        )
        for manifest in _prepared(paths)
    }
    newest_first = sorted(most, key=lambda name: _newest_ms(name, paths), reverse=True)
    best: tuple[int, Reference] | None = None
    # A session may have been renamed since: its frames tell. They are read only where it matters.
    for name in sorted(newest_first, key=lambda name: most[name], reverse=True):
        if best is not None and most[name] <= best[0]:
            break
        try:
            found = _reference(name, "", params, paths)
        except InputError:  # crops are gone, or others
            continue
        count = sum(
            not was_trained_on(each, found, paths) and not _other_crops(each.model, found)
            for each in models
        )
        if best is None or count > best[0]:
            best = count, found
    if best is None:
        return None
    count, found = best
    why = (
        "the newest prepared session on which the most of them can be compared "
        f"({count} of {len(models)})"
    )
    return dataclasses.replace(found, why=why)


def _prepared(paths: Paths) -> list[Manifest]:
    """Of the project's sessions that are prepared: crops of one that was removed do not count."""
    found = []
    for path in sorted(paths.dataset.glob(f"*/{MANIFEST_FILE}")):
        name = path.parent.name
        if (paths.sessions / name).is_dir() or (paths.sessions / f"{name}.dvc").is_file():
            with suppress(InputError):  # damaged, or of another version: `prepare` makes it anew
                found.append(read_manifest(path, name))
    return found


def _newest_ms(session: str, paths: Paths) -> int:
    """When the last frame of a prepared session was captured; its files are named after that."""
    try:
        labels = read_labels(paths.dataset / session / LABELS_FILE, session)
    except InputError:
        return 0
    digits = ["".join(c for c in label.filename if c.isdecimal()) for label in labels]
    return max(int(text[:18] or 0) for text in digits)


def _reference(session: str, why: str, params: Params, paths: Paths) -> Reference:
    samples, manifest = prepared_samples(session, paths)
    targets = number_targets(samples, params.split.same_target_px)
    numbered = tuple(
        dataclasses.replace(sample, target=int(target), split=CROSS_SESSION)
        for sample, target in zip(samples, targets, strict=True)
    )
    decides = f"{numbered!r}{manifest.specification!r}"
    digest = hashlib.sha256(decides.encode()).hexdigest()
    return Reference(session, numbered, manifest.specification, digest, why)


def was_trained_on(mine: Measurable, reference: Reference, paths: Paths) -> bool:
    """Whether a model knows the reference session: by its name or, where that was changed since
    and the frames of its training are known, by its frames."""
    if reference.session in (mine.model.facts.sessions or ()):
        return True
    if mine.index_md5 is None:
        return False
    path = Models(paths).index(mine.index_md5)
    frames = _frames_of_training(path) if path else frozenset()
    return any(sample.crop_sha256 in frames for sample in reference.samples)


@cache
def _frames_of_training(index: Path) -> frozenset[str]:
    try:
        samples = read_index(index)
    except InputError:  # of another version
        return frozenset()
    return frozenset(each.crop_sha256 for each in samples if each.split != CROSS_SESSION)


def measured(
    models: Sequence[Measurable | None],
    reference: Reference,
    paths: Paths,
    only_known: bool = False,
) -> list[Measured | None]:
    """Each model's error on the reference session; None for None.

    With `only_known` nothing is run: what was not measured before has no figures.
    """
    kept = Kept(Figures, paths)
    return [
        None if each is None else _measured(each, reference, paths, kept, only_known)
        for each in bar(models, f"models on {reference.session}", unit="models")
    ]


def _measured(
    each: Measurable, reference: Reference, paths: Paths, kept: Kept[Figures], only_known: bool
) -> Measured:
    trained_on = was_trained_on(each, reference, paths)
    if problem := _other_crops(each.model, reference):
        return Measured(None, trained_on, problem)
    name = f"{each.model.facts.sha256}-{reference.sha256}"
    known = kept.get(name)
    if known is None and only_known:
        return Measured(None, trained_on, "not measured yet")
    if known is None:
        try:
            known = kept.put(name, Figures(measure=_measure(each.model.path, reference, paths)))
        except CustomGazeError as error:
            return Measured(None, trained_on, str(error))
    return Measured(known.measure, trained_on)


def _measure(model: Path, reference: Reference, paths: Paths) -> Measure:
    from custom_gaze.faces.crops import normalise

    session = cpu_session(model)
    crops = (load_crop(sample, paths) for sample in reference.samples)
    predicted = np.concatenate([predict_onnx(session, normalise(crop[None])) for crop in crops])
    return measure(
        predicted,
        labels_deg(reference.samples),
        [sample.target for sample in reference.samples],
        reference.specification.geometry.deg_per_pixel,
    )


def _other_crops(model: ModelFile, reference: Reference) -> str:
    """Why the session's crops are not such as the model was trained on; '' where they are."""
    mine, theirs = _crops(model.facts.specification), _crops(reference.specification)
    if not mine:
        return "does not say how its crops were cut, as files of an earlier version do not"
    key = next((key for key in mine if mine[key] != theirs[key]), None)
    if key is None:
        return ""
    said = f"was trained on other crops: {key} {mine[key]}, in {reference.session} {theirs[key]}"
    return printable(said, 200)


def _crops(specification: Specification | None) -> dict[str, object]:
    """How crops were cut; nothing where that is not known."""
    if specification is None:
        return {}
    return {**specification.preprocessing.as_dict(), "crop_from": specification.crop_from}
