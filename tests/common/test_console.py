"""The command line and its terminal: characters it lacks, foreign words, signals, a full disk."""

import ast
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import REPOSITORY, Project
from custom_gaze.cli import main
from custom_gaze.common.console import (
    _ASCII,
    Stopped,
    StopSignals,
    bar,
    readable_streams,
    say,
    warn,
)

PACKAGE = REPOSITORY / "src" / "custom_gaze"


def ascii_stream(monkeypatch: pytest.MonkeyPatch, name: str, encoding: str) -> io.BytesIO:
    """Put a stream of a terminal that knows few characters in the place of stdout or stderr."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, name, io.TextIOWrapper(written, encoding, write_through=True))
    return written


def said_in(path: Path) -> set[str]:
    """The characters beyond ASCII in a module's strings, docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone
    )
    return {c for text in texts for c in text if not c.isascii()}


def test_each_character_of_our_own_messages_has_a_stand_in_of_ascii() -> None:
    ours = set().union(*(said_in(path) for path in PACKAGE.rglob("*.py")))
    assert {"→", "°"} <= ours
    assert ours <= _ASCII.keys()
    assert all(text.isascii() and text.isprintable() for text in _ASCII.values())


@pytest.mark.parametrize(
    ("encoding", "wanted"),
    [
        ("ascii", "2.5 deg -> models \\xe9 \\u4e2d \\udcff\n"),
        ("latin-1", "2.5° -> models é \\u4e2d \\udcff\n"),
        ("cp437", "2.5° -> models é \\u4e2d \\udcff\n"),
        ("utf-8", "2.5° → models é 中 \\udcff\n"),
    ],
)
def test_what_an_encoding_lacks_is_said_readably(
    monkeypatch: pytest.MonkeyPatch, encoding: str, wanted: str
) -> None:
    out = ascii_stream(monkeypatch, "stdout", encoding)
    err = ascii_stream(monkeypatch, "stderr", encoding)
    readable_streams()
    say("2.5° → models é 中 \udcff")
    print("2.5° → models é 中 \\udcff", file=sys.stderr)
    assert (out.getvalue().decode(encoding), err.getvalue().decode(encoding)) == (wanted, wanted)


def test_foreign_words_keep_to_their_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("a  \x1b[31mred\n", "b\r\u202e")
    warn("x\x9b2J\ny")
    assert capsys.readouterr() == ("a  \\x1b[31mred\\n\nb\\r\\u202e\n", "x\\x9b2J\\ny\n")


def test_a_command_in_a_terminal_of_ascii(project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "custom_gaze", "sheet", "--persons", "1", "1"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, b"-> reports/sheet_persons_1-1.png\n")


def test_errors_in_a_terminal_of_ascii(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    err = ascii_stream(monkeypatch, "stderr", "ascii")
    assert main(["prepare", "é\x1b[31m→"]) == 2
    assert err.getvalue().startswith(b"custom-gaze: prepare: '\\xe9\\x1b[31m->' is no session id;")
    with pytest.raises(SystemExit, match="2"):
        main(["\x1b[31m"])
    with pytest.raises(SystemExit, match="2"):
        main(["report", "\x1b[31m"])
    assert b"unrecognized arguments: \\x1b[31m" in err.getvalue()
    assert b"\x1b" not in err.getvalue()


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("SIGTERM", 143, "custom-gaze: ended by SIGTERM; nothing is left half done; the same"),
        ("SIGHUP", 129, "custom-gaze: ended by SIGHUP; nothing is left half done; the same"),
        ("SIGINT", 130, "custom-gaze: interrupted; nothing is left half done; the same"),
    ],
)
def test_a_signal_ends_a_command_tidily(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    code: int,
    said: str,
) -> None:
    tidied = []

    def work(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.Signals[name])
            signal.pause()
        finally:
            if name != "SIGINT":  # a second one does not end the tidying
                os.kill(os.getpid(), signal.Signals[name])
            tidied.append(True)

    before = signal.getsignal(signal.Signals[name])
    monkeypatch.setattr("custom_gaze.stages.fetch.run", work)
    assert main(["fetch"]) == code
    assert tidied == [True]
    assert signal.getsignal(signal.Signals[name]) == before
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(said)


def test_an_interrupted_training_says_how_it_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("custom_gaze.stages.train.run", interrupted)
    monkeypatch.setenv("DVC_STAGE", "train")
    assert main(["train"]) == 130
    said = capsys.readouterr().err
    assert "the same command goes on from what was saved last\n" in said
    assert "`dvc checkout` brings back what DVC removed" in said


def test_what_fails_after_a_signal_is_no_traceback(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        except KeyboardInterrupt:
            raise RuntimeError("a worker was killed") from None

    monkeypatch.setattr("custom_gaze.cli.stages.run_fetch", work)
    assert main(["fetch"]) == 143
    assert capsys.readouterr().err.startswith("custom-gaze: ended by SIGTERM;")
    monkeypatch.setattr("custom_gaze.cli.stages.run_fetch", lambda _: {}["a bug"])
    with pytest.raises(KeyError, match="a bug"):
        main(["fetch"])


def test_a_signal_that_the_work_took_for_ctrl_c_still_counts(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(_: object) -> None:
        with suppress(KeyboardInterrupt):  # as `watch` does: it ends well
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()

    monkeypatch.setattr("custom_gaze.cli.stages.run_fetch", work)
    assert main(["fetch"]) == 143


def test_signals_that_were_ignored_stay_so_and_workers_just_go() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopSignals() as stopped:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            worker = os.fork()
            if worker == 0:
                try:
                    os.kill(os.getpid(), signal.SIGTERM)
                    signal.pause()
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == -signal.SIGTERM
            with pytest.raises(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
            assert stopped.code == 143
    finally:
        signal.signal(signal.SIGHUP, before)


def test_closed_streams_are_spoken_into_nowhere(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(_: object) -> None:
        say("nobody hears this")
        list(bar(range(3), "nor this"))

    monkeypatch.setattr("custom_gaze.cli.stages.run_fetch", work)
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["fetch"]) == 0
    assert main(["prepare", "a b"]) == 2


def test_a_full_disk_behind_standard_output_is_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("only Linux has /dev/full")
    monkeypatch.setattr("custom_gaze.cli.stages.run_fetch", lambda _: say("x" * 100_000))
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["fetch"]) == 1
    assert capsys.readouterr().err == (
        "custom-gaze: standard output cannot be written (No space left on device)\n"
    )


def test_too_little_memory_is_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("custom_gaze.cli.stages.run_fetch", work)
    assert main(["fetch"]) == 1
    assert capsys.readouterr().err.startswith("custom-gaze: there is not enough memory;")


TEXT_CALLS = ("read_text", "write_text", "NamedTemporaryFile")


def without_encoding(path: Path) -> Iterator[str]:
    """The calls in a module that read or write text in whatever encoding the machine prefers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        keys = {keyword.arg for keyword in node.keywords}
        # `read_text` as a plain name is our own, which takes UTF-8 alone.
        asks = name in TEXT_CALLS and isinstance(node.func, ast.Attribute)
        modes = [word.value for word in node.args if isinstance(word, ast.Constant)]
        opens = name == "open" and any(mode in ("r", "w", "a", "a+", "r+", "w+") for mode in modes)
        if (asks or opens or "text" in keys) and "encoding" not in keys:
            yield f"{path.relative_to(PACKAGE)}: line {node.lineno}: {ast.unparse(node)}"


def test_files_and_other_programs_speak_utf_8_on_every_machine() -> None:
    found = [call for path in PACKAGE.rglob("*.py") for call in without_encoding(path)]
    assert not found
