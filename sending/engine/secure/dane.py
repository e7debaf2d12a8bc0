"""DANE for SMTP (RFC 7672): TLSA records, and whether a server's certificate chain meets them."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

DANE_TA, DANE_EE = 2, 3


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record (RFC 6698 section 2.1)."""

    usage: int
    selector: int
    matching: int
    data: bytes

    @property
    def is_usable(self) -> bool:
        """Whether SMTP may use it: DANE-TA or DANE-EE, known selector and digest (section 3.1)."""
        lengths = {1: 32, 2: 64}
        return (
            self.usage in (DANE_TA, DANE_EE)
            and self.selector in (0, 1)
            and self.matching in (0, 1, 2)
            and len(self.data) == lengths.get(self.matching, len(self.data))
            and bool(self.data)
        )

    def matches(self, certificate: x509.Certificate) -> bool:
        """Tell whether `certificate`, or its public key, is what the record names."""
        try:
            content = (
                certificate.public_bytes(Encoding.DER)
                if self.selector == 0
                else certificate.public_key().public_bytes(
                    Encoding.DER, PublicFormat.SubjectPublicKeyInfo
                )
            )
        except (ValueError, UnsupportedAlgorithm):
            return False
        if self.matching == 0:
            return content == self.data
        digest = hashlib.sha256 if self.matching == 1 else hashlib.sha512
        return digest(content).digest() == self.data


def tlsa_from_text(text: str) -> Tlsa | None:
    """Return the record that `text` ("3 1 1 ab12…") describes, or None when it is malformed."""
    parts = text.split()
    try:
        usage, selector, matching = (int(part) for part in parts[:3])
        return Tlsa(usage, selector, matching, bytes.fromhex("".join(parts[3:])))
    except ValueError:
        return None


def peer_chain(tls: ssl.SSLObject | ssl.SSLSocket) -> list[bytes]:
    """Return the certificates that the server sent, DER, its own first; never verified yet.

    Python has a public method from 3.13 on; 3.11 and 3.12 hold the same on the inner object.
    """
    public = getattr(tls, "get_unverified_chain", None)
    if public is not None:
        return [bytes(entry) for entry in public() or ()]
    inner: Any = getattr(tls, "_sslobj", None)
    chain = inner.get_unverified_chain() if inner is not None else None
    return [bytes(entry.public_bytes(2)) for entry in chain or ()]  # 2 is _ssl.ENCODING_DER


def check_chain(chain: Sequence[bytes], records: Sequence[Tlsa], names: Sequence[str]) -> str:
    """Return "" when the chain meets one of `records`, else why it does not.

    `names` are the MX host and the recipients' domain: a certificate below a DANE-TA anchor must
    be for one of them (RFC 7672 section 3.2.2). With DANE-EE names and dates do not count (3.1.1).
    """
    try:
        certificates = [x509.load_der_x509_certificate(entry) for entry in chain]
    except ValueError as error:
        return f"the server's certificate cannot be read: {error}"
    if not certificates:
        return "the server sent no certificate"
    leaf = certificates[0]
    if any(record.usage == DANE_EE and record.matches(leaf) for record in records):
        return ""
    anchors = [record for record in records if record.usage == DANE_TA]
    problem = "the certificate is not the one that its TLSA records name"
    for anchor in _anchors_in(certificates, anchors):
        problem = _below(leaf, certificates[1:], anchor, names)
        if not problem:
            return ""
    return problem


def _anchors_in(
    certificates: Sequence[x509.Certificate], records: Sequence[Tlsa]
) -> list[x509.Certificate]:
    """Return what the records name: certificates of the chain, or whole ones from the DNS."""
    found = [
        certificate
        for certificate in certificates[1:]
        if any(record.matches(certificate) for record in records)
    ]
    for record in records:
        if record.selector == 0 and record.matching == 0:
            try:
                found.append(x509.load_der_x509_certificate(record.data))
            except ValueError:
                continue
    return found


def _below(
    leaf: x509.Certificate,
    between: Sequence[x509.Certificate],
    anchor: x509.Certificate,
    names: Sequence[str],
) -> str:
    problem = ""
    for name in names:
        try:
            verifier = (
                PolicyBuilder().store(Store([anchor])).build_server_verifier(x509.DNSName(name))
            )
            verifier.verify(leaf, list(between))
        except (VerificationError, ValueError, UnsupportedAlgorithm) as error:
            problem = f"the certificate does not lead to its TLSA trust anchor: {error}"[:300]
        else:
            return ""
    return problem
