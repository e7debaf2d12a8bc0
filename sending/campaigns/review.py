"""The review before sending: who gets it, who does not and why, and what forbids sending.

The same review is the server's gate: sending runs it again and refuses what a page would refuse.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from urllib.parse import urlparse

from django.conf import settings

from deliverability.domains.models import Domain
from sending.audience.recipients import count_audience, missing_field_counts
from sending.audience.types import AudienceCount
from sending.campaigns.models import Campaign
from sending.content.checks import Check, check_content
from sending.content.models import CompiledVersion
from sending.content.services import compiled_of, request_compiled
from sending.content.types import CompiledContent, ContentSource
from tenants.directory.models import Tenant


@dataclass(frozen=True)
class Review:
    """What the review found. `is_compiling`: the content is with a worker, look again soon."""

    audience: AudienceCount
    checks: list[Check]
    compiled: CompiledContent | None
    is_compiling: bool
    missing_fields: dict[str, int] = field(default_factory=dict)

    @property
    def blocking(self) -> list[Check]:
        return [check for check in self.checks if not check.ok and check.level == "block"]

    @property
    def warnings(self) -> list[Check]:
        return [check for check in self.checks if not check.ok and check.level == "warn"]

    @property
    def can_send(self) -> bool:
        return not self.blocking and not self.is_compiling and self.compiled is not None


def content_source(campaign: Campaign) -> ContentSource:
    """Return what the campaign's content card holds, as the compiler takes it."""
    return ContentSource(
        kind=campaign.content_kind,  # type: ignore[arg-type]
        body=campaign.body,
        subject=campaign.subject,
        text_body=campaign.text_body or None,
        preview_text=campaign.preview_text,
    )


def list_ids_of(campaign: Campaign) -> tuple[list[uuid.UUID], list[uuid.UUID]]:
    """Return the ids of the chosen and the excluded lists, sorted."""
    chosen = sorted(campaign.lists.values_list("pk", flat=True))
    excluded = sorted(campaign.excluded_lists.values_list("pk", flat=True))
    return list(chosen), list(excluded)


def review_campaign(campaign: Campaign) -> Review:
    """Review a draft; the content is compiled by a worker where that has not happened yet."""
    tenant = Tenant.objects.get(pk=campaign.tenant_id)
    list_ids, excluded_ids = list_ids_of(campaign)
    audience = count_audience(
        tenant_id=campaign.tenant_id, list_ids=list_ids, excluded_list_ids=excluded_ids
    )
    checks = [_audience_check(list_ids, audience), *_sender_checks(campaign), _address(tenant)]
    if not campaign.body.strip():
        checks.append(Check("content", False, "block", "The content is empty."))
        return Review(audience, [*checks, _subject(campaign)], None, is_compiling=False)
    version = request_compiled(source=content_source(campaign), footer=True)
    if version.finished_at is None:
        return Review(audience, checks, None, is_compiling=True)
    if version.compiled is None:
        checks.append(Check("content", False, "block", version.problem))
        return Review(audience, [*checks, _subject(campaign)], None, is_compiling=False)
    return _with_content(campaign, version, audience, checks)


def _with_content(
    campaign: Campaign, version: CompiledVersion, audience: AudienceCount, checks: list[Check]
) -> Review:
    compiled = compiled_of(version)
    list_ids, excluded_ids = list_ids_of(campaign)
    missing: dict[str, int] = {}
    if compiled.fields and list_ids:
        missing = missing_field_counts(
            tenant_id=campaign.tenant_id,
            list_ids=list_ids,
            excluded_list_ids=excluded_ids,
            fields=compiled.fields,
        )
    checks += check_content(compiled, broadcast=True, missing=missing)
    checks.append(_one_click())
    return Review(audience, checks, compiled, is_compiling=False, missing_fields=missing)


def _audience_check(list_ids: list[uuid.UUID], audience: AudienceCount) -> Check:
    if not list_ids:
        return Check("audience", False, "block", "Choose at least one list.")
    if audience.recipients == 0:
        return Check("audience", False, "block", "Nobody on these lists can receive this mail.")
    people = "1 person gets" if audience.recipients == 1 else f"{audience.recipients:,} people get"
    return Check("audience", True, "block", f"{people} this campaign.")


def _sender_checks(campaign: Campaign) -> list[Check]:
    sender = campaign.sender
    if sender is None:
        return [Check("sender", False, "block", "Choose a sender.")]
    domain = sender.domain
    if domain.status != Domain.Status.VERIFIED:
        sentence = f"The domain {domain.name} is not verified: publish its DNS records first."
        return [Check("domain", False, "block", sentence)]
    sentence = f"{domain.name} is verified: mail is signed and aligned with {sender.email}."
    return [Check("domain", True, "block", sentence)]


def _address(tenant: Tenant) -> Check:
    if tenant.postal_address.strip():
        return Check("postal-address", True, "block", "The workspace has a postal address.")
    return Check(
        "postal-address",
        False,
        "block",
        "Enter your postal address in the workspace's settings: the law demands it.",
    )


def _subject(campaign: Campaign) -> Check:
    ok = bool(campaign.subject.strip())
    return Check("subject", ok, "block", "The subject is set." if ok else "The subject is empty.")


def _one_click() -> Check:
    """Receivers demand an HTTPS address for one-click unsubscribe (RFC 8058 section 3.1)."""
    parts = urlparse(settings.SITE_URL)
    if parts.scheme == "https" or settings.DEMO or settings.RUNNING_TESTS:
        return Check("one-click", True, "block", "One-click unsubscribe works in every message.")
    return Check(
        "one-click",
        False,
        "block",
        "One-click unsubscribe needs HTTPS: the operator must set SITE_URL to an https address.",
    )


@dataclass(frozen=True)
class FunnelRow:
    """One line of "who gets it": `part` is a share of the line above it."""

    label: str
    count: int
    kind: str = "minus"  # total, minus, part or result


_REASONS = {
    "bounce": "bounced for good",
    "complaint": "complained",
    "unsubscribe": "unsubscribed from everything",
    "manual": "added by hand",
    "import": "imported",
}


def funnel_of(audience: AudienceCount) -> list[FunnelRow]:
    """Return the way from the lists to the recipients; reasons that hit nobody are left out."""
    rows = [
        FunnelRow("Places on the chosen lists", audience.on_lists + audience.duplicates, "total")
    ]
    minus = [
        ("On more than one list: counted once", audience.duplicates),
        ("Unsubscribed", audience.unsubscribed),
        ("Have not confirmed yet", audience.unconfirmed),
        ("On a list that is left out", audience.excluded),
        ("Suppressed", audience.suppressed),
        ("Address cannot exist", audience.invalid),
    ]
    for label, count in minus:
        if not count:
            continue
        rows.append(FunnelRow(label, count))
        if label == "Suppressed":
            reasons = sorted(audience.suppressed_by_reason.items(), key=lambda item: -item[1])
            rows += [FunnelRow(_REASONS.get(why, why), part, "part") for why, part in reasons]
    return [*rows, FunnelRow("Get this campaign", audience.recipients, "result")]
