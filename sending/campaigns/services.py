"""Write campaigns: edit drafts, start, pause, resume, cancel.

Every change of status is a conditional update: of two people who press Send at once, one wins and
the other is told.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from esp.kit.jobs import enqueue_on_commit
from esp.lib.errors import Conflict, InvalidInput, PermissionMissing
from esp.lib.ids import to_public
from sending.audience.models import ContactList
from sending.audience.types import AudienceCount
from sending.campaigns import jobs
from sending.campaigns.models import Campaign
from sending.campaigns.preparation import wake_preparers
from sending.campaigns.review import Review, list_ids_of, review_campaign
from sending.messages.models import Batch, MessageContent, Stream
from sending.messages.services import cancel_batch, pause_batch, resume_batch
from tenants.audit.services import record
from tenants.directory.actor import Actor
from tenants.directory.models import Tenant

_STALE = "Someone else has changed this campaign meanwhile. Load the page again to see it."
_EDITABLE = frozenset(
    {
        "name", "sender", "subject", "preview_text", "content_kind", "body", "text_body",
        "template", "track_opens", "track_clicks", "scheduled_at",
    }
)  # fmt: skip
# A copy is planned anew.
_COPIED = _EDITABLE - {"name", "scheduled_at"}


def create_campaign(*, actor: Actor, name: str) -> Campaign:
    """Make an empty draft."""
    actor.require("campaigns:write")
    name = name.strip()
    if not name:
        raise InvalidInput("Give the campaign a name; only your team sees it.", field="name")
    campaign = Campaign.objects.create(
        tenant_id=actor.tenant_id, name=name[:150], created_by_id=actor.user_id
    )
    _record(actor, campaign, "create", {"name": campaign.name})
    return campaign


def save_draft(
    *,
    actor: Actor,
    campaign: Campaign,
    version: int,
    changes: dict[str, Any],
    lists: Sequence[ContactList] | None = None,
    excluded_lists: Sequence[ContactList] | None = None,
) -> int:
    """Save one card of a draft; returns the new version.

    `version` is the one that the editor has seen. Raises Conflict when the draft was changed since,
    or is no draft any more.
    """
    actor.require("campaigns:write")
    unknown = set(changes) - _EDITABLE
    if unknown:
        raise ValueError(f"not a campaign's fields: {unknown}")
    with transaction.atomic():
        won = Campaign.objects.filter(
            pk=campaign.pk, version=version, status=Campaign.Status.DRAFT
        ).update(version=F("version") + 1, updated_at=timezone.now(), **changes)
        if not won:
            _refuse_edit(campaign)
        if lists is not None:
            campaign.lists.set(lists)
        if excluded_lists is not None:
            campaign.excluded_lists.set(excluded_lists)
        _record(actor, campaign, "edit", {"fields": sorted(changes) or ["lists"]})
    campaign.refresh_from_db()
    return campaign.version


def _refuse_edit(campaign: Campaign) -> None:
    campaign.refresh_from_db(fields=["status"])
    if campaign.status == Campaign.Status.DRAFT:
        raise Conflict(_STALE, code="stale-version")
    raise Conflict(
        f"This campaign is {campaign.get_status_display().lower()} and cannot be edited.",
        code="not-a-draft",
    )


def duplicate_campaign(*, actor: Actor, campaign: Campaign) -> Campaign:
    """Make a draft with the same lists, sender and content."""
    actor.require("campaigns:write")
    with transaction.atomic():
        copy = Campaign.objects.create(
            tenant_id=actor.tenant_id,
            name=f"{campaign.name[:140]} (copy)",
            created_by_id=actor.user_id,
            **{name: getattr(campaign, name) for name in _COPIED},
        )
        copy.lists.set(campaign.lists.all())
        copy.excluded_lists.set(campaign.excluded_lists.all())
        _record(actor, copy, "duplicate", {"from": to_public("cmp", campaign.pk)})
    return copy


def delete_draft(*, actor: Actor, campaign: Campaign) -> None:
    """Delete a draft. What was sent stays for the records: raises Conflict."""
    actor.require("campaigns:write")
    with transaction.atomic():
        found = Campaign.objects.filter(pk=campaign.pk, status=Campaign.Status.DRAFT).first()
        if found is None:
            raise Conflict("Only drafts can be deleted.", code="not-a-draft")
        _record(actor, campaign, "delete", {"name": campaign.name})
        found.delete()


def schedule_campaign(*, actor: Actor, campaign: Campaign, at: dt.datetime) -> None:
    """Let a draft start at `at` (aware). The gates must be open now, and are asked again then."""
    actor.require("campaigns:send")
    now = timezone.now()
    if not now < at < now + dt.timedelta(days=366):
        raise InvalidInput("Choose a time in the coming year.", field="scheduled_at")
    require_sendable(review_campaign(campaign))
    _change(
        campaign,
        before=[Campaign.Status.DRAFT],
        after=Campaign.Status.SCHEDULED,
        version=campaign.version,
        scheduled_at=at,
    )
    _record(actor, campaign, "schedule", {"at": at.isoformat()})


def unschedule_campaign(*, actor: Actor, campaign: Campaign) -> None:
    """Make a scheduled campaign a draft again."""
    actor.require("campaigns:send")
    _change(
        campaign,
        before=[Campaign.Status.SCHEDULED],
        after=Campaign.Status.DRAFT,
        scheduled_at=None,
    )
    _record(actor, campaign, "unschedule", {})


def send_campaign(*, actor: Actor, campaign: Campaign) -> None:
    """Start a draft, or a scheduled campaign that is due; the gates must be open.

    One transaction freezes content and lists and marks the campaign Preparing; a worker makes the
    messages. Raises InvalidInput with the first closed gate, Conflict when it was started already.
    """
    actor.require("campaigns:send")
    tenant = Tenant.objects.get(pk=actor.tenant_id)
    if not tenant.is_active:
        raise PermissionMissing(
            "This workspace is suspended and cannot send. Ask the operator.",
            code="tenant-suspended",
        )
    review = review_campaign(campaign)
    compiled = require_sendable(review)
    with transaction.atomic():
        _change(
            campaign,
            before=[Campaign.Status.DRAFT, Campaign.Status.SCHEDULED],
            after=Campaign.Status.PREPARING,
            version=campaign.version,
            started_at=timezone.now(),
        )
        _freeze(campaign, json.loads(compiled), review.audience)
        _record(actor, campaign, "send", {"recipients": review.audience.recipients})
        enqueue_on_commit(jobs.PREPARE, str(campaign.tenant_id), str(campaign.pk))


def require_sendable(review: Review) -> str:
    """Return the compiled content as JSON; raises InvalidInput with what forbids sending."""
    if review.is_compiling:
        raise Conflict(
            "The content is still being checked. Try again in a moment.", code="compiling"
        )
    if not review.can_send or review.compiled is None:
        sentences = " ".join(check.sentence for check in review.blocking)
        raise InvalidInput(f"This campaign cannot be sent yet: {sentences}", code="gates-closed")
    return review.compiled.to_json()


def _freeze(campaign: Campaign, compiled: dict[str, Any], audience: AudienceCount) -> None:
    sender = campaign.sender
    assert sender is not None  # a gate
    list_ids, excluded_ids = list_ids_of(campaign)
    batch = Batch.objects.create(
        tenant_id=campaign.tenant_id,
        kind=Batch.Kind.CAMPAIGN,
        stream=Stream.BROADCAST,
        label=campaign.name,
    )
    content = MessageContent.objects.create(
        tenant_id=campaign.tenant_id,
        domain=sender.domain,
        from_name=sender.name,
        from_email=sender.email,
        reply_to=sender.reply_to,
        compiled=compiled,
        track_opens=campaign.track_opens,
        track_clicks=campaign.track_clicks,
        list_ids=list_ids,
    )
    Campaign.objects.filter(pk=campaign.pk).update(
        batch=batch,
        content=content,
        frozen_list_ids=list_ids,
        frozen_excluded_ids=excluded_ids,
        recipients_total=audience.recipients,
        left_out=left_out(audience),
    )


def left_out(audience: AudienceCount) -> dict[str, int]:
    """Return {reason: how many}, for the report of who did not get it."""
    return {
        "unsubscribed": audience.unsubscribed,
        "unconfirmed": audience.unconfirmed,
        "suppressed": audience.suppressed,
        "excluded": audience.excluded,
        "invalid": audience.invalid,
        "duplicate": audience.duplicates,
    }


def pause_campaign(*, actor: Actor, campaign: Campaign) -> None:
    """Stop sending; messages that are with a receiver already still arrive."""
    actor.require("campaigns:send")
    status = Campaign.Status
    with transaction.atomic():
        _change(campaign, before=[status.PREPARING, status.SENDING], after=status.PAUSED)
        assert campaign.batch is not None
        pause_batch(actor=actor, batch=campaign.batch)
        _record(actor, campaign, "pause", {})


def resume_campaign(*, actor: Actor, campaign: Campaign) -> None:
    """Go on where the campaign was paused."""
    actor.require("campaigns:send")
    status = Campaign.Status
    after = status.SENDING if campaign.prepared_at else status.PREPARING
    with transaction.atomic():
        _change(campaign, before=[status.PAUSED], after=after)
        assert campaign.batch is not None
        resume_batch(actor=actor, batch=campaign.batch)
        _record(actor, campaign, "resume", {})
        if after == status.PREPARING:
            wake_preparers(campaign)


def cancel_campaign(*, actor: Actor, campaign: Campaign) -> None:
    """End a campaign; what has not left yet never will."""
    actor.require("campaigns:send")
    status = Campaign.Status
    with transaction.atomic():
        _change(
            campaign,
            before=[status.SCHEDULED, status.PREPARING, status.SENDING, status.PAUSED],
            after=status.CANCELLED,
            finished_at=timezone.now(),
        )
        if campaign.batch is not None:
            cancel_batch(actor=actor, batch=campaign.batch)
        _record(actor, campaign, "cancel", {})


def _change(
    campaign: Campaign,
    *,
    before: list[str],
    after: str,
    version: int | None = None,
    **values: object,
) -> None:
    """Change the status if it is one of `before`; the row count says who won.

    With `version`, only what the caller has reviewed is changed.
    """
    rows = Campaign.objects.filter(pk=campaign.pk, status__in=before)
    if version is not None:
        rows = rows.filter(version=version)
    won = rows.update(status=after, updated_at=timezone.now(), **values)
    campaign.refresh_from_db()
    if won:
        return
    if version is not None and campaign.status in before:
        raise Conflict(_STALE, code="stale-version")
    raise Conflict(
        f"This campaign is {campaign.get_status_display().lower()} already.", code="wrong-status"
    )


def _record(actor: Actor, campaign: Campaign, verb: str, detail: dict[str, Any]) -> None:
    record(actor, f"campaigns.{verb}", target=to_public("cmp", campaign.pk), detail=detail)
