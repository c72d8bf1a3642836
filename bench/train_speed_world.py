"""The projects that bench/train_speed.py trains: a simulated person's crops, an index, a base."""

import csv
import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from custom_gaze.calibration.base_features import plain_features
from custom_gaze.common.files import write_json, write_text
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import labels_deg, load_crop, read_index
from custom_gaze.data.prepared import LABELS_FILE, MANIFEST_FILE, read_manifest
from custom_gaze.demo.seeds import PERSON_SEEDS
from custom_gaze.demo.session import write_session
from custom_gaze.faces.crops import normalise
from custom_gaze.models.heads import BIN_LAYOUTS, bin_angles_deg
from custom_gaze.models.network import GazeNetwork, take_batchnorm_statistics
from custom_gaze.stages import fetch, index, prepare
from custom_gaze.weights.base import BaseNetwork, save_base
from custom_gaze.weights.base_heads import BinHeads
from speed_world import grid_of

SESSION = "bench"
RESNET50, EMBEDDED = "resnet50", "embedded"
# Persons whom the heads of the ResNet-50 know. Nobody is trained or measured on them.
OTHERS = PERSON_SEEDS["pretrain"][:2]
# Share of the features' mean energy: weak, the heads would be large, and the first steps of a
# training would throw their predictions about.
RIDGE = 1.0
BINS, SIGMA_DEG = 90, 4.0  # L2CS-Net's bins; width of the distribution that the heads predict


def make_project(root: Path, targets: int, params: Params, trunk: str) -> Paths:
    """Draw and prepare a session of so many targets, one frame each, and put the base in place.

    `trunk` is 'resnet50', 'embedded' or a file that `fetch.base` takes; `params.sessions` is
    (SESSION,).

    Raises:
        InputError: the base cannot be read, or too many frames show no face.
    """
    paths = Paths(root)
    made = trunk == RESNET50
    source = EMBEDDED if made or trunk == EMBEDDED else str(Path(trunk).expanduser().resolve())
    fetch.run(replace(params, fetch=replace(params.fetch, base=source)), paths)
    _prepared(paths, SESSION, PERSON_SEEDS["bench"][0], targets, params)
    index.run(params, paths)
    if made:
        save_base(headed_resnet50(root / "others", params), paths.base)
    return paths


def _prepared(paths: Paths, session: str, person: int, targets: int, params: Params) -> None:
    purpose = next(name for name, seeds in PERSON_SEEDS.items() if person in seeds)
    write_session(
        paths.sessions / session,
        person=person,
        grid=grid_of(targets),
        frames_per_target=1,
        purpose=purpose,
    )
    prepare.run(session, params, paths, progress=False)


def headed_resnet50(root: Path, params: Params) -> BaseNetwork:
    """A ResNet-50 with random weights under heads of bins that know two other persons' gaze.

    The real L2CS-Net has a licence of its own. What training costs does not depend on weights, but
    it takes heads to have a probe and three candidates as a user has them. So linear heads are
    fitted to random features: poor, but better than nothing.
    """
    torch.manual_seed(1)
    network = GazeNetwork("resnet50", "layer3").eval()
    paths = Paths(root)
    sessions = tuple(f"person-{seed}" for seed in OTHERS)
    shutil.copytree(root.parent / "models" / "faces", paths.faces)
    for session, seed in zip(sessions, OTHERS, strict=True):
        _prepared(paths, session, seed, 16, params)
    index.run(replace(params, sessions=sessions), paths)
    samples = read_index(paths.index)
    crops = np.stack([load_crop(sample, paths) for sample in samples[::2]])
    take_batchnorm_statistics(network, torch.from_numpy(normalise(crops)))
    features = plain_features(network, samples, paths).double().numpy()
    state = {
        name: value.clone()
        for name, value in network.trunk.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    heads = fitted_heads(features, labels_deg(samples).astype(np.float64))
    return BaseNetwork(
        RESNET50, state, heads, "random weights, heads fitted", "0" * 64, "l2cs-state-dict"
    )


def fitted_heads(features: np.ndarray, true_deg: np.ndarray) -> BinHeads:
    """Heads whose expected angles are those of a ridge regression of (N, 2) degrees on (N, F)
    features: per angle a, logits a c / σ² - c² / 2σ² over the bins' angles c, a normal
    distribution about a."""
    width_deg, first_deg = BIN_LAYOUTS[BINS]
    bins_deg = bin_angles_deg(BINS, width_deg, first_deg).numpy()
    mean, mean_deg = features.mean(axis=0), true_deg.mean(axis=0)
    centered = features - mean
    kernel = centered @ centered.T
    kernel += RIDGE * np.trace(kernel) / len(kernel) * np.eye(len(kernel))
    weight = (centered.T @ np.linalg.solve(kernel, true_deg - mean_deg)).T  # (2, F)
    bias_deg = mean_deg - weight @ mean
    layers = [
        (
            torch.from_numpy(np.outer(bins_deg, row) / SIGMA_DEG**2).float(),
            torch.from_numpy((offset_deg * bins_deg - bins_deg**2 / 2) / SIGMA_DEG**2).float(),
        )
        for row, offset_deg in zip(weight, bias_deg, strict=True)
    ]
    return BinHeads(*layers[0], *layers[1], BINS, width_deg, first_deg)


def multiply(paths: Paths, frames: int, params: Params) -> None:
    """Make the prepared session one of `frames`, its crops again and again under other names, and
    write the index anew. A few bytes behind each image make it a file of its own."""
    folder = paths.dataset / SESSION
    rows = list(csv.DictReader(io.StringIO((folder / LABELS_FILE).read_text())))
    contents = [(folder / row["filename"]).read_bytes() for row in rows]
    labels = []
    for number, source in enumerate(sorted(place % len(rows) for place in range(frames))):
        name = f"img_{1_767_600_000_000 + number}.jpg"
        (folder / name).write_bytes(contents[source] + str(number).encode())
        labels.append({**rows[source], "filename": name})
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(labels)
    write_text(folder / LABELS_FILE, out.getvalue())
    manifest = read_manifest(folder / MANIFEST_FILE, SESSION).model_dump(mode="json")
    manifest["counts"]["used"] = frames
    write_json(folder / MANIFEST_FILE, manifest)
    index.run(params, paths)
