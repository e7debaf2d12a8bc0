"""Trying a route without sending: connect, secure, log in, say goodbye; each step in words."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

import dns.resolver
from django.conf import settings

from esp.lib.clock import SystemClock
from sending.engine.mx import MxResolver, MxSettings
from sending.engine.ports import Lane, Outcome, Relay, Source
from sending.engine.smtp.connector import Connector, ConnectorSettings
from sending.engine.smtp.session import Origin, Session, SessionSettings, Timeouts
from sending.routes.building import (
    Unusable,
    carrier_of,
    http_settings,
    provider_of,
    relay_of,
)
from sending.routes.handshake import why_refused, why_unreachable
from sending.routes.http.outcomes import clean
from sending.routes.models import Route
from sending.routes.types import Probe, Step

# A person waits for the answer, so a server has less time than it would have for a message.
_TIMEOUTS = Timeouts(
    connect=6.0, greeting=8.0, ehlo=6.0, tls=6.0, auth=8.0, mail=6.0, rcpt=6.0, data=6.0, body=6.0,
    reset=2.0, quit=2.0,
)  # fmt: skip
_TOTAL_SECONDS = 25.0
_CONNECT_SECONDS = 6.0
# Where a connection ends when the server does not like our certificate.
_AROUND_TLS = {"connect", "tls", "greeting", "ehlo"}


def probe(route: Route) -> Probe:
    """Try a smarthost or a provider as far as one can without a message; never raises for either.

    Blocks for 25 seconds at most. Direct delivery has no server of its own to try.
    """
    try:
        if route.kind == Route.Kind.SMARTHOST:
            return asyncio.run(_probe_relay(relay_of(route)))
        if route.kind == Route.Kind.HTTP:
            return _probe_provider(route)
    except Unusable as error:
        return Probe((Step("Read the settings", False, str(error)),), str(error))
    text = "Mail goes to the mail servers of each recipient’s domain; there is nothing to log in to"
    return Probe((Step("Direct delivery", True, text),))


# --- SMTP ---


async def _probe_relay(relay: Relay) -> Probe:
    clock = SystemClock()
    servers = settings.DNS_RESOLVERS
    hosts = tuple(server.rsplit(":", 1)[0] for server in servers)
    port = int(servers[0].rsplit(":", 1)[1]) if servers and ":" in servers[0] else 53
    if not servers:
        hosts = tuple(str(host) for host in dns.resolver.Resolver().nameservers)
    resolver = MxResolver(MxSettings(hosts, port), clock=clock)
    connector = Connector(
        resolver,
        session=SessionSettings(timeouts=_TIMEOUTS),
        clock=clock,
        settings=ConnectorSettings(max_tries=2),
    )
    source = Source("", "", f"mail.{settings.PRODUCT_DOMAIN}")
    try:
        async with asyncio.timeout(_TOTAL_SECONDS):
            opened = await connector.open(relay, Origin(source, Lane("", "probe")))
            if isinstance(opened, Session):
                version = opened.tls_version
                await opened.quit()
                return Probe(_steps(relay, None, version))
            opened = await _explained(relay, opened, source.ehlo_name)
            return Probe(_steps(relay, opened, opened.tls_version), opened.text or opened.phase)
    except TimeoutError:
        text = "The server took too long."
        return Probe((Step(f"Connect to {relay.host}", False, text),), text)
    finally:
        await resolver.close()


async def _explained(relay: Relay, failed: Outcome, ehlo_name: str) -> Outcome:
    """Return the failure in words that say more: why nothing connects, what our certificate lacks.

    A session knows less of both: asyncio keeps the system's reason to itself.
    """
    ip = failed.mx_address
    if failed.smtp_code is not None or failed.phase not in _AROUND_TLS or not ip:
        return failed
    if failed.phase == "connect":
        text = await asyncio.to_thread(
            why_unreachable, ip, relay.port, seconds=_CONNECT_SECONDS / 2
        )
        if text:
            return replace(failed, text=text)
    if relay.tls == "never":
        return failed
    reason = await asyncio.to_thread(
        why_refused, relay, ip, seconds=_CONNECT_SECONDS, ehlo_name=ehlo_name
    )
    return replace(failed, phase="tls", text=reason) if reason else failed


def _steps(relay: Relay, failed: Outcome | None, version: str | None) -> tuple[Step, ...]:
    """Return what was done, up to the phase that failed."""
    secured = f"{version}, certificate {'checked' if relay.verify else 'not checked'}"
    tls = ("tls", "Make the connection secure", secured if version else "")
    titles = [
        ("mx", f"Look up {relay.host}", ""),
        ("connect", f"Connect to port {relay.port}", ""),
        *([tls] if relay.tls == "implicit" else []),
        ("greeting", "Wait for its greeting", ""),
        ("ehlo", "Say EHLO", ""),
        *([tls] if relay.tls == "starttls" or (relay.tls == "opportunistic" and version) else []),
        *([("auth", f"Log in as {relay.username}", "")] if relay.auth else []),
        ("quit", "Say goodbye", "The route can be used."),
    ]
    steps: list[Step] = []
    is_ok: bool | None = True
    for phase, title, detail in titles:
        if failed is not None and phase == failed.phase:
            steps.append(Step(title, False, failed.text))
            is_ok = None
        else:
            steps.append(Step(title, is_ok, detail if is_ok else ""))
    if failed is not None and is_ok:
        steps.append(Step("Try the server", False, failed.text))
    return tuple(steps)


# --- HTTP ---


def _probe_provider(route: Route) -> Probe:
    provider = provider_of(route)
    found, base_url = http_settings(route)
    carrier = carrier_of(route)
    steps = list(_reach(base_url))
    if steps[-1].is_ok:
        steps.append(carrier.try_key())
    hidden = tuple(found[name] for name in provider.secret_names if name in found)
    steps = [Step(step.title, step.is_ok, clean(step.detail, hidden)) for step in steps]
    broken = next((step.detail for step in steps if step.is_ok is False), "")
    return Probe(tuple(steps), broken, proves=steps[-1].is_ok is True)


def _reach(base_url: str) -> Sequence[Step]:
    """Connect as the calls do, so that a wrong name, a closed port and bad TLS are told apart."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    connect = f"Connect to {host}, port {port}"
    try:
        raw = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
    except OSError as error:
        return (Step(connect, False, f"The connection failed: {error.strerror or error}"),)
    with raw:
        if parts.scheme != "https":
            return (Step(connect, True, "Without TLS, in your own network."),)
        try:
            with ssl.create_default_context().wrap_socket(raw, server_hostname=host) as secure:
                version = secure.version() or "TLS"
        except OSError as error:  # ssl.SSLError is one
            step = Step("Make the connection secure", False, f"TLS failed: {error}")
            return (Step(connect, True), step)
    return (Step(connect, True), Step("Make the connection secure", True, version))
