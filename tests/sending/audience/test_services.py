"""Subscriptions, suppressions, audiences by sets, and hosted sign-up."""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from sending.audience import recipients, selectors, services
from sending.audience.attributes import variables_of
from sending.audience.models import (
    Contact,
    ContactList,
    SignupForm,
    Subscription,
    SubscriptionChange,
    Suppression,
)
from sending.audience.services import signup
from sending.messages.filling import filling
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast


def test_each_contact_is_counted_in_one_bucket(cast: Cast) -> None:
    first, second, off = (make.contact_list(cast.acme) for _ in range(3))
    people = {name: make.contact(cast.acme, f"{name}@b.test") for name in "abcdefg"}
    make.subscription(people["a"], first)
    make.subscription(people["a"], second)
    make.subscription(people["b"], first, "unconfirmed")
    make.subscription(people["c"], first, "unsubscribed")
    make.subscription(people["d"], first)
    make.subscription(people["d"], off, "unsubscribed")
    make.subscription(people["e"], first)
    make.suppression(cast.acme, "e@b.test", reason="complaint", scope="broadcast")
    make.suppression(cast.acme, "e@b.test", reason="bounce", scope="all")
    make.subscription(people["f"], first, "unsubscribed")
    make.subscription(people["f"], second)
    Contact.unscoped.filter(pk=people["g"].pk).update(email_norm="broken")
    make.subscription(people["g"], first)
    make.suppression(cast.globex, "a@b.test")
    chosen: dict[str, Any] = {
        "tenant_id": cast.acme.pk,
        "list_ids": [first.pk, second.pk],
        "excluded_list_ids": [off.pk],
    }
    with scope(cast.acme.pk):
        count = recipients.count_audience(**chosen)
        select, params = recipients.recipients_select(**chosen)
        with connection.cursor() as cursor:
            cursor.execute(select + " ORDER BY 2", params)
            rows = cursor.fetchall()
        missing = recipients.missing_field_counts(**chosen, fields=["email", "first_name", "x"])
    assert (count.on_lists, count.duplicates) == (7, 2)
    assert (count.unconfirmed, count.unsubscribed, count.excluded) == (1, 1, 1)
    assert (count.suppressed_by_reason, count.invalid) == ({"bounce": 1}, 1)
    assert count.recipients == 2
    assert [row[1] for row in rows] == ["a@b.test", "f@b.test"]
    assert missing == {"email": 0, "first_name": 2, "x": 2}


def test_chunks_cover_everyone_once(cast: Cast) -> None:
    first, second = make.contact_list(cast.acme), make.contact_list(cast.acme)
    for number in range(25):
        contact = make.contact(cast.acme)
        make.subscription(contact, first)
        if number % 2:
            make.subscription(contact, second)
    lists, after, seen = [first.pk, second.pk], None, []
    with scope(cast.acme.pk), connection.cursor() as cursor:
        while bound := recipients.next_bound(list_ids=lists, after=after, size=4):
            select, params = recipients.recipients_select(
                tenant_id=cast.acme.pk, list_ids=lists, after=after, until=bound
            )
            cursor.execute(select, params)
            seen += [row[0] for row in cursor.fetchall()]
            after = bound
    assert len(seen) == len(set(seen)) == 25


def test_variables_have_one_shape_in_sql_and_python(cast: Cast) -> None:
    chosen = make.contact_list(cast.acme)
    contact = make.contact(cast.acme, first_name="A", attributes={"city": "Graz", "email": "no"})
    make.subscription(contact, chosen)
    with scope(cast.acme.pk), connection.cursor() as cursor:
        cursor.execute(*recipients.recipients_select(tenant_id=cast.acme.pk, list_ids=[chosen.pk]))
        found = cursor.fetchone()[4]
    found = found if isinstance(found, dict) else json.loads(found)
    assert found == variables_of(contact)


@pytest.mark.parametrize("email", ["ada@b.test", "Ada.L@b.test"])
def test_what_a_message_keeps_fills_as_the_contact_does(cast: Cast, email: str) -> None:
    chosen = make.contact_list(cast.acme)
    contact = make.contact(
        cast.acme, email, first_name="A", last_name="von B", attributes={"city": "Graz"}
    )
    make.subscription(contact, chosen)
    select, params = recipients.recipients_select(tenant_id=cast.acme.pk, list_ids=[chosen.pk])
    with scope(cast.acme.pk), connection.cursor() as cursor:
        cursor.execute(f"SELECT email, first_name, last_name, kept::text FROM ({select}) r", params)
        recipient, first_name, last_name, kept = cursor.fetchone()
    assert recipient == email.lower()
    assert variables_of(contact) == filling(
        json.loads(kept),
        is_spanned=True,
        recipient=recipient,
        first_name=first_name,
        last_name=last_name,
    )


def test_a_suppression_is_never_weakened(cast: Cast) -> None:
    entry: dict[str, Any] = {"tenant_id": cast.acme.pk, "email_norm": "a@b.test", "scope": "all"}
    assert services.suppress(**entry, reason="complaint")
    assert not services.suppress(**entry, reason="manual")
    assert Suppression.unscoped.get().reason == "complaint"


def test_streams_are_held_by_their_scopes(cast: Cast) -> None:
    make.suppression(cast.acme, "all@b.test", reason="bounce")
    make.suppression(cast.acme, "news@b.test", reason="unsubscribe", scope="broadcast")
    emails = ["all@b.test", "NEWS@b.test", "free@b.test"]
    asked: dict[str, Any] = {"tenant_id": cast.acme.pk, "emails": emails}
    assert selectors.suppressed_among(**asked, stream="transactional") == {"all@b.test": "bounce"}
    assert len(selectors.suppressed_among(**asked, stream="broadcast")) == 2


def test_unsubscribing_twice_is_one_change(cast: Cast) -> None:
    contact, chosen = make.contact(cast.acme), make.contact_list(cast.acme)
    subscription = make.subscription(contact, chosen)
    call: dict[str, Any] = {
        "tenant_id": cast.acme.pk,
        "contact_id": contact.pk,
        "list_ids": [chosen.pk],
        "source": "message:one_click",
    }
    assert (services.unsubscribe(**call), services.unsubscribe(**call)) == (1, 0)
    assert SubscriptionChange.unscoped.filter(subscription=subscription).count() == 1


@pytest.fixture
def form(cast: Cast) -> SignupForm:
    sender = make.sender(make.domain(cast.acme))
    return SignupForm.unscoped.create(
        tenant=cast.acme,
        contact_list=make.contact_list(cast.acme, opt_in="double"),
        sender=sender,
        title="News",
        consent_text="Mail me news.",
    )


def address_of(form: SignupForm) -> str:
    return re.sub(r"^https?://[^/]+", "", signup.hosted_address(form))


def fill(visitor: Client, form: SignupForm, email: str, **more: str) -> Any:
    place = f"10.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}.9"
    data = {"email": email, "consent": "on", **more}
    return visitor.post(address_of(form), data, REMOTE_ADDR=place)


def link_for(subscription: Subscription, form: SignupForm) -> str:
    content = signup.confirmation_content(
        tenant_id=form.tenant_id, subscription_id=subscription.pk, form_id=form.pk
    )
    assert content is not None
    found = re.search(r"https?://[^/]+(/f/confirm/\S+)", content.text)
    assert found is not None
    assert found.group(1) in content.html
    return found.group(1)


def test_a_visitor_signs_up_and_confirms(visitor: Client, form: SignupForm) -> None:
    assert visitor.get(address_of(form)).status_code == 200
    email = f"v{uuid.uuid4().hex}@b.test"
    assert b"Check your inbox" in fill(visitor, form, email, first_name="Vera").content
    subscription = Subscription.unscoped.get()
    assert subscription.status == "unconfirmed"
    link = link_for(subscription, form)
    assert visitor.get(link).status_code == 200
    subscription.refresh_from_db()
    assert subscription.status == "unconfirmed", "a scanner that follows the link confirms nothing"
    assert b"You are subscribed" in visitor.post(link, HTTP_USER_AGENT="Firefox").content
    subscription.refresh_from_db()
    assert subscription.status == "subscribed"
    last = SubscriptionChange.unscoped.order_by("-id").first()
    assert last is not None
    assert (last.consent_text, last.ip_address) == ("Mail me news.", "127.0.0.1")


def test_who_has_left_comes_back_by_their_own_confirmation_only(
    visitor: Client, form: SignupForm, cast: Cast
) -> None:
    contact = make.contact(cast.acme, f"v{uuid.uuid4().hex}@b.test")
    subscription = make.subscription(contact, form.contact_list, "unsubscribed")
    for scope_name, reason in (("broadcast", "unsubscribe"), ("all", "complaint")):
        make.suppression(cast.acme, contact.email, scope=scope_name, reason=reason)
    assert b"Check your inbox" in fill(visitor, form, contact.email).content
    subscription.refresh_from_db()
    assert subscription.status == "unsubscribed"
    visitor.post(link_for(subscription, form))
    subscription.refresh_from_db()
    assert subscription.status == "subscribed"
    assert Suppression.unscoped.get().reason == "complaint"


def test_the_answer_does_not_tell_who_is_known(
    visitor: Client, form: SignupForm, cast: Cast
) -> None:
    known = make.contact(cast.acme, f"v{uuid.uuid4().hex}@b.test", first_name="Secret")
    make.subscription(known, form.contact_list)
    first = fill(visitor, form, known.email, first_name="Mallory")
    second = fill(visitor, form, f"v{uuid.uuid4().hex}@b.test")
    strip = re.compile(rb"nonce=\S+|token\W+\S+|X-CSRFToken\S+ \S+")
    assert strip.sub(b"", first.content) == strip.sub(b"", second.content)
    known.refresh_from_db()
    assert known.first_name == "Secret"


def test_the_trap_is_thanked_and_forgotten(visitor: Client, form: SignupForm) -> None:
    answer = fill(visitor, form, "bot@b.test", website="http://spam.test")
    assert b"Check your inbox" in answer.content
    assert not Contact.unscoped.exists()


@pytest.mark.parametrize("email", ["", "x", "a@b.test\nBcc: c@d.test"])
def test_bad_addresses_get_a_sentence(visitor: Client, form: SignupForm, email: str) -> None:
    assert fill(visitor, form, email).status_code == 422


def test_one_network_cannot_flood(visitor: Client, form: SignupForm) -> None:
    place = f"10.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}"
    codes = []
    for number in range(12):
        data = {"email": f"v{number}{uuid.uuid4().hex}@b.test", "consent": "on"}
        codes.append(visitor.post(address_of(form), data, REMOTE_ADDR=place).status_code)
    assert codes[0] == 200
    assert codes[-1] == 429


@pytest.mark.parametrize("token", ["x", "A" * 120, "../..", "%00"])
def test_forged_links_lead_nowhere(visitor: Client, token: str) -> None:
    assert visitor.get(f"/f/confirm/{token}").status_code == 404
    assert visitor.get(f"/f/{token}").status_code == 404


def test_an_expired_confirmation_link_says_what_to_do(
    visitor: Client, form: SignupForm, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(visitor, form, f"v{uuid.uuid4().hex}@b.test")
    subscription = Subscription.unscoped.get()
    long_ago = time.time() - 400 * 24 * 3600
    with monkeypatch.context() as patch:
        patch.setattr(signup.time, "time", lambda: long_ago)
        link = link_for(subscription, form)
    answer = visitor.post(link)
    assert answer.status_code == 409
    assert b"This link has expired. Fill in the form again" in answer.content
    subscription.refresh_from_db()
    assert subscription.status == "unconfirmed"


@pytest.mark.parametrize("field", ["first_name", "last_name"])
def test_a_line_break_in_a_form_reaches_no_header(
    visitor: Client, form: SignupForm, field: str
) -> None:
    answer = fill(visitor, form, f"v{uuid.uuid4().hex}@b.test", **{field: "Eve\r\nBcc: all@b.test"})
    if answer.status_code == 200:
        kept = Contact.unscoped.get()
        assert "\n" not in kept.first_name + kept.last_name
        assert "\r" not in kept.first_name + kept.last_name
    else:
        assert answer.status_code == 422
        assert not Contact.unscoped.exists()


def test_a_line_break_in_a_list_name_is_refused(alice: Client) -> None:
    data = {"name": "News\r\nBcc: all@b.test", "opt_in": "single"}
    assert alice.post("/audience/lists/add", data).status_code == 422
    assert not ContactList.unscoped.exists()
