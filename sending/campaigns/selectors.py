"""Reads of campaigns: the list, its numbers, what the editor offers to choose from."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Final

from django.db.models import Count, QuerySet, Sum

from esp.kit.paging import Page, newest_first
from sending.audience.models import AttributeDefinition, Contact, ContactList, Subscription
from sending.campaigns.models import Campaign
from sending.content.models import Template
from sending.events.models import StatBucket
from sending.events.selectors import KindCount

_STATUS = Campaign.Status
# The tabs above the list: key -> (label, statuses).
TABS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "all": ("All", ()),
    "draft": ("Drafts", (_STATUS.DRAFT,)),
    "scheduled": ("Scheduled", (_STATUS.SCHEDULED,)),
    "running": ("Running", (_STATUS.PREPARING, _STATUS.SENDING, _STATUS.PAUSED)),
    "sent": ("Sent", (_STATUS.SENT,)),
    "stopped": ("Stopped", (_STATUS.CANCELLED, _STATUS.FAILED)),
}
SUGGESTED_CONTACTS = 25


def campaigns_page(
    tab: str, *, after: str | None = None, before: str | None = None, size: int = 25
) -> Page[Campaign]:
    """Return a page of the tenant's campaigns in a tab, newest first."""
    statuses = TABS.get(tab, TABS["all"])[1]
    rows: QuerySet[Campaign] = Campaign.objects.prefetch_related("lists")
    if statuses:
        rows = rows.filter(status__in=statuses)
    return newest_first(rows, after=after, before=before, size=size)


def tab_counts() -> dict[str, int]:
    """Return how many campaigns stand in each tab."""
    by_status = dict(Campaign.objects.order_by().values_list("status").annotate(count=Count("pk")))
    counts = {
        key: sum(by_status.get(status, 0) for status in statuses)
        for key, (_, statuses) in TABS.items()
    }
    counts["all"] = sum(by_status.values())
    return counts


def reported_page(
    *, after: str | None = None, before: str | None = None, size: int = 25
) -> Page[Campaign]:
    """Return a page of the campaigns that have a report: whatever was started, newest first."""
    rows = Campaign.objects.filter(batch__isnull=False).prefetch_related("lists")
    return newest_first(rows, after=after, before=before, size=size)


def latest_campaigns(limit: int) -> list[Campaign]:
    """Return the newest campaigns."""
    return list(Campaign.objects.order_by("-id")[:limit])


def campaigns_of_batches(batch_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Campaign]:
    """Return the campaigns that batches belong to, by batch; only ids and names are loaded."""
    rows = Campaign.objects.filter(batch_id__in=list(batch_ids)).only("id", "name", "batch_id")
    return {row.batch_id: row for row in rows if row.batch_id is not None}


def counts_for_batches(batch_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[KindCount]]:
    """Return the roll-up's sums of several batches in one query."""
    ids = list(batch_ids)
    table: dict[uuid.UUID, list[KindCount]] = {batch_id: [] for batch_id in ids}
    rows = (
        StatBucket.objects.filter(batch_id__in=ids)
        .values_list("batch_id", "kind")
        .annotate(total=Sum("count"))
    )
    for batch_id, kind, total in rows:
        table[batch_id].append(KindCount(kind, "", total))
    return table


def lists_to_choose() -> QuerySet[ContactList]:
    """Return the lists that campaigns can go to, by name."""
    return ContactList.objects.filter(archived_at=None).order_by("name")


def templates_to_choose() -> list[Template]:
    """Return the tenant's templates by name, without their bodies."""
    return list(Template.objects.defer("body", "text_body").order_by("name"))


def merge_tags() -> list[tuple[str, str]]:
    """Return (label, Liquid) of what can be filled in for each recipient.

    Names and attributes come with a default, since not every contact has them.
    """
    tags = [
        ("First name", "{{ first_name | default: 'there' }}"),
        ("Last name", "{{ last_name | default: '' }}"),
        ("Email address", "{{ email }}"),
    ]
    tags += [
        (attribute.label, f"{{{{ {attribute.key} | default: '' }}}}")
        for attribute in AttributeDefinition.objects.order_by("label")
    ]
    tags += [
        ("Unsubscribe link", "{{ unsubscribe_url }}"),
        ("Preferences link", "{{ preferences_url }}"),
        ("View in browser", "{{ view_url }}"),
        ("Postal address", "{{ postal_address }}"),
    ]
    return tags


def contacts_to_preview(campaign: Campaign) -> list[Contact]:
    """Return some contacts that the campaign may be looked at as: of its lists, or the newest."""
    list_ids = list(campaign.lists.values_list("pk", flat=True))
    if not list_ids:
        return list(Contact.objects.order_by("-id")[:SUGGESTED_CONTACTS])
    rows = (
        Subscription.objects.filter(
            contact_list_id__in=list_ids[:1], status=Subscription.Status.SUBSCRIBED
        )
        .select_related("contact")
        .order_by("contact_id")[:SUGGESTED_CONTACTS]
    )
    return [row.contact for row in rows]


def contact_by_email(email_norm: str) -> Contact | None:
    """Return the contact with a normalised address, or None."""
    return Contact.objects.filter(email_norm=email_norm).first()
