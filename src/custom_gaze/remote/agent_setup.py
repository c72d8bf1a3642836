"""The agent: what setup asks for. Each yields what it has changed, a line each."""

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import socket
import sys
from pathlib import Path

from custom_gaze.remote.agent import Place, Refused, Replies, call, git
from custom_gaze.remote.agent_runs import MACHINE, all_runs, gpu, python_of, read, write
from custom_gaze.remote.store import is_shared


def hello(place: Place, folder: str) -> Replies:
    """What machine this is, and where it reaches its own sshd; refused where no run can go on."""
    if platform.system() != "Linux":
        raise Refused(f"runs {platform.system()}; runs are looked after on Linux only")
    if not shutil.which("git"):
        raise Refused("git is missing there")
    version = [*call("git", "--version").split(), "?"][2]  # such as 2.39.5
    if [int(part) for part in re.findall(r"\d+", version)[:2]] < [2, 28]:
        raise Refused(f"has git {version}; 2.28 or newer is needed")
    # sshd listens on the loopback, or at the address that this login came to.
    address, port = os.environ.get("SSH_CONNECTION", "- - 127.0.0.1 22").split()[2:4]
    with contextlib.suppress(OSError):
        socket.create_connection(("localhost", int(port)), timeout=2).close()
        address = "localhost"
    machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    directory = os.path.join(os.path.expanduser("~"), folder)
    yield {"dir": directory, "machine": machine, "sshd": [address, port]}


def make(place: Place) -> Replies:
    """The folders, and a repository that takes pushes; refused while a run goes on."""
    for path in (place.directory, place.store, place.repository, place.path("runs")):
        if not os.path.isdir(path):
            os.makedirs(path, mode=0o700)
            yield {"note": f"made {path}"}
        if os.stat(path).st_mode & 0o077:
            os.chmod(path, 0o700)
            yield {"note": f"closed {path} to others"}
    repository = place.repository
    if not os.path.isdir(os.path.join(repository, ".git")):
        git(repository, "init", "-q", "-b", "main")
        yield {"note": f"made the repository {repository}, whose files `git push` updates"}
    git(repository, "config", "receive.denyCurrentBranch", "updateInstead")
    if any(run["state"] == "running" for run in all_runs(place)):
        raise Refused(
            "a run goes on there; set it up again when it has ended (custom-gaze remote status)"
        )
    yield {}


def prepare(place: Place, commit: str, python: str) -> Replies:
    """The working tree on a commit that was pushed, the store its cache, and the environment.

    Refused where somebody changed files of the working tree: they are not overwritten.
    """
    repository, project = place.repository, place.project
    if changed := git(repository, "status", "--porcelain", "--untracked-files=no"):
        names = ", ".join(line.split(maxsplit=1)[1] for line in changed.splitlines()[:5])
        raise Refused(f"{repository} has changes of its own there: {names}; commit or remove them")
    git(repository, "checkout", "-q", "-B", "main", commit)
    settings = Path(project, ".dvc", "config.local")
    shared = "    shared = group\n" if is_shared(place.store) else ""
    wanted = f"[cache]\n    dir = {place.store}\n{shared}[core]\n    analytics = false\n"
    if not settings.exists() or settings.read_text(encoding="utf-8") != wanted:
        settings.write_text(wanted, encoding="utf-8")  # so a run pulls and pushes nothing
        yield {"note": f"the store is the cache of {project}"}
    yield from _environment(place, os.path.expanduser(python))
    script = (
        "import json, torch; cuda = torch.cuda.is_available(); "
        "print(json.dumps([torch.__version__, torch.version.cuda, "
        "torch.cuda.get_device_name(0) if cuda else None]))"
    )
    words, failed = (python_of(place), "-c", script), "torch cannot be loaded"
    seen = call(*words, cwd=place.directory, failed=failed).splitlines()[-1]
    yield {"torch": json.loads(seen), "gpu": gpu()}


def _environment(place: Place, named: str) -> Replies:
    """One with the versions that the project pins, or one that the user named."""
    python, pinned = named or place.path("env", "bin", "python"), ""
    requirements = os.path.join(place.project, "requirements.txt")
    if not named and os.path.exists(requirements):
        pinned = hashlib.sha256(Path(requirements).read_bytes()).hexdigest()
    wanted = {"python": python, "requirements": pinned}
    if read(place.path(MACHINE)) == wanted and os.path.exists(python):
        return
    if not named:
        yield from _install(place, python, requirements)
        yield {"note": f"installed the project's requirements in {os.path.dirname(python)}"}
    programs = [os.path.join(os.path.dirname(python), name) for name in ("dvc", "custom-gaze")]
    for name in (python, *programs):
        if not os.access(name, os.X_OK):
            raise Refused(f"{name} is not there; --python names an environment with custom-gaze", 2)
    write(place.path(MACHINE), wanted)
    yield {"note": f"runs use {python}"}


def _install(place: Place, python: str, requirements: str) -> Replies:
    pip = (python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet")
    commands = [(*pip, "-r", requirements), (*pip, "--no-deps", "--editable", place.project)]
    if not os.access(os.path.join(os.path.dirname(python), "pip"), os.X_OK):
        if importlib.util.find_spec("ensurepip") is None:
            raise Refused(
                "python3 has no venv there (Debian: apt install python3-venv); or name an "
                "environment that has custom-gaze: --python PATH"
            )
        commands.insert(0, (sys.executable, "-m", "venv", place.path("env")))
    for command in commands:
        yield {"note": f"$ {shlex.join(command)}  (this takes minutes the first time)"}
        call(*command, failed=f"{' '.join(command[2:4])} failed")
