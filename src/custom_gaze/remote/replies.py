"""What the agent replies, in its exact form.

Its host key is verified, its owner is not: whoever holds that machine may answer anything. So no
answer is used before it has been checked here: names are of the form that we give, numbers lie in a
range, words that are shown are made printable. What was asked for is compared where it was asked.
"""

import hashlib
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable
from custom_gaze.data.dvc_cache import FOLDER, OBJECT, files_in
from custom_gaze.remote.display import clock

RUN_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"


def _are_lists(lists: dict[str, str]) -> dict[str, str]:
    for name, text in lists.items():
        if hashlib.md5(text.encode()).hexdigest() + FOLDER != name:
            raise ValueError("another list")
        files_in(text.encode())
    return lists


Words = Annotated[str, AfterValidator(printable)]  # shown, never used
RunName = Annotated[str, Field(pattern=f"^(?:{RUN_NAME})$")]
Object = Annotated[str, Field(pattern=f"^(?:{OBJECT.pattern})$")]
Commit = Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
Address = Annotated[str, Field(pattern=r"^(localhost|[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9_.-]+)?)$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(ge=0.0, le=4_102_444_800.0, allow_inf_nan=False)]  # to 2100
Count = Annotated[int, Field(ge=0, le=1 << 40)]  # bytes
Code = Annotated[int, Field(ge=-255, le=255)]


class Reply(BaseModel):
    """A message from the far machine; what it holds beyond these fields is not looked at."""

    model_config = ConfigDict(frozen=True, val_json_bytes="base64")


class Asked(Reply):
    """One experiment: its name and its changes to params.yaml, as `-S` takes them."""

    name: RunName
    set: list[str]


class Request(Reply):
    """What a run is asked to do: a name, a commit, and one experiment or several."""

    name: RunName
    commit: Commit
    experiments: list[Asked]
    jobs: int = 1


class Run(Request):
    """A run: what was asked for, and how far it is."""

    started: Seconds
    state: Literal["running", "done", "failed", "stopped", "died"]
    code: Code | None = None
    ended: Seconds | None = None
    done: list[RunName] = []  # those of its experiments that have ended well
    note: Words = ""  # what its engine says of it


class Answer(Reply):
    """Whatever the agent answers: each verb fills those of these fields that are its own."""

    error: Words = ""  # it was refused or failed; `active` is the run that is in the way
    code: Literal[1, 2] = 1
    active: Run | None = None
    note: Words | None = None  # what setup changes or begins
    dir: str = ""  # the folder, the machine and where its own sshd listens
    machine: Words = ""
    sshd: tuple[Address, Port] = ("localhost", 22)
    torch: tuple[Words, Words | None, Words | None] = ("?", None, None)  # version, CUDA's, card
    gpu: list[Words] = []  # lines of nvidia-smi
    run: Run | None = None
    text: bytes = b""  # a piece of its log
    left: bool = False  # processes of it
    runs: list[Run] = []
    free: Count = 0  # bytes of the disk
    total: Count = 0
    now: Seconds = 0.0
    gone: list[Object] = []  # objects that are not there, or not whole
    sizes: dict[Object, Count] = {}  # of others, in bytes
    lists: Annotated[dict[Object, str], AfterValidator(_are_lists)] = {}  # folders' texts
    rsync: bool = False  # whether it can carry them
    port: Port = 1  # where MLflow listens


class NotAsked(CustomGazeError):
    """The far machine sent something else than was asked for."""

    def __init__(self, host: str, what: str) -> None:
        super().__init__(
            f"{host}: sent something else than it was asked for ({what}); nothing was done with it"
        )


class AgentError(CustomGazeError):
    """The agent did not do what it was asked."""

    def __init__(self, host: str, refusal: Answer) -> None:
        said, self.exit_code = refusal.error, refusal.code
        if refusal.active is not None:
            name, since = refusal.active.name, clock(refusal.active.started)
            said = f"{name} has been running there since {since}; "
            said += f"read along: custom-gaze remote attach {name}; "
            said += f"end it: custom-gaze remote stop {name}"
        super().__init__(f"{host}: {said}")


def understood(host: str, line: bytes) -> Answer:
    """The answer that a line of JSON is; a refusal is raised (AgentError)."""
    try:
        answer = Answer.model_validate_json(line)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            said = printable(line[:200].decode(errors="replace"))
            raise CustomGazeError(f"{host}: what it sent is not understood: {said}") from None
        raise NotAsked(host, fault_of(error)) from None
    if answer.error:
        raise AgentError(host, answer)
    return answer


def fault_of(error: ValidationError) -> str:
    """Where something is not of its form, and why, in a few words."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{printable('.'.join(map(str, first['loc'])), 80)}: {printable(first['msg'], 120)}"
