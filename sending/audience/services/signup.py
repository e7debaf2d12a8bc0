"""Sign-up forms: made by members, filled in by visitors, confirmed by the mail's receiver."""

from __future__ import annotations

import time
import uuid

from django.conf import settings
from django.template.loader import render_to_string
from django.urls import reverse

from deliverability.domains.models import Domain, Sender
from esp.kit.keys import accepted_keys, signing_key
from esp.kit.valkey import take
from esp.lib import tokens
from esp.lib.addresses import parse_address
from esp.lib.errors import Conflict, InvalidInput, LimitReached, NotFound
from esp.lib.ids import decode, encode
from sending.audience.models import Contact, ContactList, SignupForm, Subscription
from sending.audience.selectors import is_suppressed
from sending.audience.services.contacts import clean_name
from sending.audience.services.subscriptions import add_history, ask_to_confirm, confirm
from sending.audience.types import ConfirmationContent, Consent
from tenants.audit.services import record
from tenants.directory.actor import Actor
from tenants.directory.models import Tenant
from tenants.scoping.context import scope

_PURPOSE = "confirm-subscription"
_CONFIRM_SECONDS = 14 * 24 * 3600


def save_form(
    *,
    actor: Actor,
    form: SignupForm | None,
    contact_list: ContactList,
    sender: Sender,
    title: str,
    intro: str,
    consent_text: str,
    asks_name: bool,
) -> SignupForm:
    """Make a form, or change one; raises InvalidInput."""
    actor.require("audience:write")
    if not title.strip() or not consent_text.strip():
        raise InvalidInput("A form needs a title and the text that people agree to.", field="title")
    made = form or SignupForm(tenant_id=actor.tenant_id)
    with scope(actor.tenant_id):
        made.contact_list = contact_list
        made.sender = sender
        made.title = title.strip()[:120]
        made.intro = intro.strip()[:500]
        made.consent_text = consent_text.strip()[:500]
        made.asks_name = asks_name
        made.save()
    record(actor, "form.update" if form else "form.create", target=made.public_id)
    return made


def delete_form(*, actor: Actor, form: SignupForm) -> None:
    """Take a form off the web; who signed up by it stays."""
    actor.require("audience:write")
    with scope(actor.tenant_id):
        form.delete()
    record(actor, "form.delete", target=form.public_id)


def hosted_form(address: str) -> SignupForm:
    """Return the form at `/f/<tenant>-<form>`; raises NotFound. Opens the scope itself."""
    tenant_text, _, form_text = address.partition("-")
    try:
        tenant_id, form_id = decode(tenant_text), decode(form_text)
    except ValueError:
        raise NotFound("This form does not exist.") from None
    with scope(tenant_id):
        form = (
            SignupForm.objects.select_related("contact_list", "sender", "sender__domain")
            .filter(pk=form_id, contact_list__archived_at=None)
            .first()
        )
        tenant = Tenant.objects.filter(pk=tenant_id).first()
    if form is None or tenant is None or not tenant.is_active:
        raise NotFound("This form does not exist.")
    return form


def hosted_address(form: SignupForm) -> str:
    """Return the whole address of the form's page."""
    place = f"{encode(form.tenant_id)}-{encode(form.pk)}"
    return settings.SITE_URL + reverse("public-form", args=[place])


def sign_up(
    *, form: SignupForm, email: str, first_name: str, last_name: str, consent: Consent
) -> None:
    """Take a visitor's wish: a mail asks to confirm it. Says the same whoever they are.

    Raises InvalidInput for what is no address, LimitReached for too many tries from one place.
    A known contact is not changed (anyone can type anyone's address), and one who has unsubscribed
    stays so until the mail is answered.
    """
    _limit(f"signup:ip:{consent.ip_address}", rate=10 / 60, burst=10)
    try:
        address = parse_address(email, allow_display=False)
    except InvalidInput as error:
        raise InvalidInput(error.message, code=error.code, field="email") from error
    names = clean_name(first_name, "first_name"), clean_name(last_name, "last_name")
    # One address gets at most three mails an hour, whoever asks; the visitor is not told.
    if not take(f"signup:to:{form.tenant_id}:{address.normalised}", rate=3 / 3600, burst=3).allowed:
        return
    source = f"form:{form.public_id}"
    with scope(form.tenant_id):
        if is_suppressed(
            tenant_id=form.tenant_id, email=address.normalised, stream="transactional"
        ):
            return
        contact, _ = Contact.objects.get_or_create(
            email_norm=address.normalised,
            defaults={
                "tenant_id": form.tenant_id,
                "email": address.addr_spec,
                "first_name": names[0],
                "last_name": names[1],
            },
        )
        subscription, created = Subscription.objects.get_or_create(
            contact=contact,
            contact_list_id=form.contact_list_id,
            defaults={
                "tenant_id": form.tenant_id,
                "status": Subscription.Status.UNCONFIRMED,
                "source": source,
            },
        )
        if created:
            add_history(subscription, source, consent)
        if subscription.status != Subscription.Status.SUBSCRIBED:
            ask_to_confirm(subscription, form)


def _limit(key: str, *, rate: float, burst: int) -> None:
    answer = take(key, rate=rate, burst=burst)
    if not answer.allowed:
        raise LimitReached(
            "Too many tries from your network. Wait a minute and try again.",
            retry_after=answer.retry_after,
        )


def confirmation_content(
    *, tenant_id: uuid.UUID, subscription_id: uuid.UUID, form_id: uuid.UUID
) -> ConfirmationContent | None:
    """Return the mail that asks to confirm; None when there is nothing to confirm any more."""
    with scope(tenant_id):
        subscription = (
            Subscription.objects.select_related("contact", "contact_list")
            .filter(pk=subscription_id)
            .exclude(status=Subscription.Status.SUBSCRIBED)
            .first()
        )
        form = SignupForm.objects.select_related("sender__domain").filter(pk=form_id).first()
        if subscription is None or form is None:
            return None
        tenant = Tenant.objects.get(pk=tenant_id)
        link = settings.SITE_URL + reverse("public-confirm", args=[_token(subscription, form)])
        context = {
            "tenant": tenant,
            "form": form,
            "contact": subscription.contact,
            "list": subscription.contact_list,
            "link": link,
        }
        base = "emails/confirm_subscription"
        return ConfirmationContent(
            subject=" ".join(render_to_string(f"{base}/subject.txt", context).split()),
            html=render_to_string(f"{base}/body.html", context),
            text=render_to_string(f"{base}/body.txt", context),
            recipient=subscription.contact.email,
            recipient_name=subscription.contact.name,
            sender_id=form.sender_id,
            contact_id=subscription.contact_id,
        )


def _token(subscription: Subscription, form: SignupForm) -> str:
    payload = subscription.tenant_id.bytes + subscription.pk.bytes + form.pk.bytes
    expires = int(time.time()) + _CONFIRM_SECONDS
    return tokens.seal(signing_key(_PURPOSE), _PURPOSE, payload, expires=expires)


def read_confirmation(token: str) -> tuple[uuid.UUID, uuid.UUID, uuid.UUID]:
    """Return tenant, subscription and form in a token; raises NotFound with what to do."""
    try:
        payload = tokens.unseal(accepted_keys(_PURPOSE), _PURPOSE, token)
    except tokens.ExpiredToken:
        raise Conflict(
            "This link has expired. Fill in the form again to get a new one.", code="link-expired"
        ) from None
    except tokens.BadToken:
        raise NotFound("This link is not valid.") from None
    if len(payload) != 48:
        raise NotFound("This link is not valid.")
    return (
        uuid.UUID(bytes=payload[:16]),
        uuid.UUID(bytes=payload[16:32]),
        uuid.UUID(bytes=payload[32:]),
    )


def confirm_by_token(*, token: str, consent: Consent) -> Subscription:
    """Subscribe the person who holds the link; raises NotFound, or Conflict when it expired."""
    tenant_id, subscription_id, form_id = read_confirmation(token)
    with scope(tenant_id):
        form = SignupForm.objects.filter(pk=form_id).first()
        text = form.consent_text if form else ""
        done = confirm(
            tenant_id=tenant_id,
            subscription_id=subscription_id,
            source="form:confirmed" if form is None else f"form:{form.public_id}",
            consent=Consent(text, consent.ip_address, consent.user_agent),
        )
    if done is None:
        raise NotFound("This sign-up no longer exists.")
    return done


def verified_senders() -> list[Sender]:
    """Return the senders that a form may write from: those on verified domains."""
    rows = Sender.objects.select_related("domain").filter(domain__status=Domain.Status.VERIFIED)
    return list(rows.order_by("email"))
