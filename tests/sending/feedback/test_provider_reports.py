"""What providers report by webhook becomes events, states and suppressions, each once."""

from __future__ import annotations

import base64
import datetime as dt
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import connection
from django.test import Client
from django.utils import timezone

from esp.lib.ids import lower_bound
from sending.events.models import Attempt, Event
from sending.feedback import provider_reports, views
from sending.feedback.models import ProviderReport
from sending.feedback.provider_reports import purge_reports, reports_due, work_reports
from sending.messages.models import QueueEntry
from sending.routes.models import Route, RouteWebhook
from sending.routes.providers import PROVIDERS
from sending.routes.selectors import webhook_url
from sending.routes.webhooks import sns
from sending.routes.webhooks.calls import MAX_BYTES
from sending.routes.webhooks.catalogue import WEBHOOKS
from tests import make
from tests.cast import Cast
from tests.sending.feedback import provider_calls as calls
from tests.sending.feedback.conftest import READER, Sent, make_sent
from tests.sending.feedback.provider_calls import About, Call

THEIRS = "0a1b2c3d-provider-id"


@pytest.fixture(autouse=True)
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Amazon's own servers: give the certificate, take confirmations."""
    asked: list[str] = []
    certificate = calls.amazon_certificate()

    def fetch(url: str) -> bytes:
        asked.append(url)
        return certificate

    monkeypatch.setattr(sns, "fetch", fetch)
    sns._certificates.clear()
    yield asked
    sns._certificates.clear()


class Hook:
    """A route with a webhook whose keys are kept, and a message that it has carried."""

    def __init__(self, provider: str, sent: Sent, *, proof: dict[str, str] | None = None) -> None:
        self.provider, self.sent = provider, sent
        self.route = Route.objects.create(
            name=f"Out by {provider}", kind="http", options={"provider": provider}
        )
        if proof is None:
            proof = {"key": calls.KEYS[provider]} if provider in calls.KEYS else {}
        RouteWebhook.objects.create(route=self.route, token="t" * 43, secrets=json.dumps(proof))
        self.about = About(sent.message.public_id, THEIRS, READER)
        self.attempt = self.carry(sent)

    def carry(self, sent: Sent, *, theirs: str = THEIRS) -> Attempt:
        return Attempt.unscoped.create(
            tenant_id=sent.message.tenant_id, message_id=sent.message.pk, at=timezone.now(),
            number=1, outcome="delivered", phase="body", route=self.route.name,
            reply=f"{PROVIDERS[self.provider].title}: queued, its id {theirs}",
        )  # fmt: skip

    @property
    def row(self) -> RouteWebhook:
        return RouteWebhook.objects.get(route=self.route)

    @property
    def path(self) -> str:
        return f"/hooks/{self.route.public_id}/{self.row.token}"

    def call(self, kind: str, **options: Any) -> Call:
        if self.provider == "mandrill":
            options.setdefault("url", webhook_url(self.row))
        made: Call = calls.MAKERS[self.provider](self.about, kind, **options)
        return made

    def post(self, call: Call, path: str = "") -> Any:
        return Client().post(
            path or self.path, call.body, content_type=call.content_type, headers=call.headers
        )

    def report(self, kind: str, **options: Any) -> Any:
        """Post a call and work what it reported."""
        answer = self.post(self.call(kind, **options))
        work_reports()
        return answer


def test_every_provider_with_a_webhook_is_tried_here() -> None:
    assert set(calls.MAKERS) == set(WEBHOOKS) <= set(PROVIDERS)


@pytest.mark.parametrize("provider", sorted(calls.MAKERS))
def test_a_bounce_after_the_provider_took_it(provider: str, sent: Sent) -> None:
    hook = Hook(provider, sent)
    answer = hook.report("bounced")
    assert (answer.status_code, answer.content) == (200, b"Taken: 1 new.\n")
    message = sent.refresh()
    assert message.bounced_late_at is not None
    assert message.bounce_class == "hard/invalid-recipient"
    assert sent.events() == ["bounced_late"]
    assert sent.suppressions() == [(READER, "all", "bounce")]
    event = Event.unscoped.get(message_id=message.pk)
    assert event.detail["source"] == PROVIDERS[provider].title
    report = ProviderReport.objects.get()
    assert (report.status, report.message_id, report.problem) == ("done", message.pk, "")
    assert (hook.row.calls, hook.row.reports, hook.row.unmatched) == (1, 1, 0)
    assert hook.row.called_at is not None


@pytest.mark.parametrize("provider", sorted(set(calls.MAKERS) - {"postal"}))
def test_a_complaint_by_webhook(provider: str, sent: Sent) -> None:
    """Postal hears of complaints by mail only."""
    Hook(provider, sent).report("complained")
    assert sent.refresh().complained_at is not None
    assert sent.events() == ["complained", "unsubscribed"] or sent.events() == ["complained"]
    assert sent.suppressions() == [(READER, "all", "complaint")]
    assert sent.subscription() == "unsubscribed"


@pytest.mark.parametrize("provider", sorted(set(calls.MAKERS) - {"mandrill"}))
def test_a_delivery_by_webhook_is_noted_and_counts_no_second_time(
    provider: str, sent: Sent
) -> None:
    """Mandrill does not report deliveries in its webhook's classic events."""
    Hook(provider, sent).report("delivered")
    assert sent.refresh().status == "delivered"
    assert sent.message.last_reply.startswith(f"{PROVIDERS[provider].title}: delivered.")
    assert sent.events() == []
    assert ProviderReport.objects.get().status == "done"


@pytest.mark.parametrize("provider", ["amazon_ses", "mailgun", "postmark", "postal", "mandrill"])
def test_a_delay_by_webhook_is_an_event(provider: str, sent: Sent) -> None:
    Hook(provider, sent).report("deferred")
    assert sent.events() == ["deferred"]
    assert sent.suppressions() == []


def test_an_unsubscribe_at_the_provider_leaves_the_lists(sent: Sent) -> None:
    Hook("postmark", sent).report("unsubscribed")
    assert sent.subscription() == "unsubscribed"
    assert sent.events() == ["unsubscribed"]


def test_what_was_on_the_providers_own_list_does_not_suppress(sent: Sent) -> None:
    Hook("sendgrid", sent).report("dropped")
    assert sent.refresh().bounce_class == "block/suppressed"
    assert sent.suppressions() == []


def test_opens_change_nothing(sent: Sent) -> None:
    """Our own pixel counts them."""
    hook = Hook("postmark", sent)
    assert hook.report("opened").content == b"Taken: 0 new.\n"
    assert (ProviderReport.objects.count(), hook.row.calls) == (0, 1)


# --- exactly once ---


def test_the_same_call_twice_counts_once(sent: Sent) -> None:
    hook = Hook("postmark", sent)
    assert hook.report("bounced").content == b"Taken: 1 new.\n"
    assert hook.report("bounced").content == b"Taken: 0 new.\n"
    assert sent.events() == ["bounced_late"]
    assert ProviderReport.objects.count() == 1
    assert (hook.row.calls, hook.row.reports) == (2, 1)


def test_a_try_that_is_signed_anew_counts_once(sent: Sent) -> None:
    """Mailgun's token changes with each try; the event is the same."""
    hook = Hook("mailgun", sent)
    hook.report("bounced")
    assert hook.report("bounced", token="b" * 50).content == b"Taken: 0 new.\n"
    assert sent.events() == ["bounced_late"]


def test_the_same_event_twice_in_one_call_counts_once(sent: Sent) -> None:
    hook = Hook("sendgrid", sent)
    events = calls.sendgrid_events(hook.about, "bounced") * 2
    assert hook.post(calls.sendgrid_call(events)).content == b"Taken: 1 new.\n"


def test_two_reports_of_one_bounce_count_once(sent: Sent) -> None:
    """A bounce mail and a webhook may tell the same."""
    hook = Hook("postmark", sent)
    hook.report("bounced")
    again = json.loads(hook.call("bounced").body)
    again["BouncedAt"] = "2026-09-22T00:00:00Z"
    hook.post(Call(json.dumps(again).encode()))
    work_reports()
    assert sent.events() == ["bounced_late"]
    assert [row.status for row in ProviderReport.objects.order_by("id")] == ["done", "ignored"]


def test_a_worked_report_is_not_worked_again(sent: Sent) -> None:
    Hook("postmark", sent).report("bounced")
    provider_reports.process_report(ProviderReport.objects.get().pk)
    assert sent.events() == ["bounced_late"]


# --- whose message it is ---


def test_a_provider_that_does_not_hand_our_id_back_is_asked_by_its_own(sent: Sent) -> None:
    """Plain SES notifications have no tags, and SES has replaced our Message-ID."""
    hook = Hook("amazon_ses", sent)
    assert hook.attempt.provider_id == THEIRS, "computed by the database"
    hook.report("bounced", tags=False)
    assert sent.events() == ["bounced_late"]


def test_our_message_id_is_enough_where_it_was_kept(sent: Sent) -> None:
    hook = Hook("mailgun", sent)
    hook.about = About("", f"<{sent.message_id}>", READER)
    hook.report("bounced")
    assert sent.events() == ["bounced_late"]


def test_a_message_that_we_do_not_know_is_200_and_counted(sent: Sent) -> None:
    hook = Hook("postmark", sent)
    hook.about = About("msg_" + "a" * 26, "not-ours", READER)
    assert hook.report("bounced").status_code == 200
    report = ProviderReport.objects.get()
    assert (report.status, report.attempts) == ("new", 1), "its attempt may be under way"
    ProviderReport.objects.update(attempts=4)
    provider_reports.process_report(report.pk)
    report.refresh_from_db()
    assert (report.status, report.problem) == (
        "ignored", "This route has carried no such message.",
    )  # fmt: skip
    assert hook.row.unmatched == 1
    assert sent.events() == []


def test_a_report_may_come_before_the_result_of_its_attempt(sent: Sent) -> None:
    hook = Hook("postmark", sent)
    hook.attempt.delete()
    hook.report("bounced")
    assert sent.events() == []
    hook.carry(sent)
    assert reports_due(timezone.now()) == []
    assert len(reports_due(timezone.now() + dt.timedelta(seconds=6))) == 1
    provider_reports.process_report(ProviderReport.objects.get().pk)
    assert sent.events() == ["bounced_late"]


def test_a_route_cannot_speak_of_what_another_carried(sent: Sent, cast: Cast) -> None:
    """Whoever holds one provider's keys must not reach the mail of others."""
    hook = Hook("postmark", sent)
    contact = make.contact(cast.globex, "victim@bigmail.test")
    batch = make.batch(cast.globex)
    content = make.message_content(make.domain(cast.globex, "globex.example"))
    foreign = make.message(batch, content, contact.email, contact_id=contact.pk, status="delivered")
    Attempt.unscoped.create(
        tenant_id=cast.globex.pk, message_id=foreign.pk, at=timezone.now(), number=1,
        outcome="delivered", phase="body", route="Another route", reply="250 its id other",
    )  # fmt: skip
    hook.about = About(foreign.public_id, "other", contact.email)
    assert hook.report("bounced").status_code == 200
    hook.report("complained")
    foreign.refresh_from_db()
    assert (foreign.bounced_late_at, foreign.complained_at) == (None, None)
    assert not Event.unscoped.filter(message_id=foreign.pk).exists()


def test_a_report_on_another_recipient_is_not_believed(sent: Sent) -> None:
    hook = Hook("postmark", sent)
    hook.about = About(sent.message.public_id, THEIRS, "somebody@else.test")
    hook.report("bounced")
    assert sent.events() == []
    assert (
        ProviderReport.objects.get().problem == "It names another recipient than the message had."
    )


def test_a_recipient_is_the_same_in_capitals(sent: Sent) -> None:
    hook = Hook("postmark", sent)
    hook.about = About(sent.message.public_id, THEIRS, READER.upper())
    hook.report("bounced")
    assert sent.events() == ["bounced_late"]


# --- a message whose fate was unknown ---


@pytest.mark.parametrize(("kind", "status"), [("delivered", "delivered"), ("bounced", "bounced")])
def test_a_message_of_unknown_fate_ends_by_the_providers_word(
    cast: Cast, kind: str, status: str
) -> None:
    sent = make_sent(cast, status="deferred")
    now = timezone.now()
    QueueEntry.objects.create(
        message_id=sent.message.pk, tenant_id=cast.acme.pk, batch_id=sent.message.batch_id,
        domain="bigmail.test", due_at=now, expires_at=now + dt.timedelta(days=1),
    )  # fmt: skip
    Hook("postmark", sent).report(kind)
    assert sent.refresh().status == status
    assert sent.message.final_at is not None
    assert sent.events() == [status]
    assert not QueueEntry.objects.filter(message_id=sent.message.pk).exists()


# --- proof ---

WRONG: dict[str, dict[str, Any]] = {
    "amazon_ses": {"sign": False},
    "mailgun": {"key": "another"},
    "mandrill": {"key": "another"},
    "resend": {"key": "whsec_" + "A" * 32},
    "mailersend": {"key": "another"},
    "mailtrap": {"key": "another"},
    "sendgrid": {"key": ec.generate_private_key(ec.SECP256R1())},
}


@pytest.mark.parametrize("provider", sorted(WRONG))
def test_a_wrong_signature_is_403_with_a_line_in_the_log(
    provider: str, sent: Sent, caplog: pytest.LogCaptureFixture
) -> None:
    hook = Hook(provider, sent)
    with caplog.at_level(logging.WARNING):
        assert hook.report("bounced", **WRONG[provider]).status_code == 403
    (line,) = [record.getMessage() for record in caplog.records]
    assert hook.route.name in line
    assert "signature" in line
    assert calls.KEYS.get(provider, "no key") not in line
    assert hook.row.token not in line
    assert sent.events() == []
    assert (hook.row.refusals, hook.row.calls, hook.row.called_at) == (1, 0, None)
    assert "signature" in hook.row.refusal


@pytest.mark.parametrize("provider", sorted(set(calls.KEYS) | {"amazon_ses"}))
def test_a_call_without_a_signature_is_403(provider: str, sent: Sent) -> None:
    hook = Hook(provider, sent)
    call = hook.call("bounced")
    call.headers = {name: value for name, value in call.headers.items() if name[:5] == "x-amz"}
    data = json.loads(call.body) if call.content_type != "application/x-www-form-urlencoded" else {}
    for name in ("signature", "Signature"):
        if name in data:
            del data[name]
            call.body = json.dumps(data).encode()
    assert hook.post(call).status_code == 403
    assert ProviderReport.objects.count() == 0


@pytest.mark.parametrize("provider", sorted(calls.KEYS))
def test_without_a_key_the_address_alone_proves_it(provider: str, sent: Sent) -> None:
    hook = Hook(provider, sent, proof={})
    assert hook.report("bounced").status_code == 200
    assert sent.events() == ["bounced_late"]


def test_user_and_password_are_asked_for_and_checked(sent: Sent) -> None:
    hook = Hook("postmark", sent, proof={"basic_auth": "post:mark-secret"})
    call = hook.call("bounced")
    without = hook.post(call)
    assert (without.status_code, without["WWW-Authenticate"]) == (401, 'Basic realm="reports"')
    encoded = {name: "Basic " + base64.b64encode(name.encode()).decode()
               for name in ("post:wrong", "post:mark-secret")}  # fmt: skip
    call.headers["Authorization"] = encoded["post:wrong"]
    assert hook.post(call).status_code == 403
    call.headers["Authorization"] = encoded["post:mark-secret"]
    assert hook.post(call).status_code == 200


def test_a_signature_of_last_week_is_not_taken_again(sent: Sent) -> None:
    hook = Hook("resend", sent)
    assert hook.report("bounced", at=1_700_000_000.0).status_code == 403


# --- Amazon SNS ---


def test_a_subscription_is_confirmed_at_amazon(sent: Sent, amazon: list[str]) -> None:
    hook = Hook("amazon_ses", sent)
    assert hook.post(calls.subscription()).status_code == 200
    assert amazon[0] == calls.CERTIFICATE_URL
    assert amazon[1].startswith("https://sns.eu-central-1.amazonaws.com/?Action=Confirm")


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-central-1.amazonaws.com/a.pem",
        "https://sns.eu-central-1.amazonaws.com.evil.example/a.pem",
        "https://evil.example/a.pem",
        "https://127.0.0.1/a.pem",
        "https://sns.eu-central-1.amazonaws.com@evil.example/a.pem",
        "https://[bad",
        "",
    ],
)
def test_nothing_is_fetched_but_from_amazon(sent: Sent, amazon: list[str], url: str) -> None:
    hook = Hook("amazon_ses", sent)
    assert hook.post(calls.subscription(SigningCertURL=url)).status_code == 403
    assert amazon == []
    assert hook.post(calls.subscription(SubscribeURL=url)).status_code == 403
    assert amazon == [calls.CERTIFICATE_URL]


def test_only_the_named_topic_is_listened_to(sent: Sent) -> None:
    hook = Hook("amazon_ses", sent)
    RouteWebhook.objects.update(options={"topic_arn": "arn:aws:sns:eu-central-1:1:other"})
    assert hook.report("bounced").status_code == 403
    RouteWebhook.objects.update(options={"topic_arn": calls.TOPIC})
    assert hook.report("bounced").status_code == 200


def test_the_older_signature_of_sns_is_known(sent: Sent) -> None:
    hook = Hook("amazon_ses", sent)
    event = json.dumps(calls.ses_event(hook.about, "bounced"))
    message = {"Type": "Notification", "Message": event, "SignatureVersion": "1", "Subject": "x"}
    assert hook.post(calls.sns(message)).status_code == 200


def test_a_changed_event_breaks_amazons_signature(sent: Sent) -> None:
    hook = Hook("amazon_ses", sent)
    call = hook.call("delivered")
    call.body = call.body.replace(b"Delivery", b"Complaint")
    assert hook.post(call).status_code == 403


# --- the door ---


def test_another_token_is_404(sent: Sent) -> None:
    hook = Hook("postmark", sent)
    call = hook.call("bounced")
    for path in (
        f"/hooks/{hook.route.public_id}/{'u' * 43}",
        f"/hooks/{hook.route.public_id}/ü",
        f"/hooks/rte_{'a' * 26}/{'t' * 43}",
        f"/hooks/x/{'t' * 43}",
    ):
        assert hook.post(call, path).status_code == 404, path
    assert ProviderReport.objects.count() == 0


def test_an_address_can_be_tried_by_get_and_head(sent: Sent) -> None:
    hook = Hook("mandrill", sent)
    assert Client().head(hook.path).status_code == 200
    assert Client().get(hook.path).status_code == 200
    assert hook.row.calls == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"7", b'"x"', b"{}", b'[{"event": 3}]', b'{"RecordType": []}',
     b'{"RecordType": "Bounce", "BouncedAt": 9}', b"\xff\xfe", b"[" * 5000,
     b'{"RecordType": "Bounce", "Metadata": {"message_id": ["x"]}, "Email": {"a": 1}}'],
)  # fmt: skip
@pytest.mark.parametrize("provider", sorted(calls.MAKERS))
def test_nonsense_is_400_or_nothing_never_our_error(provider: str, body: bytes, sent: Sent) -> None:
    hook = Hook(provider, sent, proof={})
    assert hook.post(Call(body)).status_code in (200, 400, 403)
    work_reports()
    assert sent.events() == []


def test_a_call_that_is_too_large_is_413(sent: Sent) -> None:
    hook = Hook("postmark", sent)
    assert hook.post(Call(b" " * (MAX_BYTES + 1))).status_code == 413
    assert hook.row.refusals == 1


def test_too_many_events_are_413(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sending.routes.webhooks.calls.MAX_EVENTS", 2)
    hook = Hook("sendgrid", sent)
    events = calls.sendgrid_events(hook.about, "bounced") * 3
    assert hook.post(calls.sendgrid_call(events)).status_code == 413


def test_too_many_calls_are_429(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "RATE", 0.001)
    monkeypatch.setattr(views, "BURST", 2)
    hook = Hook("postmark", sent)
    answers = [hook.post(hook.call("bounced")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2]["Retry-After"]) > 0


def test_the_web_may_add_reports_and_not_read_them(sent: Sent) -> None:
    Hook("postmark", sent).report("bounced")
    with connection.cursor() as cursor:
        cursor.execute('SET LOCAL ROLE "mailwright_app"')
        cursor.execute("SELECT count(*) FROM sending_providerreport")
        assert cursor.fetchone() == (0,)
        cursor.execute("UPDATE sending_providerreport SET status = 'new'")
        assert cursor.rowcount == 0
        cursor.execute("RESET ROLE")


def test_a_removed_route_has_no_address_and_its_reports_do_nothing(sent: Sent) -> None:
    hook = Hook("postmark", sent)
    path, call = hook.path, hook.call("bounced")
    hook.post(call)
    hook.route.delete()
    work_reports()
    assert ProviderReport.objects.get().problem == "The route was removed."
    assert hook.post(call, path).status_code == 404
    assert sent.events() == []


def test_reports_are_forgotten_after_thirty_days(sent: Sent) -> None:
    Hook("postmark", sent).report("bounced")
    row = ProviderReport.objects.get()
    ProviderReport.objects.create(
        id=lower_bound(timezone.now() - dt.timedelta(days=31)), route_id=row.route_id, key="old",
        said={}, status="done",
    )  # fmt: skip
    assert purge_reports(now=timezone.now()) == 1
    assert ProviderReport.objects.get().pk == row.pk
