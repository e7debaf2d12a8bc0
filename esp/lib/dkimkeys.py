"""Make DKIM key pairs in the forms that storage and DNS want."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """`private_pem` is PKCS 8; `public` is what stands behind `p=` in the DNS record."""

    algorithm: str
    private_pem: str
    public: str


def _pem(key: object) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()  # type: ignore[attr-defined,no-any-return]


def make_rsa() -> KeyPair:
    """Return an RSA pair of 2048 bits: longer keys do not fit every receiver (RFC 8301 3.2)."""
    key = generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return KeyPair("rsa-sha256", _pem(key), base64.b64encode(public).decode())


def make_ed25519() -> KeyPair:
    """Return an Ed25519 pair; its record holds the 32 raw bytes of the key (RFC 8463 section 4)."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return KeyPair("ed25519-sha256", _pem(key), base64.b64encode(public).decode())


def dkim_record(pair_algorithm: str, public: str) -> str:
    """Return the TXT record for a public key (RFC 6376 section 3.6.1)."""
    kind = "rsa" if pair_algorithm == "rsa-sha256" else "ed25519"
    return f"v=DKIM1; k={kind}; p={public}"
