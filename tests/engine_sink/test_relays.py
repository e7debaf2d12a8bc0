"""Mail that leaves through a smarthost: its port, TLS, certificates and logins."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import pytest

from sending.engine.ports import Lane, Order, Outcome, Relay, Source, Way
from sending.engine.smtp.auth import without_secret
from tests.engine_sink.conftest import SOURCE, World, order
from tests.engine_sink.sink import Cut, Sink, self_signed, self_signed_context

SECRET = "correct horse"
LOGINS = ("AUTH PLAIN LOGIN XOAUTH2", "SIZE 10000000", "PIPELINING")


def relay(world: World, **fields: object) -> Relay:
    settings: dict[str, object] = {
        "host": "127.0.0.2", "port": world.port, "verify": False, "allow_private": True,
        "username": "mailwright", "secret": SECRET,
    }  # fmt: skip
    return Relay(**(settings | fields))  # type: ignore[arg-type]


def through(one: Relay, *, rank: int = 0, route: str = "house") -> Way:
    return Way(SOURCE, route=route, relay=one, rank=rank)


async def send(world: World, one: Relay, **fields: object) -> Outcome:
    return await world.engine().deliver(order(ways=[through(one)], **fields))  # type: ignore[arg-type]


async def test_a_relay_takes_mail_for_any_domain_without_a_look_up(world: World) -> None:
    sink = await world.sink()
    outcome = await send(world, relay(world, tls="never"), domain="nowhere.test")
    assert outcome.kind == "delivered"
    assert outcome.lane == Lane("ip-1", "route:house")
    assert (outcome.route, outcome.mx_host) == ("house", "127.0.0.2")
    assert len(sink.messages) == 1


async def test_a_relay_is_found_by_name_and_has_a_port_of_its_own(world: World) -> None:
    other = await world.sink("127.0.0.3")
    world.port = 0
    sink = await world.sink()
    world.dns.host("smtp.house.test", "127.0.0.3")
    outcome = await send(world, relay(world, host="smtp.house.test", port=other.port, tls="never"))
    assert outcome.kind == "delivered"
    assert (len(other.messages), len(sink.messages)) == (1, 0)


@pytest.mark.parametrize(
    ("auth", "answers", "lines"),
    [
        ("plain", ["235 ok"], [b"\0mailwright\0correct horse"]),
        ("login", ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 ok"],
         [b"mailwright", b"correct horse"]),
        ("xoauth2", ["235 ok"], [b"user=mailwright\x01auth=Bearer correct horse\x01\x01"]),
    ],
)  # fmt: skip
async def test_it_logs_in_once_for_a_connection(
    world: World, auth: str, answers: list[str], lines: list[bytes]
) -> None:
    sink = await world.sink(script={"AUTH": answers}, features=LOGINS, tls=world.tls)
    deliverer = world.engine()
    way = through(relay(world, auth=auth))
    for _ in range(2):
        assert (await deliverer.deliver(order(ways=[way]))).kind == "delivered"
    said = [command.split(" ")[-1] for command in sink.commands]
    for line in lines:
        assert said.count(base64.b64encode(line).decode()) == 1
    assert sink.connections == 1
    assert sink.messages[0].is_tls


@pytest.mark.parametrize(
    ("auth", "answers"),
    [
        ("plain", ["535 5.7.8 Not you"]),
        ("plain", ["334 go on"]),
        ("login", ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "535 5.7.8 Not you"]),
        ("xoauth2", ["334 eyJzdGF0dXMiOiI0MDEifQ==", "535 5.7.8 Not you"]),
        ("plain", ["500 5.5.1 What is AUTH PLAIN AG1haWx3cmlnaHQAY29ycmVjdCBob3JzZQ=="]),
    ],
)
async def test_a_refused_login_defers_and_tells_no_secret(
    world: World, auth: str, answers: list[str]
) -> None:
    sink = await world.sink(script={"AUTH": answers}, features=LOGINS, tls=world.tls)
    outcome = await send(world, relay(world, auth=auth))
    assert (outcome.kind, outcome.phase) == ("deferred", "auth")
    assert outcome.classification == "block/auth-failure"
    assert "login was refused" in outcome.text
    assert SECRET not in outcome.text
    assert "AG1haWx3" not in outcome.text
    assert sink.messages == []
    await sink.until_closed()


async def test_a_login_that_is_cut_is_no_refusal(world: World) -> None:
    await world.sink(script={"AUTH": Cut()}, features=LOGINS, tls=world.tls)
    outcome = await send(world, relay(world, auth="plain"))
    assert (outcome.phase, outcome.classification) == ("auth", "soft/network-error")


async def test_a_login_that_is_not_offered_is_not_tried(world: World) -> None:
    sink = await world.sink(features=("AUTH CRAM-MD5",), tls=world.tls)
    outcome = await send(world, relay(world, auth="plain"))
    assert (outcome.kind, outcome.phase) == ("deferred", "auth")
    assert "does not offer AUTH PLAIN but CRAM-MD5" in outcome.text
    assert sink.counts["AUTH"] == 0


async def test_no_login_goes_over_a_line_that_should_have_had_tls(world: World) -> None:
    sink = await world.sink(features=LOGINS)
    outcome = await send(world, relay(world, auth="plain", tls="opportunistic"))
    assert (outcome.kind, outcome.phase) == ("deferred", "auth")
    assert sink.counts["AUTH"] == 0
    assert (await send(world, relay(world, auth="plain", tls="never"))).kind == "delivered"


def test_a_servers_echo_is_cleared_of_every_form_of_the_secret() -> None:
    one = Relay("smtp.house.test", 587, auth="login", username="u", secret=SECRET)
    text = f"no {SECRET} nor {base64.b64encode(SECRET.encode()).decode()} by AUTH LOGIN"
    assert without_secret(text, one) == "no … nor … by AUTH LOGIN"
    assert SECRET not in repr(one)


# --- TLS -----------------------------------------------------------------------------------------


async def test_implicit_tls_comes_before_the_greeting(world: World) -> None:
    sink = await world.sink(tls=world.tls, is_implicit=True)
    outcome = await send(world, relay(world, tls="implicit"))
    assert outcome.kind == "delivered"
    assert outcome.tls_version in ("TLSv1.2", "TLSv1.3")
    assert sink.counts["STARTTLS"] == 0


async def test_implicit_tls_with_a_server_that_speaks_none_defers(world: World) -> None:
    sink = await world.sink()
    outcome = await send(world, relay(world, tls="implicit"))
    assert (outcome.kind, outcome.phase) == ("deferred", "tls")
    await sink.until_closed()


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
async def test_a_certificate_that_nobody_vouches_for_is_refused(world: World, tls: str) -> None:
    sink = await world.sink(tls=world.tls, is_implicit=tls == "implicit")
    outcome = await send(world, relay(world, tls=tls, verify=True))
    assert (outcome.kind, outcome.phase) == ("deferred", "tls")
    assert "CERTIFICATE_VERIFY_FAILED" in outcome.text
    assert sink.messages == []
    await sink.until_closed()


async def test_starttls_must_be_offered(world: World) -> None:
    sink = await world.sink()
    outcome = await send(world, relay(world, tls="starttls"))
    assert (outcome.kind, outcome.phase) == ("deferred", "tls")
    assert sink.counts["MAIL"] == 0


async def test_a_message_that_demands_tls_gets_it_from_a_relay_that_need_not(world: World) -> None:
    sink = await world.sink()
    outcome = await send(world, relay(world, tls="opportunistic"), tls="required")
    assert (outcome.kind, outcome.phase) == ("deferred", "tls")
    assert sink.counts["MAIL"] == 0


async def test_it_shows_the_clients_certificate(world: World, tmp_path: Path) -> None:
    certificate, key = self_signed("mailwright.test")
    context = self_signed_context(tmp_path, client=certificate)
    sink = await world.sink(tls=context)
    one = relay(world, certificate=certificate, key=key)
    assert (await send(world, one)).kind == "delivered"
    assert sink.certificates == [ssl.PEM_cert_to_DER_cert(certificate)]
    assert (await send(world, relay(world))).kind == "deferred"
    assert len(sink.messages) == 1


async def test_a_clients_certificate_that_cannot_be_used_defers_in_words(world: World) -> None:
    await world.sink(tls=world.tls)
    outcome = await send(world, relay(world, certificate="-----BEGIN nothing", key="none"))
    assert (outcome.kind, outcome.phase) == ("deferred", "tls")
    assert "client certificate" in outcome.text


# --- where and whose -----------------------------------------------------------------------------


async def test_a_private_relay_needs_to_be_allowed(world: World) -> None:
    sink = await world.sink()
    outcome = await send(world, relay(world, tls="never", allow_private=False))
    assert (outcome.kind, outcome.phase) == ("deferred", "mx")
    assert "not a public address" in outcome.text
    assert sink.connections == 0


async def test_a_relay_whose_name_is_gone_defers(world: World) -> None:
    await world.sink()
    outcome = await send(world, relay(world, host="gone.house.test", tls="never"))
    assert (outcome.kind, outcome.phase) == ("deferred", "mx")
    assert outcome.classification == "soft/network-error"


async def test_what_a_relay_says_of_itself_never_bounces_a_message(world: World) -> None:
    await world.sink(script={"CONNECT": "521 sink.test"})
    assert (await send(world, relay(world, tls="never"))).kind == "deferred"


async def test_connections_are_not_shared_between_relays_or_logins(world: World) -> None:
    sink: Sink = await world.sink(features=LOGINS)
    deliverer = world.engine()
    for user in ("one", "two"):
        way = through(relay(world, tls="never", auth="plain", username=user))
        assert (await deliverer.deliver(order(ways=[way]))).kind == "delivered"
    direct: Order = order(ways=[Way(Source("ip-1", "127.0.0.1", "out1.mailwright.test"))])
    assert (await deliverer.deliver(direct)).kind == "delivered"
    assert sink.connections == 3
