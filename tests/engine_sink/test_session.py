"""One session against servers that refuse, hang, cut or talk nonsense at any verb."""

from __future__ import annotations

import pytest

from sending.engine.pool import Deliverer
from sending.engine.ports import Outcome
from sending.engine.smtp.connector import ConnectorSettings
from tests.engine_sink.conftest import BODY, SOURCE, World, order
from tests.engine_sink.sink import BreakTls, Cut, Drip, Flood, Hang, Raw, Sink


async def test_it_delivers_and_records_how(world: World) -> None:
    outcome, sink = await world.send({})
    assert (outcome.kind, outcome.classification) == ("delivered", "none/delivered")
    assert (outcome.smtp_code, outcome.enhanced_code) == (250, "2.0.0")
    assert (outcome.mx_host, outcome.mx_address) == ("mx1.plainmail.test", "127.0.0.2")
    assert outcome.source_address == "127.0.0.1"
    assert {"connect", "greeting", "ehlo", "mail", "rcpt", "data", "body"} <= set(outcome.timings)
    message = sink.messages[0]
    assert message.data == BODY + b".\r\n"
    assert message.rcpt == "RCPT TO:<bob@plainmail.test>"
    assert message.mail.startswith("MAIL FROM:<b.1@news.acme.example> SIZE=")
    assert sink.counts["QUIT"] == 1


async def test_it_binds_the_source_address(world: World) -> None:
    sink = await world.sink()
    source = type(SOURCE)("ip-9", "127.0.0.9", "out9.mailwright.test")
    outcome = await world.engine().deliver(order(source=source))
    assert outcome.source_address == "127.0.0.9"
    assert sink.messages[0].peer == "127.0.0.9"
    assert "EHLO out9.mailwright.test" in sink.commands


async def test_a_source_address_that_is_gone_is_our_own_fault(world: World) -> None:
    await world.sink()
    source = type(SOURCE)("ip-x", "192.0.2.1", "out.mailwright.test")
    outcome = await world.engine().deliver(order(source=source))
    assert (outcome.kind, outcome.phase) == ("deferred", "connect")
    assert outcome.classification == "soft/server-error"


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY"])
async def test_a_server_that_hangs_costs_one_timeout(world: World, verb: str) -> None:
    outcome, _ = await world.send({verb: Hang()})
    assert outcome.kind == "deferred"
    assert outcome.classification == "soft/network-error"
    assert outcome.phase == {"CONNECT": "greeting"}.get(verb, verb.lower())
    assert "did not answer in time" in outcome.text
    assert outcome.is_ambiguous == (verb == "BODY")


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY"])
async def test_a_server_that_cuts_the_connection_is_tried_later(world: World, verb: str) -> None:
    outcome, _ = await world.send({verb: Cut()})
    assert outcome.kind == "deferred"
    assert outcome.classification == "soft/network-error"
    assert outcome.is_ambiguous == (verb == "BODY")


async def test_a_refused_sender_never_suppresses_the_recipient(world: World) -> None:
    outcome, _ = await world.send({"MAIL": "550 5.1.1 User unknown"})
    assert (outcome.kind, outcome.classification) == ("bounced", "block/sender-rejected")


@pytest.mark.parametrize("verb", ["RCPT", "DATA", "BODY"])
async def test_a_permanent_refusal_bounces(world: World, verb: str) -> None:
    outcome, sink = await world.send({verb: "550 5.1.1 No such user here"})
    assert (outcome.kind, outcome.phase) == ("bounced", verb.lower())
    assert outcome.classification == "hard/invalid-recipient"
    assert (outcome.smtp_code, outcome.enhanced_code) == (550, "5.1.1")
    assert not outcome.is_ambiguous
    assert sink.messages == []


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "BODY"])
async def test_a_temporary_refusal_defers(world: World, verb: str) -> None:
    outcome, _ = await world.send({verb: "451 4.7.1 Greylisted, come back in 60 seconds"})
    assert (outcome.kind, outcome.classification) == ("deferred", "soft/greylisted")


async def test_greylisting_ends_with_a_delivery(world: World) -> None:
    sink = await world.sink(script={"RCPT": ["451 4.7.1 Greylisted"]})
    deliverer = world.engine()
    first = await deliverer.deliver(order())
    second = await deliverer.deliver(order())
    assert (first.kind, second.kind) == ("deferred", "delivered")
    # The session survived the refusal and was reset before the next message.
    assert sink.connections == 1
    assert sink.counts["RSET"] == 1


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY"])
async def test_421_at_any_verb_closes_the_session(world: World, verb: str) -> None:
    outcome, _ = await world.send({verb: "421 4.3.2 Shutting down"})
    assert (outcome.kind, outcome.smtp_code) == ("deferred", 421)
    assert not outcome.is_ambiguous


async def test_a_refusal_in_the_greeting_is_no_bounce(world: World) -> None:
    outcome, _ = await world.send({"CONNECT": "554 5.7.1 192.0.2.1 is on our black list"})
    assert (outcome.kind, outcome.phase) == ("deferred", "greeting")
    assert outcome.classification == "block/reputation"
    assert outcome.timings["greeting"] >= 0


async def test_a_host_that_never_takes_mail_bounces(world: World) -> None:
    outcome, _ = await world.send({"CONNECT": "521 sink.test"})
    assert (outcome.kind, outcome.classification) == ("bounced", "hard/invalid-domain")


async def test_it_falls_back_to_helo(world: World) -> None:
    outcome, sink = await world.send({"EHLO": "502 5.5.1 what is that"})
    assert outcome.kind == "delivered"
    assert sink.counts["HELO"] == 1
    assert "SIZE" not in sink.messages[0].mail


async def test_a_banner_without_end_is_cut_off(world: World) -> None:
    outcome, _ = await world.send({"CONNECT": Flood(b"220-welcome to this server\r\n")})
    assert (outcome.kind, outcome.phase) == ("deferred", "greeting")
    assert outcome.classification == "soft/protocol-error"


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY"])
async def test_a_line_of_ten_megabytes_is_cut_off(world: World, verb: str) -> None:
    outcome, _ = await world.send({verb: Flood(b"2" * 65536)})
    assert outcome.kind == "deferred"
    assert outcome.classification == "soft/protocol-error"
    assert len(outcome.text) <= 1000


async def test_a_slow_drip_does_not_renew_the_timeout(world: World) -> None:
    outcome, _ = await world.send({"CONNECT": Drip(b"220 " + b"x" * 100 + b"\r\n")})
    assert (outcome.kind, outcome.phase) == ("deferred", "greeting")
    assert outcome.timings["greeting"] < 1


@pytest.mark.parametrize(
    "garbage",
    [b"hello\r\n", b"999 what\r\n", b"-12 what\r\n", b"100 go\r\n", b"\r\n", b"\xff\xfe\x00\r\n"],
)
@pytest.mark.parametrize("verb", ["CONNECT", "RCPT", "BODY"])
async def test_garbage_instead_of_a_reply_defers(world: World, verb: str, garbage: bytes) -> None:
    outcome, _ = await world.send({verb: Raw(garbage)})
    assert (outcome.kind, outcome.classification) == ("deferred", "soft/protocol-error")


async def test_nul_and_controls_do_not_reach_the_log(world: World) -> None:
    outcome, _ = await world.send({"RCPT": Raw(b"550 5.1.1 no\x00 such\x1b[31m user\xff\r\n")})
    assert outcome.text == "5.1.1 no such [31m user"
    assert outcome.classification == "hard/invalid-recipient"


async def test_data_answered_with_250_is_not_trusted(world: World) -> None:
    outcome, sink = await world.send({"DATA": "250 OK"})
    assert (outcome.kind, outcome.phase) == ("deferred", "data")
    assert outcome.classification == "soft/protocol-error"
    assert sink.messages == []


async def test_dots_are_stuffed_and_bare_line_ends_mended(world: World) -> None:
    sink = await world.sink()
    data = b"Subject: x\n\n.hidden\r\n..two\n.\nMAIL FROM:<smuggled@acme.example>\rend"
    outcome = await world.engine().deliver(order(data=data))
    assert outcome.kind == "delivered"
    assert sink.messages[0].data == (
        b"Subject: x\r\n\r\n..hidden\r\n...two\r\n..\r\n"
        b"MAIL FROM:<smuggled@acme.example>\r\nend\r\n.\r\n"
    )
    assert len(sink.messages) == 1


async def test_a_message_above_the_servers_size_is_not_sent(world: World) -> None:
    outcome, sink = await world.send({}, features=("SIZE 20",))
    assert (outcome.kind, outcome.classification) == ("bounced", "block/content")
    assert outcome.enhanced_code == "5.3.4"
    assert sink.counts["MAIL"] == 0


async def test_eight_bits_are_announced_only_when_there_are_any(world: World) -> None:
    sink = await world.sink()
    deliverer = world.engine()
    await deliverer.deliver(order())
    await deliverer.deliver(order(data=BODY + "Grüße\r\n".encode()))
    assert "8BITMIME" not in sink.messages[0].mail
    assert sink.messages[1].mail.endswith("BODY=8BITMIME")


async def test_an_internationalised_address_needs_smtputf8(world: World) -> None:
    world.domain("xn--bcher-kva.test", "127.0.0.2")
    world.domain("old.test", "127.0.0.3")
    new = await world.sink()
    old = await world.sink("127.0.0.3", features=("SIZE 1000000",))
    deliverer = world.engine()
    taken = await deliverer.deliver(order("jürgen@bücher.test"))
    refused = await deliverer.deliver(order("jürgen@old.test"))
    assert taken.kind == "delivered"
    assert new.messages[0].rcpt == "RCPT TO:<jürgen@xn--bcher-kva.test>"
    assert new.messages[0].mail.endswith("SMTPUTF8")
    assert (refused.kind, refused.enhanced_code) == ("bounced", "5.6.7")
    assert old.counts["MAIL"] == 0


@pytest.mark.parametrize(
    "address",
    [
        "bob@plainmail.test>\r\nRSET", "b ob@plainmail.test", "<bob@plainmail.test", "bob", "",
        "@x.test", "a" * 300 + "@plainmail.test", "bob@[127.0.0.2]", "bob@" + "a" * 70 + ".test",
        "\ud800@x.test",
    ],
)  # fmt: skip
async def test_an_address_that_could_break_out_of_its_command_bounces(
    world: World, address: str
) -> None:
    sink = await world.sink()
    outcome = await world.engine().deliver(order(address, domain="plainmail.test"))
    assert (outcome.kind, outcome.phase) == ("bounced", "envelope")
    assert outcome.classification == "hard/invalid-recipient"
    assert sink.connections == 0


async def test_a_bad_return_path_is_not_blamed_on_the_recipient(world: World) -> None:
    await world.sink()
    outcome = await world.engine().deliver(order(mail="x>y@acme.example"))
    assert (outcome.kind, outcome.classification) == ("bounced", "block/sender-rejected")


async def test_an_empty_return_path_is_sent_as_such(world: World) -> None:
    sink = await world.sink()
    assert (await world.engine().deliver(order(mail=""))).kind == "delivered"
    assert sink.messages[0].mail.startswith("MAIL FROM:<> ")


# --- TLS -----------------------------------------------------------------------------------------


async def _deliver(world: World, deliverer: Deliverer) -> Outcome:
    return await deliverer.deliver(order())


async def test_tls_is_used_where_offered_with_any_certificate(world: World) -> None:
    outcome, sink = await world.send({}, tls=world.tls)
    assert outcome.kind == "delivered"
    assert outcome.tls_version in ("TLSv1.2", "TLSv1.3")
    assert sink.messages[0].is_tls
    assert sink.counts["EHLO"] == 2
    assert outcome.timings["tls"] > 0


@pytest.mark.parametrize("trouble", [BreakTls(), Cut(), Hang()])
async def test_broken_tls_falls_back_to_plain_text_and_is_remembered(
    world: World, trouble: object
) -> None:
    sink = await world.sink(script={"STARTTLS": trouble}, tls=world.tls)
    deliverer = world.engine()
    assert (await _deliver(world, deliverer)).kind == "delivered"
    assert not sink.messages[0].is_tls
    await deliverer.close()
    assert (await _deliver(world, deliverer)).kind == "delivered"
    assert sink.counts["STARTTLS"] == 1
    assert sink.connections == 3


async def test_a_server_that_politely_declines_tls_keeps_the_connection(world: World) -> None:
    outcome, sink = await world.send({"STARTTLS": "454 4.7.0 TLS not available"}, tls=world.tls)
    assert (outcome.kind, outcome.tls_version) == ("delivered", None)
    assert sink.connections == 1


@pytest.mark.parametrize("is_offered", [True, False])
async def test_required_tls_never_falls_back(world: World, is_offered: bool) -> None:
    sink: Sink = await world.sink(
        script={"STARTTLS": BreakTls()}, tls=world.tls if is_offered else None
    )
    deliverer = world.engine(connector=ConnectorSettings(tls="required"))
    outcome = await _deliver(world, deliverer)
    assert (outcome.kind, outcome.phase) == ("deferred", "tls")
    assert outcome.classification == "soft/tls-failure"
    assert sink.messages == []


async def test_words_smuggled_in_before_the_handshake_are_dropped(world: World) -> None:
    # CVE-2011-0411 from the client's side: what comes before TLS must not be read after it.
    smuggled = Raw(b"220 ready\r\n250-sink.test\r\n250 EVIL\r\n")
    outcome, sink = await world.send({"STARTTLS": smuggled}, tls=world.tls)
    # The sink does not go on with TLS after Raw: the handshake fails, plain text takes over.
    assert outcome.kind == "delivered"
    assert sink.connections == 2
