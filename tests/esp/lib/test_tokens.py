"""Signed tokens: they say what was sealed, for their purpose, until their end; nothing else."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp.lib.tokens import BadToken, ExpiredToken, TrackKind, TrackToken, seal, unseal

KEY, OLD, OTHER = b"k" * 32, b"o" * 32, b"x" * 32
TOKEN = TrackToken(uuid.UUID(int=5), uuid.UUID(int=7), TrackKind.CLICK, 3)


@given(st.binary(max_size=200), st.text(max_size=20))
def test_it_opens_what_it_sealed(payload: bytes, purpose: str) -> None:
    assert unseal(KEY, purpose, seal(KEY, purpose, payload, expires=None)) == payload


def test_it_refuses_another_purpose_or_key() -> None:
    token = seal(KEY, "reset", b"p", expires=None)
    for keys, purpose in (([KEY], "invite"), ([OTHER], "reset"), ([], "reset")):
        with pytest.raises(BadToken):
            unseal(keys, purpose, token)


def test_purpose_and_payload_do_not_slide() -> None:
    token = seal(KEY, "a", b"bc", expires=None)
    with pytest.raises(BadToken):
        unseal(KEY, "ab", token)


def test_old_keys_open_and_the_newest_seals() -> None:
    token = seal(OLD, "reset", b"p", expires=None)
    assert unseal([KEY, OLD], "reset", token) == b"p"
    assert TrackToken.unpack([KEY, OLD], TOKEN.pack(OLD)) == TOKEN


def test_it_expires_to_the_second() -> None:
    token = seal(KEY, "reset", b"p", expires=1_000)
    assert unseal(KEY, "reset", token, now=999.9) == b"p"
    with pytest.raises(ExpiredToken):
        unseal(KEY, "reset", token, now=1_000)


@pytest.mark.parametrize("token", ["", "a", "ä", "=", "a b", "A" * 5_000, "AAAA", "A" * 23, "..."])
def test_garbage_is_a_bad_token(token: str) -> None:
    with pytest.raises(BadToken):
        unseal(KEY, "reset", token)
    with pytest.raises(BadToken):
        TrackToken.unpack(KEY, token)


def test_every_changed_character_is_noticed() -> None:
    text = TOKEN.pack(KEY)
    for position in range(len(text)):
        changed = text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]
        with pytest.raises(BadToken):
            TrackToken.unpack(KEY, changed)


@given(st.uuids(), st.uuids(), st.sampled_from(TrackKind), st.integers(0, 65_535))
def test_track_tokens_are_short_and_read_back(
    tenant: uuid.UUID, message: uuid.UUID, kind: TrackKind, index: int
) -> None:
    token = TrackToken(tenant, message, kind, index)
    text = token.pack(KEY)
    assert len(text) <= 80
    assert text.replace("-", "").replace("_", "").isalnum()
    assert TrackToken.unpack(KEY, text) == token


def test_a_sealed_token_is_no_track_token() -> None:
    with pytest.raises(BadToken):
        TrackToken.unpack(KEY, seal(KEY, "track", b"x" * 34, expires=None))


def test_weak_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        seal(b"short", "x", b"", expires=None)
