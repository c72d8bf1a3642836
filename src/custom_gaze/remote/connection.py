"""One ssh connection to the far machine and the messages over it; none is used unchecked.

git and rsync go over the same one (carry.py): it is verified once, and lets others share it.
"""

import contextlib
import json
import os
import queue
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import deque
from importlib.resources import files
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable
from custom_gaze.remote.display import Traffic
from custom_gaze.remote.frames import (
    BrokenFrame,
    CutFrame,
    Header,
    read_frame,
    skip_greeting,
    write_frame,
)
from custom_gaze.remote.replies import R, Refusal, understood
from custom_gaze.remote.ssh import ANSWER_S, OPTIONS, VERIFY, Lost, Unreachable, check_host, explain

_BEAT_S = 3.0
_SILENCE_S = 15.0  # the agent says every three seconds that it lives

_NO_FORWARDING = ["-o", "ClearAllForwardings=yes"]

_PROGRAM = (
    *("frames", "store", "agent", "agent_store", "agent_state", "agent_launch", "agent_runs"),
    *("agent_setup", "agent_mlflow", "agent_main"),
)
# One line without a quote of its own: the login shell may be fish or tcsh.
_COMMAND = "python3 -I -c 'import sys; exec(sys.stdin.buffer.read(int(sys.argv[1])))'"
_BOOTSTRAP = (
    "import json,sys,types,zlib\n"
    "text=sys.stdin.buffer.read(int(sys.argv[2]))\n"
    "for name in ('custom_gaze','custom_gaze.remote'):\n"
    " sys.modules[name]=types.ModuleType(name); sys.modules[name].__path__=[]\n"
    "for name,source in json.loads(zlib.decompress(text)):\n"
    " module=types.ModuleType(name); sys.modules[name]=module\n"
    " parent,_,child=name.rpartition('.'); setattr(sys.modules[parent],child,module)\n"
    " exec(compile(source,name,'exec'),module.__dict__)\n"
    "module.main()\n"
)


class AgentError(CustomGazeError):
    """The agent did not do what it was asked; `refusal` is its answer."""

    def __init__(self, host: str, refusal: Refusal) -> None:
        super().__init__(f"{host}: {refusal.error}")
        self.refusal = refusal
        self.exit_code = refusal.code


class Connection:
    """Use as a context; asks and answers are messages. Bytes are counted both ways.

    Raises:
        Unreachable: on entering, within ten seconds, with one line that says why.
    """

    _process: subprocess.Popen[bytes]  # ssh, with the three pipes; from entering on
    _listener: threading.Thread

    def __init__(self, host: str, traffic: Traffic | None = None) -> None:
        self.host = check_host(host)
        self._traffic = traffic or Traffic()  # what the whole command has sent and received
        self.sent_bytes = 0
        self.received_bytes = 0
        self.greeting = ""  # what the far machine's shell said before the first message
        # Few, so that a machine that floods us fills its own pipe and not our memory.
        self._inbox: queue.Queue[tuple[Header, bytes] | None] = queue.Queue(maxsize=2)
        self._broken = ""  # what it sent that is no message
        self._complaints: deque[str] = deque(maxlen=20)
        self._writing = threading.Lock()
        self._closing = threading.Event()
        # Not below the home folder: a socket's path may have about 100 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="cg-"))
        self._heard = time.monotonic()

    def __enter__(self) -> "Connection":
        prefix = f"{__package__}."
        package = files(__package__ or "custom_gaze.remote")
        parts = [
            (prefix + name, (package / f"{name}.py").read_text(encoding="utf-8"))
            for name in _PROGRAM
        ]
        program = zlib.compress(json.dumps(parts).encode(), 9)
        command = f"{_COMMAND} {len(_BOOTSTRAP)} {len(program)}"
        try:
            self._process = subprocess.Popen(
                [
                    "ssh",
                    "-M",
                    "-S",
                    self._socket,
                    *OPTIONS,
                    *VERIFY,
                    *_NO_FORWARDING,
                    self.host,
                    command,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is ours to answer
            )
        except FileNotFoundError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise Unreachable("ssh is not installed here (OpenSSH's client)") from None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        for target in (self._read, self._beat):
            threading.Thread(target=target, daemon=True).start()
        try:
            self._hello(_BOOTSTRAP.encode() + program)
        except BaseException:
            self.close()
            raise
        return self

    def _hello(self, program: bytes) -> None:
        self._heard = time.monotonic()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(program)
            self._process.stdin.flush()
        except OSError:
            raise self.why() from None
        self.sent_bytes += len(program)
        self._receive(ANSWER_S)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # nothing was carried
            for line in self._counts.read_text(encoding="ascii").splitlines():
                sent, received = line.split()
                self.sent_bytes += int(sent)
                self.received_bytes += int(received)
        self._traffic.sent += self.sent_bytes
        self._traffic.received += self.received_bytes
        self.close()

    def close(self) -> None:
        """End the connection; whatever the agent was doing for it ends too."""
        self._closing.set()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _socket(self) -> str:
        return str(self._folder / "ssh")

    @property
    def _counts(self) -> Path:
        """What git and rsync have carried, a line each."""
        return self._folder / "carried"

    @property
    def shell(self) -> str:
        """The command that git and rsync call in the place of ssh."""
        carrier = [sys.executable, "-I", str(Path(__file__).with_name("carrier.py"))]
        through = ["ssh", "-S", self._socket, *OPTIONS, *VERIFY, *_NO_FORWARDING]
        return shlex.join([*carrier, self.host, str(os.getpid()), str(self._counts), *through])

    @property
    def environment(self) -> dict[str, str]:
        """What git is started with."""
        own = {"GIT_SSH_COMMAND": self.shell, "GIT_SSH_VARIANT": "ssh", "GIT_TERMINAL_PROMPT": "0"}
        return {**os.environ, **own, "LC_ALL": "C"}

    def git_address(self, path: str) -> str:
        return f"ssh://{self.host}{path}"

    def rsync_address(self, path: str) -> str:
        return f"{self.host}:{path}"

    def has_ended(self) -> bool:
        """Whether ssh has, or does in a moment."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        return self._process.poll() is not None

    def lost(self) -> CustomGazeError:
        """The error for a line that carries nothing more."""
        return Lost(f"{self.host}: the connection was cut")

    def ask(self, do: str, kind: type[R], /, **values: object) -> R:
        """Ask for something; return the answer, which has to be of this kind.

        Raises:
            AgentError: it was refused or failed.
            NotAsked: the answer is something else.
            Lost: the connection ended meanwhile.
        """
        self.send({"do": do, **values})
        return self.receive(kind)[0]

    def send(self, header: Header, payload: bytes = b"") -> None:
        """Send one message.

        Raises:
            Lost: the connection has ended.
        """
        try:
            with self._writing:
                assert self._process.stdin is not None
                self.sent_bytes += write_frame(self._process.stdin, header, payload)
        except (OSError, ValueError):
            raise self.why() from None

    def receive(self, kind: type[R]) -> tuple[R, bytes]:
        """The next message, which has to be of this kind, and the bytes that it carries.

        Raises:
            AgentError: it says that something was refused or failed.
            NotAsked: it is something else.
            Lost: the connection ended, or nothing was heard for 15 seconds.
        """
        header, payload = self._receive(_SILENCE_S)
        if "error" in header:
            raise AgentError(self.host, understood(self.host, Refusal, header))
        return understood(self.host, kind, header), payload

    def waiting(self) -> bool:
        """Whether an answer lies ready."""
        return not self._inbox.empty()

    def _receive(self, silence_s: float) -> tuple[Header, bytes]:
        asked = time.monotonic()  # what we were busy with before is no silence of theirs
        while True:
            left = max(self._heard, asked) + silence_s - time.monotonic()
            try:
                message = self._inbox.get(timeout=max(0.0, left))
            except queue.Empty:
                if time.monotonic() - self._heard < silence_s:
                    continue  # a beat came meanwhile
                raise self._silent() from None
            if message is None:
                raise self.why()
            return message

    def _silent(self) -> CustomGazeError:
        if self.received_bytes == 0:
            self._process.kill()  # it would wait for minutes
            return Unreachable(
                f"{self.host}: no answer within {ANSWER_S:g} seconds; is it switched on, "
                f"and does `ssh {self.host}` work?"
            )
        return Lost(f"{self.host}: the connection has gone silent")

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        try:
            self.greeting = printable(skip_greeting(stream).decode(errors="replace"), 120)
            while (frame := read_frame(stream)) is not None:
                header, payload, size = frame
                self.received_bytes += size
                self._heard = time.monotonic()
                if "beat" not in header:
                    self._put((header, payload))
            if not self.received_bytes and self.greeting:
                self._complaints.appendleft(self.greeting)  # such as: account expired
        except CutFrame:
            pass
        except BrokenFrame as error:
            self._broken = printable(error)
        except (OSError, ValueError):  # closed on our side
            pass
        self._put(None)

    def _put(self, message: tuple[Header, bytes] | None) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(queue.Full):
                self._inbox.put(message, timeout=0.5)
                return

    def _listen(self) -> None:
        assert self._process.stderr is not None
        while line := self._process.stderr.readline(4096):
            self._complaints.append(line.decode(errors="replace").strip())

    def _beat(self) -> None:
        while not self._closing.wait(_BEAT_S):
            try:
                self.send({"beat": 1})
            except CustomGazeError:
                return

    def why(self) -> CustomGazeError:
        """Why the connection has ended, in one line."""
        if self._broken:
            self._process.kill()
            return CustomGazeError(f"{self.host}: what it sent is not understood: {self._broken}")
        try:
            code = self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            code = None
        self._listener.join(timeout=3)  # all that ssh said has been read
        return explain(self.host, list(self._complaints), code, self.received_bytes > 0)
