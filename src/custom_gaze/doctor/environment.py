"""What the project stands on: packages, accelerator, DVC remote, MLflow store. No network."""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from custom_gaze.common.errors import CustomGazeError
from custom_gaze.common.provenance import code_version
from custom_gaze.config.params import Params
from custom_gaze.config.paths import Paths
from custom_gaze.doctor.findings import NAMES_SHOWN, Finding, Severity
from custom_gaze.evaluation.tracking.addresses import sqlite_file, tracking_uri
from custom_gaze.evaluation.tracking.pending import pending_folder, waiting
from custom_gaze.evaluation.tracking.schema import look_at

REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True)
class Environment:
    """Facts, by name, and what is wrong with them."""

    facts: dict[str, str]
    findings: tuple[Finding, ...]


def look_at_environment(params: Params, paths: Paths) -> Environment:
    """Check this machine's environment against what the project was made with."""
    python = ".".join(map(str, sys.version_info[:3]))
    facts = {"custom-gaze": code_version("stages.train"), "Python": python}
    findings: list[Finding] = []
    for name, (fact, found) in {
        "packages": _packages(paths.root / REQUIREMENTS),
        "GPU": _gpu(params),
        "DVC remote": _remote(paths.root / ".dvc"),
        "DVC experiments": _experiments(paths.root),
        "MLflow store": _store(),
    }.items():
        facts[name] = fact
        findings.extend(found)
    return Environment(facts, tuple(findings))


def _finding(severity: Severity, what: str, advice: str) -> Finding:
    return Finding(severity, "environment", what, advice)


def _packages(requirements: Path) -> tuple[str, list[Finding]]:
    """Installed versions against the pinned ones; those pinned for other systems do not count."""
    try:
        pinned = list(_pinned(requirements.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError):
        what, advice = f"{requirements}: not found", "run this in the project's folder"
        return "not compared", [_finding(Severity.NOTE, f"{what}, so no versions compared", advice)]
    needed = _needed()
    same, others, missing = [], [], []
    for name, wanted in pinned:
        here = _installed(name)
        if here is None and name in needed:
            missing.append(f"{name} {wanted}")
        elif here == wanted.partition("+")[0]:
            same.append(name)
        elif here is not None:
            others.append(f"{name} {here} (pinned {wanted})")
    advice = f"pip install -r {requirements.name}, in an environment of its own"
    findings = []
    if missing:
        findings.append(_finding(Severity.ERROR, f"not installed: {_some(missing)}", advice))
    if others:
        findings.append(_finding(Severity.WARNING, f"other versions: {_some(others)}", advice))
    total = len(same) + len(others) + len(missing)
    return f"{len(same)} of {total} as pinned in {requirements.name}", findings


def _pinned(text: str) -> Iterator[tuple[str, str]]:
    """Names and versions that a requirements file pins for this Python and this system."""
    from packaging.requirements import InvalidRequirement, Requirement

    for line in text.splitlines():
        line = line.split(" #")[0].split(" \\")[0].split(" --hash")[0].strip()
        if "==" not in line or line.startswith(("#", "-")):
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker is None or requirement.marker.evaluate():
            versions = [s.version for s in requirement.specifier if s.operator == "=="]
            yield from ((_plain(requirement.name), version) for version in versions)


def _needed() -> set[str]:
    """What the package itself asks for, its development tools left out."""
    try:
        asked = metadata.requires("custom-gaze") or []
    except metadata.PackageNotFoundError:
        return set()
    names = (re.match(r"[A-Za-z0-9._-]+", line) for line in asked if "extra ==" not in line)
    return {_plain(name[0]) for name in names if name}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> str | None:
    """The version that is installed, without what a build adds to it (2.11.0+cpu)."""
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def _some(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _gpu(params: Params) -> tuple[str, list[Finding]]:
    import torch

    usable = {"cpu"}
    fact = f"none: training runs on the CPU, {os.cpu_count() or 1} cores"
    if torch.backends.mps.is_available():
        usable.add("mps")
        fact = "Apple's, through MPS"
    if torch.cuda.is_available():
        usable.add("cuda")
        fact = torch.cuda.get_device_name(0)
    if params.train.device in ("auto", *usable):
        return fact, []
    what = f"train.device is {params.train.device}, which torch does not see here"
    return fact, [_finding(Severity.ERROR, what, "set train.device to auto in params.yaml")]


def _remote(dvc_folder: Path) -> tuple[str, list[Finding]]:
    """The default remote in DVC's own reading of its configuration; it is not contacted."""
    from dvc.config import Config, ConfigError

    if not dvc_folder.is_dir():
        what = f"{dvc_folder}: not found, so nothing is versioned"
        return "none", [_finding(Severity.ERROR, what, "run this in the project's folder")]
    try:
        config = Config(str(dvc_folder))
        name = config["core"].get("remote")
        url = config["remote"].get(name, {}).get("url") if name else None
    except ConfigError as error:
        what = f"DVC cannot read its configuration ({' '.join(str(error).split())})"
        return "unknown", [_finding(Severity.ERROR, what, f"correct {dvc_folder / 'config'}")]
    if url:
        return f"{name}, {_without_login(str(url))} (not contacted)", []
    what = f"DVC's default remote {name!r} has no address" if name else "DVC has no default remote"
    advice = "dvc remote add -d NAME ADDRESS, so that sessions and models can be pushed"
    return "none", [_finding(Severity.WARNING, what, advice)]


def _experiments(root: Path) -> tuple[str, list[Finding]]:
    """Where DVC cannot run experiments, or loses them."""
    from custom_gaze.remote.repository import is_shallow

    findings = []
    path = str(root.resolve())
    if not path.isascii():
        what = f"{path} is not named in ASCII letters alone: `dvc exp run --temp` and --queue fail"
        advice = "move the project, or run `dvc exp run` without them or custom-gaze remote train"
        findings.append(_finding(Severity.WARNING, what, advice))
    try:
        shallow = is_shallow(root)
    except CustomGazeError:  # no repository, which is said elsewhere, or no git
        return "not looked at", findings
    if shallow:
        what = "this clone is shallow: DVC loses experiments in it, and none can be sent elsewhere"
        findings.append(_finding(Severity.WARNING, what, "git fetch --unshallow"))
    return ("with limits" if findings else "here and in copies of the repository"), findings


def _store() -> tuple[str, list[Finding]]:
    """The MLflow store: a file is opened for reading, a server is not contacted."""
    uri = tracking_uri()
    count = len(waiting())
    more = f", {count} more waiting in {pending_folder()}" if count else ""
    path = sqlite_file(uri)
    if path is None:
        return f"{_without_login(uri)} (not contacted){more}", []
    if not path.exists():
        return f"{path}, made by the first evaluation{more}", []
    found = look_at(path)
    runs = "unreadable" if found.runs is None else f"{found.runs} run{'s' * (found.runs != 1)}"
    if found.problem is None or found.advice is None:
        return f"{path}, {runs}{more}", []
    finding = _finding(Severity.WARNING, found.problem, found.advice)
    return f"{path}, {runs}{more}", [finding]


def _without_login(address: str) -> str:
    """An address without user and password."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    if "@" not in parts.netloc:
        return address
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
