"""Packed arrays arrive as they were, whatever is in them."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.db import connection
from django.db.utils import DataError, ProgrammingError

from esp.kit.arrays import bools, ints, jsonbs, raw_cursor, texts, times, uuids

pytestmark = pytest.mark.django_db


def test_every_type_comes_back_as_it_went() -> None:
    one = uuid.uuid4()
    at = dt.datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=dt.UTC)
    early = dt.datetime(1969, 12, 31, 12, 0, tzinfo=dt.timezone(dt.timedelta(hours=5)))
    row = (
        raw_cursor()
        .execute(
            "SELECT %s, %s, %s, %s, %s, (%s)[1] ->> 'a'",
            [
                uuids([one, None]),
                texts(["", 'a "quoted", {text}\\', "Zoë 🌱"]),
                ints([0, -1, 2**31 - 1, None]),
                times([at, None, early]),
                bools([True, False]),
                jsonbs(['{"a": "ö"}'.encode()]),
            ],
        )
        .fetchone()
    )
    assert row is not None
    assert row[0] == [one, None]
    assert row[1] == ["", 'a "quoted", {text}\\', "Zoë 🌱"]
    assert row[2] == [0, -1, 2**31 - 1, None]
    assert row[3] == [at, None, early]
    assert row[4] == [True, False]
    assert row[5] == "ö"


def test_empty_arrays_are_empty() -> None:
    row = raw_cursor().execute("SELECT cardinality(%s), cardinality(%s)", [uuids([]), texts([])])
    assert row.fetchone() == (0, 0)


def test_a_lone_surrogate_does_not_stop_a_set() -> None:
    row = raw_cursor().execute("SELECT (%s)[1]", [texts(["a\udcffb"])]).fetchone()
    assert row == ("a?b",)


def test_errors_are_djangos() -> None:
    with pytest.raises(DataError), connection.wrap_database_errors:
        raw_cursor().execute("SELECT (%s)[1]::text::int", [texts(["no number"])])


def test_a_wrong_statement_is_djangos_error_too() -> None:
    with pytest.raises(ProgrammingError), connection.wrap_database_errors:
        raw_cursor().execute("SELECT nothing FROM nowhere WHERE id = ANY(%s)", [uuids([])])
