"""Who is on a list, and how that came about. Every change leaves a row of history."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django.utils import timezone

from esp.kit.jobs import enqueue_on_commit
from esp.lib.errors import Conflict
from sending.audience import jobs
from sending.audience.models import (
    Contact,
    ContactList,
    SignupForm,
    Subscription,
    SubscriptionChange,
    Suppression,
)
from sending.audience.types import Consent
from tenants.audit.services import record
from tenants.directory.actor import Actor, system_actor
from tenants.scoping.context import scope


def subscribe(
    *,
    actor: Actor,
    contact: Contact,
    contact_list: ContactList,
    source: str,
    consent: Consent | None = None,
) -> Subscription:
    """Put a contact on a list; doing it twice is one effect.

    A list with double opt-in begins with "unconfirmed", and where it has a form, the confirmation
    mail is sent. Raises Conflict when the contact has unsubscribed from the list: only the person
    can come back, by the list's form.
    """
    actor.require("audience:write")
    if contact_list.archived_at is not None:
        raise Conflict("This list is archived.", code="list-archived")
    with scope(actor.tenant_id):
        double = contact_list.opt_in == ContactList.OptIn.DOUBLE
        status = Subscription.Status.UNCONFIRMED if double else Subscription.Status.SUBSCRIBED
        subscription, created = Subscription.objects.get_or_create(
            contact=contact,
            contact_list=contact_list,
            defaults={"tenant_id": actor.tenant_id, "status": status, "source": source[:60]},
        )
        if not created:
            if subscription.status == Subscription.Status.UNSUBSCRIBED:
                raise Conflict(
                    f"{contact.email} has unsubscribed from “{contact_list.name}”. Only they can "
                    "subscribe again, by the list’s sign-up form.",
                    code="has-unsubscribed",
                )
            return subscription
        add_history(subscription, source, consent or Consent())
        record(
            actor,
            "subscription.add",
            target=contact.public_id,
            detail={"list": contact_list.public_id, "status": status},
        )
        form = SignupForm.objects.filter(contact_list=contact_list).order_by("-id").first()
        if double and form is not None:
            ask_to_confirm(subscription, form)
        return subscription


def ask_to_confirm(subscription: Subscription, form: SignupForm) -> None:
    """Have the confirmation mail sent once the running transaction is committed."""
    enqueue_on_commit(
        jobs.SEND_CONFIRMATION, str(subscription.tenant_id), str(subscription.pk), str(form.pk)
    )


def add_history(subscription: Subscription, source: str, consent: Consent) -> None:
    """Write down the subscription's present status and what it rests on."""
    SubscriptionChange.objects.create(
        tenant_id=subscription.tenant_id,
        subscription=subscription,
        status=subscription.status,
        source=source[:60],
        consent_text=consent.text[:500],
        ip_address=consent.ip_address,
        user_agent=consent.user_agent[:300],
    )


def unsubscribe(
    *,
    tenant_id: uuid.UUID,
    contact_id: uuid.UUID,
    list_ids: Sequence[uuid.UUID] | None,
    source: str,
    consent: Consent | None = None,
) -> int:
    """Take a contact off lists (None: all of them); return how many subscriptions changed.

    For the reader's own wish, so without an actor. Doing it twice is one effect.
    """
    with scope(tenant_id):
        rows = Subscription.objects.select_for_update().filter(contact_id=contact_id)
        rows = rows.exclude(status=Subscription.Status.UNSUBSCRIBED)
        if list_ids is not None:
            rows = rows.filter(contact_list_id__in=list(list_ids))
        changed = list(rows.order_by("id"))
        for subscription in changed:
            subscription.status = Subscription.Status.UNSUBSCRIBED
            subscription.save(update_fields=["status", "updated_at"])
            add_history(subscription, source, consent or Consent())
        return len(changed)


def unsubscribe_by_member(*, actor: Actor, contact: Contact, contact_list: ContactList) -> None:
    """Take a contact off a list on a member's or program's word."""
    actor.require("audience:write")
    source = "api" if actor.api_key_id else "manual"
    changed = unsubscribe(
        tenant_id=actor.tenant_id,
        contact_id=contact.pk,
        list_ids=[contact_list.pk],
        source=source,
    )
    if changed:
        detail = {"list": contact_list.public_id}
        record(actor, "subscription.remove", target=contact.public_id, detail=detail)


def confirm(
    *, tenant_id: uuid.UUID, subscription_id: uuid.UUID, source: str, consent: Consent
) -> Subscription | None:
    """Make a subscription "subscribed" on the person's own word; None when it no longer exists.

    It lifts the person's own earlier "unsubscribe from everything", never a suppression for
    bounces, complaints, or by hand.
    """
    with scope(tenant_id):
        subscription = (
            Subscription.objects.select_for_update(of=("self",))
            .select_related("contact", "contact_list")
            .filter(pk=subscription_id)
            .first()
        )
        if subscription is None or subscription.contact_list.archived_at is not None:
            return None
        if subscription.status == Subscription.Status.SUBSCRIBED:
            return subscription
        subscription.status = Subscription.Status.SUBSCRIBED
        subscription.source = source[:60]
        subscription.updated_at = timezone.now()
        subscription.save(update_fields=["status", "source", "updated_at"])
        add_history(subscription, source, consent)
        lifted, _ = Suppression.objects.filter(
            email_norm=subscription.contact.email_norm,
            reason=Suppression.Reason.UNSUBSCRIBE,
            scope=Suppression.Scope.BROADCAST,
        ).delete()
        if lifted:
            who = system_actor(tenant_id, "the recipient")
            record(who, "suppression.lift", target=subscription.contact.email_norm)
        return subscription
