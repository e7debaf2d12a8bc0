"""DANE: which records count, and which chains meet them (RFC 6698, RFC 7672)."""

from __future__ import annotations

import hashlib

import pytest

from sending.engine.secure.dane import Tlsa, check_chain, tlsa_from_text
from tests.engine_sink.secure.authority import Pair, make_authority, make_leaf

NAMES = ("mx1.secure.test", "secure.test")


@pytest.fixture(scope="module")
def authority() -> Pair:
    return make_authority()


@pytest.fixture(scope="module")
def leaf(authority: Pair) -> Pair:
    return make_leaf(authority, "mx1.secure.test")


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_it_reads_a_record_as_dns_shows_it() -> None:
    text = "3 1 1 " + "ab" * 16 + " " + "cd" * 16
    assert tlsa_from_text(text) == Tlsa(3, 1, 1, b"\xab" * 16 + b"\xcd" * 16)
    assert tlsa_from_text("3 1 1 nothex") is None
    assert tlsa_from_text("") is None


@pytest.mark.parametrize(
    ("record", "is_usable"),
    [
        (Tlsa(3, 1, 1, b"x" * 32), True),
        (Tlsa(2, 0, 2, b"x" * 64), True),
        (Tlsa(3, 0, 0, b"x"), True),
        (Tlsa(1, 1, 1, b"x" * 32), False),  # PKIX usages mean nothing in SMTP
        (Tlsa(3, 1, 1, b"x" * 20), False),
        (Tlsa(3, 2, 1, b"x" * 32), False),
        (Tlsa(3, 1, 0, b""), False),
    ],
)
def test_it_uses_what_smtp_can_use(record: Tlsa, is_usable: bool) -> None:
    assert record.is_usable is is_usable


def test_a_named_key_is_enough_whatever_the_certificate_says(authority: Pair) -> None:
    expired = make_leaf(authority, "other.test", ends_in_days=-1)
    record = Tlsa(3, 1, 1, sha256(expired.spki))
    assert check_chain([expired.der], [record], NAMES) == ""


def test_a_whole_certificate_and_a_sha512_can_be_named(leaf: Pair) -> None:
    assert check_chain([leaf.der], [Tlsa(3, 0, 0, leaf.der)], NAMES) == ""
    record = Tlsa(3, 0, 2, hashlib.sha512(leaf.der).digest())
    assert check_chain([leaf.der], [record], NAMES) == ""


def test_another_key_is_refused(authority: Pair, leaf: Pair) -> None:
    record = Tlsa(3, 1, 1, sha256(authority.spki))
    assert "not the one" in check_chain([leaf.der], [record], NAMES)


def test_a_named_authority_vouches_for_the_host(authority: Pair, leaf: Pair) -> None:
    record = Tlsa(2, 0, 1, sha256(authority.der))
    assert check_chain([leaf.der, authority.der], [record], NAMES) == ""


def test_an_authority_in_the_dns_need_not_be_sent(authority: Pair, leaf: Pair) -> None:
    assert check_chain([leaf.der], [Tlsa(2, 0, 0, authority.der)], NAMES) == ""


def test_a_named_authority_does_not_vouch_for_other_hosts(authority: Pair) -> None:
    other = make_leaf(authority, "mx.evil.test")
    record = Tlsa(2, 0, 1, sha256(authority.der))
    assert "does not lead" in check_chain([other.der, authority.der], [record], NAMES)


def test_a_certificate_that_only_claims_the_authority_is_refused(authority: Pair) -> None:
    impostor = make_leaf(make_authority(), "mx1.secure.test")
    record = Tlsa(2, 0, 1, sha256(authority.der))
    assert "does not lead" in check_chain([impostor.der, authority.der], [record], NAMES)


def test_an_authoritys_certificate_has_dates(authority: Pair) -> None:
    expired = make_leaf(authority, "mx1.secure.test", ends_in_days=-1)
    record = Tlsa(2, 0, 1, sha256(authority.der))
    assert check_chain([expired.der, authority.der], [record], NAMES) != ""


def test_rubbish_and_nothing_are_refused(leaf: Pair) -> None:
    record = Tlsa(3, 0, 0, leaf.der)
    assert "no certificate" in check_chain([], [record], NAMES)
    assert "cannot be read" in check_chain([b"rubbish"], [record], NAMES)
