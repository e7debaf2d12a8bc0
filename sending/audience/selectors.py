"""Reads of contacts, lists and suppressions, for pages and the API."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from django.db import connection
from django.db.models import Count, Q, QuerySet

from esp.kit.caching import kept
from esp.kit.paging import Page, cursor_of, newest_first
from esp.lib.addresses import parse_address
from esp.lib.ids import encode
from sending.audience.models import (
    AttributeDefinition,
    Contact,
    ContactList,
    Import,
    SignupForm,
    Subscription,
    Suppression,
)
from tenants.scoping.context import current_tenant_id

MAX_QUERY = 100
_COUNTS_SECONDS = 30


def contacts_page(
    *,
    query: str = "",
    list_id: uuid.UUID | None = None,
    status: str = "",
    after: str | None = None,
    before: str | None = None,
    size: int = 50,
) -> Page[Contact]:
    """Return contacts newest first, by a part of name or address, list, and status on the list."""
    query = query.replace("\x00", "").strip()[:MAX_QUERY]
    after_key, before_key = cursor_of(after), cursor_of(before)
    with connection.cursor() as cursor:
        if query:
            cursor.execute(
                "SELECT search_contacts(%s, %s, %s, %s, %s, %s)",
                [query, list_id, status or None, after_key, before_key, size + 1],
            )
        else:
            sql, params = _keys_sql(list_id, status, after_key, before_key)
            cursor.execute(sql, [*params, size + 1])
        keys = [row[0] for row in cursor.fetchall()]
    more = len(keys) > size
    keys = keys[:size]
    if before_key is not None:
        keys.reverse()
    found = Contact.objects.in_bulk(keys)
    rows = [found[key] for key in keys if key in found]
    backward = before_key is not None
    has_next = bool(keys) if backward else more
    has_previous = bool(keys) and (more if backward else after_key is not None)
    return Page(
        rows=rows,
        next_cursor=encode(keys[-1]) if has_next else None,
        previous_cursor=encode(keys[0]) if has_previous else None,
    )


def _keys_sql(
    list_id: uuid.UUID | None, status: str, after: uuid.UUID | None, before: uuid.UUID | None
) -> tuple[str, list[Any]]:
    """Keys alone, from an index: a page costs the same however deep it lies.

    (list, status, contact) or (tenant, id). Asked for whole contacts, the planner may walk the
    primary key instead, through every newer contact of other tenants.
    """
    where, params = ["tenant_id = %s"], [current_tenant_id()]
    table, key = "sending_contact", "id"
    if list_id is not None:
        table, key = "sending_subscription", "contact_id"
        where.append("contact_list_id = %s")
        params.append(list_id)
        if status:
            where.append("status = %s")
            params.append(status)  # type: ignore[arg-type]
    if before is not None:
        where.append(f"{key} > %s")
        params.append(before)
    elif after is not None:
        where.append(f"{key} < %s")
        params.append(after)
    way = "ASC" if before is not None else "DESC"
    condition = " AND ".join(where)
    return (
        f"SELECT {key} FROM {table} WHERE {condition} ORDER BY {key} {way} LIMIT %s",  # noqa: S608
        params,
    )


def contact_total() -> int:
    """Return how many contacts the tenant has; up to half a minute old."""
    key = f"audience:contacts:{current_tenant_id()}"
    return kept(key, Contact.objects.count, seconds=_COUNTS_SECONDS)


def contact_with_address(email: str) -> Contact:
    """Return the contact that has this address; raises InvalidInput, Contact.DoesNotExist."""
    return Contact.objects.get(email_norm=parse_address(email, allow_display=False).normalised)


def subscriptions_of(contact: Contact) -> QuerySet[Subscription]:
    """Return the contact's subscriptions with their lists and whole history."""
    return (
        Subscription.objects.filter(contact=contact)
        .select_related("contact_list")
        .prefetch_related("changes")
        .order_by("contact_list__name")
    )


def lists_of_tenant(*, archived: bool = False) -> list[ContactList]:
    """Return the lists that are in use (or the archived ones), by name."""
    return list(ContactList.objects.filter(archived_at__isnull=not archived).order_by("name"))


def counts_for_lists(lists: Iterable[ContactList]) -> dict[uuid.UUID, dict[str, int]]:
    """Return for each list how many contacts it has by status; up to half a minute old."""
    result: dict[uuid.UUID, dict[str, int]] = {}
    for contact_list in lists:
        key = f"audience:list:{contact_list.pk}"
        result[contact_list.pk] = kept(
            key, partial(_count_list, contact_list), seconds=_COUNTS_SECONDS
        )
    return result


def _count_list(contact_list: ContactList) -> dict[str, int]:
    found: Mapping[str, int] = dict(
        Subscription.objects.filter(contact_list=contact_list)
        .values_list("status")
        .annotate(number=Count("pk"))
    )
    counts = {status: found.get(status, 0) for status in Subscription.Status.values}
    return {**counts, "total": sum(counts.values())}


def attributes_of_tenant() -> list[AttributeDefinition]:
    """Return the custom attributes, by label."""
    return list(AttributeDefinition.objects.order_by("label"))


def suppressions_page(
    *, query: str = "", after: str | None = None, before: str | None = None, size: int = 50
) -> Page[Suppression]:
    """Return suppressions newest first; `query` is an address or its beginning."""
    rows = Suppression.objects.all()
    query = query.replace("\x00", "").strip().lower()[:254]
    if query:
        # A range, not LIKE: it can use the index behind row-level security.
        rows = rows.filter(email_norm__gte=query, email_norm__lt=query + "\U0010ffff")
    return newest_first(rows, after=after, before=before, size=size)


def suppressed_among(*, tenant_id: uuid.UUID, emails: Iterable[str], stream: str) -> dict[str, str]:
    """Return reason by address for those of `emails` that must not be written to.

    Addresses are normalised ones. A suppression of marketing mail does not hold for the
    transactional stream; one of all mail holds for both.
    """
    rows = Suppression.unscoped.filter(
        tenant_id=tenant_id, email_norm__in=[email.lower() for email in emails]
    )
    if stream == "transactional":
        rows = rows.filter(scope=Suppression.Scope.ALL)
    return dict(rows.order_by("-scope").values_list("email_norm", "reason"))


def is_suppressed(*, tenant_id: uuid.UUID, email: str, stream: str) -> bool:
    """Tell whether the normalised address must not be written to on this stream."""
    return bool(suppressed_among(tenant_id=tenant_id, emails=[email], stream=stream))


def suppressions_of_address(email_norm: str) -> list[Suppression]:
    """Return what stands against an address (at most one row a scope)."""
    return list(Suppression.objects.filter(email_norm=email_norm).order_by("scope"))


def imports_page(*, after: str | None = None, before: str | None = None) -> Page[Import]:
    """Return imports, newest first."""
    rows = Import.objects.select_related("contact_list", "created_by")
    return newest_first(rows, after=after, before=before, size=25)


def forms_of_tenant() -> list[SignupForm]:
    """Return the sign-up forms, newest first, with how many signed up and confirmed."""
    return list(
        SignupForm.objects.select_related("contact_list", "sender", "sender__domain").order_by(
            "-id"
        )
    )


def form_results(form: SignupForm) -> dict[str, int]:
    """Return how many subscriptions the form started, by status."""
    rows = Subscription.objects.filter(contact_list_id=form.contact_list_id)
    own = rows.filter(source=f"form:{form.public_id}")
    return own.aggregate(started=Count("pk"), confirmed=Count("pk", filter=Q(status="subscribed")))
