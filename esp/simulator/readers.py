"""The people behind the mailboxes, and the machines in front of them.

For each stored message, the seed decides who opens, clicks, unsubscribes or complains; they use the
URLs that really stand in the message. A second copy of a message moves nobody.
"""

from __future__ import annotations

import asyncio
import email
import html
import re
from collections.abc import Coroutine
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import default as modern
from typing import Any

from esp.simulator import outbound
from esp.simulator.chance import draw, pick
from esp.simulator.clock import Clock
from esp.simulator.config import SimulatorConfig
from esp.simulator.fetch import Fetcher, FetchFailed, NotLoopback
from esp.simulator.ledger import part_text
from esp.simulator.magic import Magic, magic_of
from esp.simulator.mailbox import Delivery, Fact, MailStore, Stored
from esp.simulator.outbound import Outbound, Outgoing, OutgoingFailed
from esp.simulator.providers import Provider

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0"
READERS_AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.4.0",
    f"Mozilla/5.0 (Linux; Android 15; Pixel 9) {_WEBKIT} Mobile Safari/537.36",
)
# How the image proxies of large providers and the scanners of mail gateways call themselves.
MACHINES_AGENTS = (
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
    "BarracudaCentral/LinkProtection scanner",
)
ONE_CLICK = b"List-Unsubscribe=One-Click"
MAX_URLS = 30
_ELEMENT = re.compile(r"<(img|a)\s([^<>]*)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    r"""(?<![\w-])(src|href)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE
)
_IN_BRACKETS = re.compile(r"<\s*([^<>]+?)\s*>")


@dataclass(frozen=True, slots=True)
class Urls:
    """What a mail offers to fetch, in the order in which it stands there."""

    images: tuple[str, ...]
    links: tuple[str, ...]
    one_click: str | None
    unsubscribe_mail: str | None


def _web_urls(page: str) -> tuple[list[str], list[str]]:
    """Return the http(s) URLs of pictures and of links in HTML.

    Two patterns instead of a parser: ten times as fast, and every second message is read.
    """
    found: dict[str, list[str]] = {"img": [], "a": []}
    for tag, attributes in _ELEMENT.findall(page):
        for name, *values in _ATTRIBUTE.findall(attributes):
            url = html.unescape("".join(values)).strip()
            is_the_one = name.lower() == ("src" if tag.lower() == "img" else "href")
            if is_the_one and url.lower().startswith(("http://", "https://")):
                found[tag.lower()].append(url)
    return found["img"], found["a"]


def urls_in(parsed: EmailMessage) -> Urls:
    """Find the pictures, links and ways to unsubscribe of a message."""
    images, links = _web_urls(part_text(parsed, "html") or "")
    ways = _IN_BRACKETS.findall(str(parsed.get("List-Unsubscribe", "")))
    web = next((way for way in ways if way.lower().startswith(("http://", "https://"))), None)
    mail = next((way[7:] for way in ways if way.lower().startswith("mailto:")), None)
    # RFC 8058 3.1: without this header a POST must not be sent.
    has_one_click = ONE_CLICK.decode() in str(parsed.get("List-Unsubscribe-Post", ""))
    return Urls(
        images=tuple(images[:MAX_URLS]),
        links=tuple(links[:MAX_URLS]),
        one_click=web if has_one_click else None,
        unsubscribe_mail=mail.partition("?")[0] if mail else None,
    )


class Readers:
    """Decides and does what follows a delivery."""

    def __init__(
        self,
        config: SimulatorConfig,
        *,
        clock: Clock,
        store: MailStore,
        fetcher: Fetcher,
        outbound_mail: Outbound,
        providers: tuple[Provider, ...],
    ) -> None:
        self.rates = config.profile.readers
        self._config, self._profile = config, config.profile
        self._clock, self._store = clock, store
        self._fetcher, self._outbound = fetcher, outbound_mail
        self._providers = {provider.domain: provider for provider in providers}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pending(self) -> int:
        """How many reactions are still on their way."""
        return len(self._tasks)

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_stored(self, delivery: Delivery, stored: Stored) -> None:
        """Start what follows a stored copy; returns at once."""
        if stored.copy > 1:
            return
        about = _About(self._config.seed, delivery)
        magic = magic_of(delivery.recipient)
        bounces = magic is Magic.LATE_BOUNCE or (
            magic is None and about.draw("late-bounce") < self._profile.late_bounce_rate
        )
        if bounces:
            self._spawn(self._bounce_late(delivery, stored, about))
            return
        if magic is Magic.OOO:
            self._spawn(self._reply(delivery, stored))
        if magic is Magic.COMPLAINT or about.draw("complain") < self.rates.complain_rate:
            self._spawn(self._complain(delivery, stored, about))
        if about.draw("machine") < self.rates.machine_rate:
            self._spawn(self._scan(delivery, stored, about))
        opens = about.draw("open") < self.rates.open_rate
        unsubscribes = about.draw("unsubscribe") < self.rates.unsubscribe_rate
        if opens or unsubscribes:
            self._spawn(self._read(delivery, stored, about, opens, unsubscribes))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fact(
        self, kind: str, delivery: Delivery, stored: Stored, text: str = "", code: int | None = None
    ) -> None:
        self._store.record(
            Fact(
                at=self._clock.now(),
                kind=kind,
                provider=delivery.provider,
                recipient=delivery.recipient,
                mail_from=delivery.mail_from,
                message_id=delivery.message_id,
                code=code,
                text=text,
                stored_id=stored.id,
            )
        )

    async def _send(
        self, kind: str, delivery: Delivery, stored: Stored, outgoing: Outgoing
    ) -> None:
        try:
            await self._outbound.send(outgoing)
        except OutgoingFailed as error:
            self._fact("outgoing_failed", delivery, stored, f"{kind}: {error}")
        else:
            self._fact(kind, delivery, stored, outgoing.recipient)

    async def _bounce_late(self, delivery: Delivery, stored: Stored, about: _About) -> None:
        if not delivery.mail_from:
            return  # RFC 3464 2: a message from the null sender is never answered with a DSN
        await self._pause(self._profile.late_bounce_delay_seconds, about, "late-bounce-pause")
        provider = self._providers[delivery.provider]
        outgoing = outbound.late_bounce(delivery, provider, at=self._clock.now())
        await self._send("late_bounce_sent", delivery, stored, outgoing)

    async def _reply(self, delivery: Delivery, stored: Stored) -> None:
        parsed = email.message_from_bytes(delivery.raw, policy=modern)
        automatic = str(parsed.get("Auto-Submitted", "no")).lower()
        if not delivery.mail_from or not automatic.startswith("no"):
            return  # RFC 3834 2: automatic mail is not answered automatically
        provider = self._providers[delivery.provider]
        outgoing = outbound.auto_reply(delivery, provider, at=self._clock.now())
        await self._send("autoreply_sent", delivery, stored, outgoing)

    async def _complain(self, delivery: Delivery, stored: Stored, about: _About) -> None:
        await self._pause(self.rates.delay_seconds, about, "complain-pause")
        provider = self._providers[delivery.provider]
        to = self._complaint_address(delivery)
        outgoing = outbound.complaint(delivery, provider, to=to, at=self._clock.now())
        await self._send("complaint_sent", delivery, stored, outgoing)

    def _complaint_address(self, delivery: Delivery) -> str:
        # RFC 9477 3.1: the address in the mail counts only when the mail proves its origin; else
        # the complaint goes to the address that is published for the source IP.
        parsed = email.message_from_bytes(delivery.raw, policy=modern)
        address = str(parsed.get("CFBL-Address", "")).partition(";")[0].strip()
        verdict = delivery.authentication
        is_proven = verdict is None or any(v.result == "pass" for v in verdict.dkim)
        return address if "@" in address and is_proven else self._config.feedback_address

    async def _scan(self, delivery: Delivery, stored: Stored, about: _About) -> None:
        """A machine fetches every picture and every link as soon as the mail is there."""
        urls = _urls(delivery)
        agent = about.pick("machine-agent", MACHINES_AGENTS)
        for kind, targets in (("machine_open", urls.images), ("machine_click", urls.links)):
            for url in targets:
                await self._visit(kind, url, delivery, stored, agent)

    async def _read(
        self, delivery: Delivery, stored: Stored, about: _About, opens: bool, unsubscribes: bool
    ) -> None:
        await self._pause(self.rates.delay_seconds, about, "open-pause")
        urls = _urls(delivery)
        agent = about.pick("agent", READERS_AGENTS)
        if opens:
            for url in urls.images:
                await self._visit("open", url, delivery, stored, agent)
            await self._click(urls, delivery, stored, about, agent)
        if unsubscribes:
            await self._pause(self.rates.delay_seconds, about, "unsubscribe-pause")
            await self._unsubscribe(urls, delivery, stored, agent)

    async def _click(
        self, urls: Urls, delivery: Delivery, stored: Stored, about: _About, agent: str
    ) -> None:
        # Leaving is a wish of its own with a rate of its own: no reader clicks there by chance.
        links = [link for link in urls.links if "unsubscribe" not in link.lower()]
        if not links or about.draw("click") >= self.rates.click_rate:
            return
        await self._pause(self.rates.delay_seconds, about, "click-pause")
        await self._visit("click", about.pick("link", links), delivery, stored, agent)

    async def _unsubscribe(
        self, urls: Urls, delivery: Delivery, stored: Stored, agent: str
    ) -> None:
        if urls.one_click:
            await self._visit(
                "unsubscribe",
                urls.one_click,
                delivery,
                stored,
                agent,
                method="POST",
                form=ONE_CLICK,
            )
        elif urls.unsubscribe_mail:
            provider = self._providers[delivery.provider]
            outgoing = outbound.unsubscribe_mail(
                delivery, provider, to=urls.unsubscribe_mail, at=self._clock.now()
            )
            await self._send("unsubscribe", delivery, stored, outgoing)

    async def _visit(
        self,
        kind: str,
        url: str,
        delivery: Delivery,
        stored: Stored,
        agent: str,
        *,
        method: str = "GET",
        form: bytes | None = None,
    ) -> None:
        try:
            fetched = await self._fetcher.fetch(url, agent=agent, method=method, form=form)
        except NotLoopback:
            return
        except FetchFailed as error:
            self._fact("fetch_failed", delivery, stored, f"{kind} {url}: {error}")
            return
        done = kind if fetched.is_success else "fetch_failed"
        text = url if fetched.is_success else f"{kind} {url}"
        self._fact(done, delivery, stored, text, fetched.status)

    async def _pause(self, span: tuple[float, float], about: _About, what: str) -> None:
        low, high = span
        await self._clock.sleep(low + (high - low) * about.draw(what))


@dataclass(frozen=True, slots=True)
class _About:
    """Draws about one message in one mailbox."""

    seed: int
    delivery: Delivery

    def draw(self, what: str) -> float:
        return draw(self.seed, what, self.delivery.recipient, self.delivery.message_id)

    def pick(self, what: str, options: tuple[str, ...] | list[str]) -> str:
        return pick(self.seed, options, what, self.delivery.recipient, self.delivery.message_id)


def _urls(delivery: Delivery) -> Urls:
    return urls_in(email.message_from_bytes(delivery.raw, policy=modern))
