"""Add, check and remove sending domains and senders."""

from __future__ import annotations

import re

import idna
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone
from publicsuffixlist import PublicSuffixList

from deliverability.domains.models import DkimKey, DnsCheck, Domain, Sender
from deliverability.domains.records import Finding, expected_records, inspect
from deliverability.domains.selectors import verified_domain_for
from esp.lib.addresses import parse_address
from esp.lib.dkimkeys import KeyPair, make_ed25519, make_rsa
from esp.lib.dns import make_resolver
from esp.lib.errors import Conflict, InvalidInput
from tenants.audit.services import record
from tenants.directory.actor import Actor

_suffixes = PublicSuffixList()
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)$")
_SELECTORS = {DkimKey.Algorithm.RSA: "mw1", DkimKey.Algorithm.ED25519: "mw2"}


def normalise_domain(text: str) -> str:
    """Return a domain name as it stands in DNS (A-labels, lower case).

    Raises InvalidInput for what is no domain name, or is a public suffix such as co.uk.
    """
    name = text.strip().lower().rstrip(".")
    name = name.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if "@" in name:
        raise InvalidInput("Enter the domain only, without a name and @.", field="name")
    try:
        name = idna.encode(name, uts46=True).decode()
    except idna.IDNAError as error:
        raise InvalidInput("This is not a domain name.", field="name") from error
    labels = name.split(".")
    is_address = labels[-1].isdecimal()
    fits = len(labels) >= 2 and len(name) <= 200 and all(_LABEL.match(label) for label in labels)
    if is_address or not fits:
        raise InvalidInput(
            "Enter a domain name such as example.com or news.example.com.", field="name"
        )
    if _suffixes.is_public(name):
        raise InvalidInput(f"{name} is a public suffix, nobody's own domain.", field="name")
    return name


def add_domain(*, actor: Actor, name: str) -> Domain:
    """Add a domain with fresh keys; it sends once its records are found in DNS."""
    actor.require("domains:write")
    name = normalise_domain(name)
    pairs = (make_rsa(), make_ed25519())
    try:
        with transaction.atomic():
            domain = Domain.objects.create(tenant_id=actor.tenant_id, name=name)
            for pair in pairs:
                _store_key(domain, pair)
    except IntegrityError as error:
        raise Conflict(f"{name} is here already.", code="domain-exists", field="name") from error
    record(actor, "domains.add", target=name)
    return domain


def _store_key(domain: Domain, pair: KeyPair) -> None:
    algorithm = DkimKey.Algorithm(pair.algorithm)
    DkimKey.objects.create(
        tenant_id=domain.tenant_id,
        domain=domain,
        selector=_SELECTORS[algorithm],
        algorithm=algorithm,
        private_key=pair.private_pem,
        public_key=pair.public,
    )


def look_at_domain(domain: Domain) -> list[Finding]:
    """Ask the configured resolvers for every record of `domain`; changes nothing."""
    resolver = make_resolver(settings.DNS_RESOLVERS)
    return [inspect(expected, resolver) for expected in expected_records(domain)]


def check_domain(*, actor: Actor, domain: Domain) -> list[Finding]:
    """Look the records up and set the domain's status by them.

    A look-up that failed for the moment takes nothing away from a verified domain. Raises Conflict
    when another workspace has this domain verified.
    """
    actor.require("domains:write")
    findings = look_at_domain(domain)
    before = domain.status
    status = _status_after(before, findings)
    now = timezone.now()
    try:
        with transaction.atomic():
            _store_findings(domain, findings)
            domain.status = status
            domain.checked_at = now
            if status == Domain.Status.VERIFIED and domain.verified_at is None:
                domain.verified_at = now
            domain.save(update_fields=["status", "checked_at", "verified_at"])
    except IntegrityError as error:
        raise Conflict(
            f"{domain.name} is verified in another workspace. It must be removed there first.",
            code="domain-taken",
        ) from error
    if status != before:
        record(actor, "domains.check", target=domain.name, detail={"from": before, "to": status})
    return findings


def _status_after(before: str, findings: list[Finding]) -> str:
    required = [finding for finding in findings if finding.record.is_required]
    has_key = any(finding.record.kind == DnsCheck.Kind.DKIM_RSA for finding in required)
    if has_key and all(finding.is_ok for finding in required):
        return Domain.Status.VERIFIED
    if before == Domain.Status.PENDING:
        return before
    lost = [f for f in required if not f.is_ok and not f.is_temporary]
    return Domain.Status.FAILING if lost else before


def _store_findings(domain: Domain, findings: list[Finding]) -> None:
    for finding in findings:
        DnsCheck.objects.update_or_create(
            tenant_id=domain.tenant_id,
            domain=domain,
            kind=finding.record.kind,
            defaults={
                "is_ok": finding.is_ok,
                "found": list(finding.found),
                "problem": finding.problem[:400],
                "checked_at": timezone.now(),
            },
        )


def remove_domain(*, actor: Actor, domain: Domain) -> None:
    """Remove a domain with its keys and senders.

    Raises Conflict while campaigns or messages still point to it.
    """
    actor.require("domains:write")
    name = domain.name
    try:
        with transaction.atomic():
            domain.delete()
    except ProtectedError as error:
        raise Conflict(
            f"{name} has sent mail, or a campaign still uses it: it stays for the records.",
            code="domain-in-use",
        ) from error
    record(actor, "domains.remove", target=name)


def add_sender(*, actor: Actor, name: str, email: str, reply_to: str = "") -> Sender:
    """Add a From address; its domain must be verified. Raises InvalidInput, Conflict."""
    actor.require("domains:write")
    address = parse_address(email).normalised
    domain = verified_domain_for(address)
    if domain is None:
        host = address.rpartition("@")[2]
        raise InvalidInput(
            f"{host} is not verified here. Add the domain and publish its records first.",
            code="domain-not-verified",
            field="email",
        )
    if any(ord(char) < 32 for char in name) or not name.strip():
        raise InvalidInput("Enter the name that recipients shall see.", field="name")
    reply = parse_address(reply_to).normalised if reply_to else ""
    try:
        with transaction.atomic():
            sender = Sender.objects.create(
                tenant_id=actor.tenant_id,
                domain=domain,
                name=name.strip()[:100],
                email=address,
                reply_to=reply,
            )
    except IntegrityError as error:
        raise Conflict("This sender is here already.", field="email") from error
    record(actor, "domains.add_sender", target=address)
    return sender


def remove_sender(*, actor: Actor, sender: Sender) -> None:
    """Remove a From address. Raises Conflict while a campaign uses it."""
    actor.require("domains:write")
    try:
        with transaction.atomic():
            sender.delete()
    except ProtectedError as error:
        raise Conflict("A campaign uses this sender.", code="sender-in-use") from error
    record(actor, "domains.remove_sender", target=sender.email)
