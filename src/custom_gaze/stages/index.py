"""The index stage: prepared sessions → data/index.csv, its specification and its manifests."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from custom_gaze.common.errors import InputError
from custom_gaze.common.files import sha256_of, write_json, write_text
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.specification import HASHES, Specification
from custom_gaze.data.index import HEADER, Manifests, Sample, of_split, targets_of
from custom_gaze.data.prepared_samples import prepared_samples
from custom_gaze.data.splits import CROSS_SESSION, SIDES, number_targets, points_px, split_by_target
from custom_gaze.geometry import ScreenGeometry


@dataclass(frozen=True)
class IndexResult:
    """What `custom-gaze index` says it did: frames and targets per split."""

    frames: dict[str, int]
    targets: dict[str, int]


def run(params: Params, paths: Paths) -> IndexResult:
    """Write data/index.csv from the prepared sessions that `params` names.

    Here, and nowhere else, targets get their numbers, from 0: those of the sessions that are
    trained on together, so that a target they share stays on one side of the split, and those of
    each session of evaluate.sessions, after them. Everything that counts or groups targets of an
    indexed frame reads that number.

    Sessions of different screens have their targets on one of them, that of the session named
    first: where a target of another screen would lie on it, by its angles, which stay as they are.
    So targets, splits, errors in pixels and pictures are of one screen, and the model says that it
    is for this one.

    Raises:
        InputError: a session is not prepared, its labels cannot be read or name a crop that is
            not there, two sessions were prepared with different crops, or the sessions hold too
            few targets to split.
    """
    named = (*params.sessions, *params.evaluate.sessions)
    prepared = {name: prepared_samples(name, paths) for name in named}
    manifests = [manifest for _, manifest in prepared.values()]
    specification = agreed([(each.session, each.specification) for each in manifests])
    tolerance_px = params.split.same_target_px
    placed = {
        name: _on_screen(samples, manifest.geometry, specification.geometry)
        for name, (samples, manifest) in prepared.items()
    }
    own = [sample for name in params.sessions for sample in placed[name]]
    targets = number_targets(own, tolerance_px)
    samples = _placed(own, targets, split_by_target(points_px(own), targets, params.split))
    for name in params.evaluate.sessions:
        others = placed[name]
        targets = 1 + int(targets.max()) + number_targets(others, tolerance_px)
        samples += _placed(others, targets, [CROSS_SESSION] * len(others))
    _refuse_shared_frames(samples)
    _write_index(samples, paths.index)
    write_json(paths.specification, specification.as_dict())
    kept = Manifests(index_sha256=sha256_of(paths.index), manifests=manifests)
    write_json(paths.index_manifests, kept.model_dump(mode="json"))
    by_side = {side: of_split(samples, side) for side in SIDES}
    return IndexResult(
        frames={side: len(some) for side, some in by_side.items() if some},
        targets={side: len(set(targets_of(some))) for side, some in by_side.items() if some},
    )


def agreed(specifications: Sequence[tuple[str, Specification]]) -> Specification:
    """What some sessions, (id, specification), have in common, and the first one's screen.

    Raises:
        InputError: the crops of two of them differ; the message names both and the first
            difference.
    """
    first, wanted = specifications[0]
    for session, other in specifications[1:]:
        if replace(other, geometry=wanted.geometry) != wanted:
            one, another = _flat(wanted), _flat(other)
            key = next(key for key in one if one[key] != another[key])
            raise InputError(
                f"sessions {first} and {session} were prepared differently: {key} is "
                f"{one[key]!r} in the one and {another[key]!r} in the other; prepare both again: "
                f"custom-gaze prepare {first} and custom-gaze prepare {session}"
            )
    return wanted


def _flat(specification: Specification) -> dict[str, object]:
    crops = specification.preprocessing.as_dict()
    by_key = {f"preprocessing.{key}": crops[key] for key in crops}
    return by_key | {name: getattr(specification, name) for name in ("crop_from", *HASHES)}


def _on_screen(
    samples: Sequence[Sample], own: ScreenGeometry, screen: ScreenGeometry
) -> Sequence[Sample]:
    """The samples with their targets where they would lie on `screen`; their angles stay."""
    if own == screen or not samples:
        return samples
    points = screen.to_pixels([(sample.yaw_deg, sample.pitch_deg) for sample in samples]).tolist()
    return [
        replace(sample, target_x_px=x, target_y_px=y)
        for sample, (x, y) in zip(samples, points, strict=True)
    ]


def _placed(
    samples: Sequence[Sample], targets: NDArray[np.int64], sides: Sequence[str]
) -> list[Sample]:
    return [
        replace(sample, target=int(target), split=side)
        for sample, target, side in zip(samples, targets, sides, strict=True)
    ]


def _refuse_shared_frames(samples: Sequence[Sample]) -> None:
    """One frame in two sessions could be trained on as the one and tested on as the other."""
    first: dict[str, Sample] = {}
    for sample in samples:
        other = first.setdefault(sample.crop_sha256, sample)
        if other is not sample:
            raise InputError(
                f"{sample.session}/{sample.filename} and {other.session}/{other.filename} are the "
                "same frame; a session that was imported twice can be named only once"
            )


def _write_index(samples: Sequence[Sample], path: Path) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    for sample in samples:
        writer.writerow([getattr(sample, name) for name in HEADER])
    write_text(path, out.getvalue())
