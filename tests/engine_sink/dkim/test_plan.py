"""A plan's signatures are those of the general signer, and another implementation accepts them."""

from __future__ import annotations

import re

import dkim
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sending.engine.dkim.plan import SigningPlan
from sending.engine.dkim.signing import SIGNED_HEADERS, canonical_body, canonical_fields, sign
from tests.engine_sink.dkim.test_signing import ED, NOW, RSA, txt, verdicts

FIXED = (
    "From: Alice <alice@acme.example>",
    "Reply-To: a@acme.example,\r\n b@acme.example",
    "MIME-Version: 1.0",
    "X-Order:  17  ",
    "Content-Type: text/plain; charset=utf-8",
)
OWN = ("To", "Subject", "Date", "Message-ID", "List-Unsubscribe")
LINES = (
    'To: "Bob  B" <bob@plainmail.test>',
    "Subject: A long subject\r\n over two lines",
    "Date: Sun, 22 Nov 2026 00:00:00 +0000",
    "Message-ID: <x@acme.example>",
    "List-Unsubscribe: <https://t.acme.example/u/1>,\r\n <mailto:u@acme.example>",
)
BODIES = [
    b"",
    b"\r\n",
    b"\r\n\r\n\r\n",
    b"x\r\n",
    b"x\r\n\r\n\r\n",
    b".\r\n..\r\n.dots\r\n",
    b"Gr=C3=BC=C3=9Fe =20=20 x=\r\n y\r\n",
    "Grüße\r\n".encode(),
    b"x" * 990 + b"\r\n",
    b" lead\r\n",
]


def message(lines: tuple[str, ...], body: bytes) -> bytes:
    return "\r\n".join((*FIXED, *lines, "", "")).encode() + body


def plan(*signers: object, headers: tuple[str, ...] = SIGNED_HEADERS) -> SigningPlan:
    return SigningPlan(signers, fixed=FIXED, own=OWN, headers=headers)  # type: ignore[arg-type]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("signers", [(RSA,), (ED,), (RSA, ED)])
def test_dkimpy_accepts_every_body(body: bytes, signers: tuple[object, ...]) -> None:
    field = plan(*signers).prepare(LINES, body, timestamp=NOW).signed()
    assert verdicts(field + message(LINES, body), len(signers)) == [True] * len(signers)


def _tags(field: bytes) -> dict[bytes, bytes]:
    pairs = re.sub(rb"\s", b"", field.partition(b":")[2]).split(b";")
    return dict(pair.split(b"=", 1) for pair in pairs)  # type: ignore[misc]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab .=", max_size=30).map(lambda line: " ".join(line.split())), max_size=5),
    st.text("ab \t", max_size=20),
)
def test_the_general_signer_signs_the_same(body_lines: list[str], subject: str) -> None:
    body = "".join(f"{line}\r\n" for line in body_lines).encode()
    lines = (LINES[0], f"Subject: {subject}", *LINES[2:])
    # The signer takes names in the order that it is given: with the plan's, all bytes are equal.
    field = plan(RSA).prepare(lines, body, timestamp=NOW).signed()
    names = [name.decode() for name in dict.fromkeys(_tags(field)[b"h"].split(b":"))]
    whole = message(lines, body)
    assert sign(whole, [RSA], headers=names, timestamp=NOW) == field + whole


def test_what_was_changed_or_added_is_refused() -> None:
    whole = plan(RSA, ED).prepare(LINES, b"hello\r\n", timestamp=NOW).signed() + message(
        LINES, b"hello\r\n"
    )
    assert verdicts(whole) == [True, True]
    for old, new in (
        (b"hello", b"hallo"),
        (b"/u/1", b"/u/2"),
        (b"over two", b"over 2"),
        (b"\r\nTo: ", b"\r\nTo: eve@evil.test\r\nTo: "),
        (b"\r\nTo: ", b"\r\nCc: eve@evil.test\r\nTo: "),
        (b"\r\nTo: ", b"\r\nFrom: eve@evil.test\r\nTo: "),
        (b"t=1790000000", b"t=1790000001"),
    ):
        changed = whole.replace(old, new)
        assert changed != whole
        assert verdicts(changed) == [False, False]


def test_fields_that_are_not_asked_for_are_not_signed() -> None:
    field = plan(RSA, headers=("From", "Date")).prepare(LINES, b"x\r\n", timestamp=NOW).signed()
    assert _tags(field)[b"h"] == b"from:from:date:date"
    assert dkim.DKIM(field + message(LINES, b"x\r\n")).verify(dnsfunc=txt)


def test_without_a_key_there_is_no_field() -> None:
    assert plan().prepare(LINES, b"x\r\n", timestamp=NOW).signed() == b""


def test_a_head_that_cannot_be_signed_is_refused_beforehand() -> None:
    with pytest.raises(ValueError, match="From"):
        SigningPlan([RSA], fixed=FIXED[1:], own=OWN)
    with pytest.raises(ValueError, match="not both"):
        SigningPlan([RSA], fixed=(*FIXED, "To: x@y.example"), own=OWN)


def test_lines_stay_short_and_the_hash_is_over_canonical_bytes() -> None:
    field = plan(RSA).prepare(LINES, b"x\r\n", timestamp=NOW).signed()
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert [name for name, _ in canonical_fields(field.strip())] == ["dkim-signature"]
    assert canonical_body(BODIES[6]) == BODIES[6]
