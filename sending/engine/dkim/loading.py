"""Loads Intel's multi-buffer library from its wheel.

The wheel's library is linked against its compiler's own libraries, 40 MB under another licence, of
which it calls nothing. What is loaded is a copy in memory that does not ask for them.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import struct
from collections.abc import Iterator
from pathlib import Path

WHEEL, LIBRARY = "ipp-crypto", "libcrypto_mb.so"
_OF_THE_COMPILER = (b"libsvml.so", b"libirng.so", b"libimf.so", b"libintlc.so.5")

# An ELF file, 64 bits, little endian (System V ABI, chapters 4 and 5).
_MAGIC = b"\x7fELF\x02\x01"
_HEADER = struct.Struct("<16s2HI3QI6H")
_SEGMENT = struct.Struct("<2I6Q")
_ENTRY = struct.Struct("<2Q")
_LOADED, _DYNAMIC = 1, 2  # kinds of segments
_NEEDED, _STRINGS = 1, 5  # tags of the dynamic segment
_IGNORED = 0x60000FF0  # a tag of the system's range that no loader knows


class Unavailable(Exception):
    """The library cannot be used here; the text says why."""


def load() -> ctypes.CDLL:
    """Return the library; raises Unavailable where there is none, OSError where it cannot load."""
    image = bytearray(_path().read_bytes())
    try:
        release(image, _OF_THE_COMPILER)
    except (struct.error, ValueError, StopIteration) as error:
        raise Unavailable(f"{LIBRARY} cannot be read: {error}") from error
    copy = os.memfd_create(LIBRARY)
    try:
        with open(copy, "wb", closefd=False) as file:
            file.write(image)
        return ctypes.CDLL(f"/proc/self/fd/{copy}")
    finally:
        os.close(copy)


def _path() -> Path:
    try:
        files = importlib.metadata.files(WHEEL) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise Unavailable(f"{WHEEL} is not installed") from error
    for file in files:
        if file.name == LIBRARY:
            return Path(str(file.locate()))
    raise Unavailable(f"{WHEEL} has no {LIBRARY}")


def release(image: bytearray, names: tuple[bytes, ...]) -> None:
    """Take out of the ELF `image` that it needs the libraries `names`.

    Raises ValueError, struct.error or StopIteration for what is no such file.
    """
    segments = list(_segments(image))
    dynamic = next(segment for segment in segments if segment[0] == _DYNAMIC)
    places = range(dynamic[2], dynamic[2] + dynamic[5], _ENTRY.size)
    entries = [(place, *_ENTRY.unpack_from(image, place)) for place in places]
    address = next(value for _, tag, value in entries if tag == _STRINGS)
    strings = _offset(segments, address)
    for place, tag, value in entries:
        if tag == _NEEDED and _text(image, strings + value) in names:
            _ENTRY.pack_into(image, place, _IGNORED, value)


def _segments(image: bytearray) -> Iterator[tuple[int, ...]]:
    """Yield the program headers: kind, flags, offset, address, …, size in the file."""
    header = _HEADER.unpack_from(image)
    if not header[0].startswith(_MAGIC):
        raise ValueError("it is no ELF file of 64 bits")
    for number in range(header[10]):
        yield _SEGMENT.unpack_from(image, header[5] + number * header[9])


def _offset(segments: list[tuple[int, ...]], address: int) -> int:
    """Return where in the file stands what is loaded at `address`."""
    for kind, _, offset, start, _, size, *_ in segments:
        if kind == _LOADED and start <= address < start + size:
            return address - start + offset
    raise ValueError("its names are not to be found")


def _text(image: bytearray, start: int) -> bytes:
    return bytes(image[start : image.index(0, start)])
