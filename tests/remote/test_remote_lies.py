"""A far machine that lies: its host key is right, what it answers is not.

Each case changes one answer of an honest one; nothing may be done with it, and one line says so.
"""

import copy
import hashlib
import json
import queue
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.remote import fetch, mlflow_runs, repository, runs, setup
from custom_gaze.remote.connection import AgentError, Connection
from custom_gaze.remote.display import Traffic
from custom_gaze.remote.objects import send_objects
from custom_gaze.remote.replies import AllTracked, Hello, NotAsked, Run, Status, understood
from custom_gaze.remote.settings import Settings
from custom_gaze.remote.ssh import Lost

SETTINGS = Settings("far", "/home/me/rustyeyes_train")
PIPELINE = "stages:\n  train:\n    cmd: train\n    outs: [models/m.onnx, models/parts]\n"

Answer = tuple[dict[str, Any], bytes]


class Liar(Connection):
    """A connection whose other end answers from a table: what was asked → messages."""

    def __init__(self, answers: dict[str, Any]) -> None:
        super().__init__("far")
        self.answers = answers
        self.asked: list[dict[str, Any]] = []
        self._inbox = queue.Queue()

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        self.asked.append(header)
        answer = self.answers.get(header.get("do", ""), [])
        for message in answer(header) if callable(answer) else answer:
            self._inbox.put(message if isinstance(message, tuple) else (message, b""))

    def _receive(self, silence_s: float) -> tuple[dict[str, Any], bytes]:
        if self._inbox.empty():
            raise Lost("far: nothing more comes")
        message = self._inbox.get()
        assert message is not None
        return message


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@dataclass
class Far:
    """An honest far machine with one run, whose answers a test may change."""

    root: Path  # the project here
    commit: str  # HEAD here
    bundle: bytes  # of the experiment
    store: dict[str, bytes]
    run: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)

    def fetch(self) -> list[fetch.Fetched]:
        run = understood("far", Run, copy.deepcopy(self.run))
        return fetch.fetch(SETTINGS, self.root, run, Traffic(), lambda _: None)

    def everything_here(self) -> dict[str, Any]:
        """All files in and around the project, and all refs but the one for what is fetched."""
        files = [path for path in self.root.parent.rglob("*") if path.is_file()]
        kept = {str(path): path.read_bytes() for path in files if ".git/" not in str(path)}
        refs = git(self.root, "for-each-ref").splitlines()
        return {**kept, "refs": [line for line in refs if "custom-gaze/fetched" not in line]}


def git(root: Path, *words: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "gc.auto=0")
    command = ["git", "-C", str(root), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


MODEL = b"weights" * 1000
PARTS = json.dumps([{"md5": md5(b"part"), "relpath": "a/part"}]).encode()
FOLDER = md5(PARTS) + ".dir"


def lock_of(model: str = md5(MODEL), folder: str = FOLDER, path: str = "models/m.onnx") -> str:
    outs = [{"path": path, "md5": model}, {"path": "models/parts", "md5": folder}]
    return json.dumps({"stages": {"train": {"cmd": "train", "outs": outs}}})


def experiment(root: Path, scratch: Path, ref: str, files: dict[str, str]) -> bytes:
    """A bundle of an experiment that changes these files; `-> TARGET` makes a link."""
    clone = scratch / "clone"
    git(root, "clone", "-q", "-s", str(root), str(clone))
    for name, content in files.items():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            (clone / name).symlink_to(content[3:])
        else:
            (clone / name).write_text(content)
    git(clone, "add", "-A", "-f")
    git(clone, "commit", "-q", "-m", "experiment")
    git(clone, "update-ref", ref, "HEAD")
    git(clone, "bundle", "create", "-q", str(scratch / "bundle"), ref, "^HEAD~1")
    return (scratch / "bundle").read_bytes()


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, bytes]:
    """A project with one commit, and the bundle of an honest experiment on it."""
    place = tmp_path_factory.mktemp("lies")
    root = place / "in" / "project"
    for name, content in {"params.yaml": "a: 1\n", "dvc.yaml": PIPELINE, ".dvc/config": ""}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    commit = git(root, "rev-parse", "HEAD").strip()
    return root, commit, experiment(root, place, ref_of(commit), {"dvc.lock": lock_of()})


def ref_of(commit: str, name: str = "night") -> str:
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"


@pytest.fixture
def far(committed: tuple[Path, str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Far:
    original, commit, bundle = committed
    root = tmp_path / "in" / "project"
    subprocess.run(["cp", "-r", str(original.parent), str(root.parent)], check=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    machine = Far(root, commit, bundle, {md5(MODEL): MODEL, FOLDER: PARTS, md5(b"part"): b"part"})
    machine.run = {
        **{"name": "night", "commit": commit, "jobs": 1, "started": 1.7e9, "state": "done"},
        **{"experiments": [{"name": "night", "set": []}], "code": 0, "ended": 1.7e9},
        "refs": {"night": ref_of(commit)},
    }

    def get(header: dict[str, Any]) -> list[Answer]:
        sent = [({"object": n, "last": True}, machine.store[n]) for n in header["objects"]]
        return [*sent, ({"end": 1}, b"")]

    machine.answers = {
        "tips": [{"tips": [commit]}],
        "bundle": lambda _: [({"last": True}, machine.bundle)],
        "listed": lambda _: [{"sizes": {n: len(c) for n, c in machine.store.items()}, "gone": []}],
        "get": get,
        "tracked": [{"runs": []}],
        "fetched": [{"noted": 1}],
    }

    @contextmanager
    def connect(host: str, traffic: Traffic | None = None) -> Iterator[Connection]:
        assert host == "far"
        yield Liar(machine.answers)

    for module in (fetch, runs, mlflow_runs):
        monkeypatch.setattr(module, "Connection", connect)
    return machine


def test_an_honest_machine_s_experiment_comes_whole(far: Far) -> None:
    """The table's own answers are good: what is refused below is refused for its lie."""
    (fetched,) = far.fetch()
    assert (fetched.files, fetched.was_here, fetched.beyond) == (3, False, ())
    assert git(far.root, "rev-parse", ref_of(far.commit)).strip() == fetched.commit
    cache = Cache(far.root)
    assert {name: cache.path(name).read_bytes() for name in far.store} == far.store
    assert cache.path(FOLDER).stat().st_mode & 0o777 == 0o444


OTHER = "0123456789abcdef" * 2
CLIMBS = f"{OTHER}./../../../victim"


@pytest.mark.parametrize(
    "lie",
    [
        {"name": "other"},
        {"name": "../night"},
        {"commit": "HEAD"},
        {"commit": "f" * 40},
        {"started": 1e300},
        {"state": "\x1b[2J"},
        {"experiments": "night"},
        {"refs": {"night": "refs/replace/" + "a" * 40}},
        {"refs": {"night": "refs/heads/main"}},
        {"refs": {"night": f"{ref_of('a' * 40)}/../../../heads/x"}},
        {"refs": {"night": ref_of("a" * 40)}},
        {"refs": {"day": ref_of("a" * 40, "day")}},
        {"refs": {"--upload-pack=x": ref_of("a" * 40)}},
    ],
    ids=lambda lie: str(lie)[:60],
)
def test_lies_about_a_run(far: Far, lie: dict[str, Any]) -> None:
    """Its result.json could make any ref: refs/replace/… changes what `git show HEAD` shows."""
    before = far.everything_here()
    far.answers["look"] = [{"run": {**far.run, **lie}}]
    with pytest.raises(NotAsked, match="far: sent something else than it was asked for") as caught:
        fetch.fetch(SETTINGS, far.root, runs.find(SETTINGS, "night"), Traffic(), lambda _: None)
    assert str(caught.value).isprintable()
    assert far.everything_here() == before


def test_lies_about_commits(far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unrelated history, garbage, a bundle without end, a commit that is none of ours."""
    monkeypatch.setattr(repository, "_MOST_BUNDLE_BYTES", 1 << 20)
    before = far.everything_here()
    strange = tmp_path / "strange"
    strange.mkdir()
    git(strange, "init", "-q", "-b", "main")
    git(strange, "commit", "-q", "--allow-empty", "-m", "unrelated")
    git(strange, "update-ref", ref_of(far.commit), "HEAD")
    git(strange, "bundle", "create", "-q", str(tmp_path / "b"), ref_of(far.commit))
    endless = [({"last": False}, bytes(1 << 16))] * 17
    for answer, said in (
        ([({"last": True}, (tmp_path / "b").read_bytes())], "does not come from commit"),
        ([({"last": True}, b"no bundle")], "git"),
        ([{"known": "a" * 40}], "the commit aaaaaaaa"),
        ([{"known": "--all"}], "known: "),
        (endless, "more than 1 MB of git"),
    ):
        far.answers["bundle"] = answer
        with pytest.raises(CustomGazeError, match=said):
            far.fetch()
        assert far.everything_here() == before
    far.answers["tips"] = [{"tips": ["--output=x"]}]
    with pytest.raises(NotAsked, match=r"tips\.0"):
        far.fetch()


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        (lock_of(model=CLIMBS), "not what DVC writes: stages.train.outs.0.md5"),
        (lock_of(path="../../victim"), "'../../victim' is no path inside the project"),
        (lock_of(path="/etc/victim"), "is no path inside the project"),
        ("a: " + "[" * 1200, "no valid YAML"),
        ("stages: [1, 2]", "not what DVC writes: stages"),
        ("a: 2020-99-99", "no valid YAML"),
        ("x" * (5 << 20), "too many for such a file"),
    ],
    ids=["object", "path", "absolute", "deep", "kind", "date", "large"],
)
def test_lies_in_a_commit(far: Far, tmp_path: Path, lock: str, said: str) -> None:
    before = far.everything_here()
    far.bundle = experiment(far.root, tmp_path, ref_of(far.commit), {"dvc.lock": lock})
    after_making = {**before, **far.everything_here()}
    with pytest.raises(InputError, match="dvc.lock") as caught:
        far.fetch()
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600
    assert far.everything_here() == after_making


def pieces(*messages: Answer) -> Callable[[dict[str, Any]], list[Answer]]:
    """An answer to `get` for the first file; the folder's list comes as it should."""
    right = [({"object": FOLDER, "last": True}, PARTS), ({"end": 1}, b"")]
    return lambda header: right if header["objects"] == [FOLDER] else [*messages]


def objects_lie(far: Far, lie: str) -> None:
    """One lie about the objects of the store."""
    outside = json.dumps([{"md5": md5(b"part"), "relpath": "../../../victim"}]).encode()
    first = md5(MODEL)
    sizes = {name: len(content) for name, content in far.store.items()}
    listed = {
        "a name that climbs": {"sizes": {**sizes, CLIMBS: 5}, "gone": []},
        "gone climbs": {"sizes": sizes, "gone": [CLIMBS]},
        "nothing is there": {"sizes": {}, "gone": []},
        "a petabyte": {"sizes": {**sizes, first: 1 << 50}, "gone": []},
        "more than the disk": {"sizes": {**sizes, first: 1 << 40}, "gone": []},
        "a list of gigabytes": {"sizes": {**sizes, FOLDER: 1 << 31}, "gone": []},
        "a negative size": {"sizes": {**sizes, first: -1}, "gone": []},
    }
    sent = {
        "another content": pieces(({"object": first, "last": True}, b"x" * len(MODEL))),
        "another name": pieces(({"object": CLIMBS, "last": True}, MODEL)),
        "another object": pieces(({"object": OTHER, "last": True}, MODEL)),
        "more than its size": pieces(({"object": first, "last": False}, MODEL + b"x")),
        "without last": pieces(({"object": first}, MODEL)),
        "a list that leads out": lambda _: [
            ({"object": md5(outside) + ".dir", "last": True}, outside)
        ],
        "a list that is none": lambda _: [({"object": md5(b"[1]") + ".dir", "last": True}, b"[1]")],
    }
    if lie in listed:
        far.answers["listed"] = [listed[lie]]
    else:
        far.answers["get"] = sent[lie]


LIES = (
    *("a name that climbs", "gone climbs", "nothing is there", "a petabyte", "more than the disk"),
    *("a list of gigabytes", "a negative size", "another content", "another name"),
    *("another object", "more than its size", "without last"),
)


@pytest.mark.parametrize("lie", LIES)
def test_lies_about_objects(far: Far, lie: str) -> None:
    """A name was joined into a path, and wrote a file outside of the cache."""
    before = far.everything_here()
    objects_lie(far, lie)
    with pytest.raises(CustomGazeError, match="far: |free some space"):
        far.fetch()
    assert far.everything_here() == before


@pytest.mark.parametrize("lie", ["a list that leads out", "a list that is none"])
def test_lies_about_a_folder(far: Far, tmp_path: Path, lie: str) -> None:
    """DVC would check out `../../../victim`: such a list never gets into the cache."""
    objects_lie(far, lie)
    ((message, content),) = far.answers["get"]({})
    name = message["object"]
    far.store = {md5(MODEL): MODEL, name: content}
    lock = lock_of(folder=name)
    far.bundle = experiment(far.root, tmp_path, ref_of(far.commit), {"dvc.lock": lock})
    with pytest.raises(NotAsked, match="is no file inside a folder|no list of files"):
        far.fetch()
    assert not Cache(far.root).folder.exists() or not list(Cache(far.root).folder.rglob("*.dir"))


def test_it_gets_no_object_that_the_run_does_not_use(far: Far) -> None:
    """It might ask for the frames of another session."""
    cache = Cache(far.root)
    for content in (b"used", b"private"):
        cache.path(md5(content)).parent.mkdir(parents=True, exist_ok=True)
        cache.path(md5(content)).write_bytes(content)
    connection = Liar({"lacking": [{"lacking": [md5(b"used"), md5(b"private")]}]})
    with pytest.raises(NotAsked, match="it asks for .*, which this run does not use"):
        send_objects(connection, cache, "store", [md5(b"used")])
    assert [header["do"] for header in connection.asked] == ["lacking"]


NOW_MS = 1_790_000_000_000


def tracked(**changes: Any) -> dict[str, Any]:
    run = {
        **{"id": "a" * 32, "name": "night", "status": "FINISHED", "experiment": "gaze"},
        **{"start_ms": NOW_MS, "end_ms": NOW_MS + 2, "params": [["a", "1"]], "tags": [["t", "v"]]},
        "metrics": [["loss", 0.5, NOW_MS, 0]],
        "files": [["reports/m", "/far/m", md5(b"part")]],
    }
    return {**run, **changes}


def test_an_honest_record_of_mlflow_is_understood() -> None:
    run = tracked(experiment="Jörg's gaze", metrics=[["session/day-1/error_deg", 0.5, NOW_MS, 0]])
    (known,) = understood("far", AllTracked, {"runs": [run]}).runs
    assert known.experiment == "Jörg's gaze"
    assert known.metrics == [("session/day-1/error_deg", 0.5, NOW_MS, 0)]
    assert known.files == [("reports/m", "/far/m", md5(b"part"))]


@pytest.mark.parametrize(
    "lie",
    [
        {"id": "x' OR 1=1"},
        {"status": "\x1b[0m"},
        {"experiment": "a\nb"},
        {"params": [["a\n", "1"]]},
        {"params": [["a"]]},
        {"metrics": [["loss", "inf", 1, 0]]},
        {"metrics": [["loss", 1.0, -5, 0]]},
        {"files": [["reports/m", "/far/m", "../../../../etc/passwd"]]},
        {"files": [["reports/m", "/far/m", FOLDER]]},
        {"files": [["../../up/m", "/far/m", md5(b"part")]]},
        {"files": [["/etc/m", "/far/m", md5(b"part")]]},
        {"files": [["reports/m", "/far/m", md5(b"part")]] * 1001},
    ],
    ids=lambda lie: str(lie)[:60],
)
def test_lies_about_what_mlflow_recorded(far: Far, lie: dict[str, Any]) -> None:
    """A name in `tracked` copied a private file into mlartifacts."""
    connection = Liar({**far.answers, "tracked": [{"runs": [tracked(**lie)]}]})
    with pytest.raises(NotAsked, match=r"runs\.0\."):
        mlflow_runs.import_tracked(connection, Cache(far.root), SETTINGS, "night")
    assert not list(far.root.parent.parent.glob("mlflow.db"))


@pytest.mark.parametrize(
    "lie",
    [
        {"sshd": ["$(touch pwned)", "22"]},
        {"sshd": ["localhost", "22; touch pwned"]},
        {"sshd": ["localhost", "70000"]},
        {"sshd": ["1.2.3.4' ; touch pwned; '", "22"]},
        {"sshd": ["fe80::1%$(touch pwned)", "22"]},
        {"python": "3.12; x"},
    ],
    ids=lambda lie: str(lie)[:60],
)
def test_lies_about_itself(lie: dict[str, Any]) -> None:
    """Its address stood unquoted in a ProxyCommand that a shell runs here."""
    honest = {
        **{"dir": "/home/me/far", "system": "Linux", "machine": "aarch64", "python": "3.12.3"},
        **{"git": True, "sshd": ["localhost", "22"]},
    }
    assert understood("far", Hello, honest).sshd == ("localhost", 22)
    with pytest.raises(NotAsked, match="far: sent something else"):
        understood("far", Hello, {**honest, **lie})


@pytest.mark.parametrize(
    ("found", "asked", "kind"),
    [
        ("/home/me/other", "far", NotAsked),
        ("far", "far", InputError),
        ("/home/me/$(x)/far", "far", InputError),
        ("/home/jörg/far", "far", InputError),
        ("/home/a b/far", "far", InputError),
        ("/home/me\nurl = ssh://x/far", "far", InputError),
    ],
)
def test_lies_about_its_folder(found: str, asked: str, kind: type) -> None:
    assert setup._checked_folder("far", "/home/me/far", "far") == "/home/me/far"
    with pytest.raises(kind) as caught:
        setup._checked_folder("far", found, asked)
    assert str(caught.value).isprintable()


def test_words_of_the_far_machine_are_shown_escaped() -> None:
    """Escape codes and newlines of a refusal, a card's name, a version."""
    connection = Liar({"make": [{"error": "\x1b]0;x\x07 \n\nno", "code": 2}]})
    with pytest.raises(AgentError, match="far: ") as caught:
        connection.ask("make", Status)
    assert str(caught.value) == "far: \\x1b]0;x\\x07 no"
    assert caught.value.exit_code == 2
    with pytest.raises(NotAsked, match="code"):
        Liar({"make": [{"error": "x", "code": "1" * 5000}]}).ask("make", Status)
    about = {"runs": [], "free": 1, "total": 2, "now": 1.0, "gpu": ["\x9b2J" + "x" * 10_000]}
    (card,) = understood("far", Status, about).gpu
    assert card.isprintable()
    assert len(card) <= 300


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"dvc.yaml": PIPELINE.replace("cmd: train", "cmd: touch pwned")}, "dvc.yaml"),
        ({"src/x.py": "x"}, "src/x.py"),
        ({"reports/metrics.json": "-> /etc/passwd"}, "reports/metrics.json"),
        ({".dvc/config": "[core]\n"}, ".dvc/config"),
        ({f"src/{n}.py": "x" for n in range(9)}, "src/4.py and 4 more"),
    ],
    ids=["pipeline", "code", "link", "config", "many"],
)
def test_an_experiment_that_changes_more_is_named_and_not_applied(
    far: Far, tmp_path: Path, files: dict[str, str], named: str
) -> None:
    files = {"dvc.lock": lock_of(), "params.yaml": "a: 2\n", "reports/r.json": "{}", **files}
    far.bundle = experiment(far.root, tmp_path, ref_of(far.commit), files)
    (fetched,) = far.fetch()
    text = fetch.warning(fetched.name, fetched.commit, fetched.beyond)
    assert f"its commit also changes {named}" in text or named in text
    before = far.everything_here()
    with pytest.raises(InputError, match="night was not applied: its commit also changes"):
        fetch.apply(far.root, "night")
    assert far.everything_here() == before
