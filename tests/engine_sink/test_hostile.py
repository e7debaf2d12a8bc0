"""Servers that mean harm or know no better: each costs one attempt and its own timeouts, no more.

After each of them nothing may stay connected, no place in the lane may stay taken, and the same
engine must deliver to the next server.
"""

from __future__ import annotations

import random
import ssl
import time

import pytest

from esp.lib.clock import SystemClock
from sending.engine.ports import Outcome
from sending.engine.smtp.session import Timeouts
from sending.engine.smtp.tls import opportunistic_context, verifying_context
from sending.engine.throttle import LaneLimits, LocalThrottle
from tests.engine_sink.conftest import BODY, World, order
from tests.engine_sink.sink import (
    Action,
    Cut,
    Deaf,
    Drip,
    Flood,
    Hang,
    Raw,
    Sink,
    Smuggle,
    SpoilTls,
)

PIPELINING = ("PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8")
# Every phase at its timeout of half a second, twice (with TLS and without), and a slow machine.
BOUND_SECONDS = 12.0
VERBS = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "BODY")


async def meet(
    world: World,
    script: dict[str, Action | list[Action]],
    *,
    data: bytes = BODY,
    timeouts: Timeouts | None = None,
    **settings: object,
) -> tuple[Outcome, Sink]:
    """Deliver one message to such a server; shows that it left nothing behind and broke nothing."""
    throttle = LocalThrottle(LaneLimits(connections=1, pause_seconds=0), clock=SystemClock())
    bad = await world.sink(script=script, **settings)
    world.domain("good.test", "127.0.0.3")
    good = await world.sink("127.0.0.3")
    engine = world.engine(throttle=throttle, **({"timeouts": timeouts} if timeouts else {}))
    start = time.monotonic()
    outcome = await engine.deliver(order(data=data))
    assert time.monotonic() - start < BOUND_SECONDS
    assert len(throttle) == 0  # no lane is in use
    for _ in range(5):  # its timeouts are short, too, and the machine may be slow
        other = await engine.deliver(order("bob@good.test"))
        if other.kind == "delivered":
            break
    assert other.kind == "delivered", other
    await engine.close()
    await bad.until_closed()
    await good.until_closed()
    assert engine.idle_sessions == 0
    assert len(outcome.text) <= 1000
    return outcome, bad


# --- replies without end -------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
async def test_a_reply_of_lines_without_end_is_cut_off(world: World, verb: str) -> None:
    outcome, _ = await meet(world, {verb: Flood(b"250-and one more\r\n", total=2**27)})
    assert (outcome.kind, outcome.classification) == ("deferred", "soft/protocol-error")
    assert "no end" in outcome.text


@pytest.mark.parametrize("verb", VERBS)
async def test_a_reply_whose_lines_drip_has_one_timeout(world: World, verb: str) -> None:
    outcome, _ = await meet(world, {verb: Drip(b"250-a\r\n" * 30, pause=0.02)})
    assert (outcome.kind, outcome.classification) == ("deferred", "soft/network-error")
    assert "did not answer in time" in outcome.text
    assert sum(outcome.timings.values()) < 2


async def test_ten_thousand_features_are_cut_off(world: World) -> None:
    lines = b"".join(b"250-X-FEATURE-%d\r\n" % number for number in range(10_000))
    outcome, _ = await meet(world, {"EHLO": Raw(lines + b"250 HELP\r\n")})
    assert (outcome.kind, outcome.phase) == ("deferred", "ehlo")
    assert outcome.classification == "soft/protocol-error"


@pytest.mark.parametrize(
    "size", ["9" * 5000, "-1", "1e9", "0x10", "", "lots", "\u00b2\u00b2"],
)  # fmt: skip
async def test_a_size_that_is_none_is_no_limit(world: World, size: str) -> None:
    outcome, _ = await meet(world, {}, features=(f"SIZE {size}", "8BITMIME"))
    assert outcome.kind == "delivered"


# --- words that are wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [b"000 zero\r\n", b"999 nine\r\n", b"600 six\r\n", b"199 one\r\n", b"25x what\r\n",
     b"2500 too long\r\n", b"25\r\n", b" 250 indented\r\n", b"\xb2\xb5\xb0 ok\r\n",
     b"\x00\x00\x00\r\n", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"],
)  # fmt: skip
@pytest.mark.parametrize("verb", VERBS)
async def test_what_is_no_reply_defers(world: World, verb: str, garbage: bytes) -> None:
    outcome, sink = await meet(world, {verb: Raw(garbage)})
    assert (outcome.kind, outcome.classification) == ("deferred", "soft/protocol-error")
    assert outcome.is_ambiguous == (verb == "BODY")
    assert sink.messages == []


@pytest.mark.parametrize("code", ["220", "250", "354", "334"])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "BODY"])
async def test_only_the_right_code_goes_on(world: World, verb: str, code: str) -> None:
    outcome, _ = await meet(world, {verb: f"{code} hm"})
    if code == "354" if verb == "DATA" else code[0] == "2":
        assert outcome.kind == "delivered"
    else:
        assert (outcome.kind, outcome.phase) == ("deferred", verb.lower())
        assert outcome.classification == "soft/protocol-error"


async def test_the_last_line_of_a_reply_decides(world: World) -> None:
    outcome, _ = await meet(world, {"RCPT": Raw(b"250-2.1.5 fine\r\n550 5.1.1 no such user\r\n")})
    assert (outcome.kind, outcome.smtp_code) == ("bounced", 550)


@pytest.mark.parametrize("features", [("8BITMIME",), PIPELINING])
async def test_a_server_that_answers_before_it_is_asked_is_left(
    world: World, features: tuple[str, ...]
) -> None:
    early = b"220 hi\r\n250 hello\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"
    outcome, sink = await meet(world, {"CONNECT": Raw(early)}, features=features)
    assert (outcome.kind, outcome.phase) == ("deferred", "ehlo")
    assert outcome.classification == "soft/protocol-error"
    assert "before it was asked" in outcome.text
    assert sink.counts["MAIL"] == 0


@pytest.mark.parametrize("features", [("8BITMIME",), PIPELINING])
async def test_a_250_that_comes_before_the_content_is_no_delivery(
    world: World, features: tuple[str, ...]
) -> None:
    outcome, sink = await meet(
        world, {"DATA": Raw(b"354 go on\r\n250 2.0.0 taken\r\n")}, features=features
    )
    assert (outcome.kind, outcome.phase) == ("deferred", "body")
    assert outcome.classification == "soft/protocol-error"
    assert not outcome.is_ambiguous  # none of the content had left
    assert all("Hello Bob" not in command for command in sink.commands)


async def test_replies_for_each_recipient_after_the_dot_are_no_second_message(
    world: World,
) -> None:
    """As LMTP does it (RFC 2033): the first one is the answer, the connection is not kept."""
    sink = await world.sink(script={"BODY": [Raw(b"250 2.0.0 one\r\n550 5.1.1 two\r\n")]})
    engine = world.engine()
    first = await engine.deliver(order())
    second = await engine.deliver(order())
    assert (first.kind, first.text) == ("delivered", "2.0.0 one")
    assert second.kind == "delivered"
    assert sink.connections == 2
    await engine.close()
    await sink.until_closed()


async def test_a_flood_on_a_kept_connection_ends_it(world: World) -> None:
    late = Flood(b"250 more\r\n" * 500, total=2**30, first=b"250 2.0.0 taken\r\n", pause=0.1)
    sink = await world.sink(script={"BODY": [late]})
    engine = world.engine()
    assert (await engine.deliver(order())).kind == "delivered"
    await sink.until_closed()  # by us, at once, not when the connection has idled out
    assert (await engine.deliver(order())).kind == "delivered"


# --- what the server cannot ----------------------------------------------------------------------


async def test_eight_bits_go_as_they_are_to_a_server_without_the_word_for_it(
    world: World,
) -> None:
    data = BODY + "Grüße\r\n".encode()
    outcome, sink = await meet(world, {}, features=("SIZE 1000000",), data=data)
    assert outcome.kind == "delivered"
    assert "BODY" not in sink.messages[0].mail
    assert "Grüße".encode() in sink.messages[0].data


# --- connections that end at the wrong moment ----------------------------------------------------


async def test_a_server_that_reads_no_content_costs_one_timeout(world: World) -> None:
    big = BODY + b"x" * 70 + b"\r\n"
    outcome, _ = await meet(world, {"DATA": Deaf()}, data=big + (b"y" * 998 + b"\r\n") * 8000)
    assert (outcome.kind, outcome.phase) == ("deferred", "body")
    assert outcome.is_ambiguous
    assert outcome.timings["body"] < 2


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "BODY"])
@pytest.mark.parametrize("trouble", [Cut(), SpoilTls(), Hang()])
async def test_tls_that_ends_in_the_middle_defers(world: World, verb: str, trouble: Action) -> None:
    """Without a close_notify too: what was said until then counts, what was not is missing."""
    outcome, sink = await meet(world, {verb: trouble}, tls=world.tls)
    assert (outcome.kind, outcome.classification) == ("deferred", "soft/network-error")
    assert outcome.is_ambiguous == (verb == "BODY")
    assert outcome.tls_version
    assert sink.messages == []


async def test_a_reply_before_the_connection_ends_counts(world: World) -> None:
    sink = await world.sink(script={"QUIT": Cut()}, tls=world.tls)
    engine = world.engine()
    assert (await engine.deliver(order())).kind == "delivered"
    await engine.close()
    await sink.until_closed()


async def test_words_smuggled_in_before_tls_are_not_read_after_it(world: World) -> None:
    """CVE-2011-0411 from the client's side, with a handshake that succeeds."""
    evil = Smuggle(b"250-sink.test\r\n250-SMTPUTF8\r\n250 SIZE 1\r\n")
    outcome, sink = await meet(world, {"STARTTLS": evil}, tls=world.tls, features=("8BITMIME",))
    # A limit of one byte would have stopped the message.
    assert outcome.kind == "delivered"
    assert outcome.tls_version
    assert sink.messages[0].is_tls
    assert sink.counts["EHLO"] == 2
    assert "SIZE" not in sink.messages[0].mail


def test_no_server_may_ask_for_another_handshake() -> None:
    """Up to TLS 1.2 it could, again and again; TLS 1.3 knows no such thing."""
    for context in (opportunistic_context(), verifying_context()):
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


# --- all at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_servers_do_each_message_has_one_honest_end(world: World, seed: int) -> None:
    """Two or three troubles drawn at once: "delivered" only where the content was agreed to."""
    rng = random.Random(seed)
    troubles: tuple[Action, ...] = (
        Cut(), Hang(), Raw(b"\r\n"), Raw(b"250"), Raw(b"250 ok\r\n250 ok\r\n"), Raw(b"\x00" * 9000),
        Raw(b"354 go on\r\n"), Drip(b"250 slowly\r\n", pause=0.04), Flood(b"2" * 8192, total=2**20),
        Flood(b"250 ok\r\n", total=2**20), "421 4.3.2 away", "550 5.1.1 no", "451 4.7.1 later",
        "250-half\r\n550 half", "250 fine",
    )  # fmt: skip
    script: dict[str, Action | list[Action]] = {
        verb: rng.choice(troubles) for verb in rng.sample([*VERBS, "STARTTLS", "QUIT"], 3)
    }
    outcome, sink = await meet(
        world,
        script,
        tls=rng.choice([None, world.tls]),
        features=rng.choice([("8BITMIME",), PIPELINING, (*PIPELINING, "CHUNKING")]),
    )
    agreed = script.get("BODY", "250")
    if outcome.kind == "delivered":
        assert outcome.smtp_code is not None
        assert 200 <= outcome.smtp_code < 300
        assert outcome.phase == "body"
        assert sink.counts["DATA"]
    elif agreed == "250" and not outcome.is_ambiguous:
        assert sink.messages == []
