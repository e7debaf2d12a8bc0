"""Messages that want a signature in the same moment get it together, each its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from sending.engine.dkim.gathering import Signatory
from sending.engine.dkim.multibuffer import LANES, WORTH, Key
from sending.engine.dkim.plan import SigningPlan
from sending.engine.dkim.signing import Signer
from tests.engine_sink.dkim.test_plan import FIXED, LINES, OWN
from tests.engine_sink.dkim.test_signing import ED, NOW

BODY = b"Hello.\r\n"


def signer(selector: str, bits: int = 2048) -> Signer:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return Signer("acme.example", selector, "rsa-sha256", key)


FIRST, SECOND, SHORT = signer("a"), signer("b"), signer("c", 1024)


class Library:
    """Makes by OpenSSL what the library makes, on any processor; keeps the sizes of its calls."""

    def __init__(self, *, fails_for: bytes = b"\0") -> None:
        self._by_key = {one.together: one for one in (FIRST, SECOND, SHORT)}
        self._fails_for = fails_for
        self.sizes: list[int] = []

    def signatures(self, wanted: Sequence[tuple[Key, bytes]]) -> list[bytes | None]:
        self.sizes.append(len(wanted))
        assert len({key.bits for key, _ in wanted}) == 1
        return [
            None if self._fails_for in data else self._by_key[key].signature(data)
            for key, data in wanted
        ]


def signatory(library: Library | None) -> Signatory:
    return Signatory(library)  # type: ignore[arg-type]


async def sign_all(desk: Signatory, signers: Sequence[Sequence[Signer]]) -> None:
    """Have one message signed for each set of signers at once; all must be as by themselves."""
    lines = [(LINES[0], f"Subject: {number}", *LINES[2:]) for number in range(len(signers))]
    plans = [SigningPlan(some, fixed=FIXED, own=OWN) for some in signers]
    pairs = list(zip(plans, lines, strict=True))
    made = await asyncio.gather(
        *(desk.fields(plan.prepare(own, BODY, timestamp=NOW)) for plan, own in pairs)
    )
    assert made == [plan.prepare(own, BODY, timestamp=NOW).signed() for plan, own in pairs]


@pytest.mark.parametrize(
    ("messages", "sizes"),
    [(1, []), (WORTH - 1, []), (WORTH, [WORTH]), (LANES, [8]), (21, [8, 8, 5]), (17, [8, 8])],
)
async def test_eight_are_made_at_once_and_few_by_themselves(
    messages: int, sizes: list[int]
) -> None:
    library = Library()
    await sign_all(signatory(library), [[(FIRST, SECOND)[n % 2]] for n in range(messages)])
    assert library.sizes == sizes


async def test_a_message_that_comes_a_turn_later_is_waited_for() -> None:
    library, plan = Library(), SigningPlan([FIRST], fixed=FIXED, own=OWN)
    desk = signatory(library)

    async def after(turns: int) -> bytes:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await desk.fields(plan.prepare(LINES, BODY, timestamp=NOW))

    made = await asyncio.gather(*(after(turns) for turns in range(6)))
    assert set(made) == {plan.prepare(LINES, BODY, timestamp=NOW).signed()}
    assert library.sizes == [6]


async def test_keys_of_one_size_are_gathered_for_themselves() -> None:
    library = Library()
    await sign_all(signatory(library), [[FIRST, ED], [SHORT], [SECOND, SHORT, ED], [ED]] * 3)
    assert sorted(library.sizes) == [6, 6]


async def test_without_a_library_each_is_made_at_once() -> None:
    await sign_all(signatory(None), [[FIRST, ED], [SHORT]] * 5)


async def test_what_the_library_failed_at_is_made_by_openssl() -> None:
    library = Library(fails_for=b"subject:2")
    await sign_all(signatory(library), [[FIRST]] * 5)
    assert library.sizes == [5]


async def test_a_library_that_breaks_keeps_nobody_waiting() -> None:
    library = Library()
    library.signatures = lambda wanted: 1 // 0  # type: ignore[method-assign, assignment]
    await sign_all(signatory(library), [[FIRST]] * LANES)


async def test_a_message_that_was_cut_off_takes_nobody_with_it() -> None:
    library, plan = Library(), SigningPlan([FIRST], fixed=FIXED, own=OWN)
    desk = signatory(library)
    tasks = [
        asyncio.create_task(desk.fields(plan.prepare(LINES, BODY, timestamp=NOW)))
        for _ in range(LANES - 1)
    ]
    await asyncio.sleep(0)
    tasks[0].cancel()
    made = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(made[0], asyncio.CancelledError)
    assert set(made[1:]) == {plan.prepare(LINES, BODY, timestamp=NOW).signed()}
    assert library.sizes == [LANES - 2]


async def test_a_key_that_fails_costs_its_own_message_alone() -> None:
    broken = Signer("acme.example", "x", "rsa-sha256", rsa.generate_private_key(65537, 2048))
    broken.together = FIRST.together

    def fail(_data: bytes) -> bytes:
        raise ValueError("the key is broken")

    broken.signature = fail  # type: ignore[method-assign]
    library = Library(fails_for=b"s=x;")
    desk = signatory(library)
    plans = [SigningPlan([one], fixed=FIXED, own=OWN) for one in (broken, *[FIRST] * WORTH)]
    made = await asyncio.gather(
        *(desk.fields(plan.prepare(LINES, BODY, timestamp=NOW)) for plan in plans),
        return_exceptions=True,
    )
    assert isinstance(made[0], ValueError)
    assert made[1:] == [plans[1].prepare(LINES, BODY, timestamp=NOW).signed()] * WORTH
