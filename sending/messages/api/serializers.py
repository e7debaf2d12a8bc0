"""What the messages API takes and gives. Shapes only: limits and sense are the services' affair."""

from __future__ import annotations

import datetime as dt
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from esp.kit.drf import StrictSerializer
from esp.lib.addresses import parse_address
from esp.lib.errors import InvalidInput
from esp.lib.ids import to_public
from sending.content.types import ContentSource, SourceKind
from sending.engine.classify import explain, title
from sending.events.models import Attempt, Event, EventKind
from sending.events.timeline import TimelineEntry
from sending.messages.batch_waiting import WaitGroup
from sending.messages.models import Message, Stream
from sending.messages.types import AcceptedBatch, Attachment, Recipient, SendRequest
from sending.messages.waiting import Cause, Wait


class _ReadOnly(serializers.Serializer[Any]):
    """An answer's shape, for the document; the values come from functions in this file."""


# --- in ---


class AddressIn(StrictSerializer):
    """A mailbox with the name that is shown beside it."""

    email = serializers.CharField(max_length=320)
    name = serializers.CharField(
        max_length=100, required=False, allow_blank=True, default="", trim_whitespace=False
    )


class RecipientIn(StrictSerializer):
    """A recipient; `variables` fill the content for this one alone."""

    email = serializers.CharField(max_length=320)
    name = serializers.CharField(
        max_length=200, required=False, allow_blank=True, default="", trim_whitespace=False
    )
    variables = serializers.DictField(required=False, default=dict)


class AttachmentIn(StrictSerializer):
    """A file, base64. With `content_id` the HTML shows it: `<img src="cid:…">`."""

    filename = serializers.CharField(max_length=200, trim_whitespace=False)
    content_type = serializers.CharField(max_length=127)
    content = serializers.CharField(trim_whitespace=False)
    content_id = serializers.CharField(max_length=100, required=False, allow_blank=True, default="")


class TrackingIn(StrictSerializer):
    """What is measured; both are off unless asked for."""

    opens = serializers.BooleanField(required=False, default=False)
    clicks = serializers.BooleanField(required=False, default=False)


class SendIn(StrictSerializer):
    """One content for 1 to 1,000 recipients, each of whom gets a message of their own."""

    to = RecipientIn(many=True, help_text="1 to 1,000 recipients; none sees another.")
    subject = serializers.CharField(
        required=False, allow_blank=True, default="", trim_whitespace=False, max_length=998
    )
    preview_text = serializers.CharField(
        required=False, allow_blank=True, default="", max_length=998
    )
    html = serializers.CharField(required=False, allow_blank=False, trim_whitespace=False)
    mjml = serializers.CharField(required=False, allow_blank=False, trim_whitespace=False)
    text = serializers.CharField(
        required=False,
        allow_blank=False,
        trim_whitespace=False,
        help_text="Alone: a plain-text message. Beside html or mjml: their text part.",
    )
    template_id = serializers.CharField(required=False, max_length=40)
    reply_to = serializers.CharField(required=False, allow_blank=True, default="", max_length=320)
    headers = serializers.DictField(
        child=serializers.CharField(trim_whitespace=False, allow_blank=True),
        required=False,
        default=dict,
        help_text="Headers of your own; what the service writes itself cannot be set.",
    )
    attachments = AttachmentIn(many=True, required=False, default=list)
    tags = serializers.ListField(
        child=serializers.CharField(max_length=64), required=False, default=list
    )
    metadata = serializers.DictField(
        required=False, default=dict, help_text="Your own data, given back with the message."
    )
    send_at = serializers.DateTimeField(
        required=False, help_text="A moment with its zone, up to 30 days ahead."
    )
    ttl_seconds = serializers.IntegerField(
        required=False,
        help_text="How long the message is of use, 30 seconds to a week; the default is the "
        "stream's patience. Up to 30 minutes it is retried within seconds, like a sign-in code.",
    )
    tracking = TrackingIn(required=False)
    stream = serializers.ChoiceField(
        choices=Stream.choices, required=False, default=Stream.TRANSACTIONAL
    )

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # "from" is a keyword of Python, so it cannot stand among the fields above.
        return {"from": AddressIn(), **super().get_fields()}


def request_from(data: dict[str, Any]) -> SendRequest:
    """Return the request in validated data of `SendIn`; raises InvalidInput."""
    tracking = data.get("tracking") or {}
    return SendRequest(
        from_email=data["from"]["email"],
        from_name=data["from"]["name"],
        recipients=tuple(
            Recipient(entry["email"], entry["name"], entry["variables"]) for entry in data["to"]
        ),
        source=_source(data),
        template_id=data.get("template_id", ""),
        subject=data["subject"],
        reply_to=data["reply_to"],
        headers=data["headers"],
        attachments=tuple(Attachment(**entry) for entry in data["attachments"]),
        tags=tuple(data["tags"]),
        metadata=data["metadata"],
        send_at=data.get("send_at"),
        ttl_seconds=data.get("ttl_seconds"),
        track_opens=tracking.get("opens", False),
        track_clicks=tracking.get("clicks", False),
        stream=data["stream"],
    )


def _source(data: dict[str, Any]) -> ContentSource | None:
    if "html" in data and "mjml" in data:
        raise InvalidInput("Give html or mjml, not both.", code="content-ambiguous", field="mjml")
    kinds: tuple[SourceKind, ...] = ("html", "mjml", "text")
    kind = next((name for name in kinds if name in data), None)
    if kind is None:
        return None
    return ContentSource(
        kind=kind,
        body=data[kind],
        subject=data["subject"],
        text_body=data.get("text") if kind != "text" else None,
        preview_text=data["preview_text"],
    )


class _PageQuery(StrictSerializer):
    limit = serializers.IntegerField(required=False, default=50, min_value=1, max_value=200)
    cursor = serializers.CharField(
        required=False, max_length=40, help_text="`next_cursor` of the page before."
    )
    recipient = serializers.CharField(required=False, max_length=320)
    since = serializers.DateTimeField(
        required=False, help_text="Without it, the last 30 days are looked through."
    )
    until = serializers.DateTimeField(required=False)

    def validate_recipient(self, value: str) -> str:
        try:
            return parse_address(value, allow_display=False).normalised
        except InvalidInput as error:
            raise serializers.ValidationError(error.message, code=error.code) from error

    def validate_since(self, value: dt.datetime) -> dt.datetime:
        return _checked_moment(value)

    def validate_until(self, value: dt.datetime) -> dt.datetime:
        return _checked_moment(value)


def _checked_moment(value: dt.datetime) -> dt.datetime:
    if not 2000 <= value.year <= 9000:
        raise serializers.ValidationError("This moment is out of range.", code="out-of-range")
    return value


class MessagesQuery(_PageQuery):
    """How a list of messages is narrowed."""

    status = serializers.ChoiceField(choices=Message.Status.choices, required=False)
    tag = serializers.CharField(required=False, max_length=64)
    batch = serializers.CharField(required=False, max_length=40)


class EventsQuery(_PageQuery):
    """How a list of events is narrowed."""

    kind = serializers.ChoiceField(choices=EventKind.choices, required=False)
    message = serializers.CharField(required=False, max_length=40)
    batch = serializers.CharField(required=False, max_length=40)


# --- out ---


class AcceptedItemOut(_ReadOnly):
    """What became of one recipient, in the order of `to`."""

    id = serializers.CharField()
    email = serializers.EmailField()
    status = serializers.ChoiceField(choices=["queued", "dropped"])
    reason = serializers.CharField(help_text="Why the message is not sent; empty if it is.")


class AcceptedOut(_ReadOnly):
    """The messages are committed: nothing that happens to us from here on loses them."""

    batch_id = serializers.CharField()
    queued = serializers.IntegerField()
    dropped = serializers.IntegerField()
    messages = AcceptedItemOut(many=True)


class MessageOut(_ReadOnly):
    """One message to one recipient."""

    id = serializers.CharField()
    batch_id = serializers.CharField()
    stream = serializers.ChoiceField(choices=Stream.choices)
    recipient = serializers.EmailField()
    recipient_name = serializers.CharField(source="addressee")
    status = serializers.ChoiceField(choices=Message.Status.choices)
    bounce_class = serializers.CharField(help_text="`class/category`; empty unless refused.")
    last_reply = serializers.CharField(help_text="The receiver's last words.")
    site = serializers.CharField(help_text="The mailbox provider, once known.")
    attempts = serializers.IntegerField()
    tags = serializers.ListField(child=serializers.CharField())
    metadata = serializers.DictField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    final_at = serializers.DateTimeField(allow_null=True)
    opened_at = serializers.DateTimeField(allow_null=True)
    clicked_at = serializers.DateTimeField(allow_null=True)
    complained_at = serializers.DateTimeField(allow_null=True)
    unsubscribed_at = serializers.DateTimeField(allow_null=True)
    bounced_late_at = serializers.DateTimeField(allow_null=True)


class AttemptOut(_ReadOnly):
    """One try to hand the message over."""

    number = serializers.IntegerField()
    at = serializers.DateTimeField()
    outcome = serializers.ChoiceField(choices=["delivered", "deferred", "bounced"])
    phase = serializers.CharField(help_text="How far the SMTP session got.")
    source_address = serializers.CharField()
    route = serializers.CharField(help_text="Empty: straight to the receiver's servers.")
    site = serializers.CharField(help_text="The mailbox provider behind the servers.")
    mx_host = serializers.CharField()
    mx_address = serializers.CharField()
    tls_version = serializers.CharField()
    smtp_code = serializers.IntegerField(allow_null=True)
    reply = serializers.CharField()
    bounce_class = serializers.CharField()
    is_ambiguous = serializers.BooleanField(
        help_text="The content was on its way and no reply came: it may have arrived."
    )
    timings = serializers.DictField(child=serializers.FloatField(), help_text="Seconds by phase.")


class EventOut(_ReadOnly):
    """One fact about a message."""

    id = serializers.CharField()
    kind = serializers.ChoiceField(choices=EventKind.choices)
    at = serializers.DateTimeField()
    message_id = serializers.CharField()
    batch_id = serializers.CharField()
    recipient = serializers.EmailField()
    site = serializers.CharField()
    is_machine = serializers.BooleanField(help_text="An open or click that no person made.")
    detail = serializers.DictField()


class TimelineEntryOut(EventOut):
    """An event of the message, with the attempt that it came of where there is one."""

    attempt = serializers.SerializerMethodField()

    @extend_schema_field(AttemptOut(allow_null=True))
    def get_attempt(self, entry: Any) -> Any:
        return entry["attempt"]


class CauseOut(_ReadOnly):
    """One thing that holds mail."""

    code = serializers.CharField(
        help_text="`tenant-suspended`, `held`, `paused`, `engine-paused` (our name servers are "
        "silent), `no-source` (no address or host can send it), `no-worker`, `lane-paused`, "
        "`lane-suspended`, `limit`, `cap` (of warming up), `route` (it rests after failures), "
        "`passed-on` (to another host), `dns`, `unreachable`, `tls`, `receiver` (its reply), "
        "`scheduled`, `next` (in line), "
        "`leased` (under way), `lease-ended` (its worker stopped), `result`."
    )
    text = serializers.CharField(help_text="In words for people.")
    until = serializers.DateTimeField(allow_null=True)


class WaitOut(_ReadOnly):
    """Why a message waits, the strongest cause first: each alone would hold it."""

    causes = CauseOut(many=True)
    next_attempt_at = serializers.DateTimeField(
        allow_null=True,
        help_text="Null while it is under way, and while nobody knows when what holds it ends.",
    )
    is_too_late = serializers.BooleanField(
        help_text="What holds it ends only after `expires_at`: it is given up before."
    )
    expires_at = serializers.DateTimeField()


class WaitGroupOut(_ReadOnly):
    """Messages of a batch that wait for one reason."""

    count = serializers.IntegerField()
    is_sampled = serializers.BooleanField(help_text="At least so many: more wait than were read.")
    cause = CauseOut()
    next_attempt_at = serializers.DateTimeField(
        allow_null=True, help_text="When the first of them is tried; null while nobody knows."
    )
    is_too_late = serializers.BooleanField(help_text="All of them are given up before.")


class BatchWaitOut(_ReadOnly):
    """Why what is left of a batch waits: what holds all of it, then groups by reason."""

    groups = WaitGroupOut(many=True)


class MessageDetailOut(MessageOut):
    """A message with everything that happened to it."""

    subject = serializers.CharField(help_text="As written, before it is filled in.")
    from_email = serializers.EmailField()
    explanation = serializers.CharField(help_text="The present state and what comes next.")
    waiting = WaitOut(allow_null=True, help_text="Null once the message is final.")
    timeline = TimelineEntryOut(many=True)


class MessagePageOut(_ReadOnly):
    """A page, newest first. `next_cursor` is null on the last one."""

    data = MessageOut(many=True)  # type: ignore[assignment]
    next_cursor = serializers.CharField(allow_null=True)


class EventPageOut(_ReadOnly):
    """A page, newest first. `next_cursor` is null on the last one."""

    data = EventOut(many=True)  # type: ignore[assignment]
    next_cursor = serializers.CharField(allow_null=True)


def accepted_body(accepted: AcceptedBatch) -> dict[str, Any]:
    """Return the answer to a request that was accepted."""
    return {
        "batch_id": to_public("bat", accepted.batch_id),
        "queued": accepted.queued,
        "dropped": len(accepted.items) - accepted.queued,
        "messages": [
            {
                "id": to_public("msg", item.message_id),
                "email": item.email,
                "status": str(item.status),
                "reason": item.reason,
            }
            for item in accepted.items
        ],
    }


_ATTEMPT_FIELDS = list(AttemptOut().fields.keys())
_PLAIN_FIELDS = list(MessageOut().fields.keys())[2:]  # after the two ids


def message_body(message: Message) -> dict[str, Any]:
    """Return a message as the API shows it."""
    return {
        "id": to_public("msg", message.pk),
        "batch_id": to_public("bat", message.batch_id),
        **{name: getattr(message, name) for name in _PLAIN_FIELDS},
    }


def cause_body(cause: Cause) -> dict[str, Any]:
    """Return a cause as the API shows it."""
    return {"code": cause.code, "text": cause.text, "until": cause.until}


def wait_body(wait: Wait | None) -> dict[str, Any] | None:
    """Return why a message waits as the API shows it."""
    if wait is None:
        return None
    return {
        "causes": [cause_body(cause) for cause in wait.causes],
        "next_attempt_at": wait.next_attempt_at,
        "is_too_late": wait.is_too_late,
        "expires_at": wait.expires_at,
    }


def group_body(group: WaitGroup) -> dict[str, Any]:
    """Return a batch's group as the API shows it."""
    return {
        "count": group.count,
        "is_sampled": group.is_sampled,
        "cause": cause_body(group.cause),
        "next_attempt_at": group.next_attempt_at,
        "is_too_late": group.is_too_late,
    }


def event_body(event: Event) -> dict[str, Any]:
    """Return an event as the API shows it, its class in words beside the class's name."""
    detail = dict(event.detail)
    if event.kind != EventKind.DELIVERED and detail.get("class"):
        detail["class_title"] = title(str(detail["class"]))
        detail["explanation"] = explain(str(detail["class"]))
    return {
        "id": to_public("evt", event.pk),
        "kind": event.kind,
        "at": event.at,
        "message_id": to_public("msg", event.message_id),
        "batch_id": to_public("bat", event.batch_id),
        "recipient": event.recipient,
        "site": event.site,
        "is_machine": event.is_machine,
        "detail": detail,
    }


def attempt_body(attempt: Attempt) -> dict[str, Any]:
    """Return an attempt as the API shows it."""
    return {name: getattr(attempt, name) for name in _ATTEMPT_FIELDS}


def entry_body(entry: TimelineEntry) -> dict[str, Any]:
    """Return a line of the timeline."""
    attempt = attempt_body(entry.attempt) if entry.attempt is not None else None
    return event_body(entry.event) | {"attempt": attempt}
