"""The words of `custom-gaze remote`; what they do is in verbs.py, loaded when it runs."""

import argparse

from custom_gaze.remote.settings import DEFAULT_FOLDER, DEFAULT_HOST


def add_verbs(parser: argparse.ArgumentParser) -> None:
    """Add the verbs of `custom-gaze remote`; the one given is `arguments.remote_verb`."""
    verbs = parser.add_subparsers(dest="remote_verb", required=True, metavar="VERB")

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text)

    sub = verb("setup", "once: prepare the machine and this project for each other")
    sub.add_argument("--host", default=DEFAULT_HOST, help=f"default: {DEFAULT_HOST}")
    sub.add_argument(
        "--dir", default=DEFAULT_FOLDER, help=f"folder in the home there; default: {DEFAULT_FOLDER}"
    )
    sub.add_argument(
        "--python", default="", metavar="PATH", help="an environment there; default: one is made"
    )
    sub.add_argument("--yes", action="store_true", help="agree to what setup would ask")

    sub = verb("train", "train there, read along, bring the experiment back")
    _add_changes(sub)
    sub.add_argument("--name", help="of the experiment; default: made from session and time")
    sub.add_argument("--apply", action="store_true", help="take its model into the workspace")

    sub = verb("queue", "train on several sessions, one experiment each, with DVC's queue")
    sub.add_argument("session", nargs="+", metavar="SESSION")
    sub.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="N at once; default: 1")
    _add_changes(sub)
    sub.add_argument("--name", help="the experiments are called NAME-SESSION")

    verb("status", "what runs there, on which epoch, graphics card and disk")
    sub = verb("attach", "read along again, then bring the experiment back")
    sub.add_argument("name", nargs="?", metavar="NAME", help="default: the one that runs")
    sub = verb("logs", "print what a run has said")
    sub.add_argument("name", metavar="NAME")
    sub = verb("stop", "end a run with everything it started")
    sub.add_argument("name", metavar="NAME")
    sub = verb("fetch", "bring the experiment of a run that has ended")
    sub.add_argument("name", metavar="NAME")
    sub.add_argument("--apply", action="store_true", help="take its model into the workspace")
    sub = verb("mlflow", "MLflow's page of the machine there, through a tunnel")
    sub.add_argument("--port", type=int, default=5001, help="on this machine; default: 5001")


def _add_changes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        *("-S", "--set-param"),
        dest="set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a parameter for this run; may be repeated",
    )
