"""The single numbers in a MAT-file of level 5, as MATLAB and SciPy write them.

Format: MathWorks, "MAT-File Format", level 5: a header of 128 bytes, then elements of a type and a
size (8 bytes; 4 where the data fits into the other 4) and data padded to 8 bytes. A matrix holds
elements for its flags, dimensions, name and numbers; a compressed element holds one with zlib.

scipy.io.loadmat reads these files too, and ends the process on some that were tampered with.
"""

import struct
import zlib
from collections.abc import Iterator

HEADER = 128
LITTLE, BIG = b"IM", b"MI"  # the header's last two bytes, by the byte order
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
MOST_BYTES = 1 << 20  # of a decompressed element
NUMERIC_CLASSES = range(6, 16)  # doubles to 64-bit integers: no text, no cells, no objects


def single_numbers(content: bytes) -> dict[str, float]:
    """The variables that are one real number, by name; others are passed over.

    Raises:
        ValueError: it is no such file, or is damaged.
    """
    if not content.startswith(b"MATLAB 5.0 MAT-file") or len(content) < HEADER:
        raise ValueError("no MAT-file of version 5")
    order = {LITTLE: "<", BIG: ">"}.get(content[HEADER - 2 : HEADER])
    if order is None:
        raise ValueError("no MAT-file of version 5")
    found = {}
    try:
        for kind, data in _elements(content[HEADER:], order):
            if kind == COMPRESSED:
                unpacked = zlib.decompressobj().decompress(data, MOST_BYTES)
                kind, data = next(_elements(unpacked, order))
            single = _single(data, order) if kind == MATRIX else None
            if single is not None:
                found[single[0]] = single[1]
    except (struct.error, zlib.error, StopIteration, UnicodeDecodeError, OverflowError):
        raise ValueError("damaged") from None
    return found


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """The type and the data of each element, one behind the other."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if kind >> 16:  # a small one: the size in the upper half, the data in place of the size
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            place += 8
        else:
            padded = size if kind == COMPRESSED else size + -size % 8
            place = start + padded
        if start + size > len(data):
            raise ValueError("damaged")
        yield kind, data[start : start + size]


def _single(data: bytes, order: str) -> tuple[str, float] | None:
    """A matrix's name and number, where it is one real number."""
    (_, flags), (_, dimensions), (_, name), *parts = _elements(data, order)
    (flag,) = struct.unpack_from(f"{order}I", flags)
    sizes = struct.unpack(f"{order}{len(dimensions) // 4}i", dimensions)
    if flag & 0xFF not in NUMERIC_CLASSES or any(size != 1 for size in sizes) or len(parts) != 1:
        return None
    kind, number = parts[0]
    if kind not in NUMBERS:
        return None
    (value,) = struct.unpack(f"{order}{NUMBERS[kind]}", number)
    return name.decode("ascii"), float(value)
