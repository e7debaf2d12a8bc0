"""Identifiers read back, and sort outside as they do inside."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp.lib.ids import as_text, decode, encode, from_public, new_id, to_public


@given(st.uuids(), st.uuids())
def test_what_is_encoded_reads_back_and_sorts_the_same(one: uuid.UUID, other: uuid.UUID) -> None:
    assert decode(encode(one)) == decode(encode(one).upper()) == one
    assert len(encode(one)) == 26
    assert (encode(one) < encode(other)) == (one < other)


@given(st.uuids())
def test_it_says_an_id_as_python_does(one: uuid.UUID) -> None:
    assert as_text(one) == as_text(uuid.UUID(int=one.int)) == str(one)


def test_the_smallest_and_the_largest() -> None:
    assert encode(uuid.UUID(int=0)) == "0" * 26
    assert encode(uuid.UUID(int=2**128 - 1)) == "7" + "z" * 25
    with pytest.raises(ValueError, match="range"):
        decode("8" + "0" * 25)


def test_the_prefix_is_checked() -> None:
    value = new_id()
    assert from_public("msg", to_public("msg", value)) == value
    with pytest.raises(ValueError, match="msg_"):
        from_public("msg", to_public("bat", value))
