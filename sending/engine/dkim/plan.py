"""DKIM signatures for many messages whose heads are alike: what does not change is made once.

`signing.sign` takes any message apart to sign it: 0.2 ms of CPU beside the RSA operation for a
letter of 12 KB. Here the names of the header fields are known before, the fixed fields are in
canonical form, and the body is hashed as it is. The signatures are the same bytes.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass

from sending.engine.dkim.signing import (
    SIGNED_HEADERS,
    Signer,
    canonical_body,
    canonical_fields,
    folded,
    header_value,
    relaxed,
    signed_fields,
    signed_names,
)

# Where time and body hash go; no name in a signature holds a NUL.
_TIME, _HASH = "\0time\0", "\0hash\0"


@dataclass(frozen=True, slots=True)
class _Template:
    """A signer's field, on the wire and canonical: the pieces around the time and the hash."""

    signer: Signer
    wire: tuple[str, str, str]
    canonical: tuple[bytes, bytes, bytes]


@dataclass(slots=True)
class Wanted:
    """The signatures of one message, still to be made: of which bytes, and by whom."""

    inputs: Sequence[tuple[Signer, bytes]]
    _fields: Sequence[str]

    def signed(self) -> bytes:
        """Return the DKIM-Signature fields, each signature made by itself."""
        return self.fields([signer.signature(data) for signer, data in self.inputs])

    def fields(self, values: Sequence[bytes]) -> bytes:
        """Return a DKIM-Signature field per signer, each with its CRLF.

        `values` are the raw signatures of `inputs`, in their order.
        """
        coded = [folded(b2a_base64(value, newline=False).decode()) for value in values]
        pairs = zip(self._fields, coded, strict=True)
        return "".join([f"{field}{value}\r\n" for field, value in pairs]).encode("ascii")


class SigningPlan:
    """Signs messages that have the fields `fixed` and one field of each name in `own`."""

    def __init__(
        self,
        signers: Sequence[Signer],
        *,
        fixed: Sequence[str],
        own: Sequence[str],
        headers: Sequence[str] = SIGNED_HEADERS,
    ) -> None:
        """Prepare: `fixed` are whole header lines, `own` the names of the others, in their order.

        Fields named in `headers` are signed, each once more often than it occurs (see `signing`).
        Raises ValueError for a head without From.
        """
        fields = canonical_fields("\r\n".join(fixed).encode())
        self._own = [f"{name.lower()}:" for name in own]
        wanted = {name.lower() for name in ("From", *headers)}
        self._is_signed = [name.lower() in wanted for name in own]
        occurring = [*fields, *((name.lower(), b"") for name in own)]
        if "from" not in {name for name, _ in occurring}:
            raise ValueError("a message without From cannot be signed")
        counted = signed_names(occurring, headers)
        lower = [name.lower() for name in own]
        if set(lower) & {name for name, _ in fields}:
            raise ValueError("a field is fixed or a message's own, not both")
        first = [name for name in counted if name not in lower]
        # Fields of the message's own come last, so that the others' bytes are one constant.
        names = [*first, *(name for one in lower for name in counted if name == one)]
        self._fixed = signed_fields(fields, first)
        self._templates = tuple(_template(signer, names) for signer in signers)

    def prepare(self, own: Sequence[str], body: bytes, *, timestamp: int) -> Wanted:
        """Return what is to be signed, and what the signatures go into.

        `own` are the lines of the fields that the plan was told of (folded, without final CRLF),
        `body` has CRLF line ends and nothing that relaxed canonicalization would change but empty
        lines at its end. `timestamp` is in Unix seconds.
        """
        if not self._templates:
            return Wanted((), ())
        if body.endswith(b"\r\n\r\n") or len(body) < 3:
            body = canonical_body(body)
        body_hash = b2a_base64(hashlib.sha256(body).digest(), newline=False)
        signed = self._fixed + self._canonical(own)
        time, coded = b"%d" % timestamp, body_hash.decode()
        inputs, fields = [], []
        for template in self._templates:
            start, middle, end = template.canonical
            data = b"".join((signed, start, time, middle, body_hash, end))
            inputs.append((template.signer, data))
            first, second, third = template.wire
            fields.append(f"{first}{timestamp}{second}{coded}{third}")
        return Wanted(inputs, fields)

    def _canonical(self, own: Sequence[str]) -> bytes:
        pieces = []
        for name, is_signed, line in zip(self._own, self._is_signed, own, strict=True):
            if not is_signed:
                continue
            value = line[len(name) :].strip(" ")
            if "\r" in value or "  " in value or "\t" in value:
                value = relaxed(value.encode()).decode()
            pieces.append(f"{name}{value}\r\n")
        return "".join(pieces).encode("ascii")


def _template(signer: Signer, names: Sequence[str]) -> _Template:
    field = header_value(signer, names, _HASH, _TIME)
    canonical = b"dkim-signature:" + relaxed(field.encode())
    first, rest = f"DKIM-Signature: {field}".split(_TIME)
    second, third = rest.split(_HASH)
    start, after = canonical.split(_TIME.encode())
    middle, end = after.split(_HASH.encode())
    return _Template(signer, (first, second, third), (start, middle, end))
