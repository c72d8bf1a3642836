"""What a PyTorch file may ask for: nothing that does not lie in it."""

import io
import pickle
import resource
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from custom_gaze.common.errors import InputError
from custom_gaze.common.saved_tensors import load_tensors
from custom_gaze.common.tensor_files import read_tensors


def saved(content: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


SMALL = {
    "state_dict": OrderedDict(
        a=torch.arange(6.0).view(2, 3).T, b=torch.zeros(0), c=torch.tensor(7)
    ),
    "epoch": 3,
    "rate": 1e-3,
    "names": ["x", None, True],
    "shape": torch.Size([2, 3]),
}


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_saves_comes_back(legacy: bool) -> None:
    shared = torch.arange(8.0)
    content = {**SMALL, "first": shared[:4], "half": shared.half(), "flags": shared > 3}
    content["parameter"] = torch.nn.Parameter(shared[2:])
    back = read_tensors(saved(content, legacy), "net.pt")
    assert back.keys() == content.keys()
    assert (back["epoch"], back["names"], back["shape"]) == (3, ["x", None, True], (2, 3))
    for name in ("first", "half", "flags", "parameter"):
        assert torch.equal(back[name], content[name])
    assert all(torch.equal(back["state_dict"][k], v) for k, v in SMALL["state_dict"].items())


class Call:
    """Pickled, it asks for a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.asked = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.asked


def nested() -> Any:
    value: Any = [1]
    for _ in range(60):
        value = [value, value]
    return value


def repacked(content: bytes, compression: int, longer: int = 1) -> bytes:
    """The same archive with its numbers `longer` times as long, packed or not."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as before,
        zipfile.ZipFile(buffer, "w", compression) as after,
    ):
        for entry in before.infolist():
            times = longer if "/data/" in entry.filename else 1
            after.writestr(entry.filename, before.read(entry.filename) * times)
    return buffer.getvalue()


def with_values(legacy: bool) -> bytes:
    """A file of a few numbers that says that it has a thousand million."""
    content = saved({"a": torch.zeros(77)}, legacy)
    return content.replace(b"K\x4d", b"J\x00\xca\x9a\x3b") if legacy else _renamed(content)


def _renamed(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as before,
        zipfile.ZipFile(buffer, "w") as after,
    ):
        for entry in before.infolist():
            record = before.read(entry.filename)
            if entry.filename.endswith("data.pkl"):
                record = record.replace(b"K\x4d", b"J\x00\xca\x9a\x3b")
            after.writestr(entry.filename, record)
    return buffer.getvalue()


BOMBS = {
    "strides of zero": (saved({"a": {"b": torch.zeros(1).expand(10**10)}}), "b is no plain tensor"),
    "the same, legacy": (saved({"a": torch.zeros(1).expand(10**10)}, True), "no plain tensor"),
    "meta": (saved({"a": torch.zeros(10**9, device="meta")}), "a is no plain tensor"),
    "sparse": (saved({"a": torch.eye(3).to_sparse()}), "a is no plain tensor"),
    "bytearray": (saved({"a": Call(bytearray, 4 << 30)}), r"objects \(\w+.bytearray\)"),
    "a tensor made": (saved({"a": Call(torch.Tensor, 1 << 30)}), r"objects \(torch\S*.Tensor\)"),
    "a storage too long": (with_values(False), "is cut short or damaged"),
    "the same storage, legacy": (with_values(True), "is cut short or damaged"),
    "packed records": (repacked(saved(SMALL), zipfile.ZIP_DEFLATED, 10**6), "damaged"),
    "lists of lists": (saved({"a": nested()}), "unfolds to more entries"),
    "one tensor often": (saved({"a": [torch.zeros(999)] * 9}), r"tensors have 35964 bytes"),
    "a long number": (saved({"a": 10**5000}), "damaged, or a pickle"),
    "escape codes": (saved({"a": Call(exit), "\x1b[2J": 1}), r"objects"),
    "a plain pickle": (pickle.dumps(SMALL["names"], 2), "damaged, or a pickle"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_asks_for_more_than_it_holds_is_refused(name: str) -> None:
    content, said = BOMBS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=rf"^net\.pt: .*{said}") as caught:
        read_tensors(content, "net.pt")
    assert str(caught.value).isprintable()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < (100 << 20 if sys.platform == "darwin" else 100 << 10)


@settings(max_examples=150, deadline=None)
@given(
    legacy=st.booleans(),
    kept=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4),
)
def test_damage_of_any_kind_is_one_line(
    legacy: bool, kept: float, flips: list[tuple[float, int]]
) -> None:
    content = bytearray(saved(SMALL, legacy))
    del content[int(kept * len(content)) :]
    for place, change in flips:
        if content:
            content[min(int(place * len(content)), len(content) - 1)] ^= change
    said = "net.pt: "
    try:
        read_tensors(bytes(content), "net.pt")
    except InputError as error:
        said = str(error)
    assert said.startswith("net.pt: ")
    assert said.isprintable()


def test_a_file_of_tensors_has_to_be_one(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "none.pt", "not found; run it"),
        (tmp_path, "is a folder, not a file; run it"),
        (Path("/dev/zero"), "is no regular file; run it"),
    ):
        with pytest.raises(InputError, match=said):
            load_tensors(path, "thing", "run it")
