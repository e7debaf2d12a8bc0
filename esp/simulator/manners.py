"""The manners of one provider: what it answers to whom, from its data, the seed and its memory.

A provider's limits count per source IP over all of its MX hosts. Methods return a Reply when the
provider objects, None when it does not; nothing here does input or output.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_network

from esp.simulator import replies
from esp.simulator.authentication import AuthVerdict
from esp.simulator.chance import draw, pick
from esp.simulator.clock import Clock
from esp.simulator.config import Profile
from esp.simulator.magic import Magic, magic_of
from esp.simulator.providers import Provider
from esp.simulator.replies import Reply

MEMORY = 200_000
DEFERRALS_OF_A_DEFER_MAILBOX = 2
SLOW_MAILBOX_SECONDS = 3.0


class BreakPoint(Enum):
    """Where a provider hangs up without a word."""

    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    AFTER_DOT = "after-dot"


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class _Memory(OrderedDict[tuple[str, ...], float]):
    """Remembers a bounded number of keys; the oldest are forgotten first."""

    def remember(self, key: tuple[str, ...], value: float) -> None:
        self[key] = value
        if len(self) > MEMORY:
            self.popitem(last=False)


class Manners:
    """The behaviour of one provider, with its memory of senders."""

    def __init__(self, provider: Provider, *, profile: Profile, seed: int, clock: Clock) -> None:
        self.provider = provider
        self._profile = profile
        self._seed = seed
        self._clock = clock
        self._connections: dict[str, int] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._greylist = _Memory()
        self._deferrals = _Memory()
        self._tries = _Memory()

    def connected(self, ip: str) -> Reply | None:
        """Count a connection. The caller must call `disconnected` even when this objects."""
        count = self._connections.get(ip, 0) + 1
        self._connections[ip] = count
        limit = self.provider.max_connections
        if limit and count > limit:
            return replies.too_many_connections(self.provider.title, ip)
        return None

    def disconnected(self, ip: str) -> None:
        self._connections[ip] -= 1
        if not self._connections[ip]:
            del self._connections[ip]

    def mail(self, ip: str, *, messages_before: int) -> Reply | None:
        """Answer MAIL FROM: session limit, then rate limit."""
        limit = self.provider.messages_per_connection
        if limit and messages_before >= limit:
            return replies.session_used_up(self.provider.title)
        if self.provider.messages_per_second and not self._take_token(ip):
            return replies.rate_limited(self.provider.title, ip)
        return None

    def _take_token(self, ip: str) -> bool:
        now, burst = self._clock.now(), float(self.provider.burst)
        bucket = self._buckets.setdefault(ip, _Bucket(burst, now))
        refill = (now - bucket.at) * self.provider.messages_per_second
        bucket.tokens, bucket.at = min(burst, bucket.tokens + refill), now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def recipient(self, ip: str, mail_from: str, address: str) -> Reply | None:
        """Answer RCPT TO: known domain, magic mailboxes, unknown mailboxes, greylisting."""
        if address.rpartition("@")[2] != self.provider.domain:
            return replies.relay_denied(address)
        return (
            self._magic_recipient(mail_from, address)
            or self._unknown_recipient(address)
            or self._greylisting(ip, mail_from, address)
        )

    def _magic_recipient(self, mail_from: str, address: str) -> Reply | None:
        magic = magic_of(address)
        if magic is Magic.BOUNCE:
            return replies.unknown_user(address)
        if magic is Magic.FULL:
            return replies.mailbox_full(address, for_now="soft" in address.rpartition("@")[0])
        if magic is Magic.DEFER:
            key = (mail_from, address)
            seen = self._deferrals.get(key, 0)
            if seen < DEFERRALS_OF_A_DEFER_MAILBOX:
                self._deferrals.remember(key, seen + 1)
                return replies.receiving_too_fast(address)
        return None

    def _unknown_recipient(self, address: str) -> Reply | None:
        rate = self._profile.unknown_mailbox_rate
        if rate and magic_of(address) is None and draw(self._seed, "unknown", address) < rate:
            return replies.unknown_user(address)
        return None

    def _greylisting(self, ip: str, mail_from: str, address: str) -> Reply | None:
        seconds = self._profile.greylist_seconds
        if not self.provider.greylists or not seconds:
            return None
        # As real ones do: by network, so that a retry from the neighbouring address counts.
        network = str(ip_network(f"{ip}/24", strict=False))
        key, now = (network, mail_from, address), self._clock.now()
        first_seen = self._greylist.get(key)
        if first_seen is None:
            self._greylist.remember(key, now)
            return replies.greylisted(seconds)
        left = first_seen + seconds - now
        return replies.greylisted(left) if left > 0 else None

    def message(self, ip: str, recipients: list[str], verdict: AuthVerdict | None) -> Reply | None:
        """Answer the end of the data: authentication, then content."""
        if self.provider.requires_authentication and verdict is not None:
            if not verdict.is_authenticated:
                return replies.unauthenticated(self.provider.title)
            if not verdict.aligned:
                return replies.unaligned(verdict.from_domain)
        if any(magic_of(address) is Magic.BLOCK for address in recipients):
            return replies.spam_blocked(self.provider.title, ip)
        return None

    def slow_mailbox_delay(self, address: str) -> float:
        """Return seconds of waiting before RCPT TO is answered for a `slow@` mailbox."""
        slow = magic_of(address) is Magic.SLOW
        return SLOW_MAILBOX_SECONDS * self._profile.slowness if slow else 0.0

    def delay(self, seconds: float) -> float:
        return seconds * self._profile.slowness

    def break_point(self, mail_from: str) -> BreakPoint | None:
        """Decide whether this try breaks off, and where; each try of a sender draws anew."""
        if not self.provider.break_rate:
            return None
        tries = self._tries.get((mail_from,), 0)
        self._tries.remember((mail_from,), tries + 1)
        about = (self.provider.domain, mail_from, tries)
        if draw(self._seed, "break", *about) >= self.provider.break_rate:
            return None
        points = list(BreakPoint)
        if not self._profile.break_after_dot:
            points.remove(BreakPoint.AFTER_DOT)
        return pick(self._seed, points, "break-point", *about)
