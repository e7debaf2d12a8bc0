"""DKIM signatures (RFC 6376 relaxed/relaxed, RFC 8301, RFC 8463) by OpenSSL, for any message.

dkimpy signs RSA in pure Python, some 15 ms a message; here a key is parsed once and a signature
costs what OpenSSL needs. dkimpy verifies in the tests and the simulator. Campaigns are signed by
`plan`, which gives the same bytes faster.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from sending.engine.dkim.multibuffer import Key
from sending.engine.smtp.wire import with_crlf

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]
PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

# Each is signed once more often than it occurs (RFC 6376 section 8.15), so that nobody can add a
# second From or Subject, or a List-Unsubscribe where there was none. RFC 8058 section 4 wants both
# List-Unsubscribe fields signed.
SIGNED_HEADERS = (
    "From",
    "To",
    "Cc",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Feedback-ID",
)

_WHITESPACE = re.compile(rb"[ \t]+")
_FIELD_START = re.compile(rb"\r\n(?![ \t])")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_SCHEME, _DIGEST = padding.PKCS1v15(), hashes.SHA256()

# A field of a message: the name in lower case and the canonical bytes "name:value\r\n".
Field = tuple[str, bytes]


class Signer:
    """A key with its domain and selector; the private key is parsed once, here."""

    def __init__(
        self, domain: str, selector: str, algorithm: Algorithm, private_key: bytes | PrivateKey
    ) -> None:
        """Take the key as PEM (PKCS#8 or PKCS#1, not encrypted) or as an object.

        Raises ValueError when domain or selector cannot stand in a signature, when the key does
        not fit the algorithm, or has less than 1024 bits (RFC 8301 section 3.2).
        """
        if not _NAME.fullmatch(domain) or not _NAME.fullmatch(selector):
            raise ValueError("domain and selector are ASCII names")
        if isinstance(private_key, bytes):
            private_key = _parsed(private_key)
        is_rsa = isinstance(private_key, rsa.RSAPrivateKey)
        if is_rsa != (algorithm == "rsa-sha256"):
            raise ValueError(f"this key is not one for {algorithm}")
        if isinstance(private_key, rsa.RSAPrivateKey) and private_key.key_size < 1024:
            raise ValueError("RSA keys below 1024 bits must not sign (RFC 8301)")
        self.domain = domain.lower()
        self.selector = selector
        self.algorithm: Algorithm = algorithm
        # Chosen once: the key classes are abstract, and asking for an instance of one is dear.
        self._sign = _signing(private_key)
        self._private_key = private_key

    def signature(self, data: bytes) -> bytes:
        """Return the raw signature of the canonical header `data`."""
        return self._sign(data)

    @cached_property
    def together(self) -> Key | None:
        """The key as several signatures at once take it, None for one that they do not take."""
        if not isinstance(self._private_key, rsa.RSAPrivateKey):
            return None
        try:
            return Key(self._private_key)
        except ValueError:
            return None


def sign(
    message: bytes,
    signers: Sequence[Signer],
    *,
    headers: Sequence[str] = SIGNED_HEADERS,
    timestamp: int,
) -> bytes:
    """Return `message` with CRLF line ends and one DKIM-Signature per signer in front.

    `headers` are oversigned; From is signed in any case (RFC 6376 section 5.4). `timestamp` is in
    Unix seconds. With several signers (RSA for everybody, Ed25519 for who knows it) body hash and
    canonical headers are computed once. Raises ValueError for a message without From.
    """
    message = with_crlf(message)
    head, body = _split(message)
    fields = canonical_fields(head)
    names = signed_names(fields, headers)
    if "from" not in {name for name, _ in fields}:
        raise ValueError("a message without From cannot be signed")
    signed = signed_fields(fields, names)
    body_hash = base64.b64encode(hashlib.sha256(canonical_body(body)).digest()).decode()
    lines = []
    for signer in signers:
        unsigned = header_value(signer, names, body_hash, timestamp)
        own = b"dkim-signature:" + relaxed(unsigned.encode())
        value = base64.b64encode(signer.signature(signed + own)).decode()
        lines.append(f"DKIM-Signature: {unsigned}{folded(value)}\r\n".encode())
    return b"".join(lines) + message


def canonical_fields(head: bytes) -> list[Field]:
    """Return the header fields of `head` in order, each relaxed (RFC 6376 section 3.4.2)."""
    fields = []
    for raw in _FIELD_START.split(head):
        name, colon, value = raw.partition(b":")
        if not colon:
            continue  # no field: a line of garbage is not signed
        key = name.strip(b" \t").lower()
        fields.append((key.decode("latin-1"), key + b":" + relaxed(value) + b"\r\n"))
    return fields


def canonical_body(body: bytes) -> bytes:
    """Return `body` (CRLF line ends) relaxed (RFC 6376 section 3.4.4)."""
    if b"\t" in body or b"  " in body:
        body = _WHITESPACE.sub(b" ", body)
    if b" \r\n" in body:
        body = body.replace(b" \r\n", b"\r\n")
    body = body.rstrip(b"\r\n")
    return body + b"\r\n" if body else b""


def signed_fields(fields: Sequence[Field], names: Sequence[str]) -> bytes:
    """Return the bytes of the fields that `names` chooses, for a repeated name from the bottom up.

    A name more often in `names` than among the fields adds nothing (RFC 6376 section 5.4.2).
    """
    left: dict[str, list[bytes]] = {}
    for name, canonical in fields:
        left.setdefault(name, []).append(canonical)
    return b"".join(left[name].pop() for name in names if left.get(name))


def signed_names(fields: Sequence[Field], headers: Sequence[str]) -> list[str]:
    """Return the names of h=: From and `headers`, each once more often than among `fields`."""
    counts: dict[str, int] = {}
    for name, _ in fields:
        counts[name] = counts.get(name, 0) + 1
    names = []
    for name in dict.fromkeys(["from", *(header.lower() for header in headers)]):
        names += [name] * (counts.get(name, 0) + 1)
    return names


def header_value(signer: Signer, names: Sequence[str], body_hash: str, timestamp: int | str) -> str:
    """Return the field's value up to and with an empty "b=", in lines below 78 characters."""
    lines = [
        f"v=1; a={signer.algorithm}; c=relaxed/relaxed;",
        f" d={signer.domain}; s={signer.selector};",
        f" t={timestamp};",
    ]
    line = " h=" + names[0]
    for name in names[1:]:
        # Folding white space may stand around the colons of h= (RFC 6376 section 3.5).
        if len(line) + len(name) > 74:
            lines.append(line + ":")
            line = " " + name
        else:
            line += ":" + name
    lines += [line + ";", f" bh={body_hash};", " b="]
    return "\r\n".join(lines)


def folded(value: str) -> str:
    """Return base64 in lines of 72 characters, with folding white space between them."""
    return "\r\n ".join(value[i : i + 72] for i in range(0, len(value), 72))


def relaxed(value: bytes) -> bytes:
    """Return a field's value relaxed (RFC 6376 section 3.4.2)."""
    return _WHITESPACE.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")


def _split(message: bytes) -> tuple[bytes, bytes]:
    """Split at the first empty line; the head has no CRLF at its end."""
    if message.startswith(b"\r\n"):
        return b"", message[2:]
    head, _, body = message.partition(b"\r\n\r\n")
    return head.removesuffix(b"\r\n"), body


def _signing(key: PrivateKey) -> Callable[[bytes], bytes]:
    if isinstance(key, rsa.RSAPrivateKey):
        rsa_sign = key.sign
        return lambda data: rsa_sign(data, _SCHEME, _DIGEST)
    ed25519_sign = key.sign
    # RFC 8463 section 3: Ed25519 signs the SHA-256 of the data.
    return lambda data: ed25519_sign(hashlib.sha256(data).digest())


def _parsed(pem: bytes) -> PrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise ValueError("DKIM knows RSA and Ed25519 keys only")
    return key
