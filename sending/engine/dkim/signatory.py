"""Signatures of several messages in one go, eight at once where the processor can."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sending.engine.dkim.multibuffer import LANES, WORTH, Key, MultiBuffer
from sending.engine.dkim.plan import Wanted
from sending.engine.dkim.signing import Signer

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Request:
    signer: Signer
    data: bytes
    value: bytes | None = None

    def signature(self) -> bytes:
        """Return what was made together with others, else make it alone."""
        return self.value or self.signer.signature(self.data)


class Signatory:
    """Signs for the messages of one worker."""

    def __init__(self, library: MultiBuffer | None) -> None:
        """Without a `library` each signature is made by itself."""
        self._library = library

    def fields(self, wanted: Sequence[Wanted]) -> list[bytes | Exception]:
        """Return the DKIM-Signature fields of each message, or what kept it from being signed."""
        requests = [[_Request(*one) for one in message.inputs] for message in wanted]
        if self._library is not None:
            self._sign_together(self._library, requests)
        return [_fields(*one) for one in zip(wanted, requests, strict=True)]

    def _sign_together(self, library: MultiBuffer, requests: Sequence[Sequence[_Request]]) -> None:
        """Sign what the library knows; whatever it does, the rest is left to OpenSSL."""
        by_size: dict[int, list[tuple[_Request, Key]]] = {}
        for request in (one for own in requests for one in own):
            key = request.signer.together
            if key is not None:
                by_size.setdefault(key.bits, []).append((request, key))
        for pairs in by_size.values():
            for start in range(0, len(pairs), LANES):
                lanes = pairs[start : start + LANES]
                if len(lanes) < WORTH:
                    break
                try:
                    values = library.signatures([(key, one.data) for one, key in lanes])
                except Exception:
                    log.exception("signatures could not be made together")
                    return
                for (request, _), value in zip(lanes, values, strict=True):
                    request.value = value


def _fields(message: Wanted, requests: Sequence[_Request]) -> bytes | Exception:
    try:
        return message.fields([request.signature() for request in requests])
    except Exception as error:  # each message has its own fate
        return error
