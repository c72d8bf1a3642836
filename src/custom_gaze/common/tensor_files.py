"""PyTorch files of any origin: what one would unfold to is checked before torch reads it.

torch.load with `weights_only` runs no code, but it makes what a file asks for: a few bytes can ask
for a tensor of gigabytes, a bytearray of any length or a deflated record of zeros. So the pickle is
first read by a reader of its own that makes no tensor and knows no function, only the handful of
names that a state dict needs; what it finds has to lie in the file, byte for byte.
"""

import io
import math
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from custom_gaze.common.errors import InputError
from custom_gaze.common.untrusted import printable

# What torch, pickle and zipfile raise of a file that is cut short, damaged or made up.
UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,  # RecursionError and NotImplementedError too
    TypeError,
    ValueError,
)
MOST_ENTRIES = 200_000  # values of any kind; a checkpoint with its optimiser has 3,000
MOST_DIMENSIONS = 8
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # torch.serialization's
ITEM_BYTES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}


@dataclass(frozen=True)
class _Storage:
    """A row of numbers that the pickle says lies in the file."""

    key: str
    values: int
    item_bytes: int

    @property
    def size(self) -> int:
        return self.values * self.item_bytes


@dataclass(frozen=True)
class _Tensor:
    """A tensor as the pickle describes it; `plain` where its storage holds each of its values."""

    plain: bool
    size: int = 0  # bytes


def read_tensors(content: bytes, where: str) -> dict[str, Any]:
    """What torch.save wrote of a dict, current or legacy format: tensors and plain values.

    Raises:
        InputError: it is damaged, holds code, objects, tensors without numbers of their own, or
            anything but a dict, or would unfold to more than the file holds. The message begins
            with `where`.
    """
    try:
        described, storages = _described(content)
        _check(described, storages, content, where)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on old pickle protocols
            loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise _unreadable(error, where) from None
    if not isinstance(loaded, dict):
        raise InputError(f"{where}: holds {type(loaded).__name__} and not a state dict")
    return loaded


def _unreadable(error: Exception, where: str) -> InputError:
    named = re.search(r"GLOBAL ([^\s]+)", str(error))
    if named:
        return InputError(
            f"{where}: holds code or objects ({printable(named[1], 100)}) and not only weights; "
            "nothing of it was run. Save the network's state_dict() and use that file"
        )
    if isinstance(error, pickle.UnpicklingError):
        return InputError(f"{where}: is damaged, or a pickle of something other than weights")
    return InputError(f"{where}: is cut short or damaged; get it again")


# ---------------------------------------------------------------- the file without its numbers


def _described(content: bytes) -> tuple[Any, list[_Storage]]:
    """What the pickle says, and the storages that it names; all of them lie in the file."""
    if not content.startswith(b"PK"):
        return _legacy(io.BytesIO(content), len(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = _records(archive, len(content))
        (name,) = (name for name in records if name.count("/") == 1 and name.endswith("/data.pkl"))
        reader = _Reader(io.BytesIO(archive.read(name)))
        described = reader.load()
    for storage in reader.storages.values():
        if records.get(name.replace("data.pkl", f"data/{storage.key}")) != storage.size:
            raise EOFError("a storage is not the size of its record")
    return described, list(reader.storages.values())


def _records(archive: zipfile.ZipFile, size: int) -> dict[str, int]:
    """Name → bytes of an archive that torch could have written: nothing packed, no name twice."""
    found = {entry.filename.lower(): entry.file_size for entry in archive.infolist()}
    plain = all(
        entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
        for entry in archive.infolist()
    )
    if not plain or archive.comment or len(found) != len(archive.infolist()):
        raise zipfile.BadZipFile("not as torch writes it")
    if sum(found.values()) > size:
        raise zipfile.BadZipFile("its records overlap")
    return {entry.filename: entry.file_size for entry in archive.infolist()}


def _legacy(file: io.BytesIO, size: int) -> tuple[Any, list[_Storage]]:
    """The format before PyTorch 1.6: five pickles, then the storages."""
    if _Reader(file).load() != LEGACY_MAGIC or _Reader(file).load() != LEGACY_PROTOCOL:
        raise pickle.UnpicklingError("no magic number")
    _Reader(file).load()  # the machine that wrote it
    reader = _Reader(file)
    described = reader.load()
    keys = _Reader(file).load()
    if not isinstance(keys, list) or set(keys) != set(reader.storages):
        raise pickle.UnpicklingError("other storages than it names")
    storages = list(reader.storages.values())
    if file.tell() + sum(8 + storage.size for storage in storages) > size:
        raise EOFError("storages are cut short")
    return described, storages


class _Reader(pickle._Unpickler):
    """Reads a pickle and makes dicts, lists, tuples, plain values and descriptions of tensors.

    The unpickler written in Python: the one in C sets aside what a file asks for before it reads.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is not None:
            return known
        if module in ("torch", "torch.storage") and name in ITEM_BYTES:
            return ITEM_BYTES[name]
        if module == "torch._utils" and name.startswith("_rebuild_"):  # sparse, quantised, meta …
            return lambda *_: _Tensor(plain=False)
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return None
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, item_bytes, key, _, values, *view = pid
        is_storage = kind == "storage" and isinstance(item_bytes, int) and isinstance(key, str)
        if not is_storage or any(view) or not _is_size(values):
            raise pickle.UnpicklingError("no storage")
        storage = _Storage(key, values, item_bytes)
        if self.storages.setdefault(key, storage) != storage:
            raise pickle.UnpicklingError("one storage of two kinds")
        return storage

    def load_build(self) -> None:
        """Leave out what is set on an object afterwards: a state dict's versions."""
        self.stack.pop()

    dispatch[pickle.BUILD[0]] = load_build


def _rebuilt(storage: Any, offset: Any, sizes: Any, strides: Any, *_: Any) -> _Tensor:
    """What torch._utils._rebuild_tensor would make."""
    fits = (
        isinstance(storage, _Storage)
        and isinstance(sizes, tuple)
        and isinstance(strides, tuple)
        and len(sizes) == len(strides) <= MOST_DIMENSIONS
        and all(map(_is_size, (offset, *sizes, *strides)))
    )
    if not fits:
        raise pickle.UnpicklingError("no tensor")
    values = math.prod(sizes)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if values and last >= storage.values:
        raise EOFError("a tensor is longer than its storage")
    return _Tensor(values <= storage.values, values * storage.item_bytes)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


# The names in a state dict's pickle → what stands in for them; none makes anything.
_KNOWN: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): lambda *items: dict(*items),
    ("torch._utils", "_rebuild_tensor"): _rebuilt,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch", "Size"): lambda *_: None,
    ("torch", "device"): lambda *_: None,
    ("torch.serialization", "_get_layout"): lambda *_: None,
}


# ------------------------------------------------------------------------------------ the check


def _check(described: Any, storages: list[_Storage], content: bytes, where: str) -> None:
    """Refuse what would unfold to more than the file holds.

    Raises:
        InputError: it would; the message names the entry.
    """
    seen = total = 0
    waiting: list[tuple[str, Any]] = [("", described)]
    while waiting:
        name, value = waiting.pop()
        seen += 1
        if seen > MOST_ENTRIES:
            raise InputError(f"{where}: unfolds to more entries than any network has")
        if isinstance(value, _Tensor):
            total += value.size
            if not value.plain:
                shown = printable(name, 100)
                raise InputError(f"{where}: {shown} is no plain tensor; the file is damaged")
        elif isinstance(value, dict):
            waiting += [(str(key) if _is_plain(key) else "", key) for key in value]
            waiting += [(str(key) if _is_plain(key) else "", part) for key, part in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(name, part) for part in value]
        elif not _is_plain(value):
            raise pickle.UnpicklingError(f"{type(value).__name__} is no plain value")
    held = sum(storage.size for storage in storages)
    if total > 4 * held:  # tensors may share numbers, but not all of them with all
        raise InputError(f"{where}: its tensors have {total} bytes, but the file {len(content)}")


def _is_plain(value: Any) -> bool:
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value is None or isinstance(value, str | float | bytes)
