"""The agent: what setup asks for."""

import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from custom_gaze.remote.agent import Header, Link, Refused, call, git, project_of
from custom_gaze.remote.agent_runs import ENGINES, check_free, gpu
from custom_gaze.remote.engine import MACHINE, python_of, read, write
from custom_gaze.remote.store import is_shared

FOLDERS = ("", "store", "project", "runs")


def hello(link: Link, header: Header) -> Header:
    """What machine this is, and where it reaches its own sshd."""
    return {
        "dir": os.path.join(os.path.expanduser("~"), header["folder"]),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "git": _git_version(),
        "sshd": _own_address(),
    }


def _git_version() -> str:
    """Such as 2.39.5; empty where there is none."""
    if not shutil.which("git"):
        return ""
    return [*call("git", "--version").split(), "", "", ""][2]


def _own_address() -> list[str]:
    """Where sshd listens, as reached from here: the loopback, or the address this login came to."""
    address, port = os.environ.get("SSH_CONNECTION", "- - 127.0.0.1 22").split()[2:4]
    try:
        with socket.create_connection(("localhost", int(port)), timeout=2):
            return ["localhost", port]
    except OSError:
        return [address, port]


def make(link: Link, header: Header) -> Header:
    """The folders, and a repository that takes pushes and uses the store as its cache."""
    directory, changed = header["dir"], []
    for name in FOLDERS:
        path = os.path.join(directory, name).rstrip("/")
        if not os.path.isdir(path):
            os.makedirs(path, mode=0o700)
            changed.append(f"made {path}")
        if os.stat(path).st_mode & 0o077:
            os.chmod(path, 0o700)
            changed.append(f"closed {path} to others")
    project = os.path.join(directory, "project")
    if not os.path.isdir(os.path.join(project, ".git")):
        git(project, "init", "-q", "-b", "main")
        changed.append(f"made the repository {project}")
    if git(project, "config", "receive.denyCurrentBranch", check=False) != "updateInstead\n":
        git(project, "config", "receive.denyCurrentBranch", "updateInstead")
        changed.append("let `git push` update the working tree there")
    for key, value in (("user.name", "custom-gaze"), ("user.email", "custom-gaze@localhost")):
        if not git(project, "config", key, check=False):
            git(project, "config", key, value)  # experiments are commits
    return {"changed": changed}


def cache(link: Link, header: Header) -> Header:
    """Let the repository use the store as its cache: a run pulls and pushes nothing."""
    project, changed = project_of(header), []
    path = Path(project, ".dvc", "config.local")
    store = os.path.join(header["dir"], "store")
    shared = "    shared = group\n" if is_shared(store) else ""
    wanted = f"[cache]\n    dir = {store}\n{shared}[core]\n    analytics = false\n"
    if not path.exists() or path.read_text(encoding="utf-8") != wanted:
        path.write_text(wanted, encoding="utf-8")
        changed.append(f"the store is the cache of {project}")
    return {"changed": changed}


def environment(link: Link, header: Header) -> Header:
    """An environment with the versions that the project pins, or one that the user named.

    Raises:
        Refused: the Python named is none, lacks DVC, or pip failed.
    """
    directory, changed = header["dir"], []
    if header["python"]:
        python, pinned = os.path.expanduser(header["python"]), ""
    else:
        python = os.path.join(directory, "env", "bin", "python")
        pinned = _hash(os.path.join(project_of(header), "requirements.txt"))
    wanted = {"python": python, "requirements": pinned}
    if read(os.path.join(directory, MACHINE)) != wanted or not os.path.exists(python):
        if not header["python"]:
            _install(link, directory, project_of(header), python)
            changed.append(f"installed the project's requirements in {os.path.dirname(python)}")
        _check_environment(link, python)
        write(os.path.join(directory, MACHINE), wanted)
        changed.append(f"runs use {python}")
    return {"changed": changed}


def _install(link: Link, directory: str, project: str, python: str) -> None:
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    commands = [
        [*pip, "-r", os.path.join(project, "requirements.txt")],
        [*pip, "--no-deps", "--editable", project],
    ]
    if not os.access(os.path.join(os.path.dirname(python), "pip"), os.X_OK):
        if importlib.util.find_spec("ensurepip") is None:
            raise Refused(
                "python3 has no venv there (Debian: apt install python3-venv); or name an "
                "environment that has custom-gaze: --python PATH"
            )
        commands.insert(0, [sys.executable, "-m", "venv", os.path.join(directory, "env")])
    for command in commands:
        link.send({"note": "$ " + shlex.join(command)})
        process = link.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = process.communicate()
        if process.returncode:
            lines = output.decode(errors="replace").strip().splitlines() or ["no output"]
            raise Refused(f"{' '.join(command[2:4])} failed there: {lines[-1]}")


def _check_environment(link: Link, python: str) -> None:
    bin_folder = os.path.dirname(python)
    for name in (python, os.path.join(bin_folder, "dvc"), os.path.join(bin_folder, "custom-gaze")):
        if not os.access(name, os.X_OK):
            raise Refused(f"{name} is not there; --python names an environment with custom-gaze", 2)


def _hash(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError:
        return ""


def ready(link: Link, header: Header) -> Header:
    """Refuse a run whose commit pins other versions than are installed, and a second one.

    Raises:
        Refused: setup has not been run, or has to be run again; or another run goes on where the
            engine takes one at a time.
    """
    known = read(os.path.join(header["dir"], MACHINE))
    if known is None or not os.path.exists(known["python"]):
        raise Refused("no environment there yet; run `custom-gaze remote setup`")
    if known["requirements"] not in ("", header["requirements"]):
        raise Refused("requirements.txt has changed; `custom-gaze remote setup` installs it there")
    if ENGINES[header["engine"]].alone:
        check_free(header["dir"])
    return {"ready": 1}


def torch(link: Link, header: Header) -> Header:
    """What torch sees, and what the driver says."""
    script = (
        "import json, torch; cuda = torch.cuda.is_available(); "
        "print(json.dumps([torch.__version__, torch.version.cuda, "
        "torch.cuda.get_device_name(0) if cuda else None]))"
    )
    process = link.run(
        [python_of(header["dir"]), "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=header["dir"],
    )
    output, errors = process.communicate()
    if process.returncode:
        last = errors.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        raise Refused(f"torch cannot be loaded there: {last[0]}")
    return {"torch": json.loads(output.splitlines()[-1]), "gpu": gpu()}
