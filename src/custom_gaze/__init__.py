"""custom-gaze: from calibration frames to a personal gaze network."""

import os

__version__ = "0.1.0"

# Read by libraries when they are loaded, so set before any of them is: nothing here reports to
# anybody (onnxruntime does it on Linux too, albumentations asks the package index), ...
for _name in ("ORT_DISABLE_TELEMETRY", "NO_ALBUMENTATIONS_UPDATE", "DVC_NO_ANALYTICS"):
    os.environ.setdefault(_name, "1")
for _name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.setdefault(_name, "true")
# ... and OpenMP's threads do not wait for each other in busy loops: as soon as another program
# wants a core, a forward pass would take ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
