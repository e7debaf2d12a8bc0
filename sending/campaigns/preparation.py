"""Make a started campaign's messages, part by part, inside the database, by several workers.

The contacts' keys are cut into parts as the work goes on: a worker cuts the next one off under the
campaign's lock, for a moment, and makes its messages in a transaction of their own, which also
marks the part as made. A part whose worker died stands open, with nothing of it made, and is the
first that the next worker takes. Nobody waits for a slower one, and mail begins to leave with the
first part.

Locks: cutting holds the campaign's row, then the one lock of spans, and then takes no other; making
holds the part's row and a share of the batch's, and never asks for the campaign's. Pausing and
cancelling take the campaign, then the batch: they wait for the parts in hand, while no new one can
be cut.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from deliverability.ips.selectors import is_capped_today
from esp.kit.jobs import enqueue_now, enqueue_on_commit
from esp.kit.stopping import is_stopping
from sending.audience.engagement import ENGAGED_FIRST_SQL
from sending.audience.recipients import next_bound, recipients_select
from sending.campaigns import jobs
from sending.campaigns.models import Campaign, CampaignPart
from sending.messages.backpressure import why_full
from sending.messages.jobs import DELIVER_BROADCAST
from sending.messages.models import Batch, MessageContent, MessageSpan, QueueEntry, Stream
from sending.messages.queue import insert_messages_from_select
from sending.messages.spans import open_span
from tenants.scoping.context import scope

log = logging.getLogger(__name__)

CHUNK = 50_000
# Below so many recipients one worker is done before a second one has begun.
SHARED_FROM = 4 * CHUNK
_KEPT = (
    "SELECT contact_id, email, first_name, last_name, kept AS variables FROM ({select}) AS chosen"
)
_OPEN = (Campaign.Status.PREPARING, Campaign.Status.PAUSED)


def prepare_campaign(
    *, tenant_id: uuid.UUID, campaign_id: uuid.UUID, seconds: float = math.inf
) -> int:
    """Make messages that are missing until there are none; return how many this call made.

    For workers, several at once (`CAMPAIGN_PREPARERS`). Stops when the campaign is cancelled; a
    paused one is prepared on, only nothing of it leaves. While the queue is full it ends early:
    the sweep takes it up again. After `seconds`, or asked to stop (SIGTERM), it ends with the part
    in hand and enqueues the job anew, for whoever comes next.
    """
    made, end = 0, time.monotonic() + seconds
    while True:
        if is_stopping() or time.monotonic() >= end:
            enqueue_now(jobs.PREPARE, str(tenant_id), str(campaign_id))
            break
        why = why_full(Stream.BROADCAST)
        if why:
            log.warning("the campaign %s is not prepared on: %s", campaign_id, why)
            break
        added = _make_part(tenant_id, campaign_id)
        if added is not None:
            made += added
        elif not _cut_part(tenant_id, campaign_id):
            break
    return made


def wake_preparers(campaign: Campaign, *, besides: int = 0) -> None:
    """Wake as many workers as may prepare `campaign` at once, less `besides` that do already."""
    is_shared = campaign.recipients_total >= SHARED_FROM
    for _ in range(besides, settings.CAMPAIGN_PREPARERS if is_shared else 1):
        enqueue_on_commit(jobs.PREPARE, str(campaign.tenant_id), str(campaign.pk))


def _cut_part(tenant_id: uuid.UUID, campaign_id: uuid.UUID) -> bool:
    """Cut the next part off what is left; tell whether there is one to make.

    Also counts what has been made, and finishes the campaign once nothing is left and no part open.
    """
    with scope(tenant_id):
        _commit_without_waiting()
        campaign = (
            Campaign.objects.select_for_update(no_key=True)
            .filter(pk=campaign_id, status__in=_OPEN, prepared_at=None)
            .first()
        )
        if campaign is None or campaign.batch_id is None or campaign.content_id is None:
            CampaignPart.objects.filter(campaign=campaign_id, made__isnull=False).delete()
            return False
        _count_made(campaign)
        open_parts = CampaignPart.objects.filter(campaign=campaign).count()
        if open_parts >= settings.CAMPAIGN_PREPARERS:
            return False  # as many as may are at it
        after = campaign.prepare_cursor
        bound = next_bound(list_ids=campaign.frozen_list_ids, after=after, size=CHUNK)
        if bound is None:
            # Whoever has an open part comes here after it; a dead worker's is found by the sweep.
            if not open_parts:
                _finish(campaign)
            return False
        span = _open_span(campaign)
        CampaignPart.objects.create(campaign=campaign, after=after, until=bound, span=span)
        Campaign.objects.filter(pk=campaign.pk).update(
            prepare_cursor=bound, updated_at=timezone.now()
        )
        if after is None:
            wake_preparers(campaign, besides=1)
        return True


def _make_part(tenant_id: uuid.UUID, campaign_id: uuid.UUID) -> int | None:
    """Make the messages of an open part that nobody works on; return how many, None without one."""
    with scope(tenant_id):
        part = (
            CampaignPart.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("campaign", "span")
            .filter(campaign=campaign_id, made=None)
            .order_by("until")
            .first()
        )
        if part is None:
            return None
        _commit_without_waiting()
        part.made = _insert(part)
        part.save(update_fields=["made"])
        enqueue_on_commit(DELIVER_BROADCAST)
        return part.made


def _insert(part: CampaignPart) -> int:
    campaign = part.campaign
    assert campaign.batch_id is not None
    assert campaign.content_id is not None
    span = part.span or _open_span(campaign)
    select, params = recipients_select(
        tenant_id=campaign.tenant_id,
        list_ids=campaign.frozen_list_ids,
        excluded_list_ids=campaign.frozen_excluded_ids,
        after=part.after,
        until=part.until,
    )
    return insert_messages_from_select(
        batch=Batch.objects.get(pk=campaign.batch_id),
        content_id=campaign.content_id,
        span=span,
        select=_KEPT.format(select=select),
        params=params,
        now=timezone.now(),
        **_order_of(campaign),
    )


def _open_span(campaign: Campaign) -> MessageSpan:
    assert campaign.batch_id is not None
    batch = Batch.objects.get(pk=campaign.batch_id)
    return open_span(batch, size=min(campaign.recipients_total, CHUNK))


def _commit_without_waiting() -> None:
    """Let this transaction's commit not wait for the disk.

    A crash of PostgreSQL may take the last commits back, always the messages together with the mark
    that they are made, so they are made anew. None of them has left by then: a lease is committed
    with waiting, and everything that was committed before it is on disk by that.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")


def _count_made(campaign: Campaign) -> None:
    """Add the parts that have been made to the campaign's count; it is locked by the caller."""
    parts = list(CampaignPart.objects.filter(campaign=campaign, made__isnull=False))
    if not parts:
        return
    campaign.recipients_prepared += sum(part.made or 0 for part in parts)
    campaign.save(update_fields=["recipients_prepared", "updated_at"])
    CampaignPart.objects.filter(pk__in=[part.pk for part in parts]).delete()


def _order_of(campaign: Campaign) -> dict[str, Any]:
    """Return in which order messages are due: the most engaged first while addresses warm up.

    All parts then count from the campaign's start, so that a reader in a later one goes before.
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
