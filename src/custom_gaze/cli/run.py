"""`run`: a calibration as one command, `dvc exp run` with what goes before and after it.

It writes nothing that DVC would not: whoever prefers `dvc exp run -S …` gets the same.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from custom_gaze.cli.verbs import Verbs, add_changes, add_verb, project, tell
from custom_gaze.common.console import Stopped, say, warn
from custom_gaze.common.errors import CustomGazeError, InputError

if TYPE_CHECKING:
    from custom_gaze.config.params import Params
    from custom_gaze.config.paths import Paths
    from custom_gaze.evaluation.results import Metrics

BY_NAME = ("sessions", "evaluate.sessions")  # parameters that are said by the ids themselves
LONGEST_NAME = 48  # of those that sessions make, so that a number finds room


@dataclass(frozen=True)
class Ran:
    """What one run made.

    Attributes:
        experiment: its name, for DVC and MLflow.
        equal_to: another experiment, of any commit, of which this one is a repetition.
    """

    experiment: str
    equal_to: str | None
    metrics: "Metrics"


def add_verbs(verbs: Verbs) -> None:
    text = "calibrate on sessions: `dvc exp run`, checked before and told after"
    sub = add_verb(verbs, "run", run_run, text, json=True)
    sub.add_argument("sessions", nargs="+", metavar="SESSION", help="trained on")
    sub.add_argument(
        "--test",
        nargs="+",
        default=[],
        metavar="SESSION",
        help="only tested on: another day of the same person; default: none",
    )
    sub.add_argument("--name", help="of the experiment; default: made from the sessions")
    add_changes(sub)


def run_run(arguments: argparse.Namespace) -> None:
    params, paths = project()
    from custom_gaze.data.dvc_sessions import ensure_session_file
    from custom_gaze.evaluation import report
    from custom_gaze.evaluation.results import read_metrics
    from custom_gaze.history.restored import record_restored

    changes = changes_of(arguments.sessions, arguments.test, arguments.set)
    name = _checked(changes, arguments.sessions, arguments.name, paths)
    for session in (*arguments.sessions, *arguments.test):
        ensure_session_file(paths.sessions / session, paths)
    _stage_sessions(paths.root)
    if not arguments.json:
        say(f"experiment {name}: " + " ".join(changes))
        sys.stdout.flush()
    code = _dvc_exp_run(name, changes, paths.root, quiet=arguments.json)
    if code != 0:
        raise CustomGazeError(
            f"the run failed ({code}), as said above; the same command goes on from there. "
            "`dvc checkout` brings back what DVC removed, `git checkout params.yaml` the "
            "parameters before"
        )
    ran = Ran(name, _equal_experiment(name, paths.root), read_metrics(paths.figures))
    restored = record_restored(params.tracking, paths)  # where no stage ran
    table = report.closing_table(paths).split("\n")
    tell(arguments, ran, "", *table, *restored, *_next(ran))


def changes_of(sessions: Sequence[str], test: Sequence[str], changes: Sequence[str]) -> list[str]:
    """All changes to params.yaml, as `dvc exp run -S` takes them.

    Raises:
        InputError: a change names sessions, or its value is none that can be passed.
    """
    from custom_gaze.config.session_ids import check_session_id, sessions_value

    for name in (*sessions, *test):
        check_session_id(name, "run")
    for change in changes:
        if change.partition("=")[0] in BY_NAME:
            raise InputError(f"-S {change}: name sessions as words, those to test on with --test")
    first = [sessions_value(ids, key) for ids, key in zip((sessions, test), BY_NAME, strict=True)]
    return first + [for_hydra(change) for change in changes]


def for_hydra(change: str) -> str:
    """KEY=VALUE with its value in the quotes that DVC's -S, which is Hydra's, needs.

    Raises:
        InputError: DVC cannot pass the value.
    """
    import json

    from custom_gaze.common.yaml_files import parse_yaml
    from custom_gaze.config.changes import FLOAT

    key, sign, text = change.partition("=")
    value = parse_yaml(text, f"-S {change}")
    if not sign or FLOAT.fullmatch(text):
        return change  # which has no value, or a number that is none for YAML
    if value is None or isinstance(value, (bool, int, float)):
        return f"{key}={json.dumps(value)}"
    if not isinstance(value, str):
        return change
    if "${" in value:
        raise InputError(f"-S {change}: DVC cannot pass ${{; write the value into params.yaml")
    # Hydra takes a backslash for itself only before a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda at: at[1] * 2 + ("\\'" if at[2] else ""), value)
    return f"{key}='{escaped}'"


def _checked(
    changes: Sequence[str], sessions: Sequence[str], given: str | None, paths: "Paths"
) -> str:
    """Check all that would stop the run, and return the experiment's name.

    Raises:
        InputError: something would.
    """
    from custom_gaze.config.changes import changed_params
    from custom_gaze.doctor import before_run
    from custom_gaze.remote.request import check_name

    params: Params = changed_params(paths, tuple(changes))
    for line in before_run.check_repository(paths):
        warn(line)
    before_run.check_files(params.fetch, paths)
    for finding in before_run.check_sessions(params, paths):
        warn(f"warning: {finding.what}; {finding.advice}")
    taken = {ref.rsplit("/", 1)[1] for ref in _experiments(paths.root)}
    if given is None:
        return free_name(sessions, taken)
    if check_name(given) in taken:
        raise InputError(f"--name {given}: there is such an experiment; take another name")
    return given


def free_name(sessions: Sequence[str], taken: set[str]) -> str:
    """An experiment's name that says what it trains on: monday-tuesday, monday-tuesday-2 …"""
    name = "-".join(sessions)[:LONGEST_NAME].rstrip("-")
    others = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(other for other in others if other not in taken)


def _git(root: Path, *words: str) -> str:
    from custom_gaze.data.git_index import git

    done = git(root, *words)
    return "" if done is None or done.returncode != 0 else done.stdout.strip()


def _experiments(root: Path) -> list[str]:
    """The refs of the experiments of all commits, refs/exps/AB/CDEF…/NAME."""
    return _git(root, "for-each-ref", "--format=%(refname)", "refs/exps/*/*/*").splitlines()


def _equal_experiment(name: str, root: Path) -> str | None:
    """Another experiment whose model is the same and was measured in the same way.

    The whole commits are not compared: dvc.lock still has the stages of sessions that were named
    before.
    """
    measured = {ref.rsplit("/", 1)[1]: _measured(root, ref) for ref in _experiments(root)}
    mine = measured.pop(name, "")
    return next((other for other, its in measured.items() if mine and its == mine), None)


def _measured(root: Path, revision: str) -> str:
    """What dvc.lock has of `evaluate`: what it read, with what parameters. What it wrote follows
    from that, but for the date in it."""
    lock = _git(root, "show", f"{revision}:./dvc.lock")
    found = re.search(r"^  evaluate:\n((?:    .*\n)+?)    outs:\n", lock, re.MULTILINE)
    return found[1] if found else ""


def _stage_sessions(root: Path) -> None:
    """Let git know the sessions as they are: one that is staged and gone would come back in the
    run, which ends in a conflict."""
    _git(root, "add", "--all", "--", "data/sessions")


def _dvc_exp_run(name: str, changes: Sequence[str], root: Path, quiet: bool) -> int:
    """Run it, in this terminal; returns DVC's exit code. What stops us stops it, and is raised."""
    options = [word for change in changes for word in ("-S", change)]
    words = [sys.executable, "-m", "dvc", "exp", "run", "--name", name, *options]
    environment = dict(os.environ)
    if shutil.which("custom-gaze") is None:  # dvc.yaml's commands; the environment is not activated
        searched = [str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]
        environment["PATH"] = os.pathsep.join(searched)
    output = sys.stderr if quiet else None  # with --json our standard output is one document
    process = subprocess.Popen(words, cwd=root, env=environment, stdout=output)
    try:
        return process.wait()
    except Stopped:  # SIGTERM, SIGHUP: nobody told DVC and its stage
        _stop(process)
        raise
    except KeyboardInterrupt:  # Ctrl-C reached them too; DVC tidies up
        process.wait()
        raise


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the stage; DVC then ends by itself and leaves the repository as it was."""
    import psutil

    try:
        stages = psutil.Process(process.pid).children(recursive=True)
    except psutil.Error:
        stages = []
    for stage in stages:
        try:
            stage.send_signal(signal.SIGTERM)
        except psutil.Error:
            continue
    if not stages:
        process.send_signal(signal.SIGINT)
    process.wait()


def _next(ran: Ran) -> list[str]:
    again = f"; equal to {ran.equal_to}" if ran.equal_to else ""
    return [
        f"made      {ran.experiment}{again}; beside the others: make experiments",
        "next      into the app: custom-gaze deploy APP_DIR",
        f"          keep it: git add -A && git commit -m {ran.experiment}",
    ]
