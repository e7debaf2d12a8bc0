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


# What came of a message, errors as values: a future takes no StopIteration, whoever raised it.
_Made = asyncio.Future[bytes | Exception]


@dataclass(slots=True)
class _Asked:
    write: Callable[[], tuple[Wanted, bytes]]
    made: _Made


@dataclass(slots=True)
class _Unsigned:
    made: _Made
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
        made = await asked.made
        if isinstance(made, Exception):
            raise made
        return made

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
        unsigned: list[_Unsigned] = []
        while self._asked:
            asked = self._asked.popleft()
            if asked.made.done():  # cut off meanwhile
                continue
            try:
                unsigned.append(_Unsigned(asked.made, *asked.write()))
            except Exception as error:  # whatever a tenant's content does
                asked.made.set_result(error)
            if time.monotonic() >= end:
                break
        if self._asked:
            asyncio.get_running_loop().call_soon(self._make)
        self._sign(unsigned)

    def _sign(self, unsigned: list[_Unsigned]) -> None:
        try:
            all_fields = self._signatory.fields([one.wanted for one in unsigned])
        except Exception as error:  # whatever signing does, nobody waits for ever
            all_fields = [error] * len(unsigned)
        for one, fields in zip(unsigned, all_fields, strict=True):
            if isinstance(fields, Exception):
                one.made.set_result(fields)
            else:
                one.made.set_result(WireBytes(fields + one.message))
