"""Other programs as they are called here: run to their end, never asking anything."""

import subprocess
import sys
from pathlib import Path

DVC = (sys.executable, "-m", "dvc")


def call(
    *words: str, root: Path | None = None, given: str = "", timeout_s: float | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a program in `root` on the input `given`; what it says is text, whatever its bytes are.

    Raises:
        FileNotFoundError: it is not installed.
        subprocess.TimeoutExpired: it took longer.
    """
    return subprocess.run(
        words,
        cwd=root,
        input=given,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        check=False,
        timeout=timeout_s,
    )


def last_line(said: str) -> str:
    """The last line of what a program said."""
    return (said.strip().splitlines() or ["?"])[-1]
