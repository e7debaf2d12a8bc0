"""Messages that are signed in one go get their signatures together, each its own."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from sending.engine.dkim.multibuffer import LANES, WORTH, Key
from sending.engine.dkim.plan import SigningPlan
from sending.engine.dkim.signatory import Signatory
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


def sign_all(desk: Signatory, signers: Sequence[Sequence[Signer]]) -> None:
    """Have one message signed for each set of signers; all must be as by themselves."""
    lines = [(LINES[0], f"Subject: {number}", *LINES[2:]) for number in range(len(signers))]
    plans = [SigningPlan(some, fixed=FIXED, own=OWN) for some in signers]
    wanted = [
        plan.prepare(own, BODY, timestamp=NOW) for plan, own in zip(plans, lines, strict=True)
    ]
    assert desk.fields(wanted) == [one.signed() for one in wanted]


@pytest.mark.parametrize(
    ("messages", "sizes"),
    [(1, []), (WORTH - 1, []), (WORTH, [WORTH]), (LANES, [8]), (21, [8, 8, 5]), (17, [8, 8])],
)
def test_eight_are_made_at_once_and_few_by_themselves(messages: int, sizes: list[int]) -> None:
    library = Library()
    sign_all(signatory(library), [[(FIRST, SECOND)[n % 2]] for n in range(messages)])
    assert library.sizes == sizes


def test_keys_of_one_size_are_signed_together() -> None:
    library = Library()
    sign_all(signatory(library), [[FIRST, ED], [SHORT], [SECOND, SHORT, ED], [ED]] * 3)
    assert sorted(library.sizes) == [6, 6]


def test_without_a_library_each_is_made_by_itself() -> None:
    sign_all(signatory(None), [[FIRST, ED], [SHORT]] * 5)


def test_a_message_without_signers_has_no_fields() -> None:
    sign_all(signatory(Library()), [[], [FIRST]])


def test_what_the_library_failed_at_is_made_by_openssl() -> None:
    library = Library(fails_for=b"subject:2")
    sign_all(signatory(library), [[FIRST]] * 5)
    assert library.sizes == [5]


def test_a_library_that_breaks_costs_nobody_a_signature() -> None:
    library = Library()
    library.signatures = lambda wanted: 1 // 0  # type: ignore[method-assign, assignment]
    sign_all(signatory(library), [[FIRST]] * LANES)


def test_a_key_that_fails_costs_its_own_message_alone() -> None:
    broken = Signer("acme.example", "x", "rsa-sha256", rsa.generate_private_key(65537, 2048))
    broken.together = FIRST.together

    def fail(_data: bytes) -> bytes:
        raise ValueError("the key is broken")

    broken.signature = fail  # type: ignore[method-assign]
    desk = signatory(Library(fails_for=b"s=x;"))
    plans = [SigningPlan([one], fixed=FIXED, own=OWN) for one in (broken, *[FIRST] * WORTH)]
    wanted = [plan.prepare(LINES, BODY, timestamp=NOW) for plan in plans]
    made = desk.fields(wanted)
    assert isinstance(made[0], ValueError)
    assert made[1:] == [one.signed() for one in wanted[1:]]
