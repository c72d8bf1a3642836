"""`custom-gaze doctor`: looks sessions and the environment over before hours go into them.

- `findings`: what a finding is, and findings as text and as JSON
- `frames`: faces, the frame's border, closed eyes, near-duplicates
- `screen`: the targets against the screen's geometry, and which targets are worth adding
- `labels`: frames whose label disagrees with what their neighbours teach
- `environment`: packages, GPU, DVC remote, MLflow store
- `examine`: all of it
"""

from custom_gaze.doctor.examine import DoctorResult, SessionLook, as_json, as_text, run
from custom_gaze.doctor.findings import Finding, Severity

__all__ = ["DoctorResult", "Finding", "SessionLook", "Severity", "as_json", "as_text", "run"]
