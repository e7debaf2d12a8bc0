"""Columns of values as PostgreSQL's binary arrays: what is written by the thousand a second.

A statement over `unnest` takes a set of rows at once, but quoting a list of texts costs more CPU
time than all the rest of writing it. Packed here, a value costs some 0.2 µs, and the server reads
it as it comes (format: src/backend/utils/adt/arrayfuncs.c, array_recv).

`raw_cursor()` gives a cursor on Django's connection that takes these, in its transaction.
"""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Iterable
from typing import Any, ClassVar

import psycopg
from django.db import connection
from psycopg.adapt import Dumper
from psycopg.pq import Format

from esp.lib.ids import new_id_bytes

__all__ = [
    "Packed",
    "bools",
    "ints",
    "jsonbs",
    "new_uuids",
    "raw_cursor",
    "texts",
    "times",
    "uuids",
]

_head = struct.Struct("!iiIii").pack
_length = struct.Struct("!i").pack
_int4 = struct.Struct("!ii").pack
_int8 = struct.Struct("!iq").pack
_NULL = _length(-1)
_UUID_LENGTH = _length(16)
_TRUE, _FALSE = _length(1) + b"\1", _length(1) + b"\0"
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)  # timestamptz counts microseconds from here
_MICROSECOND = dt.timedelta(microseconds=1)


class Packed:
    """An array, ready for the wire; each type of elements is a class, because psycopg asks that."""

    __slots__ = ("data",)
    oid: ClassVar[int]  # of the array type
    element: ClassVar[int]  # of the elements' type

    def __init__(self, parts: list[bytes]) -> None:
        if parts:
            self.data = _head(1, _NULL in parts, self.element, len(parts), 1) + b"".join(parts)
        else:
            self.data = struct.pack("!iiI", 0, 0, self.element)


class _Uuids(Packed):
    oid, element = 2951, 2950


class _Texts(Packed):
    oid, element = 1009, 25


class _Ints(Packed):
    oid, element = 1007, 23


class _Times(Packed):
    oid, element = 1185, 1184


class _Bools(Packed):
    oid, element = 1000, 16


class _Jsonbs(Packed):
    oid, element = 3807, 3802


def uuids(values: Iterable[uuid.UUID | None]) -> Packed:
    """Pack a uuid[]."""
    return _Uuids([_NULL if value is None else _UUID_LENGTH + value.bytes for value in values])


def new_uuids(count: int) -> Packed:
    """Pack a uuid[] of fresh ids (UUIDv7)."""
    return _Uuids([_UUID_LENGTH + new_id_bytes() for _ in range(count)])


def texts(values: Iterable[str]) -> Packed:
    """Pack a text[]; none may hold a NUL character."""
    encoded = [value.encode("utf-8", "replace") for value in values]
    return _Texts([_length(len(value)) + value for value in encoded])


def ints(values: Iterable[int | None]) -> Packed:
    """Pack an int[]."""
    return _Ints([_NULL if value is None else _int4(4, value) for value in values])


def times(values: Iterable[dt.datetime | None]) -> Packed:
    """Pack a timestamptz[] of aware moments."""
    return _Times(
        [_NULL if value is None else _int8(8, (value - _EPOCH) // _MICROSECOND) for value in values]
    )


def bools(values: Iterable[bool]) -> Packed:
    """Pack a bool[]."""
    return _Bools([_TRUE if value else _FALSE for value in values])


def jsonbs(values: Iterable[bytes]) -> Packed:
    """Pack a jsonb[] of JSON texts."""
    # Version 1 of jsonb's binary form: the text after a byte.
    return _Jsonbs([_length(len(value) + 1) + b"\1" + value for value in values])


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Any) -> bytes:
        data: bytes = obj.data
        return data


def _dumper(kind: type[Packed]) -> type[Dumper]:
    return type(f"{kind.__name__}Dumper", (_PackedDumper,), {"oid": kind.oid})


_DUMPERS = [(kind, _dumper(kind)) for kind in (_Uuids, _Texts, _Ints, _Times, _Bools, _Jsonbs)]


def raw_cursor() -> psycopg.Cursor[tuple[Any, ...]]:
    """Return a cursor that binds on the server and reads binary, past Django's own.

    Use it inside `connection.wrap_database_errors`, so that errors are Django's.
    """
    connection.ensure_connection()
    cursor: psycopg.Cursor[tuple[Any, ...]] = psycopg.Cursor(connection.connection)
    cursor.format = Format.BINARY
    for kind, dumper in _DUMPERS:
        cursor.adapters.register_dumper(kind, dumper)
    return cursor
