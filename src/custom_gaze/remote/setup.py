"""`custom-gaze remote setup`: everything that training on the far machine needs, once."""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.remote import carry, repository
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.display import Say
from custom_gaze.remote.hostkeys import Consent, check_entry, include_for_dvc, learn
from custom_gaze.remote.programs import call
from custom_gaze.remote.replies import Changed, Done, Hello, Installing, Status, Torch, not_asked
from custom_gaze.remote.settings import Settings, read_config
from custom_gaze.remote.ssh import UnknownHostKey

_DVC_S = 120.0  # the proof's push and pull
_DVC = """
import json, sys
from dvc.cli import main
for words in json.loads(sys.argv[1]):
    if code := main(words):
        print(words[0])
        sys.exit(code)
"""
# What becomes part of addresses in the configuration of DVC and git, and what DVC can work in.
_FOLDER = re.compile(r"(/[A-Za-z0-9_.@+,=-]+( [A-Za-z0-9_.@+,=-]+)*)+")
_INSTALL_SILENCE = "this takes minutes the first time"


def setup(host: str, folder: str, python: str, root: Path, consent: Consent, say: Say) -> Settings:
    """Prepare the machine and this project for each other; safe to run again.

    Args:
        host: the machine as ~/.ssh/config knows it.
        folder: the folder on it, in the home folder or absolute.
        python: the Python of an environment on it that has custom-gaze; empty: one is made.
        root: the project here.
        consent: asked before a host key is pinned and before ~/.ssh/config is changed.
        say: told what was changed.

    Raises:
        InputError: the user did not agree, or this is no project with a commit.
        CustomGazeError: the machine cannot be reached or something failed on it.
    """
    if not (root / ".dvc").is_dir():
        raise InputError(f"{root / '.dvc'}: not found; run this in the project's folder")
    commit, subfolder = repository.head(root), repository.subfolder(root)
    _named_so(host, "/" + folder.removeprefix("/"), folder)  # before anything is changed
    try:
        with Connection(host):
            pass
    except UnknownHostKey:  # none is pinned yet; a key that differs is an error
        say(learn(host, consent))
    with Connection(host) as connection:
        about = connection.ask("hello", Hello, folder=folder)
        _check_machine(host, about)
        say(f"{host}: {about.system} {about.machine}, Python {about.python}")
        settings = Settings(host, _checked_folder(host, about.dir, folder), subfolder)
        for line in include_for_dvc(host, about.sshd, consent):
            say(line)
        _make_ready(connection, settings, root, commit, python, say)
    for line in _configure(settings, root):
        say(line)
    check_entry(host)
    _prove(settings, connection.greeting)
    say("proof: 65,536 bytes pushed with DVC, fetched back, the same")
    return settings


def _check_machine(host: str, about: Hello) -> None:
    if about.system != "Linux":
        raise CustomGazeError(f"{host} runs {about.system}; runs are looked after on Linux only")
    if tuple(int(part) for part in about.python.split(".")[:2]) < (3, 10):
        raise CustomGazeError(f"{host} has Python {about.python}; 3.10 or newer is needed")
    if not about.git:
        raise CustomGazeError(f"{host}: git is missing there")
    if tuple(int(part) for part in about.git.split(".")[:2]) < (2, 28):
        raise CustomGazeError(f"{host} has git {about.git}; 2.28 or newer is needed")


def _checked_folder(host: str, found: str, asked: str) -> str:
    """The absolute folder on the far machine that `asked` names."""
    if found != asked and not found.endswith(f"/{asked}"):
        raise not_asked(host, f"the folder {printable(found, 80)} for {printable(asked, 80)}")
    return _named_so(host, found, found)


def _named_so(host: str, path: str, folder: str) -> str:
    if not _FOLDER.fullmatch(path):
        raise InputError(
            f"{host}: {printable(folder, 80)}: a folder there is named in ASCII letters, digits "
            "and _ . @ + , = - with single spaces between them, or DVC and its addresses fail; "
            "choose another with --dir"
        )
    return folder


def _make_ready(
    connection: Connection, settings: Settings, root: Path, commit: str, python: str, say: Say
) -> None:
    place = settings.place
    changed = connection.ask("make", Changed, **place).changed
    if any(run.state == "running" for run in connection.ask("status", Status, **place).runs):
        raise CustomGazeError(  # nothing is changed under its feet
            f"{settings.host}: a run goes on there; set it up again when it has ended "
            "(custom-gaze remote status)"
        )
    carry.send_commit(connection, root, settings, commit)
    connection.ask("commit", Done, project=settings.project, commit=commit)
    changed += connection.ask("cache", Changed, **place).changed
    for line in changed:
        say(line)
    connection.send({"do": "environment", **place, "python": python})
    while (message := connection.receive(Installing)).note is not None:
        say(f"{message.note}  ({_INSTALL_SILENCE})")
    for line in message.changed:
        say(line)
    say(accelerator_line(connection.ask("torch", Torch, **place)))


def accelerator_line(seen: Torch) -> str:
    """What a run trains on; a card that only the driver sees is named with what to do."""
    version, cuda, card = seen.torch
    if card is not None:
        return f"torch {version} there: CUDA {cuda}, {card}"
    if not seen.gpu:
        return f"torch {version} there: no GPU, the CPU"
    name = seen.gpu[0].split(",")[0].strip()
    built = f"made for CUDA {cuda}" if cuda is not None else "made without CUDA"
    return (
        f"torch {version} there: nvidia-smi knows {name}, but torch, {built}, does not see it, and "
        "runs would use the CPU; install a torch for its driver there (pytorch.org names it) and "
        "set up again, with --python if the environment is another one"
    )


def _configure(settings: Settings, root: Path) -> list[str]:
    """The DVC remote in .dvc/config.local and the git remote, both named after the machine."""
    changed, commands = [], []
    name = settings.host
    config = read_config(root / ".dvc" / "config.local")
    section = f"'remote \"{name}\"'"
    if config.get(section, "url", fallback="") != settings.store_url:
        commands.append(["remote", "add", "--local", "--force", name, settings.store_url])
        changed.append(f"DVC remote {name} → {settings.store_url} (.dvc/config.local)")
    if config.get("core", "remote", fallback="") != name:
        commands.append(["config", "--local", "core.remote", name])
        changed.append(f"{name} is DVC's default remote (.dvc/config.local)")
    _dvc(root, *commands)
    known = name in repository.git(root, "remote").split()
    if not known or repository.git(root, "remote", "get-url", name).strip() != settings.git_url:
        repository.git(root, "remote", "set-url" if known else "add", name, settings.git_url)
        changed.append(f"git remote {name} → {settings.git_url}")
    os.chmod(root / ".dvc" / "config.local", 0o600)
    return changed


def _prove(settings: Settings, greeting: str) -> None:
    """Push a file with DVC itself, fetch it back and compare, as `dvc push` and `pull` will.

    `greeting`: what its shell says before it runs anything; DVC takes it for an answer.
    """
    content = os.urandom(1 << 16)
    with tempfile.TemporaryDirectory(prefix="custom-gaze-") as scratch:
        place = Path(scratch)
        (place / "proof").write_bytes(content)
        name = hashlib.md5(content).hexdigest()
        begin = ["init", "--no-scm", "--quiet"]
        quiet = ["config", "--quiet", "core.check_update", "false"]
        remote = ["remote", "add", "--quiet", "--default", "proof", settings.store_url]
        try:
            _dvc(place, begin, quiet, remote, ["add", "--quiet", "proof"], ["push"])
            Cache(place).path(name).unlink()
            (place / "proof").unlink()
            _dvc(place, ["pull"])
            same = (place / "proof").read_bytes() == content
        except CustomGazeError as error:
            if not greeting:
                raise
            raise CustomGazeError(
                f"{error}; the shell there says {greeting!r} at each login, which DVC and git take "
                "for an answer: keep it silent without a terminal (in ~/.bashrc, first line: "
                "[[ $- == *i* ]] || return)"
            ) from None
        finally:
            with contextlib.suppress(CustomGazeError), Connection(settings.host) as connection:
                connection.ask("forget", Done, store=settings.store, object=name)
    if not same:
        raise CustomGazeError(f"{settings.host}: the proof came back changed")


def _dvc(root: Path, *commands: list[str]) -> None:
    """Run commands of DVC, one after the other, in one process: it takes a second to load."""
    if not commands:
        return
    try:
        words = (sys.executable, "-c", _DVC, json.dumps(commands))
        done = call(*words, root=root, timeout_s=_DVC_S)
    except subprocess.TimeoutExpired:
        raise CustomGazeError(f"dvc did not end within {_DVC_S:g} seconds") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = errors[0].removeprefix("ERROR: ") if errors else f"code {done.returncode}"
        *_, word = ["", *done.stdout.split()]
        raise CustomGazeError(f"dvc {word} failed: {reason}")
