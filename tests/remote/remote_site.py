"""A project here, a far machine, and `custom-gaze remote` run as a user runs it."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from custom_gaze.cli import main
from sshd import Machine, command_of, wait_until

REPOSITORY = Path(__file__).parent.parent.parent
SOURCES = REPOSITORY / "src"
# `custom-gaze` of the code under test, whichever checkout the environment was installed from.
COMMAND = [sys.executable, "-m", "custom_gaze", "remote"]

TINY_PIPELINE = """
stages:
  train:
    cmd: python src/tiny.py
    deps:
      - data/sessions/${sessions[0]}
      - src/tiny.py
    params:
      - sessions
      - train.seed
    outs:
      - models/custom_gaze.onnx
      - models/parts
    metrics:
      - reports/metrics.json:
          cache: false
"""

# Stands in for the pipeline where only its carrying is tested. It waits while ~/hold exists (not
# for ever: tests may be killed) and fails while ~/fail exists, on the far machine.
TINY_STAGE = """
import json, pathlib, random, sys, time
import yaml

home = pathlib.Path.home()
params = yaml.safe_load(open("params.yaml"))
seed = params["train"]["seed"]
print("training:  50%|#####     | 1/2 [00:01<00:01, 1.0s/ epochs, loss 3.20, validation 2.10°]")
sys.stdout.flush()
until = time.monotonic() + 600
while (home / "hold").exists() and time.monotonic() < until:
    time.sleep(0.05)
if (home / "fail").exists():
    print("\\n".join(f"line {number}" for number in range(1, 41)))
    sys.exit("out of memory, as it were")
for folder in ("models/parts", "reports"):
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
pathlib.Path("models/custom_gaze.onnx").write_bytes(random.Random(seed).randbytes(1_500_000))
pathlib.Path("models/parts/seed").write_text(str(seed))
pathlib.Path("reports/metrics.json").write_text(json.dumps({"error_deg": seed + 0.5}))
"""


@dataclass
class Site:
    """The far machine and the project here."""

    machine: Machine
    project: Path
    subfolder: str = ""  # the project's folder in its repository

    @property
    def far_folder(self) -> Path:
        return self.machine.home / "rustyeyes_train"

    @property
    def far_project(self) -> Path:
        return self.far_folder / "project" / self.subfolder

    def clone(self, root: Path, source: str = "") -> "Site":
        """A further clone of the repository here."""
        self.git(
            "clone", "-q", source or self.git("rev-parse", "--show-toplevel").strip(), str(root)
        )
        return Site(self.machine, root / self.subfolder, self.subfolder)

    @property
    def environment(self) -> dict[str, str]:
        return {**self.machine.environment, "PYTHONPATH": str(SOURCES)}

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """`custom-gaze remote …` to its end, in this process: it takes a second to load."""
        said, errors = io.StringIO(), io.StringIO()
        before, folder, stdin = dict(os.environ), Path.cwd(), sys.stdin
        try:
            environment = self.environment
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(self.project)
            with open(os.devnull) as sys.stdin, redirect_stdout(said), redirect_stderr(errors):
                code = main(["remote", *words])
        finally:
            sys.stdin = stdin
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(before)
        return subprocess.CompletedProcess(words, code, said.getvalue(), errors.getvalue())

    def ok(self, *words: str) -> str:
        """The same where it has to succeed; what it printed."""
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """`custom-gaze remote …` in the background, a process group of its own."""
        return subprocess.Popen(
            [*COMMAND, *words],
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_hear_ctrl_c,
        )

    def call(self, *command: str, seconds: float = 1800) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def dvc(self, *words: str) -> str:
        done = self.call(sys.executable, "-m", "dvc", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def git(self, *words: str) -> str:
        done = self.call("git", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "next")

    def clean(self) -> None:
        """Back to what is committed, without a run's outputs."""
        for name in ("models", "reports"):
            shutil.rmtree(self.project / name, ignore_errors=True)
        self.git("reset", "-q", "--hard")
        self.git("clean", "-fdq", "--exclude=.dvc")

    def hold(self, on: bool) -> None:
        """Let the tiny stage wait, or go on."""
        path = self.machine.home / "hold"
        path.touch() if on else path.unlink(missing_ok=True)

    def wait_while(
        self, client: "subprocess.Popen[str]", condition: Callable[[], object], what: str
    ) -> None:
        """Wait for `condition`; fail at once, with what it said, if the command ends before."""

        def holds() -> object:
            ended = client.poll() is not None
            if ended and not condition():
                raise AssertionError(f"ended before: {what}: {client.communicate()}")
            return condition()

        wait_until(holds, what)

    def wait_for_quiet(self, seconds: float = 300) -> None:
        """No process of a run, a login or a command is left, there or here; end what is."""
        machine = self.machine
        try:
            wait_until(
                lambda: not machine.processes() and not machine.processes(machine.client_home),
                "no process is left",
                seconds,
            )
        except AssertionError:
            raise AssertionError(f"left behind: {machine.end_all()}") from None

    def metric(self, name: str) -> float:
        """The metric of an experiment, as its commit has it."""
        value: float = json.loads(self._of(name, "reports/metrics.json"))["error_deg"]
        return value

    def params_of(self, name: str) -> dict[str, Any]:
        """The parameters of an experiment."""
        params: dict[str, Any] = yaml.safe_load(self._of(name, "params.yaml"))
        return params

    def object_of(self, name: str, path: str) -> str:
        """Where a cache has an experiment's output: `ab/cdef…`."""
        stages = yaml.safe_load(self._of(name, "dvc.lock"))["stages"].values()
        (found,) = [out["md5"] for stage in stages for out in stage["outs"] if out["path"] == path]
        return f"{found[:2]}/{found[2:]}"

    def forget(self, name: str, path: str) -> None:
        """An experiment here, and one of its outputs: as if it had never been fetched."""
        stored = self.object_of(name, path)
        (self.project / ".dvc" / "cache" / "files" / "md5" / stored).unlink()
        self.git("update-ref", "-d", self._ref(name))

    def _ref(self, name: str) -> str:
        (ref,) = [ref for ref in self._refs() if ref.rpartition("/")[2] == name]
        return ref

    def _of(self, name: str, path: str) -> str:
        ref = self._ref(name)
        return self.git("show", f"{ref}:./{path}")

    def add_session(self, name: str, files: dict[str, bytes]) -> None:
        """A session with these files, committed as `dvc add` would have it."""
        sessions = self.project / "data" / "sessions"
        (sessions / name).mkdir(parents=True)
        for path, content in files.items():
            (sessions / name / path).write_bytes(content)
            self._keep(content)
        members = [{"md5": md5(content), "relpath": path} for path, content in files.items()]
        members.sort(key=lambda entry: entry["relpath"])
        listing = json.dumps(members).encode()
        self._keep(listing, ".dir")
        out = {"md5": md5(listing) + ".dir", "hash": "md5", "path": name}
        (sessions / f"{name}.dvc").write_text(yaml.safe_dump({"outs": [out]}))
        with (sessions / ".gitignore").open("a") as ignored:
            ignored.write(f"/{name}\n")
        self.commit()

    def _keep(self, content: bytes, kind: str = "") -> None:
        """An object of DVC's cache here."""
        name = md5(content) + kind
        path = self.project / ".dvc" / "cache" / "files" / "md5" / name[:2] / name[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(content)
            path.chmod(0o444)

    def experiments(self) -> list[str]:
        """The names of all experiments here."""
        return [line.rpartition("/")[2] for line in self._refs()]

    def _refs(self) -> list[str]:
        return self.git("for-each-ref", "--format=%(refname)", "refs/exps/*/*/*").split()

    def fingerprint(self) -> dict[str, bytes]:
        """Every file of the workspace, and every ref: what a fault must leave as it was."""
        listing = self.git("ls-files", "-z", "--cached", "--others").split("\0")
        paths = [self.project / name for name in listing if name and "dvc/tmp" not in name]
        kept = {
            str(path): path.read_bytes()
            for path in paths
            if path.is_file() and ".dvc/cache" not in str(path)
        }
        return {**kept, "refs": self.git("for-each-ref").encode()}


def is_stage(pid: int) -> bool:
    """Whether the process is a training of the tiny pipeline, and not the shell around it."""
    command = command_of(pid)
    return command.endswith("python src/tiny.py") and " -c " not in command


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def _hear_ctrl_c() -> None:
    """Also where the tests run in the background, where a shell lets SIGINT be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def kill(process: "subprocess.Popen[str]", how: int = signal.SIGKILL) -> None:
    """End a command of `start`, its ssh too where that is still in its group."""
    os.kill(process.pid, how)


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """What a command of `start` prints until a line holds `text`."""
    assert process.stdout is not None
    said = ""
    with timer(1800, process.kill):
        for line in process.stdout:
            said += line
            if text in line:
                return said
    raise AssertionError(f"never said {text!r}: {said}{process.communicate()}")


@contextmanager
def timer(seconds: float, what: Callable[[], None]) -> Iterator[None]:
    """Do `what` if the block takes longer."""
    clock = threading.Timer(seconds, what)
    clock.start()
    try:
        yield
    finally:
        clock.cancel()


def finish(process: "subprocess.Popen[str]", seconds: float = 1800) -> tuple[int, str, str]:
    """(code, output, errors) of a command of `start`."""
    output, errors = process.communicate(timeout=seconds)
    return process.returncode, output, errors


def make_project(repository: Path, machine: Machine) -> Site:
    """A small project with the tiny pipeline, the shipped settings and one session, committed.

    It is a folder of a larger repository; the story in test_remote_story.py has one that is all of
    it.
    """
    root = repository / "gaze"
    (root / "src").mkdir(parents=True)
    (repository / "other.txt").write_text("another project's")
    site = Site(machine, root, "gaze")
    shutil.copy(REPOSITORY / "params.yaml", root)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["sessions"] = ["one"]
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "requirements.txt").write_text("")
    (root / "dvc.yaml").write_text(TINY_PIPELINE)
    (root / "src" / "tiny.py").write_text(TINY_STAGE)
    (root / "models").mkdir()
    (root / "models" / ".gitignore").write_text("/custom_gaze.onnx\n/parts\n")  # DVC's
    site.git("init", "-q", str(repository))
    (root / ".dvc").mkdir()  # as `dvc init --subdir` leaves it
    shutil.copy(REPOSITORY / ".dvc" / "config", root / ".dvc")
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    frames = {f"img_{n}.json": f'{{"screen_x": {n}}}'.encode() for n in range(3)}
    site.add_session("one", {"big.jpg": os.urandom(1_000_000), **frames})
    return site


@contextmanager
def far_site(root: Path) -> Iterator[Site]:
    """A machine and a tiny project that know each other."""
    with running_machine(root / "machine") as machine:
        site = make_project(root / "project", machine)
        site.ok("setup", "--yes", "--python", str(small_environment(root / "env")))
        yield site


# In the place of `mlflow server`: answers on the port that it is given.
TINY_SERVER = """
import http.server, sys

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"OK")

port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


def small_environment(root: Path) -> Path:
    """The Python of an environment like this one, but for torch and MLflow, which load slowly."""
    real = sys.executable
    torch = """case "$*" in *"import json, torch"*) echo '["2.9.9", null, null]'; exit;; esac"""
    server = root / "tiny_server.py"
    mlflow = f"""case "$*" in "-m mlflow server"*) exec {real} {server} "$@"; esac"""
    programs = {
        "python": f'{torch}\n{mlflow}\nexec {real} "$@"',
        "dvc": f'exec {real} -m dvc "$@"',
        "custom-gaze": f'exec {real} -m custom_gaze "$@"',
    }
    root.mkdir()
    server.write_text(TINY_SERVER)
    for name, text in programs.items():
        (root / name).write_text(f"#!/bin/sh\n{text}\n")
        (root / name).chmod(0o755)
    return root / "python"


@contextmanager
def running_machine(root: Path) -> Iterator[Machine]:
    """A machine; whatever happens, none of its processes outlives this."""
    machine = Machine(root)
    root.mkdir(parents=True)
    machine.create()
    try:
        machine.start()
        yield machine
    finally:
        machine.stop()
