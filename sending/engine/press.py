"""Messages made several in a row: all that slots ask for in the same moment.

A worker that makes a message, sends it, hears of another one and makes the next runs through all
of its code for each, and that is more than a core's first caches hold: made for the third time in
a row a letter takes two thirds of what it takes for the first time. So messages are asked for here,
and made once the event loop's turns bring no more of them. A lone receipt waits for two turns, some
microseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sending.engine.dkim.plan import Wanted
from sending.engine.dkim.signatory import Signatory
from sending.engine.smtp.wire import WireBytes

# How long messages are made before those that are ready are signed and leave: others' content may
# be slow, and replies must be heard.
_ROUND_SECONDS = 0.02


@dataclass(slots=True)
class _Asked:
    write: Callable[[], tuple[Wanted, bytes]]
    data: asyncio.Future[bytes]


@dataclass(slots=True)
class _Unsigned:
    data: asyncio.Future[bytes]
    wanted: Wanted
    message: bytes


class Press:
    """Makes the messages of one event loop."""

    def __init__(self, signatory: Signatory) -> None:
        self._signatory = signatory
        self._asked: deque[_Asked] = deque()

    async def data(self, write: Callable[[], tuple[Wanted, bytes]]) -> bytes:
        """Return the signed message that `write` makes, which says what is to be signed as well.

        Raises what `write` or signing raises.
        """
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._turn, 0)
        asked = _Asked(write, loop.create_future())
        self._asked.append(asked)
        return await asked.data

    def _turn(self, seen: int) -> None:
        """Wait another turn of the loop where the last one brought more, else begin."""
        count = len(self._asked)
        if seen < count:
            asyncio.get_running_loop().call_soon(self._turn, count)
        else:
            self._make()

    def _make(self) -> None:
        """Make what is asked for; what does not fit into a round comes in the loop's next turn."""
        end = time.monotonic() + _ROUND_SECONDS
        made: list[_Unsigned] = []
        while self._asked:
            asked = self._asked.popleft()
            if asked.data.done():  # cut off meanwhile
                continue
            try:
                made.append(_Unsigned(asked.data, *asked.write()))
            except Exception as error:  # whatever a tenant's content does
                asked.data.set_exception(error)
            if time.monotonic() >= end:
                break
        if self._asked:
            asyncio.get_running_loop().call_soon(self._make)
        self._sign(made)

    def _sign(self, made: list[_Unsigned]) -> None:
        all_fields = self._signatory.fields([one.wanted for one in made])
        for one, fields in zip(made, all_fields, strict=True):
            if isinstance(fields, Exception):
                one.data.set_exception(fields)
            else:
                one.data.set_result(WireBytes(fields + one.message))
