"""Signed tokens: they say what was sealed, for their purpose, until their end; nothing else."""

from __future__ import annotations

import base64
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esp.lib.tokens import BadToken, ExpiredToken, TrackKind, TrackToken, TrackTokens, seal, unseal

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
    token = TrackToken(tenant, message, kind, index if kind == TrackKind.CLICK else 0)
    text = token.pack(KEY)
    assert len(text) <= 80
    assert text.replace("-", "").replace("_", "").isalnum()
    assert TrackToken.unpack(KEY, text) == token


def test_no_token_of_a_message_can_be_turned_into_another() -> None:
    tenant, message = uuid.UUID(int=5), uuid.UUID(int=7)
    wanted = [TrackToken(tenant, message, kind) for kind in TrackKind]
    wanted += [TrackToken(tenant, message, TrackKind.CLICK, index) for index in range(1, 40)]
    raw = {token: base64.urlsafe_b64decode(token.pack(KEY)) for token in wanted}
    assert len({data[-15:] for data in raw.values()}) == len(wanted)  # no MAC is used twice
    for one in wanted:
        for other in wanted:
            if other == one:
                continue
            forged = base64.urlsafe_b64encode(raw[one][:36] + raw[other][36:]).decode()
            with pytest.raises(BadToken):
                TrackToken.unpack(KEY, forged)


def test_a_message_makes_the_tokens_that_are_read_one_by_one() -> None:
    tokens = TrackTokens(KEY, TOKEN.tenant_id, TOKEN.message_id)
    assert tokens.pack(TOKEN.kind, TOKEN.link_index) == TOKEN.pack(KEY)
    assert TrackToken.unpack(KEY, tokens.pack(TrackKind.VIEW)).kind == TrackKind.VIEW
    with pytest.raises(ValueError, match="only clicks"):
        tokens.pack(TrackKind.OPEN, 1)


def test_the_links_of_a_message_are_those_of_its_tokens() -> None:
    tokens = TrackTokens(KEY, TOKEN.tenant_id, TOKEN.message_id)
    address = tokens.clicks("https://mail.example/t/c/")
    for index in (0, 3, 4, 255, 256, 65_535):
        packed = tokens.pack(TrackKind.CLICK, index)
        assert address(index) == f"https://mail.example/t/c/{packed}"


def test_links_that_were_sent_work_on() -> None:
    # what stands in mailboxes for years: a token is these characters, whoever makes it
    sent = "AgAAAAAAAAAAAAAAAAAAAAUAAAAAAAAAAAAAAAAAAAAHAgADJD3fWBntgmsTUPJtx-nd"
    assert TOKEN.pack(KEY) == sent
    assert TrackToken.unpack(KEY, sent) == TOKEN


def test_every_kind_has_a_place_of_its_own() -> None:
    # four kinds share the first block of MACs; a sixth kind needs another layout
    assert len(TrackKind) == 5


def test_a_sealed_token_is_no_track_token() -> None:
    with pytest.raises(BadToken):
        TrackToken.unpack(KEY, seal(KEY, "track", b"x" * 34, expires=None))


def test_weak_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        seal(b"short", "x", b"", expires=None)
    for key in (b"short", b"x" * 65):
        with pytest.raises(ValueError, match="16 to 64 bytes"):
            TOKEN.pack(key)
