"""One ssh connection to the far machine: its options, its messages, its failures in one line."""

import json
import queue
import shlex
import subprocess
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from types import TracebackType
from typing import IO

from custom_gaze.errors import CustomGazeError, InputError
from custom_gaze.remote.frames import BrokenFrame, Header, read_frame, write_frame

ANSWER_S = 9.0  # with Python's own start, an unreachable machine is named within ten seconds
_BEAT_S = 3.0
_SILENCE_S = 15.0  # the far side says every three seconds that it is there

# BatchMode: never a prompt.
OPTIONS = [
    *("-T", "-x", "-a", "-o", "BatchMode=yes", "-o", "ConnectTimeout=8"),
    *("-o", "ServerAliveInterval=4", "-o", "ServerAliveCountMax=3"),
    *("-o", "ControlMaster=no", "-o", "ControlPath=none"),
]
# A key that is not pinned stops everything, whatever the user's own config says.
_NO_FORWARDING = ["-o", "ClearAllForwardings=yes"]
VERIFY = ["-o", "StrictHostKeyChecking=yes"]

_PROGRAM = (
    *("frames", "there", "there_store", "there_state", "there_launch", "there_runs"),
    *("there_setup", "there_mlflow", "there_main"),
)
_BOOTSTRAP = (
    "import json,sys,types,zlib\n"
    "text=sys.stdin.buffer.read(int(sys.argv[1]))\n"
    "for name in ('custom_gaze','custom_gaze.remote'):\n"
    " sys.modules[name]=types.ModuleType(name); sys.modules[name].__path__=[]\n"
    "for name,source in json.loads(zlib.decompress(text)):\n"
    " module=types.ModuleType(name); sys.modules[name]=module\n"
    " parent,_,child=name.rpartition('.'); setattr(sys.modules[parent],child,module)\n"
    " exec(compile(source,name,'exec'),module.__dict__)\n"
    "module.main()\n"
)


class Unreachable(CustomGazeError):
    """The machine cannot be reached, or refuses us."""


class UnknownHostKey(Unreachable):
    """No key of this machine is pinned here."""


class Lost(CustomGazeError):
    """The connection ended in the middle."""


class FarError(CustomGazeError):
    """The far side did not do what it was asked; `header` is its answer."""

    def __init__(self, message: str, header: Header) -> None:
        super().__init__(message)
        self.header = header
        self.exit_code = int(header.get("code", 1))


def check_host(host: str) -> str:
    """Return `host` if it can be given to ssh.

    Raises:
        InputError: it is empty, looks like an option or holds a space or a control character.
    """
    if not host or host.startswith("-") or any(c.isspace() or not c.isprintable() for c in host):
        raise InputError(f"--host {host!r}: name a machine as in ~/.ssh/config")
    return host


class Connection:
    """Use as a context; asks and answers are messages. Bytes are counted both ways."""

    def __init__(self, host: str) -> None:
        self.host = check_host(host)
        self.sent_bytes = 0
        self.received_bytes = 0
        self._inbox: queue.Queue[tuple[Header, bytes] | None] = queue.Queue()
        self._complaints: deque[str] = deque(maxlen=20)
        self._writing = threading.Lock()
        self._closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._heard = time.monotonic()

    def __enter__(self) -> "Connection":
        prefix = f"{__package__}."
        package = files(__package__ or "custom_gaze.remote")
        parts = [(prefix + name, (package / f"{name}.py").read_text()) for name in _PROGRAM]
        program = zlib.compress(json.dumps(parts).encode(), 9)
        command = shlex.join(["python3", "-I", "-c", _BOOTSTRAP, str(len(program))])
        try:
            self._process = subprocess.Popen(
                ["ssh", *OPTIONS, *VERIFY, *_NO_FORWARDING, self.host, command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is ours to answer
            )
        except FileNotFoundError:
            raise Unreachable("ssh is not installed here (OpenSSH's client)") from None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        for target in (self._read, self._beat):
            threading.Thread(target=target, daemon=True).start()
        try:
            self._hello(program)
        except BaseException:
            self.close()
            raise
        return self

    def _hello(self, program: bytes) -> None:
        self._heard = time.monotonic()
        self._write_raw(program)
        self._receive(ANSWER_S)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; whatever the far side was doing for it ends too."""
        self._closing.set()
        process = self._process
        if process is None:
            return
        try:
            if process.stdin:
                process.stdin.close()
        except OSError:
            pass
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def ask(self, do: str, /, **values: object) -> Header:
        """Ask for something; return the answer.

        Raises:
            FarError: it was refused or failed there.
            Lost: the connection ended meanwhile.
        """
        self.send({"do": do, **values})
        return self.receive()[0]

    def send(self, header: Header, payload: bytes = b"") -> None:
        """Send one message.

        Raises:
            Lost: the connection has ended.
        """
        try:
            with self._writing:
                assert self._process is not None
                assert self._process.stdin is not None
                self.sent_bytes += write_frame(self._process.stdin, header, payload)
        except (OSError, ValueError):
            raise self._why() from None

    def receive(self) -> tuple[Header, bytes]:
        """The next message.

        Raises:
            FarError: it says that something was refused or failed.
            Lost: the connection ended, or nothing was heard for 15 seconds.
        """
        header, payload = self._receive(_SILENCE_S)
        if "error" in header:
            raise FarError(f"{self.host}: {header['error']}", header)
        return header, payload

    def waiting(self) -> bool:
        """Whether an answer lies ready."""
        return not self._inbox.empty()

    def _receive(self, silence_s: float) -> tuple[Header, bytes]:
        while True:
            left = self._heard + silence_s - time.monotonic()
            try:
                message = self._inbox.get(timeout=max(0.0, left))
            except queue.Empty:
                if time.monotonic() - self._heard < silence_s:
                    continue  # a beat came meanwhile
                raise self._silent() from None
            if message is None:
                raise self._why()
            return message

    def _silent(self) -> CustomGazeError:
        if self.received_bytes == 0:
            if self._process is not None:
                self._process.kill()  # it would wait for minutes
            return Unreachable(
                f"{self.host}: no answer within {ANSWER_S:g} seconds; is it switched on, "
                f"and does `ssh {self.host}` work?"
            )
        return Lost(f"{self.host}: the connection has gone silent")

    def _write_raw(self, content: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(content)
            self._process.stdin.flush()
            self.sent_bytes += len(content)
        except OSError:
            raise self._why() from None

    def _read(self) -> None:
        assert self._process is not None
        stream: IO[bytes] | None = self._process.stdout
        assert stream is not None
        while True:
            try:
                frame = read_frame(stream)
            except (BrokenFrame, OSError, ValueError) as error:
                self._complaints.append(f"not understood: {error}")
                frame = None
            if frame is None:
                self._inbox.put(None)
                return
            header, payload, size = frame
            self.received_bytes += size
            self._heard = time.monotonic()
            if "beat" not in header:
                self._inbox.put((header, payload))

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._complaints.append(line.decode(errors="replace").strip())

    def _beat(self) -> None:
        while not self._closing.wait(_BEAT_S):
            try:
                self.send({"beat": 1})
            except CustomGazeError:
                return

    def _why(self) -> CustomGazeError:
        assert self._process is not None
        try:
            code = self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            code = None
        if self._listener is not None:
            self._listener.join(timeout=3)  # all that ssh said has been read
        return explain(self.host, list(self._complaints), code, self.received_bytes > 0)


def explain(
    host: str, complaints: list[str], code: int | None, had_answered: bool
) -> CustomGazeError:
    """What ssh printed, as one line that says what to do."""
    text = "\n".join(complaints)
    lines = [line for line in complaints if line and not line.startswith("@")]
    if "IDENTIFICATION HAS CHANGED" in text:
        return Unreachable(
            f"{host}: its host key is not the one pinned here; nothing was sent. Somebody may be "
            f"listening in; if the machine was set up anew, remove the old key "
            f"(ssh-keygen -R) and run `custom-gaze remote setup --host {host}`"
        )
    if "Host key verification failed" in text or "host key is known" in text:
        setup = f"run `custom-gaze remote setup --host {host}` first"
        return UnknownHostKey(f"{host}: its host key is not known here; {setup}")
    known = {
        "Could not resolve hostname": "no such machine; add it to ~/.ssh/config",
        "Connection refused": "it refuses the connection; does sshd run there, on that port?",
        "timed out": f"no answer within {ANSWER_S:g} seconds; is it switched on?",
        "No route to host": "no way to it; is the network up?",
        "Permission denied": f"it does not let us in; does `ssh -o BatchMode=yes {host}` work?",
    }
    if not had_answered:
        for sign, meaning in known.items():
            if sign in text:
                return Unreachable(f"{host}: {meaning}")
        if code == 127 or "python3: " in text:
            return Unreachable(f"{host}: python3 is missing there (3.10 or newer)")
        return Unreachable(f"{host}: {lines[-1] if lines else f'ssh ended with code {code}'}")
    return Lost(f"{host}: the connection was cut")


@contextmanager
def connect(host: str) -> Iterator[Connection]:
    """A connection to `host`, closed at the end.

    Raises:
        Unreachable: within ten seconds, with one line that says why.
    """
    with Connection(host) as connection:
        yield connection
