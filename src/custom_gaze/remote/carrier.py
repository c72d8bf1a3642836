"""Stands between git or rsync and ssh: `python -I carrier.py HOST PID COUNTS SSH… HOST COMMAND…`.

A shell there may greet whoever logs in; git and rsync would take that for an answer, so what comes
before the command's own words is dropped. The bytes of both ways are appended to the file COUNTS.
It ends with PID, whose transfer it is: rsync on a line that is stuck does not.
Standard library alone, and no import of this package: it starts for each transfer.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time

BEGIN = b"custom-gaze: begin\n"
MOST_GREETING = 1 << 16
_CHUNK = 1 << 16


def main() -> None:
    for end in (0, 1):  # rsync gives us ends that do not wait
        os.set_blocking(end, True)
    host, client, counts, *words = sys.argv[1:]
    at = words.index(host)
    command = " ".join(words[at + 1 :])
    begun = [*words[: at + 1], f"echo; echo {BEGIN.decode().strip()}; exec {command}"]
    ssh = subprocess.Popen(begun, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert ssh.stdin is not None
    assert ssh.stdout is not None
    sent = [0]
    threading.Thread(target=_send, args=(ssh.stdin.fileno(), sent), daemon=True).start()
    threading.Thread(target=_end_with, args=(int(client), ssh), daemon=True).start()
    received, source = 0, ssh.stdout.fileno()
    try:
        if _skip_greeting(source):
            while chunk := os.read(source, _CHUNK):
                received += len(chunk)
                _write(1, chunk)
    except OSError:  # whoever asked for it is gone
        ssh.kill()
    os.close(1)
    code = ssh.wait()
    with contextlib.suppress(OSError), open(counts, "a", encoding="ascii") as file:
        file.write(f"{sent[0]} {received}\n")
    os._exit(code if code >= 0 else 255)


def _end_with(client: int, ssh: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(client, 0)
            time.sleep(0.5)
    ssh.kill()
    os._exit(255)


def _skip_greeting(source: int) -> bool:
    """Read up to where the command's own words start; whether they have."""
    said = b""
    while len(said) < MOST_GREETING and (byte := os.read(source, 1)):
        said += byte
        if said.endswith(b"\n" + BEGIN):
            return True
    return False


def _send(target: int, sent: list[int]) -> None:
    with contextlib.suppress(OSError):
        while chunk := os.read(0, _CHUNK):
            sent[0] += len(chunk)
            _write(target, chunk)
    os.close(target)


def _write(target: int, chunk: bytes) -> None:
    while chunk:
        chunk = chunk[os.write(target, chunk) :]


if __name__ == "__main__":
    main()
