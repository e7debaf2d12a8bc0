"""MTA-STS: the record, the policy file, the hosts it allows (RFC 8461)."""

from __future__ import annotations

import pytest

from sending.engine.secure.mta_sts import (
    MAX_AGE_SECONDS,
    PolicyInvalid,
    StsPolicy,
    parse_policy,
    policy_id_of,
)

POLICY = (
    b"version: STSv1\r\nmode: enforce\r\nmx: mail.strict.test\r\n"
    b"mx: *.relays.strict.test\r\nmax_age: 604800\r\nfuture: yes\r\n"
)


def test_it_reads_a_policy() -> None:
    policy = parse_policy(POLICY)
    assert policy == StsPolicy("enforce", 604800, ("mail.strict.test", "*.relays.strict.test"))


@pytest.mark.parametrize(
    ("host", "is_allowed"),
    [
        ("mail.strict.test", True),
        ("MAIL.strict.test.", True),
        ("a.relays.strict.test", True),
        ("a.b.relays.strict.test", False),
        ("relays.strict.test", False),
        ("mail.evil.test", False),
        ("mail.strict.test.evil.test", False),
    ],
)
def test_a_star_stands_for_one_label(host: str, is_allowed: bool) -> None:
    assert parse_policy(POLICY).allows(host) is is_allowed


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "version"),
        (b"version: STSv2\nmode: enforce\nmx: a.test\nmax_age: 1", "version"),
        (b"version: STSv1\nmode: strict\nmx: a.test\nmax_age: 1", "mode"),
        (b"version: STSv1\nmode: enforce\nmax_age: 1", "no mx"),
        (b"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: soon", "max_age"),
        (b"version: STSv1\nmode: enforce\nmx: a.test", "max_age"),
        (b"version: STSv1\nmode: enforce\nmx: *\nmax_age: 1", "no host name"),
        (b"version: STSv1\nmode: enforce\nmx: a.*.test\nmax_age: 1", "no host name"),
        (b"\xff\xfe\x00" * 40_000, "64 KB"),
    ],
)
def test_it_refuses_a_broken_policy_and_says_why(body: bytes, why: str) -> None:
    with pytest.raises(PolicyInvalid, match=why):
        parse_policy(body)


def test_a_policy_holds_for_a_year_at_most() -> None:
    body = b"version: STSv1\nmode: none\nmax_age: 9999999999"
    assert parse_policy(body).max_age_seconds == MAX_AGE_SECONDS


@pytest.mark.parametrize(
    ("records", "policy_id"),
    [
        (["v=STSv1; id=20261101T000000;"], "20261101T000000"),
        (["v=spf1 -all", "v=STSv1;id=a1"], "a1"),
        (["v=STSv1; id=a1;", "v=STSv1; id=a2;"], ""),
        (["v=STSv1;"], ""),
        (["v=STSv1; id=" + "a" * 33], ""),
        (["v=STSv10; id=a1"], ""),
        ([], ""),
    ],
)
def test_it_reads_the_id_of_exactly_one_record(records: list[str], policy_id: str) -> None:
    assert policy_id_of(records) == policy_id
