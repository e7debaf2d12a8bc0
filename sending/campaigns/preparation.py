"""Make a started campaign's messages, chunk by chunk, inside the database.

Each chunk is committed with its cursor, so that preparation resumes exactly after a crash; mail
begins to leave with the first chunk.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any

from django.db import transaction
from django.utils import timezone

from deliverability.ips.selectors import is_capped_today
from esp.kit.jobs import enqueue_on_commit
from sending.audience.engagement import ENGAGED_FIRST_SQL
from sending.audience.recipients import next_bound, recipients_select
from sending.campaigns.models import Campaign
from sending.messages.backpressure import why_full
from sending.messages.jobs import DELIVER_BROADCAST
from sending.messages.models import Batch, MessageContent, QueueEntry, Stream
from sending.messages.queue import insert_messages_from_select
from tenants.scoping.context import scope

log = logging.getLogger(__name__)

CHUNK = 50_000
# Contacts keep their address as written (the domain is lower case already); messages, events and
# the suppressions that follow from them go by the normalised one (`esp.lib.addresses`).
_NORMALISED = "SELECT contact_id, lower(email) AS email, name, variables FROM ({select}) AS written"
_OPEN = (Campaign.Status.PREPARING, Campaign.Status.PAUSED)


def prepare_campaign(*, tenant_id: uuid.UUID, campaign_id: uuid.UUID) -> int:
    """Make all messages that are missing; return how many were made. For workers.

    Running twice at once is harmless: chunks take turns on the campaign's row. Stops when the
    campaign is cancelled; a paused one is prepared on, only nothing of it leaves. While the queue
    is full it ends early: the sweep takes it up again.
    """
    made = 0
    while True:
        why = why_full(Stream.BROADCAST)
        if why:
            log.warning("the campaign %s is not prepared on: %s", campaign_id, why)
            return made
        with scope(tenant_id):
            added, is_over = _prepare_chunk(campaign_id)
        made += added
        if is_over:
            return made


def _prepare_chunk(campaign_id: uuid.UUID) -> tuple[int, bool]:
    """Make one chunk; return how many messages, and whether there is nothing left to do."""
    campaign = (
        Campaign.objects.select_for_update(no_key=True)
        .filter(pk=campaign_id, status__in=_OPEN, prepared_at=None)
        .first()
    )
    if campaign is None or campaign.batch_id is None or campaign.content_id is None:
        return 0, True
    bound = next_bound(list_ids=campaign.frozen_list_ids, after=campaign.prepare_cursor, size=CHUNK)
    if bound is None:
        _finish(campaign)
        return 0, True
    select, params = recipients_select(
        tenant_id=campaign.tenant_id,
        list_ids=campaign.frozen_list_ids,
        excluded_list_ids=campaign.frozen_excluded_ids,
        after=campaign.prepare_cursor,
        until=bound,
    )
    order = _order_of(campaign)
    made = insert_messages_from_select(
        batch=Batch.objects.get(pk=campaign.batch_id),
        content_id=campaign.content_id,
        select=_NORMALISED.format(select=select),
        params=params,
        now=timezone.now(),
        **order,
    )
    campaign.prepare_cursor = bound
    campaign.recipients_prepared += made
    campaign.save(update_fields=["prepare_cursor", "recipients_prepared", "updated_at"])
    enqueue_on_commit(DELIVER_BROADCAST)
    return made, False


def _order_of(campaign: Campaign) -> dict[str, Any]:
    """Return in which order messages are due: the most engaged first while addresses warm up.

    All chunks then count from the campaign's start, so that a reader in a later one goes before.
    """
    assert campaign.content_id is not None
    content = MessageContent.objects.only("domain_id").get(pk=campaign.content_id)
    if not is_capped_today(campaign.tenant_id, Stream.BROADCAST, content.domain_id):
        return {}
    return {"due_at": campaign.started_at, "later": ENGAGED_FIRST_SQL}


def _finish(campaign: Campaign) -> None:
    """Note that every message is made; a campaign that is paused stays so."""
    campaign.prepared_at = timezone.now()
    campaign.recipients_total = campaign.recipients_prepared
    if campaign.status == Campaign.Status.PREPARING:
        campaign.status = Campaign.Status.SENDING
    campaign.save(update_fields=["prepared_at", "recipients_total", "status", "updated_at"])


def finish_if_sent(*, tenant_id: uuid.UUID, campaign_id: uuid.UUID) -> bool:
    """Mark a campaign Sent once nothing of it waits any more; tell whether this call did it."""
    with scope(tenant_id), transaction.atomic():
        batch_id = Campaign.objects.get(pk=campaign_id).batch_id
        if batch_id is None or QueueEntry.objects.filter(batch_id=batch_id).exists():
            return False
        now = timezone.now()
        won = Campaign.objects.filter(
            pk=campaign_id, status=Campaign.Status.SENDING, prepared_at__isnull=False
        ).update(status=Campaign.Status.SENT, finished_at=now, updated_at=now)
        if won:
            Batch.objects.filter(pk=batch_id, status=Batch.Status.RUNNING).update(
                status=Batch.Status.DONE, finished_at=now
            )
        return bool(won)
