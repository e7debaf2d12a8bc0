"""Calls of providers' webhooks as they document them, signed as they sign: what a test posts."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

AT = 1_790_000_000  # when the events happened
ISO = "2026-09-21T14:13:20.000Z"
NO_USER = "550 5.1.1 No such user here"
KEYS = {
    "mailgun": "mailgun-signing-key",
    "mandrill": "mandrill-webhook-key",
    "resend": "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode(),
    "mailersend": "mailersend-secret",
    "mailtrap": "mailtrap-secret",
}


@dataclass
class Call:
    """One POST."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass
class About:
    """The message that a call is about; `own` is our id, `theirs` the provider's."""

    own: str
    theirs: str
    to: str


def _json(data: Any, **headers: str) -> Call:
    return Call(json.dumps(data).encode(), headers)


# --- those without a signature ---


def postmark(about: About, kind: str) -> Call:
    base = {
        "MessageID": about.theirs, "ServerID": 23, "MessageStream": "outbound", "Tag": "",
        "Metadata": {"message_id": about.own},
    }  # fmt: skip
    if kind == "delivered":
        return _json({**base, "RecordType": "Delivery", "Recipient": about.to, "DeliveredAt": ISO,
                      "Details": "smtp;250 2.0.0 OK 1790000000"})  # fmt: skip
    if kind == "complained":
        return _json({**base, "RecordType": "SpamComplaint", "ID": 42, "Type": "SpamComplaint",
                      "TypeCode": 512, "Name": "Spam complaint", "Email": about.to,
                      "From": "hello@acme.example", "BouncedAt": ISO, "Details": ""})  # fmt: skip
    if kind == "unsubscribed":
        return _json({**base, "RecordType": "SubscriptionChange", "Recipient": about.to,
                      "ChangedAt": ISO, "SuppressSending": True, "Origin": "Recipient",
                      "SuppressionReason": "ManualSuppression"})  # fmt: skip
    if kind == "opened":
        return _json({**base, "RecordType": "Open", "Recipient": about.to, "ReceivedAt": ISO})
    if kind == "deferred":
        return _json({**base, "RecordType": "Bounce", "ID": 41, "Type": "Transient",
                      "Email": about.to, "BouncedAt": ISO,
                      "Details": "smtp;451 4.7.1 Greylisted, try again"})  # fmt: skip
    return _json({**base, "RecordType": "Bounce", "ID": 4323372036854775807, "Type": "HardBounce",
                  "TypeCode": 1, "Name": "Hard bounce", "Email": about.to, "BouncedAt": ISO,
                  "Description": "The server was unable to deliver your message",
                  "Details": f"smtp;{NO_USER}", "Inactive": True})  # fmt: skip


def sparkpost(about: About, kind: str) -> Call:
    names = {"bounced": "bounce", "complained": "spam_complaint", "delivered": "delivery"}
    event = {
        "type": names[kind],
        "bounce_class": "10", "event_id": "92356927693813856", "timestamp": str(AT),
        "raw_rcpt_to": about.to, "rcpt_to": about.to, "raw_reason": NO_USER,
        "transmission_id": about.theirs, "rcpt_meta": {"message_id": about.own},
    }  # fmt: skip
    if kind != "bounced":
        del event["bounce_class"]
    return _json([{"msys": {"message_event": event}}, {"msys": {}}])


def brevo(about: About, kind: str) -> Call:
    return _json({
        "event": {"bounced": "hard_bounce", "complained": "spam", "delivered": "delivered"}[kind],
        "email": about.to, "id": 26224, "ts_epoch": AT * 1000, "message-id": about.theirs,
        "X-Mailin-custom": json.dumps({"message_id": about.own}), "reason": NO_USER,
        "subject": "Hello",
    })  # fmt: skip


def mailjet(about: About, kind: str) -> Call:
    return _json([{
        "event": {"bounced": "bounce", "complained": "spam", "delivered": "sent"}[kind],
        "time": AT, "MessageID": 19421777835146490, "email": about.to, "mj_campaign_id": 7276,
        "Payload": json.dumps({"message_id": about.own}), "blocked": False,
        "hard_bounce": kind == "bounced", "error_related_to": "recipient",
        **({"error": "user unknown", "comment": NO_USER} if kind == "bounced" else {}),
    }])  # fmt: skip


# --- those that sign with a shared secret ---


def mailgun(about: About, kind: str, *, key: str = KEYS["mailgun"], token: str = "a" * 50) -> Call:
    signature = hmac.new(key.encode(), f"{AT}{token}".encode(), hashlib.sha256).hexdigest()
    data: dict[str, Any] = {
        "event": {"bounced": "failed", "deferred": "failed"}.get(kind, kind), "id": "G9Bn5sl1TC6",
        "timestamp": AT + 0.25, "recipient": about.to, "recipient-domain": "bigmail.test",
        "message": {"headers": {"message-id": about.theirs.strip("<>"), "to": about.to}},
        "user-variables": {"message_id": about.own}, "tags": [],
    }  # fmt: skip
    if kind in ("bounced", "deferred"):
        data |= {
            "severity": "permanent" if kind == "bounced" else "temporary", "reason": "bounce",
            "delivery-status": {"code": 550, "message": NO_USER, "description": "",
                                "attempt-no": 1, "enhanced-code": "5.1.1"},
        }  # fmt: skip
    return _json({
        "signature": {"timestamp": str(AT), "token": token, "signature": signature},
        "event-data": data,
    })  # fmt: skip


def mandrill(about: About, kind: str, *, key: str = KEYS["mandrill"], url: str = "") -> Call:
    event = {
        "event": {"bounced": "hard_bounce", "complained": "spam"}.get(kind, "deferral"),
        "_id": about.theirs, "ts": AT,
        "msg": {"_id": about.theirs, "ts": AT, "email": about.to, "diag": f"smtp;{NO_USER}",
                "bounce_description": "bad_mailbox", "metadata": [], "tags": []},
    }  # fmt: skip
    if event["msg"]["metadata"] == []:  # type: ignore[index]
        del event["msg"]["metadata"]  # type: ignore[attr-defined]
    events = json.dumps([event])
    signed = f"{url}mandrill_events{events}".encode()
    signature = base64.b64encode(hmac.new(key.encode(), signed, hashlib.sha1).digest()).decode()
    return Call(
        urlencode({"mandrill_events": events}).encode(),
        {"X-Mandrill-Signature": signature},
        "application/x-www-form-urlencoded",
    )


def resend(about: About, kind: str, *, key: str = KEYS["resend"], at: float | None = None) -> Call:
    data = {
        "type": f"email.{kind}", "created_at": ISO,
        "data": {
            "email_id": about.theirs, "created_at": ISO, "from": "hello@acme.example",
            "to": [about.to], "subject": "Hello",
            "headers": [{"name": "X-Metadata", "value": json.dumps({"message_id": about.own})}],
            **({"bounce": {"type": "Permanent", "subType": "General",
                           "message": "The recipient's email provider sent a hard bounce message"}}
               if kind == "bounced" else {}),
        },
    }  # fmt: skip
    body = json.dumps(data).encode()
    stamp = str(int(time.time() if at is None else at))
    secret = base64.b64decode(key.removeprefix("whsec_"))
    signed = f"msg_1.{stamp}.".encode() + body
    signature = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    return Call(
        body, {"svix-id": "msg_1", "svix-timestamp": stamp, "svix-signature": f"v1,{signature}"}
    )


def mailersend(about: About, kind: str, *, key: str = KEYS["mailersend"]) -> Call:
    name = {"bounced": "hard_bounced", "complained": "spam_complaint"}.get(kind, kind)
    body = json.dumps({
        "type": f"activity.{name}", "created_at": ISO,
        "data": {
            "object": "activity", "id": "6203c", "type": name, "created_at": ISO,
            "email": {"object": "email", "id": "6203a", "tags": [], "status": "rejected",
                      "message": {"object": "message", "id": about.theirs},
                      "recipient": {"object": "recipient", "email": about.to}},
            "morph": {"object": "recipient_bounce", "reason": NO_USER,
                      "readable_reason": ""},
        },
    }).encode()  # fmt: skip
    return Call(body, {"Signature": hmac.new(key.encode(), body, hashlib.sha256).hexdigest()})


def mailtrap(about: About, kind: str, *, key: str = KEYS["mailtrap"]) -> Call:
    name = {"bounced": "bounce", "complained": "spam", "delivered": "delivery"}[kind]
    body = json.dumps({"events": [{
        "event": name, "message_id": about.theirs, "sending_stream": "transactional",
        "email": about.to, "timestamp": AT, "event_id": "bede7236", "response": NO_USER,
        "custom_variables": {"message_id": about.own},
    }]}).encode()  # fmt: skip
    signature = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return Call(body, {"Mailtrap-Signature": signature})


# --- those that sign with a key pair ---


def public_text(key: Any) -> str:
    """Return the inside of a public key's PEM form, on one line."""
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return "".join(pem.decode().splitlines()[1:-1])


SENDGRID_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
KEYS["sendgrid"] = public_text(SENDGRID_KEY)
KEYS["postal"] = public_text(RSA_KEY)


def sendgrid_events(about: About, kind: str) -> list[dict[str, Any]]:
    event: dict[str, Any] = {
        "email": about.to, "timestamp": AT, "sg_event_id": f"ZyjAM5rnQmuI1KFInHQ3{kind}",
        "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>", "category": ["x"],
        "sg_message_id": f"{about.theirs}.filter0425p1mdw1.13037.57168B4A1D.0",
        "message_id": about.own,
    }  # fmt: skip
    if kind == "bounced":
        event |= {"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": NO_USER}
    elif kind == "dropped":
        event |= {"event": "dropped", "reason": "Bounced Address", "status": "5.0.0"}
    else:
        event |= {"event": {"complained": "spamreport", "unsubscribed": "unsubscribe"}
                  .get(kind, kind)}  # fmt: skip
    return [event]


def sendgrid(about: About, kind: str, *, key: Any = SENDGRID_KEY) -> Call:
    return sendgrid_call(sendgrid_events(about, kind), key=key)


def sendgrid_call(events: list[dict[str, Any]], *, key: Any = SENDGRID_KEY) -> Call:
    body = json.dumps(events).encode()
    signature = key.sign(str(AT).encode() + body, ec.ECDSA(hashes.SHA256()))
    return Call(
        body,
        {
            "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
            "X-Twilio-Email-Event-Webhook-Timestamp": str(AT),
        },
    )


def postal(about: About, kind: str) -> Call:
    message = {"id": about.theirs, "direction": "outgoing", "to": about.to, "tag": None}
    status = {"bounced": "HardFail", "delivered": "Sent", "deferred": "SoftFail"}[kind]
    body = json.dumps({
        "event": "MessageDeliveryFailed", "timestamp": AT, "uuid": "0fcc8406-30a9",
        "payload": {"message": message, "status": status, "details": "", "output": NO_USER},
    }).encode()  # fmt: skip
    signature = RSA_KEY.sign(body, padding.PKCS1v15(), hashes.SHA1())
    return Call(body, {"X-Postal-Signature": base64.b64encode(signature).decode()})


# --- Amazon SES, by SNS ---

TOPIC = "arn:aws:sns:eu-central-1:123456789012:mail-events"
CERTIFICATE_URL = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0123.pem"


def amazon_certificate(key: Any = RSA_KEY) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


def ses_event(about: About, kind: str, *, tags: bool = True) -> dict[str, Any]:
    mail: dict[str, Any] = {
        "timestamp": ISO, "source": "b.1.2@b.acme.example", "sendingAccountId": "123456789012",
        "messageId": about.theirs, "destination": [about.to], "headersTruncated": False,
        "headers": [{"name": "Message-ID", "value": "<x@b.acme.example>"}],
    }  # fmt: skip
    if tags:
        mail["tags"] = {"ses:configuration-set": ["acme"], "message_id": [about.own]}
    parts: dict[str, tuple[str, str, dict[str, Any]]] = {
        "bounced": ("Bounce", "bounce", {
            "bounceType": "Permanent", "bounceSubType": "General", "timestamp": ISO,
            "bouncedRecipients": [{"emailAddress": about.to, "action": "failed",
                                   "status": "5.1.1", "diagnosticCode": f"smtp; {NO_USER}"}],
            "feedbackId": "01000157c44f053b", "reportingMTA": "dsn; mta.example.com"}),
        "complained": ("Complaint", "complaint", {
            "complainedRecipients": [{"emailAddress": about.to}], "timestamp": ISO,
            "complaintFeedbackType": "abuse", "feedbackId": "01000157c44f053c"}),
        "delivered": ("Delivery", "delivery", {
            "timestamp": ISO, "recipients": [about.to], "processingTimeMillis": 546,
            "smtpResponse": "250 2.0.0 OK", "reportingMTA": "a8-70.smtp-out.amazonses.com"}),
        "deferred": ("DeliveryDelay", "deliveryDelay", {
            "timestamp": ISO, "delayType": "MailboxFull", "expirationTime": ISO,
            "delayedRecipients": [{"emailAddress": about.to, "status": "4.2.2",
                                   "diagnosticCode": "smtp; 452 4.2.2 Mailbox full"}]}),
    }  # fmt: skip
    name, place, data = parts[kind]
    return {"eventType": name, "mail": mail, place: data}


def sns(message: dict[str, Any], *, key: Any = RSA_KEY, sign: bool = True) -> Call:
    """Sign and post an SNS message, as "SignatureVersion" says."""
    version = message.setdefault("SignatureVersion", "2")
    message.setdefault("SigningCertURL", CERTIFICATE_URL)
    message.setdefault("MessageId", "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324")
    message.setdefault("Timestamp", ISO)
    message.setdefault("TopicArn", TOPIC)
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if message["Type"] != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
    algorithm = hashes.SHA1() if version == "1" else hashes.SHA256()
    signature = key.sign(text.encode(), padding.PKCS1v15(), algorithm) if sign else b"no"
    message["Signature"] = base64.b64encode(signature).decode()
    return Call(
        json.dumps(message).encode(),
        {"x-amz-sns-message-type": message["Type"], "x-amz-sns-message-id": message["MessageId"]},
        "text/plain; charset=UTF-8",
    )


def amazon_ses(about: About, kind: str, *, tags: bool = True, **options: Any) -> Call:
    event = json.dumps(ses_event(about, kind, tags=tags))
    return sns({"Type": "Notification", "Message": event}, **options)


def subscription(**changes: str) -> Call:
    return sns({
        "Type": "SubscriptionConfirmation", "Token": "2336412f37",
        "Message": "You have chosen to subscribe to the topic.",
        "SubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription"
        f"&TopicArn={TOPIC}&Token=2336412f37",
        **changes,
    })  # fmt: skip


MAKERS = {
    maker.__name__: maker
    for maker in (
        amazon_ses, brevo, mailersend, mailgun, mailjet, mailtrap, mandrill, postal, postmark,
        resend, sendgrid, sparkpost,
    )
}  # fmt: skip
