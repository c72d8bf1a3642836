"""A far machine that lies: its host key is right, what it answers is not.

Each case changes one answer of an honest one; nothing may be done with it, and one line says so.
"""

import dataclasses
import hashlib
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from custom_gaze.common.errors import CustomGazeError, InputError
from custom_gaze.data.dvc_cache import Cache
from custom_gaze.remote import agent, agent_setup, carry, fetch, runs, setup, store
from custom_gaze.remote.connection import Connection
from custom_gaze.remote.engine import ref_of
from custom_gaze.remote.programs import Lost
from custom_gaze.remote.replies import AgentError, NotAsked, Run, understood
from custom_gaze.remote.request import Payload
from custom_gaze.remote.settings import Settings

SETTINGS = Settings("far", "/home/me/rustyeyes_train")
PIPELINE = "stages:\n  train:\n    cmd: train\n    outs: [models/m.onnx, models/parts]\n"


class Liar(Connection):
    """A connection whose other end answers from a table: what was asked → messages.

    What git and rsync bring comes from the folder `far`.
    """

    def __init__(self, answers: dict[str, Any], root: Path = Path(), far: Path = Path("/")) -> None:
        super().__init__(dataclasses.replace(SETTINGS, root=root))
        self.far = self._folder = far
        self.answers = answers
        self.asked: list[str] = []
        self._lines: list[bytes] = []

    def send(self, verb: agent.Verb, /, **values: Any) -> None:
        self.asked.append(verb.__name__)
        answer = self.answers.get(verb.__name__, [])
        for reply in answer() if callable(answer) else answer:
            self._lines.append(json.dumps(reply).encode() + b"\n")

    def address(self, path: str) -> str:
        return f"{self.far}{path.removeprefix(SETTINGS.directory)}"

    def has_ended(self) -> bool:
        return False

    def _read_line(self) -> bytes:
        if not self._lines:
            raise Lost("far: nothing more comes")
        return self._lines.pop(0)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@dataclass
class Far:
    """An honest far machine with one run, whose answers a test may change."""

    root: Path  # the project here
    commit: str  # HEAD here
    place: Path  # the far machine's repository and store
    store: dict[str, bytes]
    run: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)

    @property
    def lists(self) -> dict[str, str]:
        return {name: text.decode() for name, text in self.store.items() if name.endswith(".dir")}

    def fetch(self) -> list[fetch.Fetched]:
        for name, content in self.store.items():
            path = Path(store.object_path(str(self.place / "store"), name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return list(fetch.fetch(self.connection, Run.model_validate(self.run)))

    @property
    def connection(self) -> Connection:
        return Liar(self.answers, self.root, self.place)

    def everything_here(self) -> dict[str, Any]:
        """All files in and around the project, and all refs but the one for what is fetched."""
        files = [path for path in self.root.parent.rglob("*") if path.is_file()]
        own = (".git/", "/.incoming/")  # what has arrived and is not taken is nobody's file
        kept = {str(p): p.read_bytes() for p in files if not any(o in str(p) for o in own)}
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


def experiment(root: Path, project: Path, files: dict[str, str]) -> None:
    """The far repository with an experiment that changes these files; `-> TARGET` is a link."""
    subprocess.run(["rm", "-rf", str(project)], check=True)
    git(root, "clone", "-q", "-s", str(root), str(project))
    commit = git(root, "rev-parse", "HEAD").strip()
    for name, content in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("-> "):
            (project / name).symlink_to(content[3:])
        else:
            (project / name).write_text(content)
    git(project, "add", "-A", "-f")
    git(project, "commit", "-q", "-m", "experiment")
    git(project, "update-ref", ref_of(commit, "night"), "HEAD")


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project with one commit."""
    place = tmp_path_factory.mktemp("lies")
    root = place / "in" / "project"
    for name, content in {"params.yaml": "a: 1\n", "dvc.yaml": PIPELINE, ".dvc/config": ""}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    commit = git(root, "rev-parse", "HEAD").strip()
    return root, commit


@pytest.fixture
def far(committed: tuple[Path, str], tmp_path: Path) -> Far:
    original, commit = committed
    root = tmp_path / "in" / "project"
    subprocess.run(["cp", "-r", str(original.parent), str(root.parent)], check=True)
    place = tmp_path / "far"
    place.mkdir()
    experiment(root, place / "project", {"dvc.lock": lock_of()})
    machine = Far(root, commit, place, {md5(MODEL): MODEL, FOLDER: PARTS, md5(b"part"): b"part"})
    machine.run = {
        **{"name": "night", "commit": commit, "jobs": 1, "started": 1.7e9, "state": "done"},
        **{"experiments": [{"name": "night", "set": []}], "code": 0, "ended": 1.7e9},
        "done": ["night"],
    }
    machine.answers = {
        "objects": lambda: [listed({n: len(c) for n, c in machine.store.items()}, machine.lists)],
        "fetched": [{}],
    }
    return machine


def listed(
    sizes: dict[str, Any], lists: dict[str, str], gone: list[str] | None = None
) -> dict[str, Any]:
    return {"sizes": sizes, "lists": lists, "gone": gone or [], "rsync": True}


def test_an_honest_machine_s_experiment_comes_whole(far: Far) -> None:
    """The table's own answers are good: what is refused below is refused for its lie."""
    (fetched,) = far.fetch()
    assert (fetched.files, fetched.was_here, fetched.warning) == (3, False, "")
    ref = ref_of(far.commit, "night")
    assert git(far.root, "rev-parse", ref) == git(far.place / "project", "rev-parse", ref)
    cache = Cache(far.root)
    assert {name: cache.path(name).read_bytes() for name in far.store} == far.store
    assert cache.path(FOLDER).stat().st_mode & 0o777 == 0o444


def test_what_has_ended_of_a_queue_comes_while_the_rest_goes_on(far: Far) -> None:
    far.run |= {"state": "running", "experiments": [{"name": "night", "set": []}] * 2}
    del far.answers["fetched"]  # not all of it is: asked for, this would end in an error
    assert [fetched.name for fetched in far.fetch()] == ["night"]
    assert git(far.root, "rev-parse", ref_of(far.commit, "night"))
    far.run["done"] = []
    with pytest.raises(InputError, match="night has not ended; read along"):
        far.fetch()


OTHER = "0123456789abcdef" * 2
CLIMBS = f"{OTHER}./../../../victim"


@pytest.mark.parametrize(
    "lie",
    [
        {"name": "other"},
        {"name": "../night"},
        {"commit": "HEAD"},
        {"started": 1e300},
        {"state": "\x1b[2J"},
        {"experiments": "night"},
        {"done": ["day"]},
        {"done": ["night/../../../heads/x"]},
        {"done": ["--upload-pack=x"]},
    ],
    ids=lambda lie: str(lie)[:60],
)
def test_lies_about_a_run(far: Far, lie: dict[str, Any]) -> None:
    before = far.everything_here()
    far.answers["look"] = [{"run": {**far.run, **lie}}]
    with pytest.raises(NotAsked, match="far: sent something else than it was asked for") as caught:
        list(fetch.fetch(far.connection, runs.find(far.connection, "night")))
    assert str(caught.value).isprintable()
    assert far.everything_here() == before


def test_lies_about_commits(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unrelated history, no such ref, a commit that is not there, a pack without end."""
    before, project = far.everything_here(), far.place / "project"
    honest = git(project, "rev-parse", "HEAD").strip()
    git(project, "checkout", "-q", "--orphan", "strange")
    git(project, "commit", "-q", "-m", "unrelated")
    git(project, "update-ref", ref_of(far.commit, "night"), "HEAD")
    with pytest.raises(NotAsked, match="does not come from commit"):
        far.fetch()
    git(project, "update-ref", "-d", ref_of(far.commit, "night"))
    with pytest.raises(CustomGazeError, match="far: git: fatal: couldn't find remote ref"):
        far.fetch()
    git(project, "update-ref", ref_of(far.commit, "night"), honest)
    far.run["commit"] = "f" * 40
    with pytest.raises(CustomGazeError, match="far: git: fatal: couldn't find remote ref"):
        far.fetch()
    far.run["commit"] = far.commit
    monkeypatch.setattr(carry, "_MOST_PACK_BYTES", -(1 << 16) + 100)
    with pytest.raises(CustomGazeError, match="far: "):
        far.fetch()
    assert far.everything_here() == before


@pytest.mark.parametrize("name", ["../../up", ".git/hooks/post-checkout", "a/.GIT/config"])
def test_a_tree_that_leads_out_is_not_taken(far: Far, name: str) -> None:
    """Checked by git when it comes (fsckObjects), before anything is checked out."""
    project = far.place / "project"
    git(project, "config", "core.protectNTFS", "false")
    blob = git(project, "hash-object", "-w", "dvc.lock").strip()
    entry = f"100644 {name.replace('/', '_')}".encode() + b"\0" + bytes.fromhex(blob)
    entry = entry.replace(b".git_hooks_post-checkout", b".git").replace(b".._.._up", b"..")
    entry = entry.replace(b"a_.GIT_config", b".GIT")
    made = subprocess.run(
        ["git", "-C", str(project), "hash-object", "-t", "tree", "-w", "--stdin", "--literally"],
        input=entry,
        capture_output=True,
        check=True,
    ).stdout.decode()
    commit = git(project, "commit-tree", "-p", far.commit, "-m", "x", made.strip()).strip()
    git(project, "update-ref", ref_of(far.commit, "night"), commit)
    before = far.everything_here()
    with pytest.raises(CustomGazeError, match="far: git: "):
        far.fetch()
    assert far.everything_here() == before


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
def test_lies_in_a_commit(far: Far, lock: str, said: str) -> None:
    before = far.everything_here()
    experiment(far.root, far.place / "project", {"dvc.lock": lock})
    with pytest.raises(InputError, match="dvc.lock") as caught:
        far.fetch()
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600
    assert far.everything_here() == before


def objects_lie(far: Far, lie: str) -> None:
    """One lie about the objects of the store."""
    first = md5(MODEL)
    sizes = {name: len(content) for name, content in far.store.items()}
    answers = {
        "a name that climbs": listed({**sizes, CLIMBS: 5}, far.lists),
        "gone climbs": listed(sizes, far.lists, [CLIMBS]),
        "nothing is there": listed({}, {}),
        "a petabyte": listed({**sizes, first: 1 << 50}, far.lists),
        "more than the disk": listed({**sizes, first: 1 << 40}, far.lists),
        "another list": listed(sizes, {FOLDER: PARTS.decode() + " "}),
        "no list": listed(sizes, {}),
        "a negative size": listed({**sizes, first: -1}, far.lists),
        "more than its size": listed({**sizes, first: 1, md5(b"part"): 1}, far.lists),
    }
    far.store[first] = {
        "another content": b"x" * len(MODEL),
        "more than its size": MODEL + b"x" * (1 << 18),
    }.get(lie, MODEL)
    if lie in answers:
        far.answers["objects"] = [answers[lie]]
    if lie == "not sent":
        del far.store[first]
        far.answers["objects"] = [listed(sizes, far.lists)]
    if lie == "a link":
        path = Path(store.object_path(str(far.place / "store"), first))
        path.parent.mkdir(parents=True)
        path.symlink_to("/etc/passwd")
        del far.store[first]
        far.answers["objects"] = [listed(sizes, far.lists)]


LIES = (
    *("a name that climbs", "gone climbs", "nothing is there", "a petabyte", "more than the disk"),
    *("another list", "no list", "a negative size", "another content", "more than its size"),
    *("not sent", "a link"),
)


@pytest.mark.parametrize("lie", LIES)
def test_lies_about_objects(far: Far, lie: str) -> None:
    """A name was joined into a path, and wrote a file outside of the cache."""
    before = far.everything_here()
    objects_lie(far, lie)
    with pytest.raises(CustomGazeError, match="far: |free some space"):
        far.fetch()
    after = far.everything_here()
    kept = [after.pop(path) for path in set(after) - set(before)]  # whole, whatever else was not
    assert set(kept) <= {b"part"}
    assert after == before


@pytest.mark.parametrize("kind", ["a list that leads out", "a list that is none"])
def test_lies_about_a_folder(far: Far, kind: str) -> None:
    """DVC would check out `../../../victim`: such a list never gets into the cache."""
    outside = json.dumps([{"md5": md5(b"part"), "relpath": "../../../victim"}]).encode()
    content = outside if kind == "a list that leads out" else b"[1]"
    name = md5(content) + ".dir"
    far.store = {md5(MODEL): MODEL, name: content}
    experiment(far.root, far.place / "project", {"dvc.lock": lock_of(folder=name)})
    with pytest.raises(NotAsked, match="is no file inside a folder|no list of files"):
        far.fetch()
    assert not list(Cache(far.root).folder.rglob("*.dir"))


def test_only_what_was_asked_for_is_taken_of_what_arrived(tmp_path: Path) -> None:
    """rsync before 3.2.5 let the other side choose the names; links are no objects either."""
    wanted, other, link = md5(b"wanted"), md5(b"other"), md5(b"link")
    place = tmp_path / store.INCOMING / "run"
    for name, content in ((wanted, b"wanted"), (other, b"other")):
        (place / name[:2]).mkdir(parents=True, exist_ok=True)
        (place / store.place_of(name)).write_bytes(content)
    (tmp_path / "secret").write_bytes(b"link")
    (place / link[:2]).mkdir(exist_ok=True)
    (place / store.place_of(link)).symlink_to(tmp_path / "secret")
    assert store.take_in(str(tmp_path), "run", [wanted, link]) == [link]
    taken = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in taken] == [b"wanted"]
    assert taken[0].stat().st_mode & 0o777 == 0o444
    assert not place.exists()


@pytest.mark.parametrize("name", [CLIMBS, "../" * 11 + "a", f"{OTHER}\n", OTHER.upper(), "", 5])
def test_the_far_side_takes_no_name_that_leads_out_either(tmp_path: Path, name: Any) -> None:
    """Its agent asks the same functions; a list that lies in its store is looked at as well."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    far = tmp_path / "store"
    far.mkdir()
    for what in (store.object_path, store.is_whole):
        with pytest.raises(OSError, match="this is no object's name"):
            what(str(far), name)
    with pytest.raises(OSError, match="this is no object's name"):
        store.take_in(str(far), "night", [name])
    with pytest.raises(OSError, match="this is no transfer's name"):
        store.take_in(str(far), "../..", [OTHER])
    listing = json.dumps([{"md5": name, "relpath": "a"}]).encode()
    folder = md5(listing) + ".dir"
    path = Path(store.object_path(str(far), folder))
    path.parent.mkdir(parents=True)
    path.write_bytes(listing)
    with pytest.raises(OSError, match="this is no object's name"):
        list(store.objects(agent.Place(str(tmp_path)), [folder]))
    assert victim.read_bytes() == b"kept"


def test_it_gets_no_object_that_the_run_does_not_use(far: Far) -> None:
    """It might ask for the frames of another session."""
    cache = Cache(far.root)
    for content in (b"used", b"private"):
        cache.path(md5(content)).parent.mkdir(parents=True, exist_ok=True)
        cache.path(md5(content)).write_bytes(content)
    connection = Liar({"objects": [{"gone": [md5(b"used"), md5(b"private")], "rsync": True}]})
    with pytest.raises(NotAsked, match="it asks for .*, which this run does not use"):
        carry.send_objects(connection, cache, "night", Payload({md5(b"used"): "data/a"}, {}, []))
    assert connection.asked == ["objects"]


@pytest.mark.parametrize(
    "lie",
    [
        {"sshd": ["$(touch pwned)", "22"]},
        {"sshd": ["localhost", "22; touch pwned"]},
        {"sshd": ["localhost", "70000"]},
        {"sshd": ["1.2.3.4' ; touch pwned; '", "22"]},
        {"sshd": ["fe80::1%$(touch pwned)", "22"]},
    ],
    ids=lambda lie: str(lie)[:60],
)
def test_lies_about_itself(lie: dict[str, Any]) -> None:
    """Its address stood unquoted in a ProxyCommand that a shell runs here."""
    honest = {"dir": "/home/me/far", "machine": "Linux aarch64", "sshd": ["localhost", "22"]}
    assert understood("far", json.dumps(honest).encode()).sshd == ("localhost", 22)
    with pytest.raises(NotAsked, match="far: sent something else"):
        understood("far", json.dumps({**honest, **lie}).encode())


@pytest.mark.parametrize(
    ("found", "asked", "kind"),
    [
        ("/home/me/other", "far", NotAsked),
        ("far", "far", InputError),
        ("/home/me/$(x)/far", "far", InputError),
        ("/home/jörg/far", "far", InputError),
        ("/home/a /far", "far", InputError),
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
        connection.ask(agent_setup.make)
    assert str(caught.value) == "far: \\x1b]0;x\\x07 no"
    assert caught.value.exit_code == 2
    with pytest.raises(NotAsked, match="sent something else"):
        Liar({"make": [{"error": "x", "code": "1" * 5000}]}).ask(agent_setup.make)
    about = {"runs": [], "free": 1, "total": 2, "now": 1.0, "gpu": ["\x9b2J" + "x" * 10_000]}
    (card,) = understood("far", json.dumps(about).encode()).gpu
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
    far: Far, files: dict[str, str], named: str
) -> None:
    files = {"dvc.lock": lock_of(), "params.yaml": "a: 2\n", "reports/r.json": "{}", **files}
    experiment(far.root, far.place / "project", files)
    (fetched,) = far.fetch()
    assert "its commit also changes " in fetched.warning
    assert named in fetched.warning
    before = far.everything_here()
    with pytest.raises(InputError, match="night was not applied: its commit also changes"):
        fetch.apply(far.root, fetched)
    assert far.everything_here() == before
