"""The stage `prepare`: a raw session → face crops, labels and a manifest.

Frames are decoded, searched, cropped and written one by one on as many threads as there are
cores; never more than a handful are in memory. Every frame left out is named with its reason.
"""

import csv
import io
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from custom_gaze.common.console import bar
from custom_gaze.common.errors import InputError
from custom_gaze.common.files import no_more_open_than, whole_folder, write_bytes, write_json
from custom_gaze.common.provenance import code_version
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.config.session_ids import check_session_id
from custom_gaze.config.specification import Preprocessing
from custom_gaze.data.frame_looks import Examiner, FrameLook
from custom_gaze.data.prepared import (
    COLUMNS,
    LABELS_FILE,
    MANIFEST_FILE,
    MANIFEST_FORMAT,
    Counts,
    LeftOut,
    Manifest,
    Suspect,
    UsedDetector,
    UsedMesh,
)
from custom_gaze.data.session_file import read_heeded
from custom_gaze.data.sessions import Frame, Session, load_frame
from custom_gaze.data.suspects import suspects_among
from custom_gaze.faces.crops import gaze_crop, jpeg
from custom_gaze.faces.eye_points import load_eye_finder
from custom_gaze.faces.finder import FaceFinder, load_finder
from custom_gaze.geometry import ScreenGeometry

REASONS_SHOWN = 3
THREADS_MOST = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class PrepareResult:
    """What was prepared; `left_out` is sorted by filename."""

    session_id: str
    folder: Path
    frames: int
    used: int
    left_out: tuple[LeftOut, ...]
    suspects: tuple[Suspect, ...]
    crop_from: str
    detector: str


def run(session_id: str, params: Params, paths: Paths, progress: bool = True) -> PrepareResult:
    """Prepare data/sessions/<id> as data/dataset_clean/<id>, whole or not at all.

    The folder then holds a JPEG per usable frame (RGB, size_px squared, 4:4:4), labels.csv (angles
    in degrees, targets in screen pixels, the face's box in frame pixels) and manifest.json. Who may
    not read a frame may not read its crop. What data/sessions/<id>.yaml says of the session is
    heeded: the frames that it excludes are left out, and its own screen is that of the labels.

    Raises:
        InputError: the session, its file, the detector or the mesh cannot be used; no frame is
            usable, or more than `prepare.max_unusable_share` of them are not.
        CustomGazeError: writing failed.
    """
    check_session_id(session_id, "prepare")
    settings = params.prepare
    spec = Preprocessing(settings.margin, settings.size_px)
    session, geometry = read_heeded(paths.sessions / session_id, paths, params.geometry)
    finder = load_finder(paths.faces, settings.min_score)
    examiner = Examiner(finder, load_eye_finder(), settings.margin)
    target = paths.dataset / session_id
    with whole_folder(target) as folder:
        no_more_open_than(folder, session.folder)

        def prepare_one(frame: Frame) -> FrameLook | LeftOut:
            return _prepare_frame(frame, folder, examiner, spec, settings.jpeg_quality)

        results = _in_parallel(prepare_one, session.frames)
        done = list(
            bar(results, f"prepare {session_id}", len(session.frames)) if progress else results
        )
        used = [entry for entry in done if isinstance(entry, FrameLook)]
        unusable = [entry for entry in done if isinstance(entry, LeftOut)]
        left_out = tuple(sorted((*session.left_out, *unusable), key=lambda entry: entry.filename))
        _check_share(session, len(used), left_out, settings.max_unusable_share)
        write_bytes(folder / LABELS_FILE, _labels(used, session_id, geometry))
        suspects = suspects_among(used, geometry, params.split.same_target_px)
        manifest = _manifest(session_id, finder, params, geometry, spec, used, left_out, suspects)
        write_json(folder / MANIFEST_FILE, manifest.model_dump(mode="json"))
    return PrepareResult(
        session_id=session_id,
        folder=target,
        frames=len(used) + len(left_out),
        used=len(used),
        left_out=left_out,
        suspects=suspects,
        crop_from=finder.crop_from,
        detector=finder.detector.kind.value,
    )


def _prepare_frame(
    frame: Frame, folder: Path, examiner: Examiner, spec: Preprocessing, jpeg_quality: int
) -> FrameLook | LeftOut:
    try:
        pixels = load_frame(frame.image)
        face = examiner.finder.find(pixels)
        crop = gaze_crop(pixels, face.box, spec)
    except InputError as error:
        return LeftOut(frame.image.name, _without_path(str(error), frame.image))
    made = folder / frame.image.name
    made.write_bytes(jpeg(crop, jpeg_quality))
    no_more_open_than(made, frame.image)
    return examiner.seen(frame, pixels, face)


def _without_path(reason: str, image: Path) -> str:
    """load_frame's message names the file and says that it cannot be used; the manifest does so."""
    return reason.removeprefix(f"{image}: ").removesuffix("; this frame cannot be used")


def _in_parallel(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work` on every item, results in order; at most two items a thread are under way."""
    threads = min(_cores(), THREADS_MOST)
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux; honours taskset and containers
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_share(
    session: Session, used: int, left_out: tuple[LeftOut, ...], allowed: float
) -> None:
    unusable = tuple(entry for entry in left_out if not entry.excluded)
    total = used + len(unusable)
    if used and len(unusable) <= allowed * total + 1e-9:  # 0.29 · 100 is less than 29
        return
    what = f"{len(unusable)} of {total} frames cannot be used" if used else "no frame can be used"
    limit = f" (allowed are {allowed:.0%})" if used else ""
    rule = ", or raise prepare.max_unusable_share" if used else ""
    raise InputError(
        f"{session.folder}: {what}{limit}: {_commonest(unusable or left_out)}; "
        f"capture the session again with the face well lit and in view{rule}"
    )


def _commonest(left_out: tuple[LeftOut, ...]) -> str:
    """The commonest reasons with their counts and the first frame of each."""
    kinds = [_kind_of(entry.reason) for entry in left_out]
    counts = Counter(kinds).most_common()
    shown = [
        f"{count} x {kind} (first {left_out[kinds.index(kind)].filename})"
        for kind, count in counts[:REASONS_SHOWN]
    ]
    rest = sum(count for _, count in counts[REASONS_SHOWN:])
    return ", ".join([*shown, f"{rest} for other reasons"] if rest else shown)


def _kind_of(reason: str) -> str:
    """A reason without what differs from frame to frame: names and what stands in brackets."""
    return re.sub(r"img_\d+", "img_…", re.sub(r" \(.*", "", reason))


def _labels(used: list[FrameLook], session_id: str, geometry: ScreenGeometry) -> bytes:
    """labels.csv; floats are written so that reading them gives the same numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in used:
        frame, face = entry.frame, entry.face
        assert face is not None  # only frames with a face were used
        target_px = (frame.target_x_px, frame.target_y_px)
        yaw_deg, pitch_deg = geometry.to_degrees(target_px).tolist()
        numbers = (yaw_deg, pitch_deg, *target_px, face.score, *face.box)
        yaw, pitch, *others = (repr(float(number)) for number in numbers)
        writer.writerow([frame.image.name, yaw, pitch, session_id, *others])
    return text.getvalue().encode()


def _manifest(
    session_id: str,
    finder: FaceFinder,
    params: Params,
    geometry: ScreenGeometry,
    spec: Preprocessing,
    used: list[FrameLook],
    left_out: tuple[LeftOut, ...],
    suspects: tuple[Suspect, ...],
) -> Manifest:
    detector, mesh = finder.detector, finder.mesh
    return Manifest(
        format=MANIFEST_FORMAT,
        session=session_id,
        code=code_version("stages.prepare"),
        detector=UsedDetector(
            kind=detector.kind.value, sha256=detector.sha256, min_score=finder.min_score
        ),
        mesh=UsedMesh(sha256=mesh.sha256) if mesh else None,
        geometry=geometry,
        preprocessing=spec,
        drawn=all(entry.frame.drawn for entry in used),
        crop_from=finder.crop_from,
        jpeg_quality=params.prepare.jpeg_quality,
        counts=Counts(frames=len(used) + len(left_out), used=len(used), left_out=len(left_out)),
        left_out=left_out,
        suspects=suspects,
    )
