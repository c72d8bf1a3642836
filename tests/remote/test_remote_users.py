"""People with logins of their own on one machine with SLURM, whose runs share one store."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from custom_gaze.remote import store
from remote_site import Site, finish, make_project, small_environment
from slurm_site import NotAtHand as NoSlurm
from slurm_site import slurm
from sshd import NO_SSHD, SSHD, Machine
from unix_logins import Logins, NotAtHand, logins

SETTINGS = "engine: slurm\nsbatch: --time=30\n"
# Of one: a picture, the list of the session, the model, the metrics, and a folder of one file.
FRAMES_OF_ALL, OBJECTS_OF_ONE = 3, 6


@contextmanager
def people(count: int) -> Iterator[tuple[Logins, list[Site], Path]]:
    """They, the project that each has at home, and the store, as docs/remote.md has it."""
    with ExitStack() as stack:
        # Not below pytest's folder, which is closed to others.
        root = Path(tempfile.mkdtemp(prefix="cgtest-"))
        stack.callback(shutil.rmtree, root)
        root.chmod(0o755)
        theirs = stack.enter_context(logins(count))
        shared = root / "gaze"
        folders = [shared / "md5" / f"{number:02x}" for number in range(256)]
        for folder in folders:
            folder.mkdir(parents=True)
        for folder in (shared, shared / "md5", *folders):
            shutil.chown(folder, group=theirs.group)
            folder.chmod(0o3770)
        (root / "slurm").mkdir()
        cluster = slurm(root / "slurm", processors=2, around=theirs.inside)
        conf = stack.enter_context(cluster).environment["SLURM_CONF"]
        python, sites = small_environment(root / "env"), []
        for login in theirs.people:
            machine = Machine(root / login, user=login, prefix=theirs.inside)
            machine.root.mkdir()
            machine.create()
            stack.callback(machine.stop)
            machine.start()
            machine.log_in_with("sh", before=f"export SLURM_CONF={conf}")
            site = make_project(root / f"laptop-{login}", machine)
            (site.project / "remote.yaml").write_text(SETTINGS)
            sites.append(site)
            link = f"mkdir -p rustyeyes_train/store && ln -s {shared} rustyeyes_train/store/files"
            linked = site.call("ssh", "-o", "StrictHostKeyChecking=accept-new", "jowestdgxe", link)
            assert linked.returncode == 0, linked.stderr
        together(sites, "setup", "--yes", "--python", str(python))
        yield theirs, sites, shared


def together(sites: list[Site], *words: str, each: str = "") -> list[str]:
    """A command of everybody at once, with `each` and their number; what it printed."""
    numbered = [(each.format(number),) if each else () for number in range(len(sites))]
    running = [site.start(*words, *more) for site, more in zip(sites, numbered, strict=True)]
    ended = [finish(run) for run in running]
    assert not any(code for code, _, _ in ended), ended
    return [said for _, said, _ in ended]


@pytest.mark.skipif(SSHD is None, reason=NO_SSHD)
@pytest.mark.parametrize("count", [2, pytest.param(10, marks=pytest.mark.long)])
def test_each_has_runs_of_their_own_and_all_one_store(count: int) -> None:
    try:
        with people(count) as (theirs, sites, shared):
            check(theirs, sites, shared)
    except (NotAtHand, NoSlurm) as reason:
        pytest.skip(f"logins on a SLURM of one's own are not at hand: {reason}")


def check(theirs: Logins, sites: list[Site], shared: Path) -> None:
    said = together(sites, "train", "--name", "tuesday", "-S", each="train.seed={}")
    for number, (site, words) in enumerate(zip(sites, said, strict=True)):
        assert "experiment tuesday is here, 3 files brought" in words
        assert site.experiments() == ["tuesday"]
        assert site.metric("tuesday") == number + 0.5
        assert "shared = group" in (site.far_project / ".dvc" / "config.local").read_text()
        model = shared / "md5" / site.object_of("tuesday", "models/custom_gaze.onnx")
        assert model.owner() == theirs.people[number]  # SLURM has run it as who asked for it
    objects = [path for path in shared.rglob("*") if path.is_file()]
    assert len(objects) == FRAMES_OF_ALL + OBJECTS_OF_ONE * len(sites)
    assert {path.stat().st_mode & 0o7777 for path in objects} == {0o444}
    assert {hashlib.md5(path.read_bytes()).hexdigest() for path in objects} == {
        (path.parent.name + path.name).removesuffix(".dir") for path in objects
    }

    owner, other = theirs.people[:2]
    (frame,) = [p for p in objects if p.stat().st_size == 1_000_000 and p.owner() == owner]
    before, home = frame.read_bytes(), sites[0].machine.home
    for change in (f"echo x > {frame}", f"rm -f {frame}", f"mv {frame} {frame}.x"):
        assert theirs.as_one(other, "sh", "-c", change).returncode, change
    assert theirs.as_one(other, "ls", str(home)).returncode  # their runs, logs and copies
    assert theirs.as_one(other, "wc", "-c", str(frame)).returncode == 0  # a store is shared
    for look in (("wc", "-c", str(frame)), ("ls", str(shared)), ("ls", str(home))):
        assert "Permission denied" in theirs.as_one(theirs.stranger, *look).stderr
    assert frame.read_bytes() == before


def test_a_shared_store_on_another_file_system_takes_an_object_once(tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("a second file system is not at hand")
    content = os.urandom(1000)
    name = hashlib.md5(content).hexdigest()
    with tempfile.TemporaryDirectory(dir=elsewhere, prefix="cgtest-") as far:
        (tmp_path / "files").symlink_to(far)
        (Path(far) / "md5").mkdir()
        (Path(far) / "md5").chmod(0o2770)
        assert store.is_shared(str(tmp_path))
        seen = set()
        for _ in range(2):  # two people send the same
            place = tmp_path / store.INCOMING / "run" / store.place_of(name)
            place.parent.mkdir(parents=True)
            place.write_bytes(content)
            assert store.take_in(str(tmp_path), "run", [name], shared=True) == []
            (taken,) = [path for path in Path(far).rglob("*") if path.is_file()]
            assert (taken.read_bytes(), taken.stat().st_mode & 0o7777) == (content, 0o444)
            assert taken.parent.stat().st_mode & 0o7777 == 0o2775
            seen.add(taken.stat().st_ino)
        assert len(seen) == 1
