"""`custom-gaze doctor`: looks sessions and the environment over before hours go into them."""

from custom_gaze.doctor.examine import DoctorResult, SessionLook, as_json, as_text, run
from custom_gaze.doctor.findings import Finding, Severity

__all__ = ["DoctorResult", "Finding", "SessionLook", "Severity", "as_json", "as_text", "run"]
