"""One ssh connection to the far machine and the messages over it; none is used unchecked.

git and rsync go over the same one (carry.py): it is verified once, and lets others share it.
"""

import contextlib
import json
import os
import select
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import zlib
from collections import deque
from importlib.resources import files
from pathlib import Path
from typing import IO

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.untrusted import printable
from custom_gaze.remote.agent import START
from custom_gaze.remote.display import Traffic
from custom_gaze.remote.replies import BrokenReply, Header, R, Refusal, parse, understood
from custom_gaze.remote.ssh import ANSWER_S, OPTIONS, VERIFY, Lost, Unreachable, check_host, explain

_BEAT_S = 8.0  # so often we say that we are there
_LONGEST_LINE = 1 << 23  # the names of 200,000 objects
_MOST_GREETING = 1 << 16

_PROGRAM = (
    *("store", "agent", "agent_store", "engine", "engine_local", "engine_systemd"),
    *("engine_slurm", "agent_runs", "agent_setup", "agent_mlflow", "agent_main"),
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
    """Use as a context. Requests and replies are lines of JSON; bytes are counted both ways.

    That the far machine is there is ssh's to watch (ServerAliveInterval).

    Raises:
        Unreachable: on entering, within ten seconds, with one line that says why.
    """

    _process: subprocess.Popen[bytes]  # ssh, with the three pipes; from entering on
    _listener: threading.Thread
    _to: IO[bytes]
    _from: IO[bytes]

    def __init__(self, host: str, traffic: Traffic | None = None) -> None:
        self.host = check_host(host)
        self._traffic = traffic or Traffic()  # what the whole command has sent and received
        self.sent_bytes = 0
        self.received_bytes = 0
        self.greeting = ""  # what the far machine's shell said before the first message
        self._is_silent = False
        self._complaints: deque[str] = deque(maxlen=20)
        self._writing = threading.Lock()
        self._closing = threading.Event()
        # Not below the home folder: a socket's path may have about 100 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="cg-"))
        self._socket = str(self._folder / "ssh")
        self._counts = self._folder / "carried"  # by git and rsync, a line each

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
                ["ssh", "-M", *self._options, self.host, command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is ours to answer
            )
        except FileNotFoundError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise Unreachable("ssh is not installed here (OpenSSH's client)") from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self._hello(_BOOTSTRAP.encode() + program)
        except BaseException:
            self.close()
            raise
        return self

    def _hello(self, program: bytes) -> None:
        """Send the program and wait until it speaks; what a shell greets with comes before."""
        late = threading.Timer(ANSWER_S, self._give_up)
        late.start()
        said, line = b"", b""
        try:
            with contextlib.suppress(OSError):  # what is read tells why
                self._to.write(program)
                self._to.flush()
            self.sent_bytes += len(program)
            while len(said) < _MOST_GREETING and (line := self._from.readline(4096)):
                if line == START.encode() + b"\n":
                    break
                said += line
        finally:
            late.cancel()
        self.greeting = printable(said.strip().decode(errors="replace"), 120)
        if len(said) >= _MOST_GREETING:
            raise self._not_understood(
                f"a greeting of more than {_MOST_GREETING >> 10} kB; keep the shell there silent "
                "for logins without a terminal"
            )
        if not line:
            if self._is_silent:
                raise Unreachable(
                    f"{self.host}: no answer within {ANSWER_S:g} seconds; is it switched on, "
                    f"and does `ssh {self.host}` work?"
                )
            if self.greeting:
                self._complaints.appendleft(self.greeting)  # such as: account expired
            raise self.why()
        self.received_bytes += len(line)
        threading.Thread(target=self._beat, daemon=True).start()

    def _give_up(self) -> None:
        self._is_silent = True
        self._process.kill()  # it would wait for minutes

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
        with contextlib.suppress(OSError):
            self._to.close()
        try:
            self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _options(self) -> list[str]:
        return ["-S", self._socket, *OPTIONS, *VERIFY, "-o", "ClearAllForwardings=yes"]

    @property
    def shell(self) -> str:
        """The command that git and rsync call in the place of ssh."""
        carrier = [sys.executable, "-I", str(Path(__file__).with_name("carrier.py"))]
        words = [self.host, str(os.getpid()), str(self._counts), "ssh", *self._options]
        return shlex.join([*carrier, *words])

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
        return self.receive(kind)

    def send(self, header: Header) -> None:
        """Send one request.

        Raises:
            Lost: the connection has ended.
        """
        self._write(json.dumps(header).encode())

    def _write(self, line: bytes) -> None:
        try:
            with self._writing:
                self._to.write(line + b"\n")
                self._to.flush()
                self.sent_bytes += len(line) + 1
        except (OSError, ValueError):
            raise self.why() from None

    def receive(self, kind: type[R]) -> R:
        """The next reply, which has to be of this kind.

        Raises:
            AgentError: it says that something was refused or failed.
            NotAsked: it is something else.
            Lost: the connection ended.
        """
        line = self._read_line()
        self.received_bytes += len(line)
        try:
            header = parse(line)
        except BrokenReply as error:
            raise self._not_understood(printable(error)) from None
        if "error" in header:
            raise AgentError(self.host, understood(self.host, Refusal, header))
        return understood(self.host, kind, header)

    def _read_line(self) -> bytes:
        line = self._from.readline(_LONGEST_LINE)
        if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
            raise self.why()
        return line

    def waiting(self) -> bool:
        """Whether an answer lies ready."""
        return bool(select.select([self._from], [], [], 0)[0])

    def _listen(self) -> None:
        assert self._process.stderr is not None
        while line := self._process.stderr.readline(4096):
            self._complaints.append(line.decode(errors="replace").strip())

    def _beat(self) -> None:
        while not self._closing.wait(_BEAT_S):
            try:
                self._write(b"")
            except CustomGazeError:
                return

    def why(self) -> CustomGazeError:
        """Why the connection has ended, in one line."""
        try:
            code = self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            code = None
        self._listener.join(timeout=3)  # all that ssh said has been read
        return explain(self.host, list(self._complaints), code, self.received_bytes > 0)

    def _not_understood(self, what: str) -> CustomGazeError:
        self._process.kill()
        return CustomGazeError(f"{self.host}: what it sent is not understood: {what}")
