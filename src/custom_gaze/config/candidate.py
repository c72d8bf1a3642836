"""The names of what can be exported, from the simplest to the least simple (candidates.py)."""

AUTO = "auto"
BASE, PROBE, FINETUNE = "base", "probe", "finetune"
NAMES = {BASE: "corrected base", PROBE: "probe", FINETUNE: "fine-tuned"}
