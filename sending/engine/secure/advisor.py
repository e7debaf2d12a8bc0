"""Decide what a session with an MX host must fulfil: DANE, else MTA-STS, else what TLS there is."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, Protocol

from esp.lib.clock import Clock
from sending.engine.cache import TtlCache
from sending.engine.ports import AddressAnswer, MxAnswer
from sending.engine.secure.dane import Tlsa, check_chain, peer_chain, tlsa_from_text
from sending.engine.secure.fetch import FetchFailed, FetchSettings, fetch_policy_file
from sending.engine.secure.mta_sts import PolicyInvalid, StsPolicy, parse_policy, policy_id_of
from sending.engine.secure.results import PolicyType, ResultType, TlsReport

# How long it is believed that a domain has, or has no, demand of its own.
_SHARING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class StoredPolicy:
    """A policy as it was fetched; `expires_at` is a POSIX time."""

    domain: str
    policy_id: str
    policy: StsPolicy
    expires_at: float


class PolicyStore(Protocol):
    """Where policies outlive the process: a policy holds until its end, whatever DNS says."""

    async def load(self, domain: str) -> StoredPolicy | None:
        """Return the stored policy of `domain`, perhaps one that has ended, or None."""

    async def save(self, stored: StoredPolicy) -> None:
        """Keep `stored` in place of an older one."""


class Questions(Protocol):
    """The DNS as the advisor needs it; `mx.MxResolver` answers."""

    async def addresses(self, host: str, *, version: int) -> AddressAnswer: ...

    async def texts(self, name: str) -> tuple[str, ...]: ...

    async def tlsa(self, host: str, port: int) -> tuple[str, ...] | None: ...


@dataclass(frozen=True, slots=True)
class HostRule:
    """What holds for one MX host of a domain.

    `refusal`: the host must not be used, and why. `demand`: "verified" (certificate for the host's
    name from a known authority), "dane" (the chain meets `records`), "encrypted" (any certificate)
    or "none" (plain text will do). `is_testing`: a failure is counted and the mail goes on.
    """

    demand: Literal["none", "encrypted", "verified", "dane"] = "none"
    policy_type: PolicyType = "no-policy-found"
    refusal: str = ""
    refusal_result: ResultType = "validation-failure"
    is_testing: bool = False
    records: tuple[Tlsa, ...] = ()
    names: tuple[str, ...] = ()

    def problem_of(self, tls: ssl.SSLObject) -> str:
        """Return "" when the finished handshake meets the TLSA records, else why it does not."""
        if self.demand != "dane":
            return ""
        return check_chain(peer_chain(tls), self.records, self.names)


@dataclass(frozen=True, slots=True)
class AdvisorSettings:
    """`port` is where TLSA records are looked up (25 on the Internet)."""

    port: int = 25
    fetch: FetchSettings = field(default_factory=FetchSettings)
    cache_size: int = 20_000
    failure_seconds: float = 300.0  # RFC 8461 section 3.3: not more often than every five minutes
    required_domains: frozenset[str] = frozenset()


class TlsAdvisor:
    """Knows what TLS each MX host must offer, and counts how sessions fared.

    DANE wins over MTA-STS (RFC 8461 section 2); an operator's demand for a domain is met by either,
    else by a certificate for the MX host.
    """

    def __init__(
        self, questions: Questions, store: PolicyStore, *, settings: AdvisorSettings, clock: Clock
    ) -> None:
        self._questions = questions
        self._store = store
        self._settings = settings
        self._clock = clock
        self._kept: TtlCache[str, StoredPolicy] = TtlCache(size=settings.cache_size, clock=clock)
        self._sharing: TtlCache[str, str] = TtlCache(size=settings.cache_size, clock=clock)
        self._failed: TtlCache[str, bool] = TtlCache(size=settings.cache_size, clock=clock)
        self._under_way: dict[str, asyncio.Task[StsPolicy | None]] = {}
        self._counts: Counter[TlsReport] = Counter()
        self.required_domains = settings.required_domains

    async def rule_for(self, answer: MxAnswer, host: str, *, is_secure: bool) -> HostRule:
        """Return what holds for `host`; `is_secure`: its address came with a DNSSEC proof."""
        if answer.is_secure and is_secure:
            rule = await self._dane(answer.domain, host)
            if rule is not None:
                return rule
        policy = await self.policy_of(answer.domain)
        if policy is not None and policy.mode != "none":
            return self._sts(policy, host)
        if answer.domain in self.required_domains:
            return HostRule("verified")
        return HostRule()

    async def sharing(self, answer: MxAnswer) -> str:
        """Return the domain when its sessions must not be shared with others, else "".

        A session that was opened under no demand must not carry mail of a domain that has one, and
        one domain's policy must not stop another with the same servers.
        """
        known = self._sharing.get(answer.domain)
        if known is None:
            policy = await self.policy_of(answer.domain)
            has_demand = (
                answer.is_secure
                or answer.domain in self.required_domains
                or (policy is not None and policy.mode != "none")
            )
            known = answer.domain if has_demand else ""
            self._sharing.put(answer.domain, known, seconds=_SHARING_SECONDS)
        return known

    async def policy_of(self, domain: str) -> StsPolicy | None:
        """Return the MTA-STS policy that holds for `domain` now, or None."""
        task = self._under_way.get(domain)
        if task is None:
            task = asyncio.create_task(self._current(domain))
            self._under_way[domain] = task
            task.add_done_callback(lambda _: self._under_way.pop(domain, None))
        return await asyncio.shield(task)

    def count(self, report: TlsReport) -> None:
        """Count a session for the TLS reports."""
        self._counts[report] += 1

    def take_counts(self) -> Counter[TlsReport]:
        """Return what was counted since the last call."""
        counts, self._counts = self._counts, Counter()
        return counts

    async def close(self) -> None:
        """Stop what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _dane(self, domain: str, host: str) -> HostRule | None:
        texts = await self._questions.tlsa(host, self._settings.port)
        if texts is None:
            why = f"the TLSA records of {host} could not be looked up safely"
            return HostRule("dane", "tlsa", refusal=why, refusal_result="dnssec-invalid")
        if not texts:
            return None
        records = tuple(record for text in texts if (record := tlsa_from_text(text)) is not None)
        usable = tuple(record for record in records if record.is_usable)
        if not usable:
            # RFC 7672 section 2.2: encryption then is a must, authentication cannot be had.
            return HostRule("encrypted", "tlsa")
        return HostRule("dane", "tlsa", records=usable, names=(host, domain))

    def _sts(self, policy: StsPolicy, host: str) -> HostRule:
        is_testing = policy.mode == "testing"
        if policy.allows(host):
            return HostRule("verified", "sts", is_testing=is_testing)
        why = f"the MTA-STS policy does not name {host} ({', '.join(policy.mx)[:200]})"
        return HostRule("verified", "sts", refusal=why, is_testing=is_testing)

    async def _current(self, domain: str) -> StsPolicy | None:
        now = self._clock.now().timestamp()
        stored = self._kept.get(domain)
        if stored is None:
            stored = await self._store.load(domain)
        if stored is not None and stored.expires_at <= now:
            stored = None
        policy_id = policy_id_of(await self._questions.texts(f"_mta-sts.{domain}"))
        is_known = stored is not None and policy_id in ("", stored.policy_id)
        if not is_known and policy_id and not self._failed.get(domain):
            stored = await self._fetch(domain, policy_id, now) or stored
        if stored is None:
            return None
        self._kept.put(domain, stored, seconds=stored.expires_at - now)
        return stored.policy

    async def _fetch(self, domain: str, policy_id: str, now: float) -> StoredPolicy | None:
        """Return the new policy once it is stored; None (counted) keeps the old one in force."""
        host = f"mta-sts.{domain}"
        result: ResultType = "sts-policy-fetch-error"
        try:
            ip = await self._address(host)
            body = await asyncio.get_running_loop().run_in_executor(
                None, fetch_policy_file, host, ip, self._settings.fetch
            )
            policy = parse_policy(body)
        except FetchFailed as error:
            if error.is_certificate:
                result = "sts-webpki-invalid"
        except PolicyInvalid:
            result = "sts-policy-invalid"
        else:
            stored = StoredPolicy(domain, policy_id, policy, now + policy.max_age_seconds)
            await self._store.save(stored)
            return stored
        self._failed.put(domain, True, seconds=self._settings.failure_seconds)
        self.count(TlsReport(domain, "sts", result))
        return None

    async def _address(self, host: str) -> str:
        """Return an address of the policy's host; strangers' DNS must not aim us at ourselves."""
        for version in (4, 6):
            answer = await self._questions.addresses(host, version=version)
            for address in answer.addresses:
                if not address.refusal:
                    return address.ip
        raise FetchFailed(f"{host} has no address that may be used")


class MemoryStore:
    """Keeps policies in the process alone."""

    def __init__(self) -> None:
        self._policies: dict[str, StoredPolicy] = {}

    async def load(self, domain: str) -> StoredPolicy | None:
        """Return what was saved."""
        return self._policies.get(domain)

    async def save(self, stored: StoredPolicy) -> None:
        """Keep it."""
        self._policies[stored.domain] = stored
