"""Where the far machine and its folder are known from: the DVC remote in .dvc/config.local."""

import configparser
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from custom_gaze.common.errors import InputError

# DVC's own connections verify no host key. This second name of the machine leads them through an
# OpenSSH connection that does (hostkeys.py).
VERIFIED = "-verified"


@dataclass(frozen=True)
class Settings:
    """The far machine `host` as ssh knows it, and the absolute folder of ours on it.

    `subfolder`: the project's folder in its git repository, empty where it is the repository.
    """

    host: str
    directory: str
    subfolder: str = ""

    @property
    def place(self) -> dict[str, str]:
        """The place as each request names it: our folder, and the project in the repository."""
        return {"dir": self.directory, "sub": self.subfolder}

    @property
    def store(self) -> str:
        """DVC's remote, and the cache of the far machine's repository."""
        return f"{self.directory}/store"

    @property
    def project(self) -> str:
        """The far machine's repository."""
        return f"{self.directory}/project"

    @property
    def store_url(self) -> str:
        return f"ssh://{self.host}{VERIFIED}{self.store}"

    @property
    def git_url(self) -> str:
        return f"ssh://{self.host}{VERIFIED}{self.project}"


def load_settings(root: Path) -> Settings:
    """What setup wrote into .dvc/config.local.

    Raises:
        InputError: `root` is no project's folder, or setup has not been run.
    """
    if not (root / ".dvc").is_dir():
        raise InputError(f"{root / '.dvc'}: not found; run this in the project's folder")
    config = read_config(root / ".dvc" / "config.local")
    name = config.get("core", "remote", fallback="")
    url = urlsplit(config.get(f"'remote \"{name}\"'", "url", fallback=""))
    host, path = url.netloc, url.path
    if url.scheme != "ssh" or not host.endswith(VERIFIED) or not path.endswith("/store"):
        raise InputError("no machine is set up; run `custom-gaze remote setup`")
    return Settings(host.removesuffix(VERIFIED), path.removesuffix("/store"))


def read_config(path: Path) -> configparser.ConfigParser:
    """A DVC configuration file; empty where there is none.

    Raises:
        InputError: it cannot be understood.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    return parser
