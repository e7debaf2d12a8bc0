"""Providers' HTTP APIs: what is handed over, and what each answer means."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any

import pytest

from esp.lib.ids import to_public
from sending.engine.ports import Outcome
from sending.engine.ways import may_go_on
from sending.routes.http.carrier import HttpCarrier
from sending.routes.plans import Way
from sending.routes.providers import PROVIDERS
from tests.sending.routes.conftest import LETTER, SOURCE, order
from tests.sending.routes.servers import Answer, Call, Provider

Start = Callable[[Answer], Provider]


def settings_of(name: str) -> dict[str, str]:
    """Return invented settings; secrets are recognisable, so that a leak can be seen."""
    found = {field.name: f"{'secret' if field.is_secret else 'value'}-{field.name}"
             for field in PROVIDERS[name].fields if field.is_required}  # fmt: skip
    return found | ({"region": "eu-central-1"} if "region" in found else {})


async def carry(
    name: str, url: str, data: bytes = LETTER, *, seconds: float = 3.0, **settings: str
) -> Outcome:
    carrier = HttpCarrier(
        PROVIDERS[name], settings_of(name) | settings, base_url=url, threads=1,
        connect_seconds=seconds, total_seconds=seconds,
    )  # fmt: skip
    try:
        return await carrier.carry(order(data=data), data)
    finally:
        carrier.close()


@dataclass
class Case:
    """How a provider says yes, and where our message is in what it got."""

    path: str
    yes: Any
    raw: Callable[[Call], bytes] | None = None
    headers: dict[str, str] | None = None


def form_part(call: Call, name: str) -> bytes:
    """Return a part of a multipart form."""
    head = b"Content-Type: " + call.headers["content-type"].encode() + b"\r\n\r\n"
    for part in message_from_bytes(head + call.body).walk():
        if f'name="{name}"' in part.get("Content-Disposition", ""):
            # The parser takes a message/rfc822 apart: its bytes are looked for in the form itself.
            if part.get_content_type() != "message/rfc822":
                return part.get_payload(decode=True)  # type: ignore[return-value]
            start = call.body.index(b"DKIM-Signature")
            return call.body[start : start + len(LETTER)]
    raise KeyError(name)


CASES = {
    "amazon_ses": Case(
        "/v2/email/outbound-emails",
        {"MessageId": "ses-1"},
        lambda call: base64.b64decode(call.json["Content"]["Raw"]["Data"]),
    ),
    "mailgun": Case(
        "/value-sender_domain/messages.mime",
        {"id": "<1@mailgun>", "message": "Queued. Thank you."},
        lambda call: form_part(call, "message"),
    ),
    "sparkpost": Case(
        "/transmissions/",
        {
            "results": {
                "total_accepted_recipients": 1,
                "total_rejected_recipients": 0,
                "id": "sp-1",
            }
        },
        lambda call: call.json["content"]["email_rfc822"].encode(),
    ),
    "mandrill": Case(
        "/messages/send-raw.json",
        [{"email": "bob@bigmail.test", "status": "sent", "_id": "m-1"}],
        lambda call: call.json["raw_message"].encode(),
    ),
    "postal": Case(
        "/api/v1/send/raw",
        {
            "status": "success",
            "data": {"messages": {"bob@bigmail.test": {"id": 7, "token": "t"}}},
        },
        lambda call: base64.b64decode(call.json["data"]),
    ),
    "sendgrid": Case("/mail/send", "", headers={"X-Message-Id": "sg-1"}),
    "postmark": Case(
        "/email",
        {"To": "bob@bigmail.test", "MessageID": "pm-1", "ErrorCode": 0, "Message": "OK"},
    ),
    "resend": Case("/emails", {"id": "re-1"}),
    "brevo": Case("/smtp/email", {"messageId": "<1@brevo>"}),
    "mailjet": Case(
        "/send",
        {
            "Messages": [
                {"Status": "success", "To": [{"Email": "bob@bigmail.test", "MessageID": 9}]}
            ]
        },
    ),
    "mailersend": Case("/email", "", headers={"X-Message-Id": "ms-1", "Content-Type": "text/html"}),
    "mailtrap": Case("/send", {"success": True, "message_ids": ["mt-1"]}),
    "scaleway": Case(
        "/emails",
        {"emails": [{"mail_rcpt": "bob@bigmail.test", "id": "sw-1", "status": "sending"}]},
    ),
}


def test_each_provider_is_tried() -> None:
    assert set(CASES) == set(PROVIDERS)


@pytest.mark.parametrize("name", sorted(CASES))
async def test_a_message_is_handed_over_once(name: str, provider: Start) -> None:
    case = CASES[name]
    server = provider(Answer(202 if name == "sendgrid" else 200, case.yes, case.headers or {}))
    outcome = await carry(name, server.url)
    assert (outcome.kind, outcome.phase, outcome.classification) == (
        "delivered", "body", "none/delivered",
    ), outcome.text  # fmt: skip
    assert outcome.timings["body"] > 0
    (call,) = server.calls
    assert (call.method, call.path) == ("POST", case.path)
    assert ("raw" if case.raw else "fields") == PROVIDERS[name].takes
    if case.raw:
        assert case.raw(call) == LETTER
    else:
        text = call.body.decode()
        for expected in ("Hello Bob", "<p>Hello <b>Bob</b></p>", "List-Unsubscribe", "JVBERi0="):
            assert expected in text, expected
        assert "DKIM-Signature" not in text


@pytest.mark.parametrize("name", sorted(CASES))
async def test_nobody_but_the_recipient_is_named_as_one(name: str, provider: Start) -> None:
    """The others in To and Cc have messages of their own: this one must not reach them, too."""
    case = CASES[name]
    server = provider(Answer(200, case.yes, case.headers or {}))
    await carry(name, server.url)
    (call,) = server.calls
    if case.raw is None:
        assert b"dora@" not in call.body
        assert b"emil@" not in call.body
    elif name == "amazon_ses":
        assert call.json["Destination"] == {"ToAddresses": ["bob@bigmail.test"]}
    elif name == "mailgun":
        assert form_part(call, "to") == b"bob@bigmail.test"
    elif name == "sparkpost":
        assert call.json["recipients"] == [{"address": {"email": "bob@bigmail.test"}}]
    else:
        assert (call.json.get("to") or call.json.get("rcpt_to")) == ["bob@bigmail.test"]


async def test_fields_keep_what_our_message_says(provider: Start) -> None:
    server = provider(Answer(200, CASES["postmark"].yes))
    await carry("postmark", server.url)
    sent = server.calls[0].json
    headers = {entry["Name"]: entry["Value"] for entry in sent["Headers"]}
    assert sent["To"] == '"Bob, of Acme" <bob@bigmail.test>'
    assert sent["Subject"] == "Grüße"
    assert sent["ReplyTo"] == "help@acme.example"
    assert sent["TextBody"].strip() == "Hello Bob €"
    assert headers["Message-ID"] == "<abc@b.acme.example>"
    assert headers["X-PM-KeepID"] == "true"
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert headers["X-Order"] == "42"
    assert sent["Metadata"] == {"message_id": to_public("msg", order().message_id)}
    assert sent["TrackOpens"] is False
    assert sent["Attachments"][0]["Name"] == "bill.pdf"
    assert server.calls[0].headers["x-postmark-server-token"] == "secret-server_token"


async def test_an_image_inside_the_html_stays_inside(provider: Start) -> None:
    data = (
        b"From: a@acme.example\r\nTo: bob@bigmail.test\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/related; boundary=r\r\n\r\n"
        b"--r\r\nContent-Type: text/html\r\n\r\n<img src=cid:logo>\r\n"
        b"--r\r\nContent-Type: image/png\r\nContent-ID: <logo>\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\niVBO\r\n--r--\r\n"
    )
    server = provider(Answer(200, CASES["postmark"].yes))
    await carry("postmark", server.url, data)
    sent = server.calls[0].json
    assert sent["Attachments"][0]["ContentID"] == "cid:logo"
    assert sent["HtmlBody"].strip() == "<img src=cid:logo>"
    assert "TextBody" not in sent or not sent["TextBody"]


async def test_a_repeated_call_has_the_same_idempotency_key(provider: Start) -> None:
    server = provider(Answer(200, {"id": "re-1"}))
    for _ in range(2):
        await carry("resend", server.url)
    keys = {call.headers["idempotency-key"] for call in server.calls}
    assert keys == {to_public("msg", order().message_id)}


# status, answer -> kind, phase, class, ambiguous
REFUSALS = [
    (400, {"message": "'to' parameter is not valid"}, "bounced", "data", "block/policy", False),
    (401, "Forbidden", "deferred", "auth", "block/auth-failure", False),
    (403, {"errors": [{"message": "not verified"}]}, "deferred", "auth", "block/auth-failure",
     False),
    (404, {"message": "Domain not found"}, "deferred", "auth", "block/auth-failure", False),
    (413, {"message": "too big"}, "bounced", "data", "block/content", False),
    (429, {"message": "slow down"}, "deferred", "greeting", "soft/throttled", False),
    (500, {"message": "oops"}, "deferred", "greeting", "soft/server-error", False),
    (502, "<html>bad gateway</html>", "deferred", "body", "soft/network-error", True),
    (503, "", "deferred", "greeting", "soft/server-error", False),
    (504, "", "deferred", "body", "soft/network-error", True),
    (302, "", "deferred", "auth", "block/auth-failure", False),
    (200, "<html>welcome to our hotel</html>", "deferred", "body", "soft/protocol-error", True),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: str(case[0]))
async def test_an_answer_becomes_an_outcome(case: tuple[Any, ...], provider: Start) -> None:
    status, data, kind, phase, category, ambiguous = case
    headers = {"Retry-After": "17", "Location": "https://example.com/"}
    server = provider(Answer(status, data, headers))
    outcome = await carry("mailgun", server.url)
    assert (outcome.kind, outcome.phase, outcome.classification, outcome.is_ambiguous) == (
        kind, phase, category, ambiguous,
    ), outcome.text  # fmt: skip
    if status >= 300:
        assert str(status) in outcome.text
        assert outcome.retry_after_seconds == 17
    assert len(server.calls) == 1
    # Another route may try only what was not taken.
    other = Way(SOURCE, "mailgun", carrier=HttpCarrier.__new__(HttpCarrier))
    assert may_go_on(outcome, other) == (phase in ("auth", "greeting"))


@pytest.mark.parametrize(
    ("status", "kind", "category"),
    [
        ("rejected", "bounced", "block/suppressed"),
        ("invalid", "bounced", "hard/invalid-recipient"),
        ("queued", "delivered", "none/delivered"),
    ],
)
async def test_the_recipients_status_counts(
    status: str, kind: str, category: str, provider: Start
) -> None:
    answer = [{"email": "bob@bigmail.test", "status": status, "_id": "m-1"}]
    outcome = await carry("mandrill", provider(Answer(200, answer)).url)
    assert (outcome.kind, outcome.classification) == (kind, category)


@pytest.mark.parametrize(
    ("code", "status", "phase", "category"),
    [
        ("SendingPausedException", 400, "auth", "block/auth-failure"),
        ("TooManyRequestsException", 429, "greeting", "soft/throttled"),
        ("MessageRejected", 400, "data", "block/policy"),
        ("InternalFailure", 500, "greeting", "soft/server-error"),
    ],
)
async def test_amazons_errors_are_told_apart(
    code: str, status: int, phase: str, category: str, provider: Start
) -> None:
    server = provider(Answer(status, {"message": "no"}, {"x-amzn-ErrorType": code}))
    outcome = await carry("amazon_ses", server.url)
    assert (outcome.phase, outcome.classification) == (phase, category), outcome.text
    assert code in outcome.text
    assert len(server.calls) == 1, "boto3 must not repeat a call by itself"


async def test_an_unreachable_provider_took_nothing() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("mailgun", "amazon_ses"):
        outcome = await carry(name, f"http://127.0.0.1:{port}/")
        assert (outcome.kind, outcome.phase, outcome.is_ambiguous) == (
            "deferred", "connect", False,
        ), outcome.text  # fmt: skip


@pytest.mark.parametrize("name", ["mailgun", "amazon_ses"])
@pytest.mark.parametrize("how", [{"cut": True}, {"wait": 1.0}])
async def test_a_call_without_an_answer_is_ambiguous(
    name: str, how: dict[str, Any], provider: Start
) -> None:
    server = provider(Answer(200, CASES[name].yes, **how))
    outcome = await carry(name, server.url, seconds=0.4)
    assert (outcome.kind, outcome.phase, outcome.is_ambiguous) == ("deferred", "body", True)
    assert len(server.calls) == 1


async def test_a_dripping_answer_ends() -> None:
    server = Provider(Answer(200, "x" * 100, drip=True))
    try:
        outcome = await carry("mailgun", server.url, seconds=0.5)
    finally:
        server.stop()
    assert outcome.is_ambiguous
    assert outcome.timings["body"] < 2


async def test_an_endless_answer_ends(provider: Start) -> None:
    outcome = await carry("mailgun", provider(Answer(200, b"x" * 3_000_000)).url)
    assert outcome.is_ambiguous
    assert "too long" in outcome.text


@pytest.mark.parametrize("name", sorted(CASES))
async def test_no_secret_gets_into_an_outcome(name: str, provider: Start) -> None:
    """Not even of a provider that says the key again in its error."""
    secrets = [value for value in settings_of(name).values() if value.startswith("secret-")]
    said = {"message": f"wrong key {' '.join(secrets)}", "error": "x", "ErrorCode": 10}
    outcome = await carry(name, provider(Answer(401, said)).url)
    assert outcome.kind == "deferred"
    assert secrets
    for secret in secrets:
        assert secret not in repr(outcome)


async def test_what_a_provider_cannot_carry_bounces_with_the_reason(provider: Start) -> None:
    data = LETTER.replace(b"X-Order: 42", "X-Order: Größe".encode())
    server = provider(Answer(200, CASES["brevo"].yes))
    outcome = await carry("brevo", server.url, data)
    assert (outcome.kind, outcome.classification) == ("bounced", "block/content")
    assert "non-ASCII" in outcome.text
    assert server.calls == []


@pytest.mark.parametrize("name", sorted(CASES))
async def test_a_key_is_tried_without_sending(name: str, provider: Start) -> None:
    check = PROVIDERS[name].check
    server = provider(Answer(check.ok[0] if check else 200, {"PONG": 1}))
    carrier = HttpCarrier(PROVIDERS[name], settings_of(name), base_url=server.url, threads=1)
    step = carrier.try_key()
    if check is None and name != "amazon_ses":
        assert step.is_ok is None
        assert server.calls == []
        return
    assert step.is_ok is True, step.detail
    server.answer = Answer(401, {"message": "Invalid key"})
    refused = carrier.try_key()
    assert refused.is_ok is False
    assert not any("messages.mime" in call.path for call in server.calls)
    carrier.close()
