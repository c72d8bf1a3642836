"""Where the far machine is known from, .dvc/config.local, and what runs there, remote.yaml."""

import configparser
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from custom_gaze.common.errors import InputError
from custom_gaze.common.yaml_files import read_yaml
from custom_gaze.remote import repository
from custom_gaze.remote.replies import fault_of

# DVC's own connections verify no host key. This second name of the machine leads them through an
# OpenSSH connection that does (hostkeys.py).
VERIFIED = "-verified"


def _words(line: object) -> tuple[str, ...]:
    if not isinstance(line, str):
        raise ValueError("must be a line of sbatch's options")
    return tuple(shlex.split(line))


def _server(address: str) -> str:
    if not re.fullmatch(r"http://[A-Za-z0-9.-]{1,253}:[0-9]{1,5}", address):
        raise ValueError("must be a server as that machine reaches it: http://HOST:PORT")
    return address


class EngineSettings(BaseModel):
    """What runs the runs there, SLURM's options for a job, and the MLflow server of several people.

    `mlflow` is empty where each has a server of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    engine: Literal["local", "systemd", "slurm"] = "local"
    sbatch: Annotated[tuple[str, ...], BeforeValidator(_words)] = ("--gres=gpu:1",)
    mlflow: Annotated[str, AfterValidator(_server)] = ""


@dataclass(frozen=True)
class Settings:
    """The far machine `host` as ssh knows it, the absolute folder of ours on it, the project here.

    `subfolder`: the project's folder in its git repository, empty where it is the repository.
    """

    host: str
    directory: str = ""
    root: Path = Path()
    subfolder: str = ""
    engine: EngineSettings = field(default_factory=EngineSettings)

    @property
    def store(self) -> str:
        """DVC's remote, and the cache of the far machine's repository."""
        return f"{self.directory}/store"

    @property
    def project(self) -> str:
        """The far machine's repository."""
        return f"{self.directory}/project"

    def address(self, path: str) -> str:
        """Where git and DVC find a path of the far machine, through a verified connection."""
        return f"ssh://{self.host}{VERIFIED}{path}"


def load_settings(root: Path) -> Settings:
    """What setup wrote into .dvc/config.local, and the user into remote.yaml."""
    _, address = default_remote(root / ".dvc" / "config.local")
    known = re.fullmatch(f"ssh://([^/]+){VERIFIED}(/.+)/store", address)
    if known is None:
        raise InputError("no machine is set up; run `custom-gaze remote setup`")
    engine = load_engine(root / "remote.yaml")
    return Settings(known[1], known[2], root, repository.subfolder(root), engine)


def load_engine(path: Path) -> EngineSettings:
    """The engine that a file names; the default where there is none."""
    try:
        return EngineSettings.model_validate((read_yaml(path) if path.exists() else None) or {})
    except ValidationError as error:
        raise InputError(f"{path.name}: {fault_of(error)}") from None


def default_remote(path: Path) -> tuple[str, str]:
    """(name, address) of the default remote in one of DVC's configuration files; empty if none."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    name = parser.get("core", "remote", fallback="")
    return name, parser.get(f"'remote \"{name}\"'", "url", fallback="")
