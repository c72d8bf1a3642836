"""Over there: what setup asks for, and MLflow."""

import glob
import hashlib
import json
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import sys
from typing import Any

from custom_gaze.remote.frames import Header
from custom_gaze.remote.there import Link, Refused, git
from custom_gaze.remote.there_runs import gpu, python_of
from custom_gaze.remote.there_store import object_path

FOLDERS = ("", "store", "project", "runs")


def hello(link: Link, header: Header) -> None:
    """What machine this is, and where it reaches its own sshd."""
    home = os.path.expanduser("~")
    folder = os.path.join(home, header["folder"])
    there = folder if os.path.isdir(folder) else home
    link.send(
        {
            "home": home,
            "dir": folder,
            "machine": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
            "git": bool(shutil.which("git")),
            "free": shutil.disk_usage(there).free,
            "sshd": _own_address(),
        }
    )


def _own_address() -> list[str]:
    """Where sshd listens, as seen from here: the loopback, or the address this login came to."""
    address, port = os.environ.get("SSH_CONNECTION", "- - 127.0.0.1 22").split()[2:4]
    try:
        with socket.create_connection(("localhost", int(port)), timeout=2):
            return ["localhost", port]
    except OSError:
        return [address, port]


def make(link: Link, header: Header) -> None:
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
    link.send({"changed": changed})


def cache(link: Link, header: Header) -> None:
    """Let the repository use the store as its cache: nothing is pulled or pushed over there."""
    store = os.path.join(header["dir"], "store")
    path = os.path.join(header["dir"], "project", ".dvc", "config.local")
    wanted = f"[cache]\n    dir = {store}\n[core]\n    analytics = false\n"
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == wanted:
                link.send({"changed": []})
                return
    except FileNotFoundError:
        pass
    with open(path, "w", encoding="utf-8") as file:
        file.write(wanted)
    link.send({"changed": [f"the store is the cache of {os.path.dirname(os.path.dirname(path))}"]})


def environment(link: Link, header: Header) -> None:
    """An environment with the versions that the project pins, or one that the user named.

    Raises:
        Refused: the Python named is none, lacks DVC, or pip failed.
    """
    directory = header["dir"]
    requirements = os.path.join(directory, "project", "requirements.txt")
    changed = []
    if header["python"]:
        python = os.path.expanduser(header["python"])
        pinned = ""
    else:
        python = os.path.join(directory, "env", "bin", "python")
        pinned = _hash(requirements)
    known = _machine(directory)
    wanted = {"python": python, "requirements": pinned}
    if known != wanted or not os.path.exists(python):
        if not header["python"]:
            _install(link, directory, python, requirements)
            changed.append(f"installed the project's requirements in {os.path.dirname(python)}")
        _check_environment(link, python)
        path = os.path.join(directory, "machine.json")
        with open(path + ".part", "w", encoding="utf-8") as file:
            json.dump(wanted, file)
        os.replace(path + ".part", path)
        changed.append(f"runs use {python}")
    link.send({"changed": changed})


def _install(link: Link, directory: str, python: str, requirements: str) -> None:
    project = os.path.join(directory, "project")
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    for command in (
        [sys.executable, "-m", "venv", os.path.join(directory, "env")],
        [*pip, "-r", requirements],
        [*pip, "--no-deps", "--editable", project],
    ):
        link.send({"note": "$ " + " ".join(command[1:])})
        process = link.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = process.communicate()
        if process.returncode:
            lines = output.decode(errors="replace").strip().splitlines() or ["no output"]
            raise Refused(f"{' '.join(command[1:4])} failed there: {lines[-1]}")


def _check_environment(link: Link, python: str) -> None:
    bin_folder = os.path.dirname(python)
    for name in (python, os.path.join(bin_folder, "dvc"), os.path.join(bin_folder, "custom-gaze")):
        if not os.access(name, os.X_OK):
            raise Refused(f"{name} is not there; --python names an environment with custom-gaze", 2)


def _machine(directory: str) -> Header | None:
    try:
        with open(os.path.join(directory, "machine.json"), encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _hash(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError:
        return ""


def ready(link: Link, header: Header) -> None:
    """Refuse a run whose commit pins other versions than are installed.

    Raises:
        Refused: setup has not been run, or has to be run again.
    """
    known = _machine(header["dir"])
    if known is None or not os.path.exists(known["python"]):
        raise Refused("no environment there yet; run `custom-gaze remote setup`")
    now = _hash(os.path.join(header["dir"], "project", "requirements.txt"))
    if known["requirements"] not in ("", now):
        raise Refused("requirements.txt has changed; `custom-gaze remote setup` installs it there")
    link.send({"ready": 1})


def torch(link: Link, header: Header) -> None:
    """What torch sees there, and what the driver says."""
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
    link.send({"torch": json.loads(output.splitlines()[-1]), "gpu": gpu()})


def serve(link: Link, header: Header) -> None:
    """Run MLflow's server on the loopback for as long as this connection lasts."""
    project = os.path.join(header["dir"], "project")
    command = [python_of(header["dir"]), "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(header["port"])]
    command += ["--backend-store-uri", f"sqlite:///{project}/mlflow.db"]
    command += ["--artifacts-destination", f"file://{project}/mlartifacts"]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes that nobody uses
    }
    process = link.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=project,
        env={**os.environ, **quiet},
    )
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        last = line.decode(errors="replace").strip() or last
    raise Refused(f"MLflow stopped there with code {process.wait()}: {last}")


def free_port(link: Link, header: Header) -> None:
    """A port of the loopback there that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        link.send({"port": probe.getsockname()[1]})


def tracked(link: Link, header: Header) -> None:
    """The MLflow runs of an experiment: parameters, figures, and files with their MD5.

    Read from the database itself, since MLflow takes seconds to load; these four tables have been
    the same in every version that has an SQLite store.
    """
    path = os.path.join(header["dir"], "project", "mlflow.db")
    if not os.path.exists(path):
        link.send({"runs": []})
        return
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        runs = [_tracked_run(connection, row) for row in _runs_of(connection, header["name"])]
    except sqlite3.Error as error:
        raise Refused(f"{path}: cannot be read ({error})") from None
    finally:
        connection.close()
    link.send({"runs": runs})


def _runs_of(connection: sqlite3.Connection, name: str) -> list[Any]:
    return connection.execute(
        "SELECT r.run_uuid, r.name, r.status, r.start_time, r.end_time, r.artifact_uri, e.name "
        "FROM runs r JOIN experiments e USING (experiment_id) "
        "JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'dvc_experiment' "
        "WHERE t.value = ? AND r.lifecycle_stage = 'active' ORDER BY r.start_time",
        (name,),
    ).fetchall()


def _tracked_run(connection: sqlite3.Connection, row: Any) -> Header:
    run_id, name, status, start_ms, end_ms, artifacts, experiment = row

    def all_of(columns: str, table: str) -> list[Any]:
        query = f"SELECT {columns} FROM {table} WHERE run_uuid = ?"
        return connection.execute(query, (run_id,)).fetchall()

    return {
        "id": run_id,
        "name": name,
        "status": status,
        "start_ms": start_ms,
        "end_ms": end_ms,
        "experiment": experiment,
        "params": all_of("key, value", "params"),
        "tags": all_of("key, value", "tags"),
        "metrics": all_of("key, value, timestamp, step", "metrics"),
        "files": _files(artifacts.removeprefix("file://")),
    }


def _files(folder: str) -> list[list[str]]:
    """[path in the folder, absolute path, MD5] of each file."""
    found = []
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "**"), recursive=True)):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                digest = hashlib.md5(file.read()).hexdigest()
            found.append([os.path.relpath(path, folder), path, digest])
    return found


def offer(link: Link, header: Header) -> None:
    """Put files into the store, so that they can be fetched as objects.

    Raises:
        Refused: a path lies outside MLflow's folder.
    """
    root = os.path.realpath(os.path.join(header["dir"], "project", "mlartifacts"))
    for path, name in header["files"]:
        if not os.path.realpath(path).startswith(root + os.sep):
            raise Refused(f"{path} is no file of MLflow's")
        final = object_path(os.path.join(header["dir"], "store"), name)
        if not os.path.exists(final):
            os.makedirs(os.path.dirname(final), exist_ok=True)
            shutil.copyfile(path, final + ".part")
            os.chmod(final + ".part", 0o444)
            os.replace(final + ".part", final)
    link.send({"offered": 1})
