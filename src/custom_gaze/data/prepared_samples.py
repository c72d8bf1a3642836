"""The frames of one prepared session, from its labels.csv, its manifest and its crops."""

import hashlib

import numpy as np

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import read_file
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import Sample
from custom_gaze.data.prepared import (
    LABELS_FILE,
    MANIFEST_FILE,
    MOST_CROP_BYTES,
    Manifest,
    read_labels,
    read_manifest,
)

SAME_ANGLE_DEG = 1e-6  # between a label and what its target's pixels give


def prepared_samples(session: str, paths: Paths) -> tuple[list[Sample], Manifest]:
    """The frames of one prepared session, in the order of labels.csv, and its manifest.

    They have no target's number and no side yet.

    Raises:
        InputError: it is not prepared, its labels cannot be read or name a crop that is not there.
    """
    folder = paths.dataset / session
    labels = read_labels(folder / LABELS_FILE, session)
    manifest = read_manifest(folder / MANIFEST_FILE, session)
    geometry = manifest.geometry
    remedy = f"prepare the session again: custom-gaze prepare {session}"
    if len(labels) != manifest.counts.used:
        raise InputError(
            f"{folder / LABELS_FILE}: has {len(labels)} lines behind its header, and "
            f"{MANIFEST_FILE} counts {manifest.counts.used} frames; {remedy}"
        )
    samples = []
    for label in labels:
        where = f"{folder / LABELS_FILE}: line {label.line}"
        angles = geometry.to_degrees([label.target_x_px, label.target_y_px])
        if np.abs(angles - [label.yaw_deg, label.pitch_deg]).max() > SAME_ANGLE_DEG:
            raise InputError(f"{where}: its angles are not those of its target; {remedy}")
        try:
            crop = read_file(folder / label.filename, MOST_CROP_BYTES)
        except InputError as error:
            raise InputError(f"{where}: {error}; {remedy}") from None
        angles_deg = label.yaw_deg, label.pitch_deg
        point_px = label.target_x_px, label.target_y_px
        checksum = hashlib.sha256(crop).hexdigest()
        samples.append(Sample(session, label.filename, *angles_deg, *point_px, -1, "", checksum))
    return samples, manifest
