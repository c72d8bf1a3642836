"""The base networks that bench/accuracy.py compares, read as a user's own would be."""

import hashlib
from dataclasses import replace
from pathlib import Path

from accuracy_person import PARAMS, hash_of
from custom_gaze.common.errors import InputError
from custom_gaze.config.params import FetchParams
from custom_gaze.config.paths import Paths
from custom_gaze.stages import fetch
from custom_gaze.weights.base import BaseNetwork, read_base
from custom_gaze.weights.base_heads import AngleHead
from custom_gaze.weights.embedded import EMBEDDED, EMBEDDED_BASE, load_embedded

EASY = "easy"
EASY_PARAMS = Path(__file__).parents[1] / "pretrain" / "easy.yaml"


def base_network(name: str, work: Path) -> BaseNetwork:
    """The base network of that name: `embedded`, `easy` or a file's path.

    Raises:
        InputError: the file cannot be read or is no base network with heads.
    """
    source = name
    if name == EASY:
        source = str(easy_base(work))
    elif name != EMBEDDED:
        source = str(Path(name).expanduser().resolve())
    paths = Paths(work / "bases" / hashlib.sha256(source.encode()).hexdigest()[:12])
    fetch.run(replace(PARAMS, fetch=FetchParams(base=source)), paths)
    base = read_base(paths.base)
    if base.heads is None:
        raise InputError(f"--base {name}: is a trunk without heads; it gives no angles to correct")
    return base


def easy_base(work: Path) -> Path:
    """A base network trained on frames like the demo's, where correction is hard to beat.

    Made once from the embedded base, by pretrain/easy.yaml; interrupted, it goes on where it
    stopped.

    Raises:
        InputError: pretrain/easy.yaml or the embedded base is missing or damaged.
    """
    from custom_gaze.demo.pretrain.run import run

    try:
        said = EASY_PARAMS.read_text()
    except OSError as error:
        raise InputError(f"{EASY_PARAMS}: cannot be read ({error.strerror})") from None
    output = work / "bases" / f"easy-{hash_of(said, load_embedded().sha256)}.pt"
    if not output.exists():
        print("pretraining the easy base first", flush=True)
        run(EASY_PARAMS, output, start=EMBEDDED_BASE)
    return output


def fingerprint(base: BaseNetwork) -> str:
    """SHA-256 of the weights and heads, wherever the file came from."""
    assert base.heads is not None
    digest = hashlib.sha256(base.spec.name.encode())
    heads = {k: v for k, v in vars(base.heads).items() if k.endswith(("weight", "bias"))}
    if isinstance(base.heads, AngleHead):
        heads = base.heads.state
    for name, tensor in [*base.trunk_state.items(), *heads.items()]:
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
