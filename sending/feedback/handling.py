"""What an incoming mail means for the message that it is about."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.utils import timezone

from esp.kit.keys import accepted_keys
from esp.lib import ids
from sending.audience.suppressions import SuppressionEntry, suppress_many
from sending.engine import verp
from sending.engine.classify import suppresses
from sending.events.models import Event, EventKind
from sending.events.services import record_facts
from sending.feedback.addresses import Inbox
from sending.feedback.arf import is_complaint, is_opt_out
from sending.feedback.types import ParsedMail, RecipientReport
from sending.messages.models import Message, QueueEntry
from sending.messages.reader_facts import fact_of, leave_lists_of, unsubscribe_recipient
from tenants.scoping.context import scope

_WAITING = (Message.Status.QUEUED, Message.Status.DEFERRED)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a mail; `reason` says in words why nothing was done."""

    kind: str
    message_id: uuid.UUID | None = None
    reason: str = ""

    @property
    def is_done(self) -> bool:
        return not self.reason


def handle(inbox: Inbox | None, mail: ParsedMail) -> Result:
    """Act on `mail` that came to `inbox`, in the running transaction and in its tenant's scope."""
    if inbox is None:
        return Result(mail.kind, None, "The address is not ours any more.")
    kind = "unsubscribe" if inbox.purpose == "unsubscribe" else mail.kind
    message_id = inbox.message_id or _quoted_message(mail)
    if message_id is None:
        return Result(kind, None, _nobody(inbox, mail))
    tenant_id = Message.unscoped.filter(pk=message_id).values_list("tenant_id", flat=True).first()
    if tenant_id is None:
        return Result(kind, None, "The message that it is about does not exist any more.")
    with scope(tenant_id):
        # The lock makes two reports about one message take turns.
        message = Message.objects.select_for_update().get(pk=message_id)
        if inbox.message_id is None and not _agrees(message, mail):
            return Result(kind, None, "It names another recipient than the message had.")
        return Result(kind, message_id, _act(inbox, message, mail))


def _nobody(inbox: Inbox, mail: ParsedMail) -> str:
    if inbox.purpose == "people" and mail.kind not in ("arf", "dsn"):
        return "Mail to people at this host; an operator may read it."
    return "It names no message of ours."


def _quoted_message(mail: ParsedMail) -> uuid.UUID | None:
    """Return the message that a report quotes: by its return path, else by its Message-ID."""
    if mail.kind not in ("arf", "dsn"):
        return None
    try:
        return verp.decode(mail.return_path, keys=accepted_keys("verp")).message_id
    except ValueError:
        pass
    try:
        return ids.decode(mail.message_id.partition("@")[0])
    except ValueError:
        return None


def _agrees(message: Message, mail: ParsedMail) -> bool:
    """Tell whether a report that came without a MAC in its address may be about `message`.

    Either it proves that it saw the envelope (our return path under a MAC), or the recipient that
    it names is the message's. A report that names nobody is believed: the id has 74 random bits.
    """
    try:
        proof = verp.decode(mail.return_path, keys=accepted_keys("verp"))
    except ValueError:
        named = {address.lower() for address in mail.recipients}
        return not named or message.recipient.lower() in named
    return proof.message_id == message.pk


def _act(inbox: Inbox, message: Message, mail: ParsedMail) -> str:
    """Do what `mail` asks for; return why nothing was done, or ""."""
    if inbox.purpose == "unsubscribe":
        return _leave(message, mail)
    if mail.kind == "dsn":
        return _bounce(message, mail)
    if mail.kind == "arf":
        return _complain(message, mail)
    if mail.kind == "auto-reply":
        return _auto_reply(message, mail)
    return "It is neither a bounce nor a report."


def _leave(message: Message, mail: ParsedMail) -> str:
    if mail.kind != "other":
        return "An automatic mail does not unsubscribe anybody."
    unsubscribe_recipient(message, method="mail" if mail.source == "dsn" else "provider")
    return ""


def _bounce(message: Message, mail: ParsedMail) -> str:
    report = _report_for(message, mail)
    if report is None:
        return "It reports on nobody."
    if report.action == "delayed":
        return _delayed(message, mail, report)
    if report.action == "delivered" and mail.source != "dsn":
        return _confirm(message, mail, report)
    if report.action != "failed":
        return f"It reports that the message was {report.action}."
    if message.status in _WAITING:
        return _bounce_waiting(message, mail, report)
    if message.status == Message.Status.DELIVERED:
        return _bounce_late(message, mail, report)
    return f"The message was {message.get_status_display().lower()} already."


def _report_for(message: Message, mail: ParsedMail) -> RecipientReport | None:
    """Return the report on the message's recipient; forwarding may have changed the address."""
    mine = [r for r in mail.reports if r.address.lower() == message.recipient.lower()]
    return mine[0] if mine else mail.report


def _detail(mail: ParsedMail, report: RecipientReport) -> dict[str, object]:
    return {"reply": report.diagnostic, "class": report.classification, "source": mail.source}


def _delayed(message: Message, mail: ParsedMail, report: RecipientReport) -> str:
    events = Event.objects.filter(message_id=message.pk, kind=EventKind.DEFERRED)
    if any(event.detail.get("source") == mail.source for event in events):
        return "A delay was reported already."
    now = timezone.now()
    record_facts([fact_of(message, EventKind.DEFERRED, now, detail=_detail(mail, report))])
    return ""


def _confirm(message: Message, mail: ParsedMail, report: RecipientReport) -> str:
    """Note that a provider has delivered what it took from us.

    For us the message was delivered when the provider took it, and it counts once: only the words
    change. One whose fate was unknown to us (the provider's answer was lost) ends here.
    """
    reply = f"{mail.source}: delivered. {report.diagnostic}".strip()[:500]
    if message.status == Message.Status.DELIVERED:
        if message.bounced_late_at is not None or message.last_reply == reply:
            return "It was delivered already."
        Message.objects.filter(pk=message.pk).update(last_reply=reply)
        return ""
    if message.status not in _WAITING:
        return f"The message was {message.get_status_display().lower()} already."
    _end_waiting(message, Message.Status.DELIVERED, "", reply)
    detail = {"reply": reply, "source": mail.source}
    record_facts([fact_of(message, EventKind.DELIVERED, timezone.now(), detail=detail)])
    return ""


def _bounce_waiting(message: Message, mail: ParsedMail, report: RecipientReport) -> str:
    """End a message that we still hold: its fate was unknown to us, the report tells it."""
    _end_waiting(message, Message.Status.BOUNCED, report.classification, report.diagnostic)
    detail = _detail(mail, report)
    record_facts([fact_of(message, EventKind.BOUNCED, timezone.now(), detail=detail)])
    _suppress_bounced(message, report)
    return ""


def _end_waiting(message: Message, status: Message.Status, classification: str, reply: str) -> None:
    changed = Message.objects.filter(pk=message.pk, status__in=_WAITING).update(
        status=status, bounce_class=classification, last_reply=reply, final_at=timezone.now()
    )
    assert changed, "the message's row is locked"
    QueueEntry.objects.filter(message_id=message.pk).delete()


def _bounce_late(message: Message, mail: ParsedMail, report: RecipientReport) -> str:
    if message.bounced_late_at is not None:
        return "The bounce was reported already."
    now = timezone.now()
    Message.objects.filter(pk=message.pk).update(
        bounced_late_at=now, bounce_class=report.classification, last_reply=report.diagnostic
    )
    record_facts([fact_of(message, EventKind.BOUNCED_LATE, now, detail=_detail(mail, report))])
    _suppress_bounced(message, report)
    return ""


def _suppress_bounced(message: Message, report: RecipientReport) -> None:
    if suppresses(report.classification):
        _suppress(message, reason="bounce", detail=report.diagnostic)


def _complain(message: Message, mail: ParsedMail) -> str:
    """Record a complaint, stop all mail of the tenant to this address, and leave the lists.

    All mail, not only marketing: whoever calls one message spam does so with the next receipt, and
    each complaint costs the sender's name. A person with the right can lift it.
    """
    if is_opt_out(mail.feedback_type):
        unsubscribe_recipient(message, method="mail")
        return ""
    if not is_complaint(mail.feedback_type):
        return f"A report of the type {mail.feedback_type} is no complaint."
    if message.complained_at is not None:
        return "The complaint was reported already."
    now = timezone.now()
    Message.objects.filter(pk=message.pk).update(complained_at=now)
    detail = {"feedback_type": mail.feedback_type}
    record_facts([fact_of(message, EventKind.COMPLAINED, now, detail=detail)])
    _suppress(message, reason="complaint", detail=f"Feedback report ({mail.feedback_type})")
    leave_lists_of(message, source="message:complaint")
    return ""


def _auto_reply(message: Message, mail: ParsedMail) -> str:
    if Event.objects.filter(message_id=message.pk, kind=EventKind.AUTOREPLIED).exists():
        return "An automatic reply was noted already."
    now = timezone.now()
    detail = {"subject": mail.subject}
    record_facts([fact_of(message, EventKind.AUTOREPLIED, now, detail=detail)])
    return ""


def _suppress(message: Message, *, reason: str, detail: str) -> None:
    suppress_many(
        [
            SuppressionEntry(
                tenant_id=message.tenant_id,
                email_norm=message.recipient,
                scope="all",
                reason=reason,
                source=f"message {message.public_id}",
                detail=detail,
            )
        ]
    )
