"""`make test-matrix`: the tests marked `numeric` as other processors, thread counts and seeds give.

torch and oneDNN are told to use no more of this processor's instructions than an older one has
(what onnxruntime and numpy use, they choose by themselves). Each kind of instructions is run with
one thread and with two; each seed with two kinds of instructions and with both thread counts.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Combination:
    """What the tests run with, and the flag in /proc/cpuinfo that says whether they can."""

    aten: str  # ATEN_CPU_CAPABILITY
    onednn: str  # ONEDNN_MAX_CPU_ISA
    flag: str | None
    threads: int
    seed: int

    def __str__(self) -> str:
        return f"{self.aten} with {self.onednn}, threads {self.threads}, seed {self.seed}"

    def environment(self) -> dict[str, str]:
        """This process's environment with the combination in it."""
        return {
            **os.environ,
            "ATEN_CPU_CAPABILITY": self.aten,
            "ONEDNN_MAX_CPU_ISA": self.onednn,
            "OMP_NUM_THREADS": str(self.threads),
            "CUSTOM_GAZE_TEST_SEED": str(self.seed),
        }


COMBINATIONS = (
    Combination("default", "SSE41", None, 1, 1),
    Combination("avx2", "AVX2", "avx2", 2, 3),
    Combination("avx512", "AVX512_CORE", "avx512dq", 1, 3),
    Combination("default", "SSE41", None, 2, 2),
    Combination("avx2", "AVX2", "avx2", 1, 2),
    Combination("avx512", "AVX512_CORE_BF16", "avx512_bf16", 2, 1),
)
TESTS = ("-m", "pytest", "-q", "-n", "logical", "--maxprocesses", "4", "--dist", "worksteal")


def flags() -> set[str]:
    """What this processor's instructions are called; nothing where nobody says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def main() -> int:
    known, failed = flags(), []
    for each in COMBINATIONS:
        if each.flag is not None and each.flag not in known:
            print(f"skipped: {each}: this processor has no {each.flag}", flush=True)
            continue
        print(f"\n{each}", flush=True)
        started = time.monotonic()
        command = [sys.executable, *TESTS, "-m", "numeric and not long", *sys.argv[1:]]
        if subprocess.run(command, env=each.environment(), check=False).returncode != 0:
            failed.append(each)
        print(f"{each}: {time.monotonic() - started:.0f} s", flush=True)
    for each in failed:
        print(f"FAILED: {each}")
    if not failed:
        print("\nall passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
