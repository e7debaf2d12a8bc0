"""Signatures: another implementation accepts them, and would have signed the same bytes."""

from __future__ import annotations

import ast
import base64
import hashlib
import logging
import re

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from dkim.crypto import RSASSA_PKCS1_v1_5_sign, parse_pem_private_key

from sending.engine.dkim.signing import (
    Signer,
    canonical_body,
    canonical_fields,
    sign,
    signed_fields,
)
from sending.engine.smtp.wire import with_crlf

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PEM = RSA_KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.TraditionalOpenSSL,
    serialization.NoEncryption(),
)
RSA = Signer("acme.example", "r1", "rsa-sha256", PEM)
ED = Signer("acme.example", "e1", "ed25519-sha256", ED_KEY)
NOW = 1_790_000_000
MESSAGE = (
    b"From: Alice <alice@acme.example>\r\nTo: bob@plainmail.test\r\n"
    b"Subject: A long subject that is folded\r\n\t over  two lines \r\n"
    b"Date: Sun, 22 Nov 2026 00:00:00 +0000\r\nMessage-ID: <x@acme.example>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"List-Unsubscribe: <https://t.acme.example/u/1>, <mailto:u@acme.example>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nFeedback-ID: 1:2:3:mailwright\r\n"
    b"\r\nHello  Bob,\t\tgood  day. \r\n.dots\r\n\r\n \t\r\n\r\n"
)


def txt(name: bytes, timeout: float = 5) -> bytes:
    spki = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    raw = ED_KEY.public_key().public_bytes_raw()
    return {
        b"r1._domainkey.acme.example.": b"v=DKIM1; k=rsa; p=" + base64.b64encode(spki),
        b"e1._domainkey.acme.example.": b"v=DKIM1; k=ed25519; p=" + base64.b64encode(raw),
    }[name]


def verdicts(message: bytes, count: int = 2) -> list[bool]:
    verifier = dkim.DKIM(message)
    results = []
    for index in range(count):
        try:
            results.append(verifier.verify(idx=index, dnsfunc=txt))
        except dkim.ValidationError:
            results.append(False)
    return results


SIGNED = sign(MESSAGE, [RSA, ED], timestamp=NOW)


def test_dkimpy_accepts_both_signatures() -> None:
    assert verdicts(SIGNED) == [True, True]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"good  day", b"bad day"),
        (b"Subject: A long", b"Subject: Another"),
        (b"/u/1", b"/u/2"),
        (b"One-Click", b"Two-Click"),
        (b"From: Alice", b"From: Mallory"),
        (b"\r\nTo: ", b"\r\nFrom: eve@evil.test\r\nTo: "),
        (b"\r\nTo: ", b"\r\nSubject: added\r\nTo: "),
        (b"\r\nTo: ", b"\r\nReply-To: eve@evil.test\r\nTo: "),
        (b"t=1790000000", b"t=1790000001"),
    ],
)
def test_what_was_changed_or_added_is_refused(old: bytes, new: bytes) -> None:
    changed = SIGNED.replace(old, new)
    assert changed != SIGNED
    assert verdicts(changed) == [False, False]


def test_changes_of_white_space_are_forgiven() -> None:
    assert verdicts(SIGNED.replace(b"good  day. ", b"good day.")) == [True, True]
    assert verdicts(SIGNED + b"\r\n\r\n") == [True, True]


def _hashed_by_dkimpy(message: bytes, caplog: pytest.LogCaptureFixture) -> tuple[bytes, bytes]:
    """Return the header and body bytes that dkimpy hashes to verify the first signature."""
    logger = logging.getLogger("dkimpy-under-test")
    with caplog.at_level(logging.DEBUG, logger=logger.name):
        assert dkim.DKIM(message, logger=logger, debug_content=True).verify(dnsfunc=txt)
    found = {
        record.getMessage().partition(": ")[0]: record.getMessage().partition(": ")[2]
        for record in caplog.records
    }
    headers = next(value for key, value in found.items() if key.startswith("signed for"))
    return ast.literal_eval(headers), ast.literal_eval(found["body hashed"])


def test_dkimpy_hashes_the_very_same_bytes(caplog: pytest.LogCaptureFixture) -> None:
    message = sign(MESSAGE, [RSA], timestamp=NOW)
    headers, body = _hashed_by_dkimpy(message, caplog)
    own_field, _, rest = message.partition(b"\r\nFrom:")
    names = re.search(rb"h=([^;]+);", own_field)
    assert names is not None
    listed = [name.strip().decode() for name in names.group(1).split(b":")]
    head = (b"From:" + rest).partition(b"\r\n\r\n")[0]
    own = canonical_fields(own_field)[0][1]
    own = re.sub(rb"b=[^;]*$", b"b=", own.removesuffix(b"\r\n"))
    assert headers == signed_fields(canonical_fields(head), listed) + own
    assert body == canonical_body(MESSAGE.partition(b"\r\n\r\n")[2])


def test_the_same_bytes_give_the_same_rsa_signature_as_dkimpy() -> None:
    data = b"from:alice@acme.example\r\nsubject:hello\r\n"
    hasher = hashlib.sha256(data)
    assert RSA.signature(data) == RSASSA_PKCS1_v1_5_sign(hasher, parse_pem_private_key(PEM))


def test_every_signed_header_is_signed_once_more_than_it_occurs() -> None:
    twice = MESSAGE.replace(b"To: bob", b"To: eve@plainmail.test\r\nTo: bob")
    listed = re.search(rb"h=([^;]+);", sign(twice, [RSA], timestamp=NOW))
    assert listed is not None
    names = [name.strip() for name in listed.group(1).split(b":")]
    assert (names.count(b"from"), names.count(b"to"), names.count(b"reply-to")) == (2, 3, 1)
    assert {b"list-unsubscribe", b"list-unsubscribe-post", b"feedback-id"} <= set(names)
    assert verdicts(sign(twice, [RSA, ED], timestamp=NOW)) == [True, True]


def test_lines_of_the_signature_stay_short() -> None:
    signature = SIGNED.partition(b"\r\nFrom:")[0]
    assert max(len(line) for line in signature.split(b"\r\n")) <= 78


def test_bare_line_ends_are_mended_before_signing() -> None:
    signed = sign(MESSAGE.replace(b"\r\n", b"\n"), [RSA, ED], timestamp=NOW)
    assert b"\n" not in signed.replace(b"\r\n", b"")
    assert verdicts(signed) == [True, True]
    assert with_crlf(signed) is signed


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n", b" \t\r\n", b"x", b"a\r\n\r\n\r\n"])
def test_bodies_at_the_edge_verify(body: bytes) -> None:
    message = b"From: alice@acme.example\r\nSubject: x\r\n\r\n" + body
    assert verdicts(sign(message, [RSA, ED], timestamp=NOW)) == [True, True]


def test_a_message_without_from_is_not_signed() -> None:
    with pytest.raises(ValueError, match="From"):
        sign(b"Subject: x\r\n\r\nhello\r\n", [RSA], timestamp=NOW)


def test_keys_and_names_that_do_not_fit_are_refused() -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    Signer("acme.example", "s", "rsa-sha256", small)
    with pytest.raises(ValueError, match="not one for"):
        Signer("acme.example", "s", "ed25519-sha256", RSA_KEY)
    with pytest.raises(ValueError, match="ASCII names"):
        Signer("acme.example; l=0", "s", "rsa-sha256", RSA_KEY)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(ValueError, match="RSA and Ed25519"):
        Signer("acme.example", "s", "rsa-sha256", pem)
