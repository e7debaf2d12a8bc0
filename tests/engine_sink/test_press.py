"""Messages that are asked for in the same moment are made in a row, each with its own fate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest

from sending.engine import press as module
from sending.engine.dkim.plan import Wanted
from sending.engine.dkim.signatory import Signatory
from sending.engine.press import Press


class Desk(Signatory):
    """Signs with a line of its own; keeps how many messages came at a time."""

    def __init__(self) -> None:
        super().__init__(None)
        self.sizes: list[int] = []

    def fields(self, wanted: Sequence[Wanted]) -> list[bytes | Exception]:
        self.sizes.append(len(wanted))
        return [b"Signed: yes\r\n" for _ in wanted]


def letter(text: bytes) -> Callable[[], tuple[Wanted, bytes]]:
    return lambda: (Wanted((), ()), text)


async def test_what_is_asked_for_together_is_made_and_signed_together() -> None:
    desk = Desk()
    press = Press(desk)
    made = await asyncio.gather(*(press.data(letter(b"%d" % number)) for number in range(21)))
    assert made == [b"Signed: yes\r\n%d" % number for number in range(21)]
    assert desk.sizes == [21]


async def test_a_message_that_comes_a_turn_later_is_waited_for() -> None:
    desk = Desk()
    press = Press(desk)

    async def after(turns: int) -> bytes:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await press.data(letter(b"%d" % turns))

    made = await asyncio.gather(*(after(turns) for turns in range(6)))
    assert made == [b"Signed: yes\r\n%d" % turns for turns in range(6)]
    assert desk.sizes == [6]
    assert await press.data(letter(b"later")) == b"Signed: yes\r\nlater"
    assert desk.sizes == [6, 1]


async def test_content_that_fails_costs_its_own_message_alone() -> None:
    press = Press(Desk())
    made = await asyncio.gather(
        press.data(letter(b"one")),
        press.data(lambda: 1 // 0),  # type: ignore[arg-type, return-value]
        press.data(letter(b"two")),
        return_exceptions=True,
    )
    assert isinstance(made[1], ZeroDivisionError)
    assert [made[0], made[2]] == [b"Signed: yes\r\none", b"Signed: yes\r\ntwo"]


async def test_a_signature_that_fails_costs_its_own_message_alone() -> None:
    desk = Desk()
    fields: list[bytes | Exception] = [b"Signed: yes\r\n", ValueError("the key is broken")]
    desk.fields = lambda _: fields  # type: ignore[method-assign]
    press = Press(desk)
    made = await asyncio.gather(
        press.data(letter(b"one")), press.data(letter(b"two")), return_exceptions=True
    )
    assert made[0] == b"Signed: yes\r\none"
    assert isinstance(made[1], ValueError)


async def test_content_that_ends_an_iteration_keeps_nobody_waiting() -> None:
    press = Press(Desk())
    made = await asyncio.gather(
        press.data(lambda: next(iter(()))),
        press.data(letter(b"two")),
        return_exceptions=True,
    )
    assert isinstance(made[0], RuntimeError)  # as in any coroutine (PEP 479)
    assert made[1] == b"Signed: yes\r\ntwo"
    assert await press.data(letter(b"three")) == b"Signed: yes\r\nthree"


async def test_a_desk_that_breaks_keeps_nobody_waiting() -> None:
    desk = Desk()
    desk.fields = lambda _: 1 // 0  # type: ignore[method-assign, assignment, return-value]
    press = Press(desk)
    made = await asyncio.gather(
        press.data(letter(b"one")), press.data(letter(b"two")), return_exceptions=True
    )
    assert [type(error) for error in made] == [ZeroDivisionError] * 2


async def test_a_message_that_was_cut_off_is_not_made() -> None:
    desk, made = Desk(), []
    press = Press(desk)

    def write() -> tuple[Wanted, bytes]:
        made.append("first")
        return Wanted((), ()), b"first"

    first = asyncio.create_task(press.data(write))
    second = asyncio.create_task(press.data(letter(b"second")))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == b"Signed: yes\r\nsecond"
    assert (made, desk.sizes) == ([], [1])


async def test_slow_content_lets_others_leave_and_replies_be_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ROUND_SECONDS", 0.005)
    desk = Desk()
    press, events = Press(desk), []

    def slow() -> tuple[Wanted, bytes]:
        time.sleep(0.01)
        return Wanted((), ()), b"slow"

    async def ask(name: str, write: Callable[[], tuple[Wanted, bytes]]) -> None:
        await press.data(write)
        events.append(name)

    async def listen() -> None:
        while len(events) < 5:
            await asyncio.sleep(0)
            events.append("heard")

    names = [("quick", letter(b"")), ("slow", slow), ("slower", slow), ("last", letter(b""))]
    await asyncio.gather(*(ask(*one) for one in names), listen())
    assert desk.sizes == [2, 1, 1]
    kept = [name for name in events if name != "heard"]
    assert kept == ["quick", "slow", "slower", "last"]
    assert "heard" in events[events.index("slow") : events.index("slower")]


async def test_what_comes_while_others_wait_for_a_round_joins_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ROUND_SECONDS", 0.0)
    desk = Desk()
    press = Press(desk)

    async def twice(number: int) -> bytes:
        await press.data(letter(b"first"))
        return await press.data(letter(b"%d" % number))

    made = await asyncio.gather(*(twice(number) for number in range(5)))
    assert made == [b"Signed: yes\r\n%d" % number for number in range(5)]
    assert desk.sizes == [1] * 10
