"""Signatures that several messages need in the same moment, made together.

A worker has some tens of messages under way. What they want signed is gathered while each turn of
the event loop brings another, at most a vector unit's worth, so that a busy worker signs eight at
once and a lone receipt waits for two turns of the loop, some microseconds.
"""

from __future__ import annotations

import asyncio
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
    key: Key
    data: bytes
    made: asyncio.Future[bytes]


class Signatory:
    """Signs for the messages of one event loop."""

    def __init__(self, library: MultiBuffer | None) -> None:
        """Without a `library` each signature is made by itself, at once."""
        self._library = library
        self._gathered: dict[int, list[_Request]] = {}

    async def fields(self, wanted: Wanted) -> bytes:
        """Return the DKIM-Signature fields of a message; raises what signing raises."""
        values = [self._ask(*one) for one in wanted.inputs]
        return wanted.fields([
            value if isinstance(value, bytes) else await value for value in values
        ])  # fmt: skip

    def _ask(self, signer: Signer, data: bytes) -> bytes | asyncio.Future[bytes]:
        """Return a signature, or the promise of one that is gathered with others."""
        key = signer.together if self._library is not None else None
        if key is None:
            return signer.signature(data)
        loop = asyncio.get_running_loop()
        request = _Request(signer, key, data, loop.create_future())
        gathered = self._gathered.get(key.bits)
        if gathered is None:
            gathered = self._gathered[key.bits] = []
            loop.call_soon(self._turn, key.bits, gathered, 0)
        gathered.append(request)
        if len(gathered) == LANES:  # signed in its turn; what comes now is the next one's
            del self._gathered[key.bits]
        return request.made

    def _turn(self, bits: int, gathered: list[_Request], seen: int) -> None:
        """Wait another turn of the loop where the last one brought more, else sign."""
        if seen < len(gathered) < LANES:
            asyncio.get_running_loop().call_soon(self._turn, bits, gathered, len(gathered))
            return
        if self._gathered.get(bits) is gathered:
            del self._gathered[bits]
        self.sign(gathered)

    def sign(self, requests: Sequence[_Request]) -> None:
        """Make the signatures that are still waited for."""
        waited = [request for request in requests if not request.made.done()]
        values: Sequence[bytes | None] = [None] * len(waited)
        if self._library is not None and len(waited) >= WORTH:
            try:
                values = self._library.signatures([(one.key, one.data) for one in waited])
            except Exception:  # whatever the library does, nobody waits for ever
                log.exception("signatures could not be made together")
        for request, value in zip(waited, values, strict=True):
            try:
                request.made.set_result(value or request.signer.signature(request.data))
            except Exception as error:  # each message has its own fate
                request.made.set_exception(error)
