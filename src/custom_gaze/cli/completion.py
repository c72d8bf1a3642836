"""`completion`: a script for bash or zsh that completes verbs, options, files and session ids."""

import argparse
from pathlib import Path

from custom_gaze.cli.verbs import Verbs, add_verb
from custom_gaze.common.console import say

# What an argument stands for, by its metavar: an id in these, a folder in those.
IDS = ("ID", "SESSION", "IMAGE|FOLDER|SESSION")
FOLDERS = ("APP_DIR",)
# The ids of the project that the current folder is in: its data/sessions/ID.dvc.
FIND = """
  local root=$PWD file
  while [ "$root" != / ] && ! { [ -f "$root/params.yaml" ] && [ -d "$root/.dvc" ]; }; do
    root=$(dirname "$root")
  done
"""
BASH = f"""
_custom_gaze_ids() {{{FIND}
  for file in "$root"/data/sessions/"$1"*.dvc; do
    [ -e "$file" ] && basename "$file" .dvc
  done
  compgen -f -- "$1"
}}
"""
ZSH = f"""
_custom_gaze_ids() {{{FIND}
  local -a ids
  ids=("$root"/data/sessions/*.dvc(N:t:r))
  compadd -a ids
  _files
}}
"""


def add_verbs(verbs: Verbs) -> None:
    text = "print a script for your shell: source <(custom-gaze completion bash)"
    sub = add_verb(verbs, "completion", run_completion, text, anywhere=True)
    sub.add_argument("shell", choices=("bash", "zsh"))


def run_completion(arguments: argparse.Namespace) -> None:
    import shtab

    from custom_gaze.cli import parser

    root = parser()
    _say_what_completes(root)
    preamble = {"bash": BASH, "zsh": ZSH}[arguments.shell]
    script = shtab.complete(root, shell=arguments.shell, preamble=preamble)
    say(*script.split("\n"))


def _say_what_completes(parser: argparse.ArgumentParser) -> None:
    """Tell shtab, which reads an argument's attribute `complete`, what each argument takes."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _say_what_completes(below)
        elif action.metavar in IDS:
            action.complete = {"bash": "_custom_gaze_ids", "zsh": "_custom_gaze_ids"}  # type: ignore[attr-defined]
        elif action.type is Path:
            kind = shtab.DIRECTORY if action.metavar in FOLDERS else shtab.FILE
            action.complete = kind  # type: ignore[attr-defined]
