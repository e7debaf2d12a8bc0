"""Addresses that carry a message's id."""

from __future__ import annotations

import pytest

from esp.lib.ids import encode, new_id
from sending.engine.verp import (
    addresses,
    decode,
    feedback_address,
    return_path,
    unsubscribe_address,
)

KEY, OLD_KEY = b"k" * 32, b"o" * 32


def test_the_addresses_of_a_message_are_made_together() -> None:
    message = new_id()
    made = addresses(message, key=KEY, domain="rp.acme.example")
    assert made.name == encode(message)
    assert made.return_path == return_path(message, key=KEY, domain="rp.acme.example")
    assert made.unsubscribe == unsubscribe_address(message, key=KEY, domain="rp.acme.example")


def test_a_return_path_leads_back_to_its_message() -> None:
    message = new_id()
    address = return_path(message, key=KEY, domain="rp.acme.example")
    assert address.startswith("b.")
    assert len(address.partition("@")[0]) == 2 + 26 + 1 + 8
    decoded = decode(address, keys=[KEY])
    assert (decoded.purpose, decoded.message_id) == ("bounce", message)


def test_it_survives_servers_that_fold_case_or_add_brackets() -> None:
    message = new_id()
    address = unsubscribe_address(message, key=KEY, domain="rp.acme.example")
    decoded = decode(f"<{address.upper()}>", keys=[KEY])
    assert (decoded.purpose, decoded.message_id) == ("unsubscribe", message)
    assert decode(address.partition("@")[0], keys=[KEY]).message_id == message


def test_an_old_key_still_opens() -> None:
    message = new_id()
    address = return_path(message, key=OLD_KEY, domain="rp.acme.example")
    assert decode(address, keys=[KEY, OLD_KEY]).message_id == message
    with pytest.raises(ValueError, match="forged"):
        decode(address, keys=[KEY])


def test_a_bounce_address_does_not_unsubscribe() -> None:
    address = return_path(new_id(), key=KEY, domain="rp.acme.example")
    with pytest.raises(ValueError, match="forged"):
        decode("u" + address[1:], keys=[KEY])


@pytest.mark.parametrize(
    "address",
    ["", "fbl@x.test", "b.short.00000000@x.test", "b..@x.test", f"b.{'u' * 26}.00000000@x.test",
     f"b.{'z' * 26}.00000000@x.test", "b.01h455vb4pex5vsknk084sn02q.zzzzzzzz@x.test"],
)  # fmt: skip
def test_foreign_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"address|identifier"):
        decode(address, keys=[KEY])


def test_a_weak_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 to 64 bytes"):
        return_path(new_id(), key=b"short", domain="x.test")


def test_complaints_have_an_address_of_their_own() -> None:
    assert feedback_address("fbl.mailwright.test") == "fbl@fbl.mailwright.test"
