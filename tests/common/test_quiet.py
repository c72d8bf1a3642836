"""Nothing reports to anybody."""

import os
import subprocess
import sys
from pathlib import Path

SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
SCRIPT = """
import os, socket, time
asked = []
resolve = socket.getaddrinfo
def noted(host, *rest, **named):
    asked.append(host)
    return resolve(host, *rest, **named)
socket.getaddrinfo = noted
from custom_gaze.faces.detectors import embedded_detector
from custom_gaze.data.augmentation import Augmenter
from custom_gaze.config.params import AugmentParams
Augmenter(AugmentParams(), 1)
import onnxruntime
session = onnxruntime.InferenceSession(embedded_detector(), providers=["CPUExecutionProvider"])
import mlflow
mlflow.MlflowClient("sqlite:///quiet.db").search_experiments()
time.sleep(2)
print(asked)
"""


def test_importing_the_package_switches_reports_off(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    script = f"import os, custom_gaze; print([os.environ.get(n) for n in {list(SWITCHES)}])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=clean
    )
    assert done.stdout.strip() == str(list(SWITCHES.values()))


def test_onnxruntime_albumentations_and_mlflow_stay_quiet(tmp_path: Path) -> None:
    """onnxruntime leaves a device's id in the home folder when it means to report."""
    clean = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**clean, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")},
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"
    assert not [path for path in tmp_path.rglob("*") if "deviceid" in path.name.lower()]
