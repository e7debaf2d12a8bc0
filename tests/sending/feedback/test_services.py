"""Stored mails become events, states and suppressions, each once."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from esp.kit.keys import signing_key
from esp.lib.ids import lower_bound, new_id
from sending.engine import verp
from sending.events.models import Event
from sending.feedback import services
from sending.feedback.models import InboundMail
from sending.feedback.services import mails_due, process_inbound, purge_inbound, sweep_inbound
from sending.messages.models import QueueEntry
from tests import make
from tests.cast import Cast
from tests.sending.feedback import mails
from tests.sending.feedback.conftest import FEEDBACK, READER, Sent, make_sent


def test_a_late_bounce_is_an_event_and_suppresses(sent: Sent) -> None:
    mail = sent.receive(sent.return_path, mails.dsn(READER))
    message = sent.refresh()
    assert (mail.status, mail.kind, mail.message_id) == ("done", "dsn", message.pk)
    assert message.status == "delivered"
    assert message.bounced_late_at is not None
    assert message.bounce_class == "hard/invalid-recipient"
    assert sent.events() == ["bounced_late"]
    assert sent.suppressions() == [(READER, "all", "bounce")]


def test_a_full_mailbox_does_not_suppress(sent: Sent) -> None:
    sent.receive(sent.return_path, mails.dsn(READER, status="5.2.2", diagnostic="smtp; 552 full"))
    assert sent.events() == ["bounced_late"]
    assert sent.suppressions() == []


def test_the_same_bounce_twice_counts_once(sent: Sent) -> None:
    sent.receive(sent.return_path, mails.dsn(READER))
    second = sent.receive(sent.return_path, mails.dsn(READER))
    assert (second.status, second.problem) == ("ignored", "The bounce was reported already.")
    assert sent.events() == ["bounced_late"]


def test_a_mail_that_was_worked_is_not_worked_again(sent: Sent) -> None:
    mail = sent.receive(sent.return_path, mails.dsn(READER))
    process_inbound(mail.pk)
    assert sent.events() == ["bounced_late"]


def test_a_bounce_of_a_waiting_message_ends_it(cast: Cast) -> None:
    sent = make_sent(cast, status="deferred")
    now = timezone.now()
    QueueEntry.objects.create(
        message_id=sent.message.pk, tenant_id=cast.acme.pk, batch_id=sent.message.batch_id,
        domain="bigmail.test", due_at=now, expires_at=now + dt.timedelta(days=1),
    )  # fmt: skip
    sent.receive(sent.return_path, mails.dsn(READER))
    message = sent.refresh()
    assert (message.status, message.bounce_class) == ("bounced", "hard/invalid-recipient")
    assert message.final_at is not None
    assert sent.events() == ["bounced"]
    assert not QueueEntry.objects.filter(message_id=message.pk).exists()


@pytest.mark.parametrize("status", ["bounced", "expired", "dropped", "cancelled"])
def test_a_final_message_stays_what_it_is(cast: Cast, status: str) -> None:
    sent = make_sent(cast, status=status)
    assert sent.receive(sent.return_path, mails.dsn(READER)).status == "ignored"
    assert sent.refresh().status == status
    assert sent.events() == []


def test_a_delay_is_noted_once_and_changes_nothing(sent: Sent) -> None:
    for _ in range(2):
        sent.receive(sent.return_path, mails.dsn(READER, action="delayed", status="4.4.1"))
    assert sent.refresh().status == "delivered"
    assert sent.message.bounced_late_at is None
    assert sent.events() == ["deferred"]
    assert [mail.status for mail in sent.inbound] == ["done", "ignored"]


def test_a_report_of_success_is_ignored(sent: Sent) -> None:
    mail = sent.receive(sent.return_path, mails.dsn(READER, action="relayed", status="2.0.0"))
    assert (mail.status, sent.events()) == ("ignored", [])


def test_a_complaint_suppresses_all_mail_and_leaves_the_lists(sent: Sent) -> None:
    raw = mails.arf(READER, mail_from=sent.return_path)
    assert sent.receive(FEEDBACK, raw).status == "done"
    assert sent.refresh().complained_at is not None
    assert sent.events() == ["complained"]
    assert sent.suppressions() == [(READER, "all", "complaint")]
    assert sent.subscription() == "unsubscribed"


def test_a_complaint_is_matched_by_its_message_id(sent: Sent) -> None:
    raw = mails.arf(READER.upper(), message_id=sent.message_id.upper())
    assert sent.receive(FEEDBACK, raw).status == "done"
    assert sent.events() == ["complained"]


def test_a_redacted_complaint_is_matched_by_its_message_id(sent: Sent) -> None:
    sent.receive(FEEDBACK, mails.arf(message_id=sent.message_id))
    assert sent.events() == ["complained"]


def test_a_complaint_about_another_recipient_is_ignored(sent: Sent) -> None:
    mail = sent.receive(FEEDBACK, mails.arf("other@bigmail.test", message_id=sent.message_id))
    assert (mail.status, sent.events()) == ("ignored", [])
    assert sent.suppressions() == []


def test_a_forged_return_path_proves_nothing(sent: Sent) -> None:
    forged = verp.return_path(sent.message.pk, key=b"x" * 32, domain="bounce.acme.example")
    sent.receive(FEEDBACK, mails.arf("other@bigmail.test", mail_from=forged))
    assert sent.events() == []


def test_a_complaint_counts_once(sent: Sent) -> None:
    for _ in range(2):
        sent.receive(FEEDBACK, mails.arf(READER, message_id=sent.message_id))
    assert sent.events() == ["complained"]


@pytest.mark.parametrize("kind", ["not-spam", "auth-failure", "virus"])
def test_reports_that_are_no_complaints_are_ignored(sent: Sent, kind: str) -> None:
    raw = mails.arf(READER, feedback_type=kind, message_id=sent.message_id)
    assert sent.receive(FEEDBACK, raw).status == "ignored"
    assert (sent.events(), sent.suppressions()) == ([], [])


def test_an_unsubscribe_mail_leaves_the_lists(sent: Sent) -> None:
    for _ in range(2):
        assert sent.receive(sent.unsubscribe, mails.ordinary("unsubscribe")).kind == "unsubscribe"
    assert sent.subscription() == "unsubscribed"
    assert sent.events() == ["unsubscribed"]


def test_an_automatic_reply_unsubscribes_nobody(sent: Sent) -> None:
    assert sent.receive(sent.unsubscribe, mails.auto_reply()).status == "ignored"
    assert sent.subscription() == "subscribed"


def test_an_automatic_reply_is_an_event_only(sent: Sent) -> None:
    for _ in range(2):
        sent.receive(sent.return_path, mails.auto_reply())
    assert sent.events() == ["autoreplied"]
    assert sent.suppressions() == []
    assert sent.refresh().status == "delivered"


def test_other_mail_is_ignored_with_a_reason(sent: Sent) -> None:
    mail = sent.receive(sent.return_path, mails.ordinary())
    assert (mail.status, mail.problem) == ("ignored", "It is neither a bounce nor a report.")
    assert sent.events() == []


def test_a_message_that_is_gone_is_no_failure(sent: Sent) -> None:
    address = verp.return_path(new_id(), key=signing_key("verp"), domain="b.acme.example")
    assert sent.receive(address, mails.dsn(READER)).status == "ignored"


def test_it_touches_the_tenant_of_the_message_only(sent: Sent, cast: Cast) -> None:
    theirs = make.contact(cast.globex, READER)
    make.subscription(theirs, make.contact_list(cast.globex))
    sent.receive(FEEDBACK, mails.arf(READER, message_id=sent.message_id))
    assert theirs.subscriptions(manager="unscoped").get().status == "subscribed"
    assert set(Event.unscoped.values_list("tenant_id", flat=True)) == {cast.acme.pk}


def test_a_mail_that_breaks_the_work_is_tried_again_then_marked(
    sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise ValueError("unlucky\x00 number")

    monkeypatch.setattr(services, "handle", broken)
    mail = sent.receive(sent.return_path, mails.dsn(READER))
    assert (mail.status, mail.attempts) == ("new", 1)
    later = timezone.now() + dt.timedelta(seconds=10)
    assert mails_due(later) == []  # it waits longer after a failure
    assert mails_due(later + dt.timedelta(seconds=15)) == [mail.pk]
    for _ in range(4):
        process_inbound(mail.pk)
    mail.refresh_from_db()
    assert (mail.status, mail.attempts) == ("failed", 5)
    assert mail.problem == "ValueError: unlucky number"


def test_the_sweep_finds_what_was_not_worked(sent: Sent) -> None:
    (pk,) = services.store_mail(mail_from="", recipients=[sent.return_path], raw=mails.dsn(READER))
    assert sweep_inbound() == 0  # its own wake-up is on the way
    InboundMail.objects.filter(pk=pk).update(received_at=timezone.now() - dt.timedelta(seconds=6))
    assert sweep_inbound() == 1
    assert sent.events() == ["bounced_late"]


def test_old_mails_are_forgotten(sent: Sent) -> None:
    now = timezone.now()
    old = InboundMail.objects.create(
        id=lower_bound(now - dt.timedelta(days=31)), rcpt_to="x@y.test", raw=b""
    )
    kept = sent.receive(sent.return_path, mails.dsn(READER))
    assert purge_inbound(now=now) == 1
    assert not InboundMail.objects.filter(pk=old.pk).exists()
    assert InboundMail.objects.filter(pk=kept.pk).exists()
