"""Frames per second of the prepare stage at 1280×720, and how it grows with their number.

    python bench/prepare_speed.py [--detector PATH] [--targets 25 100]

Makes demo sessions in a temporary folder, prepares each of them, and prints a table. The session
is drawn before the clock starts; loading the detector counts.
"""

import argparse
import os
import platform
import resource
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from custom_gaze.common.console import aligned
from custom_gaze.common.files import write_bytes
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.demo.session import write_session
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.stages import prepare


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--detector", type=Path, help="default: the embedded CenterFace")
    parser.add_argument("--targets", type=int, nargs="+", default=[25, 100])
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder))
        detector = paths.faces / "face_detection.onnx"
        if arguments.detector:
            paths.faces.mkdir(parents=True)
            shutil.copy(arguments.detector, detector)
        else:
            write_bytes(detector, embedded_detector())
        rows = [measure(count, paths) for count in arguments.targets]
    print(aligned(("frames", "detector", "seconds", "frames/s", "left out"), rows))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process: {peak:.0f} MiB")


def measure(targets: int, paths: Paths) -> tuple[str, ...]:
    """Draw a session with that many targets, prepare it, and say how long that took."""
    session = f"bench-{targets}"
    grid = (targets // 5, 5)
    write_session(
        paths.sessions / session, person=1000, grid=grid, frames_per_target=2, purpose="bench"
    )
    params = replace(Params(), sessions=(session,))
    start = time.perf_counter()
    result = prepare.run(session, params, paths)
    seconds = time.perf_counter() - start
    per_second = f"{result.frames / seconds:.1f}"
    left_out = str(len(result.left_out))
    return str(result.frames), result.detector, f"{seconds:.2f}", per_second, left_out


if __name__ == "__main__":
    main()
