"""Where the far machine is known from, .dvc/config.local, and what runs there, remote.yaml."""

import configparser
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

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


LOCAL = EngineSettings()


@dataclass(frozen=True)
class Settings:
    """The far machine `host` as ssh knows it, the absolute folder of ours on it, the project here.

    `subfolder`: the project's folder in its git repository, empty where it is the repository.
    """

    host: str
    directory: str = ""
    root: Path = Path()
    subfolder: str = ""
    engine: EngineSettings = LOCAL

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
    check_project(root)
    config = read_config(root / ".dvc" / "config.local")
    name = config.get("core", "remote", fallback="")
    url = urlsplit(config.get(f"'remote \"{name}\"'", "url", fallback=""))
    host, path = url.netloc, url.path
    if url.scheme != "ssh" or not host.endswith(VERIFIED) or not path.endswith("/store"):
        raise InputError("no machine is set up; run `custom-gaze remote setup`")
    host, directory = host.removesuffix(VERIFIED), path.removesuffix("/store")
    engine = load_engine(root / "remote.yaml")
    return Settings(host, directory, root, repository.subfolder(root), engine)


def check_project(root: Path) -> None:
    """Refuse a folder that is no project's."""
    if not (root / ".dvc").is_dir():
        raise InputError(f"{root / '.dvc'}: not found; run this in the project's folder")


def load_engine(path: Path) -> EngineSettings:
    """The engine that a file names; the default where there is none."""
    try:
        return EngineSettings.model_validate((read_yaml(path) if path.exists() else None) or {})
    except ValidationError as error:
        raise InputError(f"{path.name}: {fault_of(error)}") from None


def read_config(path: Path) -> configparser.ConfigParser:
    """A DVC configuration file; empty where there is none."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    return parser
