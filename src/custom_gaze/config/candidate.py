"""The names of what can be exported, from the simplest to the least simple (candidates.py)."""

from typing import Final

AUTO: Final = "auto"
BASE: Final = "base"
PROBE: Final = "probe"
FINETUNE: Final = "finetune"
NAMES = {BASE: "corrected base", PROBE: "probe", FINETUNE: "fine-tuned"}
