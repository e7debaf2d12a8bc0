"""Commands in one write (RFC 2920), content in chunks (RFC 3030), every mixture of replies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from sending.engine.pool import Deliverer
from sending.engine.ports import Outcome
from sending.engine.smtp.session import Timeouts
from tests.engine_sink.conftest import BODY, QUICK, World, order
from tests.engine_sink.sink import Cut, Hang, Raw, Sink

PIPELINING = ("PIPELINING", "SIZE 10000000", "8BITMIME")
CHUNKING = (*PIPELINING, "CHUNKING")
DOTTED = b"Subject: x\r\n\r\n.one\r\n..two\r\n"


async def piped(world: World, script: Mapping[str, object]) -> tuple[Outcome, Sink, Deliverer]:
    """Deliver one message to a server that offers PIPELINING."""
    sink = await world.sink(script=dict(script), features=PIPELINING)
    deliverer = world.engine()
    return await deliverer.deliver(order()), sink, deliverer


async def chunked(world: World, script: Mapping[str, object]) -> tuple[Outcome, Sink, Deliverer]:
    """Deliver two messages to a server with CHUNKING; the second goes in one write."""
    sink = await world.sink(script=dict(script), features=CHUNKING)
    deliverer = world.engine()
    assert (await deliverer.deliver(order())).kind == "delivered"
    return await deliverer.deliver(order(data=DOTTED)), sink, deliverer


async def test_the_commands_go_in_one_write(world: World) -> None:
    outcome, sink, _ = await piped(world, {})
    assert outcome.kind == "delivered"
    assert sink.counts["pipelined"] == 2  # RCPT waited behind MAIL, DATA behind RCPT
    assert sink.messages[0].data == BODY + b".\r\n"
    assert {"mail", "rcpt", "data", "body"} <= outcome.timings.keys()


async def test_without_the_offer_each_command_waits_for_its_reply(world: World) -> None:
    outcome, sink = await world.send({})
    assert outcome.kind == "delivered"
    assert sink.counts["pipelined"] == 0


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "BODY"])
async def test_a_refusal_ends_the_message_and_not_the_connection(world: World, verb: str) -> None:
    outcome, sink, deliverer = await piped(world, {verb: ["550 5.7.1 Not wanted"]})
    assert (outcome.kind, outcome.phase, outcome.smtp_code) == ("bounced", verb.lower(), 550)
    assert not outcome.is_ambiguous
    assert sink.messages == []
    assert (await deliverer.deliver(order())).kind == "delivered"
    assert sink.connections == 1
    assert sink.counts["RSET"] == 1


async def test_a_data_begun_without_a_recipient_is_left_by_a_lone_dot(world: World) -> None:
    script = {
        "RCPT": ["550 5.1.1 No such user"],
        "DATA": "354 go on",
        "BODY": ["554 no recipients"],
    }
    outcome, sink, deliverer = await piped(world, script)
    assert (outcome.kind, outcome.phase) == ("bounced", "rcpt")
    assert outcome.classification == "hard/invalid-recipient"
    assert sink.messages == []
    assert (await deliverer.deliver(order())).kind == "delivered"
    assert sink.connections == 1


async def test_a_server_that_takes_a_message_for_nobody_is_left(world: World) -> None:
    script = {"RCPT": ["550 5.1.1 No such user"], "DATA": "354 go on"}
    outcome, sink, deliverer = await piped(world, script)
    assert (outcome.kind, outcome.phase) == ("bounced", "rcpt")
    assert [message.data for message in sink.messages] == [b".\r\n"]
    assert deliverer.idle_sessions == 0


async def test_no_empty_message_goes_to_an_accepted_recipient(world: World) -> None:
    # MAIL is refused, RCPT and DATA are agreed to: a lone dot would deliver nothing to somebody.
    script = {"MAIL": ["451 4.3.0 later"], "RCPT": "250 fine", "DATA": "354 go on"}
    outcome, sink, deliverer = await piped(world, script)
    assert (outcome.kind, outcome.phase) == ("deferred", "mail")
    await sink.until_closed()
    assert sink.messages == []
    assert sink.counts["DATA"] == 1
    assert deliverer.idle_sessions == 0


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "BODY"])
@pytest.mark.parametrize("trouble", [Cut(), Hang()])
async def test_a_connection_lost_in_any_phase_defers(
    world: World, verb: str, trouble: object
) -> None:
    outcome, sink, deliverer = await piped(world, {verb: trouble})
    assert (outcome.kind, outcome.classification) == ("deferred", "soft/network-error")
    assert outcome.is_ambiguous == (verb == "BODY")
    assert sink.messages == []
    await sink.until_closed()
    assert deliverer.idle_sessions == 0


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
async def test_a_server_that_hangs_in_the_middle_is_blamed_where_it_hangs(
    world: World, verb: str
) -> None:
    outcome, _, _ = await piped(world, {verb: Hang()})
    assert outcome.phase == verb.lower()
    assert "did not answer in time" in outcome.text


async def test_replies_missing_after_a_refusal_are_not_waited_for_long(world: World) -> None:
    sink = await world.sink(script={"MAIL": "550 5.7.1 no", "RCPT": Hang()}, features=PIPELINING)
    deliverer = world.engine(timeouts=Timeouts(mail=30, rcpt=30, data=30, reset=0.1, quit=0.1))
    async with asyncio.timeout(3):
        outcome = await deliverer.deliver(order())
    assert (outcome.kind, outcome.phase) == ("bounced", "mail")
    await sink.until_closed()


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "BODY"])
async def test_421_in_the_middle_closes_the_session(world: World, verb: str) -> None:
    outcome, sink, deliverer = await piped(world, {verb: "421 4.3.2 Shutting down"})
    assert (outcome.kind, outcome.smtp_code) == ("deferred", 421)
    assert not outcome.is_ambiguous
    assert deliverer.idle_sessions == 0
    await sink.until_closed()


async def test_a_worn_out_connection_is_replaced_at_once(world: World) -> None:
    for verb in ("MAIL",):
        sink = await world.sink(script={verb: ["250 ok", Cut()]}, features=PIPELINING)
        deliverer = world.engine()
        for _ in range(2):
            assert (await deliverer.deliver(order())).kind == "delivered"
        assert sink.connections == 2


async def test_words_nobody_asked_for_end_a_kept_connection(world: World) -> None:
    sink = await world.sink(script={"BODY": [Raw(b"250 ok\r\n421 4.4.2 too idle\r\n")]})
    deliverer = world.engine()
    assert (await deliverer.deliver(order())).kind == "delivered"
    assert (await deliverer.deliver(order())).kind == "delivered"
    assert sink.connections == 2


async def test_replies_in_pieces_are_put_together(world: World) -> None:
    pieces = Raw(b"250-2.1.0 one\r\n250 2.1.0 two\r\n")
    outcome, sink, _ = await piped(
        world, {"MAIL": pieces, "RCPT": Raw(b"550-5.1.1 No\n550 user\r\n")}
    )
    assert (outcome.phase, outcome.text) == ("rcpt", "5.1.1 No user")
    assert sink.connections == 1


# --- chunks --------------------------------------------------------------------------------------


async def test_a_busy_connection_takes_a_message_in_one_write(world: World) -> None:
    outcome, sink, _ = await chunked(world, {})
    assert outcome.kind == "delivered"
    assert (sink.counts["DATA"], sink.counts["BDAT"]) == (1, 1)
    assert sink.messages[1].data == DOTTED  # no dots stuffed, none added
    assert sink.counts["pipelined"] == 5


async def test_chunks_need_both_offers(world: World) -> None:
    sink = await world.sink(features=("CHUNKING",))
    deliverer = world.engine()
    for _ in range(2):
        assert (await deliverer.deliver(order())).kind == "delivered"
    assert sink.counts["BDAT"] == 0


async def test_large_content_waits_for_the_recipient_to_be_accepted(world: World) -> None:
    sink = await world.sink(features=CHUNKING)
    deliverer = world.engine()
    large = BODY + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 2000
    for _ in range(2):
        assert (await deliverer.deliver(order(data=large))).kind == "delivered"
    assert sink.counts["BDAT"] == 0


@pytest.mark.parametrize("verb", ["MAIL", "RCPT"])
async def test_a_refused_envelope_drops_the_chunk(world: World, verb: str) -> None:
    answers = (
        {"MAIL": "503 no", "RCPT": "503 no"} if verb == "MAIL" else {"RCPT": "550 5.1.1 No user"}
    )
    script: dict[str, object] = {key: ["250 ok", text] for key, text in answers.items()}
    if verb == "MAIL":
        script["MAIL"] = ["250 ok", "550 5.7.1 Not you"]
    outcome, sink, deliverer = await chunked(world, script)
    assert (outcome.kind, outcome.phase) == ("bounced", verb.lower())
    assert not outcome.is_ambiguous
    assert len(sink.messages) == 1
    # After a refusal the next content waits for its recipient.
    assert (await deliverer.deliver(order())).kind == "delivered"
    assert (sink.connections, sink.counts["BDAT"]) == (1, 1)


async def test_a_refused_chunk_is_the_messages_refusal(world: World) -> None:
    outcome, sink, _ = await chunked(world, {"BDAT": "554 5.7.1 This is spam"})
    assert (outcome.kind, outcome.phase) == ("bounced", "body")
    assert outcome.classification.startswith("block/")
    assert len(sink.messages) == 1


async def test_what_the_server_took_is_delivered_whatever_it_said_before(world: World) -> None:
    outcome, sink, _ = await chunked(world, {"MAIL": ["250 ok", "451 4.3.0 hm"], "RCPT": "250 ok"})
    assert outcome.kind == "delivered"
    assert len(sink.messages) == 2


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "BDAT"])
@pytest.mark.parametrize("trouble", [Cut(), Hang()])
async def test_a_chunk_without_an_answer_is_never_tried_twice_at_once(
    world: World, verb: str, trouble: object
) -> None:
    script = {verb: [trouble] if verb == "BDAT" else ["250 ok", trouble]}
    outcome, sink, deliverer = await chunked(world, script)
    assert (outcome.kind, outcome.is_ambiguous) == ("deferred", True)
    assert sink.connections == 1
    await sink.until_closed()
    assert deliverer.idle_sessions == 0


async def test_a_server_that_cuts_gets_no_chunks_for_a_while(world: World) -> None:
    _, sink, deliverer = await chunked(world, {"MAIL": ["250 ok", Cut()]})
    for _ in range(3):
        assert (await deliverer.deliver(order())).kind == "delivered"
    assert sink.counts["BDAT"] == 0


async def test_a_server_that_knows_no_chunks_after_all_gets_the_message_by_data(
    world: World,
) -> None:
    outcome, sink, deliverer = await chunked(world, {"BDAT": "500 5.5.1 what?"})
    assert (outcome.kind, outcome.classification) == ("deferred", "soft/protocol-error")
    for _ in range(2):
        assert (await deliverer.deliver(order())).kind == "delivered"
    assert sink.counts["BDAT"] == 1


async def test_a_connection_that_stood_idle_gets_no_chunk(world: World) -> None:
    sink = await world.sink(features=CHUNKING)
    deliverer = world.engine(timeouts=QUICK, hot_seconds=0.05)
    await deliverer.deliver(order())
    await asyncio.sleep(0.1)
    await deliverer.deliver(order())
    assert (sink.connections, sink.counts["BDAT"]) == (1, 0)
