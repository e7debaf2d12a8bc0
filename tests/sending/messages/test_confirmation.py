"""The mail that asks to confirm a subscription."""

from __future__ import annotations

import uuid

import pytest

from deliverability.domains.models import Domain
from sending.audience.models import SignupForm, Subscription
from sending.content.render import Renderer
from sending.content.types import RenderContext
from sending.messages.confirmation import send_confirmation
from sending.messages.errors import SenderNotVerified
from sending.messages.models import IdempotencyKey, Message
from sending.messages.services import ensure_compiled
from tests import make
from tests.cast import Cast


@pytest.fixture
def form(cast: Cast, acme_domain: Domain) -> SignupForm:
    return SignupForm.unscoped.create(
        tenant=cast.acme,
        contact_list=make.contact_list(cast.acme, "News {{ of }} Acme", opt_in="double"),
        sender=make.sender(acme_domain, "news@acme.example"),
        title="News",
        consent_text="Yes",
    )


@pytest.fixture
def subscription(cast: Cast, form: SignupForm) -> Subscription:
    person = make.contact(cast.acme, "ada@bigmail.test")
    return make.subscription(person, form.contact_list, "unconfirmed")


def _send(subscription: Subscription, form: SignupForm, key: str = "k") -> object:
    return send_confirmation(
        tenant_id=form.tenant_id, subscription_id=subscription.pk, form_id=form.pk, key=key
    )


def test_it_sends_the_link_from_the_forms_sender(
    subscription: Subscription, form: SignupForm
) -> None:
    _send(subscription, form)
    message = Message.unscoped.get()
    assert (message.recipient, message.stream) == ("ada@bigmail.test", "transactional")
    assert message.contact_id == subscription.contact_id
    rendered = Renderer(ensure_compiled(message.content_id)).render(
        RenderContext(variables=message.variables)
    )
    assert "http" in rendered.text
    assert "News {{ of }} Acme" in rendered.text + rendered.subject


def test_a_job_that_runs_twice_sends_one_mail(subscription: Subscription, form: SignupForm) -> None:
    _send(subscription, form)
    assert _send(subscription, form) is None
    assert Message.unscoped.count() == 1
    _send(subscription, form, key="asked-again")
    assert Message.unscoped.count() == 2


def test_who_has_confirmed_gets_nothing(subscription: Subscription, form: SignupForm) -> None:
    Subscription.unscoped.update(status="subscribed")
    assert _send(subscription, form) is None
    assert not Message.unscoped.exists()


def test_what_is_gone_is_no_error(subscription: Subscription, form: SignupForm) -> None:
    assert (
        send_confirmation(
            tenant_id=form.tenant_id, subscription_id=uuid.uuid4(), form_id=form.pk, key="k"
        )
        is None
    )


def test_a_domain_that_is_not_verified_any_more_sends_nothing(
    subscription: Subscription, form: SignupForm
) -> None:
    Domain.unscoped.update(status="failing")
    with pytest.raises(SenderNotVerified):
        _send(subscription, form)
    assert not Message.unscoped.exists()
    assert not IdempotencyKey.unscoped.exists()
