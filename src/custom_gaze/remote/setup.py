"""`custom-gaze remote setup`: everything that training on the far machine needs, once."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.common.untrusted import printable
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.remote import agent_setup, carry, repository, store
from custom_gaze.remote.agent import Verb
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.display import print_now as say
from custom_gaze.remote.hostkeys import Consent, check_entry, include_for_dvc, learn
from custom_gaze.remote.programs import UnknownHostKey, call
from custom_gaze.remote.replies import Answer, NotAsked
from custom_gaze.remote.settings import Settings, default_remote

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


def setup(host: str, folder: str, python: str, root: Path, consent: Consent) -> None:
    """Prepare the machine and this project for each other; safe to run again.

    Args:
        host: the machine as ~/.ssh/config knows it.
        folder: the folder on it, in the home folder or absolute.
        python: the Python of an environment on it that has custom-gaze; empty: one is made.
        root: the project here.
        consent: asked before a host key is pinned and before ~/.ssh/config is changed.
    """
    if not (root / ".dvc").is_dir():
        raise InputError(f"{root / '.dvc'}: not found; run this in the project's folder")
    commit, subfolder = repository.head(root), repository.subfolder(root)
    _checked_folder(host, "/" + folder.removeprefix("/"), folder)  # before anything is changed
    with Connection(Settings(host, root=root, subfolder=subfolder)) as connection:
        try:
            about = connection.ask(agent_setup.hello, folder=folder)
        except UnknownHostKey:  # none is pinned yet; a key that differs is an error
            say(learn(host, consent))
            about = connection.ask(agent_setup.hello, folder=folder)
        say(f"{host}: {about.machine}")
        directory = _checked_folder(host, about.dir, folder)
        connection.settings = dataclasses.replace(connection.settings, directory=directory)
        if done := include_for_dvc(host, about.sshd, consent):
            say(done)
        _say_steps(connection, agent_setup.make)
        carry.send_commit(connection, commit)
        seen = _say_steps(connection, agent_setup.prepare, commit=commit, python=python)
        say(accelerator_line(seen))
        _configure(connection.settings)
        check_entry(host)
        _prove(connection)
    say("proof: 65,536 bytes pushed with DVC, fetched back, the same")


def _say_steps(connection: Connection, do: Verb, /, **values: str) -> Answer:
    """Ask for something that says what it changes, and return the last of its answers."""
    connection.send(do, **values)
    while (step := connection.receive()).note is not None:
        say(step.note)
    return step


def _checked_folder(host: str, found: str, asked: str) -> str:
    """The absolute folder on the far machine that `asked` names, a name that can work."""
    if found != asked and not found.endswith(f"/{asked}"):
        raise NotAsked(host, f"the folder {printable(found, 80)} for {printable(asked, 80)}")
    if not _FOLDER.fullmatch(found):
        raise InputError(
            f"{host}: {printable(found, 80)}: a folder there is named in ASCII letters, digits "
            "and _ . @ + , = - with single spaces between them, or DVC and its addresses fail; "
            "choose another with --dir"
        )
    return found


def accelerator_line(seen: Answer) -> str:
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


def _configure(settings: Settings) -> None:
    """The DVC remote in .dvc/config.local and the git remote, both named after the machine."""
    root, name, local = settings.root, settings.host, settings.root / ".dvc" / "config.local"
    remote, project = settings.address(settings.store), settings.address(settings.project)
    if default_remote(local) != (name, remote):
        _dvc(root, ["remote", "add", "--local", "--force", "--default", name, remote])
        say(f"DVC remote {name} → {remote}, the default one (.dvc/config.local)")
    known = name in repository.git(root, "remote").split()
    if not known or repository.git(root, "remote", "get-url", name).strip() != project:
        repository.git(root, "remote", "set-url" if known else "add", name, project)
        say(f"git remote {name} → {project}")
    local.chmod(0o600)


def _prove(connection: Connection) -> None:
    """Push a file with DVC itself, fetch it back and compare, as `dvc push` and `pull` will."""
    content, greeting = os.urandom(1 << 16), connection.greeting
    name = hashlib.md5(content).hexdigest()
    source = connection.settings.address(connection.settings.store)
    with tempfile.TemporaryDirectory(prefix="custom-gaze-") as scratch:
        place = Path(scratch)
        (place / "proof").write_bytes(content)
        begin = ["init", "--no-scm", "--quiet"]
        quiet = ["config", "--quiet", "core.check_update", "false"]
        remote = ["remote", "add", "--quiet", "--default", "proof", source]
        again = ["config", "--quiet", "cache.dir", "again"]
        try:
            _dvc(
                place, begin, quiet, remote, ["add", "--quiet", "proof"], ["push"], again, ["fetch"]
            )
            same = Cache(place).path(name).read_bytes() == content
        except CustomGazeError as error:
            if not greeting:  # what its shell says before it runs anything
                raise
            raise CustomGazeError(
                f"{error}; the shell there says {greeting!r} at each login, which DVC and git take "
                "for an answer: keep it silent without a terminal (in ~/.bashrc, first line: "
                "[[ $- == *i* ]] || return)"
            ) from None
        finally:
            with contextlib.suppress(CustomGazeError):
                connection.ask(store.forget, name=name)
    if not same:
        raise CustomGazeError(f"{connection.host}: the proof came back changed")


def _dvc(root: Path, *commands: list[str]) -> None:
    """Run commands of DVC, one after the other, in one process: it takes a second to load."""
    done = call(sys.executable, "-c", _DVC, json.dumps(commands), root=root, timeout_s=_DVC_S)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = errors[0].removeprefix("ERROR: ") if errors else f"code {done.returncode}"
        *_, word = ["", *done.stdout.split()]
        raise CustomGazeError(f"dvc {word} failed: {reason}")
