"""One ssh connection to the far machine and the messages over it; none is used unchecked.

git and rsync go over the same one (carry.py): it is verified once, and lets others share it.
"""

import contextlib
import json
import os
import re
import select
import shlex
import shutil
import tempfile
import threading
import time
import zlib
from collections import deque
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import IO

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable
from custom_gaze.remote.agent import START, Verb
from custom_gaze.remote.programs import ANSWER_S, OPTIONS, Lost, Unreachable, check_host, explain
from custom_gaze.remote.replies import Answer, understood
from custom_gaze.remote.settings import Settings

_BEAT_S = 8.0  # so often we say that we are there
_LONGEST_LINE = 1 << 25  # the names and lists of 200,000 objects
_MOST_GREETING = 1 << 16
_CHATTER = ("Authenticated to ", "Bytes per second: ")  # with the bytes, at ssh's level VERBOSE
_CARRIED = re.compile(r"Transferred: sent (\d{1,18}), received (\d{1,18}) bytes")

_PROGRAM = (
    *("agent", "store", "engine", "engine_local", "engine_systemd", "engine_slurm"),
    *("agent_runs", "agent_setup", "agent_mlflow"),
)
# One line without a quote of its own: the login shell may be fish or tcsh.
_COMMAND = (
    "python3 -I -c 'import sys, zlib; "
    "exec(zlib.decompress(sys.stdin.buffer.read(int(sys.argv[1]))))' {length}"
)
_BOOTSTRAP = """
import sys, types
if sys.version_info < (3, 10):
    sys.exit("python3: too old")
for name, source in {parts!r}:
    sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), sys.modules[name].__dict__)
sys.modules["{first}"].main()
"""

# In the place of ssh for git and rsync, which would take for an answer what a shell there greets
# with. It ends with us, and what it carries for too: rsync on a line that is stuck does not.
_CARRIER = """#!/bin/sh
host=$1
shift
(while kill -0 {us} && kill -0 $$; do sleep 0.5; done; kill -0 {us} || kill 0) >/dev/null 2>&1 &
ssh {options} "$host" "echo; echo {begin}; exec $*" | while IFS= read -r line; do
    [ "$line" = "{begin}" ] && exec cat
done
"""
_BEGIN = "custom-gaze: begin"


class Connection:
    """Use as a context. The first request opens it, also again after `close`.

    Requests and replies are lines of JSON. `sent` and `received` are the bytes that all of it has
    carried, once it has ended. That the far machine is there is ssh's to watch.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.host = check_host(settings.host)
        self.sent = self.received = 0
        self._is_open = False
        self.greeting = ""  # what the far machine's shell said before the first message

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Connect; within ten seconds it stands, or one line says why it does not (Unreachable)."""
        if shutil.which("ssh") is None:
            raise Unreachable("ssh is not installed here (OpenSSH's client)")
        here = Path(__file__)
        sources = {
            each: here.with_name(f"{each}.py").read_text(encoding="utf-8") for each in _PROGRAM
        }
        parts = [(f"{__package__}.{each}", source) for each, source in sources.items()]
        program = zlib.compress(_BOOTSTRAP.format(parts=parts, first=parts[0][0]).encode(), 9)
        self._complaints: deque[str] = deque(maxlen=20)
        self._writing, self._closing = threading.Lock(), threading.Event()
        # Not below the home folder: a socket's path may have about 100 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="cg-"))
        self.socket = str(self._folder / "ssh")  # where ssh lets others share the connection
        options = ["-S", self.socket, *OPTIONS, "-o", "ClearAllForwardings=yes"]
        carrier = _CARRIER.format(us=os.getpid(), options=shlex.join(options), begin=_BEGIN)
        (self._folder / "carrier").write_text(carrier, encoding="utf-8")
        command = _COMMAND.format(length=len(program))
        words = ["ssh", "-M", *options, "-o", "LogLevel=VERBOSE", self.host, command]
        # Ctrl-C is ours to answer.
        process = Popen(words, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True)
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._process, self._is_open = process, True
        self._to, self._from = process.stdin, process.stdout
        self._listener = threading.Thread(target=self._listen, args=(process.stderr,), daemon=True)
        self._listener.start()
        try:
            self._hello(program)
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._beat, daemon=True).start()

    def _hello(self, program: bytes) -> None:
        """Send the program and wait until it speaks; what a shell greets with comes before."""
        begun, said, line = time.monotonic(), b"", b""
        late = threading.Timer(ANSWER_S, self._process.kill)  # it would wait for minutes
        late.start()
        with contextlib.suppress(OSError):  # what is read tells why
            self._to.write(program)
            self._to.flush()
        while len(said) < _MOST_GREETING and (line := self._from.readline(4096)):
            if line == START.encode() + b"\n":
                break
            said += line
        late.cancel()
        in_time = time.monotonic() - begun < ANSWER_S
        self.greeting = printable(said.strip().decode(errors="replace"), 120)
        if len(said) >= _MOST_GREETING:
            self._process.kill()
            raise CustomGazeError(
                f"{self.host}: what it sent is not understood: a greeting of more than "
                f"{_MOST_GREETING >> 10} kB; keep the shell there silent for logins without a "
                "terminal"
            )
        if not line:
            self.has_ended()
            self._listener.join(timeout=3)  # all that ssh said has been read
            if self.greeting:
                self._complaints.appendleft(self.greeting)  # such as: account expired
            if not in_time:
                self._complaints.append("timed out")
            raise explain(self.host, list(self._complaints), self._process.returncode)

    def close(self) -> None:
        """End the connection; whatever the agent was doing for it ends too."""
        if not self._is_open:
            return
        self._is_open = False
        self._closing.set()
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(timeout=3)
        except TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(timeout=3)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def shell(self) -> str:
        """The command that git and rsync call in the place of ssh."""
        return shlex.join(["sh", str(self._folder / "carrier")])

    def address(self, path: str) -> str:
        """What git and rsync call a path of the far machine."""
        return f"{self.host}:{path}"

    def lost(self) -> Lost:
        """The error for a line that carries nothing more."""
        return Lost(f"{self.host}: the connection was cut")

    def has_ended(self) -> bool:
        """Whether ssh has, or does in a moment."""
        with contextlib.suppress(TimeoutExpired):
            self._process.wait(timeout=2)
        return self._process.poll() is not None

    def ask(self, verb: Verb, /, **values: object) -> Answer:
        """Ask for something, a function of the agent's; return the answer.

        Raises:
            AgentError: it was refused or failed.
            NotAsked: the answer has not the form of one.
            Lost: the connection ended meanwhile; Unreachable where it could not be opened.
        """
        self.send(verb, **values)
        return self.receive()

    def send(self, verb: Verb, /, **values: object) -> None:
        """Send one request."""
        if not self._is_open:
            self.open()
        place = {"dir": self.settings.directory, "sub": self.settings.subfolder}
        do = (verb.__module__, verb.__name__)
        self._write(json.dumps({"do": do, **place, **values}).encode())

    def _write(self, line: bytes) -> None:
        try:
            with self._writing:
                self._to.write(line + b"\n")
                self._to.flush()
        except (OSError, ValueError):
            raise self.lost() from None

    def receive(self) -> Answer:
        """The next reply, as `ask` has it."""
        return understood(self.host, self._read_line())

    def _read_line(self) -> bytes:
        line = self._from.readline(_LONGEST_LINE)
        if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
            raise self.lost()
        return line

    def waiting(self) -> bool:
        """Whether an answer lies ready."""
        return bool(select.select([self._from], [], [], 0)[0])

    def _listen(self, complaints: IO[bytes]) -> None:
        while line := complaints.readline(4096).decode(errors="replace"):
            if carried := _CARRIED.match(line):
                self.sent += int(carried[1])
                self.received += int(carried[2])
            elif not line.startswith(_CHATTER):
                self._complaints.append(line.strip())

    def _beat(self) -> None:
        with contextlib.suppress(CustomGazeError):
            while not self._closing.wait(_BEAT_S):
                self._write(b"")
