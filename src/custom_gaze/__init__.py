"""custom-gaze: from calibration frames to a personal gaze network."""

__version__ = "0.1.0"
