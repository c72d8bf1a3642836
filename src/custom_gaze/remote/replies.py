"""What the agent replies, each kind of message with its exact form.

Its host key is verified, its owner is not: whoever holds that machine may answer anything. So no
answer is used before it has been checked here: names are of the form that we give, numbers lie in a
range, words that are shown are made printable. What was asked for is compared where it was asked.
"""

import json
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable
from custom_gaze.data.dvc_cache import OBJECT

Header = dict[str, Any]

RUN_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"

_LONGEST_NUMBER = 30
_MOST_OBJECT_BYTES = 1 << 40
_FIRST_S, _LAST_S = 0.0, 4_102_444_800.0  # 1970 to 2100


def _matches(pattern: str) -> StringConstraints:
    return StringConstraints(pattern=f"^(?:{pattern})$")


def _bytes_of(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("no text")
    return text.encode(errors="surrogateescape")


Words = Annotated[str, AfterValidator(printable)]  # shown, never used
RunName = Annotated[str, _matches(RUN_NAME)]
Object = Annotated[str, _matches(OBJECT.pattern)]
Commit = Annotated[str, _matches("[0-9a-f]{40}")]
ExperimentRef = Annotated[str, _matches(f"refs/exps/[0-9a-f]{{2}}/[0-9a-f]{{38}}/{RUN_NAME}")]
Address = Annotated[str, _matches(r"localhost|[0-9.]{7,15}|[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9_.-]+)?")]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(ge=_FIRST_S, le=_LAST_S, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=_MOST_OBJECT_BYTES)]
Log = Annotated[bytes, BeforeValidator(_bytes_of)]
Code = Annotated[int, Field(ge=-255, le=255)]


class Reply(BaseModel):
    """A message from the far machine; what it holds beyond these fields is not looked at."""

    model_config = ConfigDict(frozen=True)


class Done(Reply):
    """What was asked for is done."""


class Asked(Reply):
    """One experiment of a run, as it was asked for."""

    name: RunName
    set: list[str]


class Run(Reply):
    """A run: what was asked for, and how far it is."""

    name: RunName
    commit: Commit
    jobs: int
    experiments: list[Asked]
    started: Seconds
    state: Literal["running", "done", "failed", "stopped", "died"]
    code: Code | None = None
    ended: Seconds | None = None
    refs: dict[RunName, ExperimentRef | Literal[""]] = {}
    note: Words = ""  # what its engine says of it


class Refusal(Reply):
    """Something was not done; `active` is the run that is in the way."""

    error: Words
    code: Literal[1, 2] = 1
    active: Run | None = None


class Look(Reply):
    """One run, where there is one of that name, and the end of its log."""

    run: Run | None
    text: Log = b""


class Followed(Reply):
    """A piece of a run's log, up to the byte `log`; at the end the run."""

    log: Count = 0
    text: Log = b""
    ended: Run | None = None


class Stopped(Reply):
    """What was ended; whether there was anything left."""

    run: Run
    was: str
    left: bool


class Status(Reply):
    """Every run, the disk in bytes, the graphics cards; the end of the log of what goes on."""

    runs: list[Run]
    free: Count
    total: Count
    now: Seconds
    gpu: list[Words]
    text: Log = b""


class Hello(Reply):
    """What machine it is, and where its own sshd listens."""

    dir: str
    system: Words
    machine: Words
    python: Annotated[str, _matches(r"[0-9]{1,2}\.[0-9]{1,3}(\.[0-9A-Za-z+]{1,20})?")]
    git: Annotated[str, _matches(r"([0-9]{1,2}\.[0-9]{1,3}[0-9A-Za-z.+-]{0,40})?")]
    sshd: tuple[Address, Port]


class Changed(Reply):
    """What the agent has changed, a line each."""

    changed: list[Words]


class Installing(Reply):
    """A step of the installation begins; what was changed at its end."""

    note: Words | None = None
    changed: list[Words] = []


class Torch(Reply):
    """Version, CUDA version and graphics card that torch sees; the cards of nvidia-smi."""

    torch: tuple[Words, Words | None, Words | None]
    gpu: list[Words]


class Lacking(Reply):
    """Which of the objects the store does not have; whether rsync can bring them."""

    lacking: list[Object]
    rsync: bool


class Taken(Reply):
    """Which of the objects that arrived are not what their names say."""

    damaged: list[Object]


class Listed(Reply):
    """Objects of the store with their sizes in bytes, and those that it lacks."""

    sizes: dict[Object, Count]
    gone: list[Object]
    rsync: bool


class Served(Reply):
    """The port of the far machine's loopback where MLflow listens."""

    port: Port


class BrokenReply(Exception):
    """What came is no reply."""


def parse(line: bytes) -> Header:
    """A reply as it comes.

    Raises:
        BrokenReply: it is none.
    """
    try:
        header = json.loads(line, parse_int=_whole_number, parse_constant=_no_number)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise BrokenReply(line[:200].decode(errors="replace").strip())
    return header


def _whole_number(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("a number of too many digits")
    return int(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


class NotAsked(CustomGazeError):
    """The far machine sent something else than was asked for."""


R = TypeVar("R", bound=Reply)


def understood(host: str, kind: type[R], header: Header) -> R:
    """The message as what it has to be.

    Raises:
        NotAsked: it is something else.
    """
    try:
        return kind.model_validate(header)
    except ValidationError as error:
        first: Any = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = printable(".".join(map(str, first["loc"])), 80)
        raise not_asked(host, f"{where}: {printable(first['msg'], 120)}") from None


def not_asked(host: str, what: str) -> NotAsked:
    """The error for an answer that does not fit what was asked."""
    return NotAsked(
        f"{host}: sent something else than it was asked for ({what}); nothing was done with it"
    )
