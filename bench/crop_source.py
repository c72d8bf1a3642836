"""What it costs when the crops come from another detector or mesh than those trained on.

    python bench/crop_source.py --mesh FILE [--detector FILE] [--persons 3]

Each simulated person's session is prepared once for each way to find the face: the embedded
detector's box, the mesh on it, and the same with another detector. A linear probe is trained on
each way's crops and tested, on held-out targets, on every way's crops of the same frames.
"""

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from custom_gaze.common.console import aligned
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.data.index import labels_deg, load_crop, of_split, read_index
from custom_gaze.data.splits import TEST
from custom_gaze.demo.seeds import PERSON_SEEDS
from custom_gaze.demo.session import write_session
from custom_gaze.faces.crops import normalise
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.faces.finder import DETECTOR_FILE, MESH_FILE
from custom_gaze.models.checkpoint import load_checkpoint
from custom_gaze.stages import index, prepare, train
from custom_gaze.weights.base import save_base
from custom_gaze.weights.embedded import load_embedded

SESSION, GRID = "monday", (6, 5)
DEFAULTS = Params(sessions=(SESSION,))
PARAMS = replace(DEFAULTS, train=replace(DEFAULTS.train, method="probe"))


@dataclass(frozen=True)
class Way:
    """The files that find a face; None: the embedded detector, no mesh."""

    detector: Path | None
    mesh: Path | None

    def put_into(self, folder: Path) -> None:
        """Lay the files where `prepare` looks for them."""
        folder.mkdir(parents=True)
        found = embedded_detector() if self.detector is None else self.detector.read_bytes()
        (folder / DETECTOR_FILE).write_bytes(found)
        if self.mesh is not None:
            shutil.copyfile(self.mesh, folder / MESH_FILE)


def ways(mesh: Path, detector: Path | None) -> dict[str, Way]:
    """By name."""
    found = {"box": Way(None, None), "mesh": Way(None, mesh)}
    if detector is not None:
        found |= {"other box": Way(detector, None), "mesh on it": Way(detector, mesh)}
    return found


def errors_of(person: int, work: Path, by_name: Mapping[str, Way]) -> dict[tuple[str, str], float]:
    """Mean errors in degrees by (way trained on, way tested on)."""
    write_session(work / SESSION, person=person, grid=GRID, purpose="bench")
    for name, way in by_name.items():
        paths = Paths(work / name)
        way.put_into(paths.faces)
        shutil.copytree(work / SESSION, paths.sessions / SESSION)
        prepare.run(SESSION, PARAMS, paths, progress=False)
        index.run(PARAMS, paths)
        save_base(load_embedded(), paths.base)
        train.run(PARAMS, paths)
    return {
        (trained, tested): _error_deg(Paths(work / trained), Paths(work / tested))
        for trained in by_name
        for tested in by_name
    }


def _error_deg(trained: Paths, tested: Paths) -> float:
    names = {sample.filename for sample in of_split(read_index(trained.index), TEST)}
    samples = [sample for sample in read_index(tested.index) if sample.filename in names]
    crops = np.stack([normalise(load_crop(sample, tested)[None])[0] for sample in samples])
    with torch.inference_mode():
        angles = load_checkpoint(trained.checkpoint).network()(torch.from_numpy(crops)).numpy()
    return float(np.hypot(*(angles - labels_deg(samples)).T).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mesh", type=Path, required=True)
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--persons", type=int, default=3)
    arguments = parser.parse_args()
    by_name = ways(arguments.mesh, arguments.detector)
    found = []
    for person in PERSON_SEEDS["bench"][: arguments.persons]:
        with tempfile.TemporaryDirectory() as folder:
            found.append(errors_of(person, Path(folder), by_name))
        print(person, {f"{a} → {b}": round(error, 2) for (a, b), error in found[-1].items()})
    rows = [
        [one, *(f"{np.mean([each[one, other] for each in found]):.2f}" for other in by_name)]
        for one in by_name
    ]
    print(aligned(["trained on, tested on", *by_name], rows))


if __name__ == "__main__":
    main()
