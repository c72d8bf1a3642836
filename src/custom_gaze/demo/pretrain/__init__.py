"""The demo world's own base network: drawn on, trained and written by `custom-gaze pretrain`."""
