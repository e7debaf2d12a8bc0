"""What holds a message, by name: each cause alone would keep it waiting."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Q

from deliverability.holds.models import SendingHold
from deliverability.ips.models import DeliveryNode
from deliverability.ips.nodes import dead_before
from deliverability.ips.selectors import why_no_source
from esp.kit.pauses import claims_paused_by
from esp.lib.ids import lower_bound, made_at
from sending.engine.classify import explain
from sending.events.models import Attempt
from sending.lanes.models import LaneState
from sending.lanes.selectors import title_of
from sending.messages.models import Batch, Message, MessageContent, QueueEntry
from tenants.directory.models import Tenant


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that holds mail: a code for machines, a sentence for people, an end if known."""

    code: str
    text: str
    until: dt.datetime | None = None


# How much younger a message's key may be than its attempts', by the clocks of two machines.
_CLOCKS = dt.timedelta(minutes=1)
# What a message is held by that another node may take at once (`dispatch.passing`).
PASSED_ON = "passed-on"
# What ends when somebody or something lets it end, at no known time.
OPEN_ENDED = frozenset(
    {"tenant-suspended", "held", "paused", "engine-paused", "no-worker", "no-source", "lane-paused"}
)
# By what held a message: the causes that say the same of more than this message.
_SAID_ALREADY = {
    "node": frozenset({"no-source"}),
    "paused": frozenset({"lane-paused", "lane-suspended"}),
    "suspended": frozenset({"lane-paused", "lane-suspended"}),
}
# Causes that end with the message's next attempt.
TIMED = frozenset(
    {"limit", "cap", "route", "dns", "unreachable", "tls", "receiver", "scheduled",
     "lane-suspended", PASSED_ON}
)  # fmt: skip


def moment(at: dt.datetime) -> str:
    """Return a moment as explanations write it."""
    return at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def causes_of(
    message: Message, entry: QueueEntry | None, batch: Batch | None, now: dt.datetime
) -> Iterator[Cause]:
    """Yield what holds `message` of the tenant in scope, the strongest first; always something."""
    if entry is None:
        yield Cause("result", "A result has just come in.")
        return
    if entry.worker and entry.due_at > now:
        yield Cause("leased", "The message is being handed over right now.")
        return
    given = set()
    for cause in causes_of_all(message, batch, now):
        if cause.code == "no-worker" and entry.due_at > now:
            continue  # it would wait as well with one; by then there may be one
        given.add(cause.code)
        yield cause
    # Its lane's state is no matter to another host that may take it.
    is_passed = entry.hold == PASSED_ON and entry.due_at > now
    for cause in () if is_passed else lane_causes(entry.source_id, entry.site, now):
        given.add(cause.code)
        yield cause
    # What a shut lane, or the want of an address, said to the message is that cause once more.
    if not given & _SAID_ALREADY.get(entry.hold, frozenset()):
        yield own_cause(message, entry, now)


def causes_of_all(message: Message, batch: Batch | None, now: dt.datetime) -> Iterator[Cause]:
    """Yield what holds the tenant, the batch and all its messages alike."""
    yield from _tenant_causes(message, batch, now)
    if batch is not None and batch.status == Batch.Status.PAUSED:
        yield Cause("paused", "Sending is paused; the message leaves when it is resumed.")
    if claims_paused_by() == "dns":
        yield Cause(
            "engine-paused",
            "All deliveries pause, because our name servers do not answer. They go on by "
            "themselves, and no attempt is used up.",
        )
    text = _why_no_source(message)
    if text:
        yield Cause("no-source", f"{text} Mail leaves as soon as this has changed.")
    elif not _is_any_worker_there(now):
        yield Cause("no-worker", "No delivery worker is running; mail leaves once one has started.")


def _tenant_causes(message: Message, batch: Batch | None, now: dt.datetime) -> Iterator[Cause]:
    tenant = Tenant.objects.filter(pk=message.tenant_id).first()
    if tenant is not None and not tenant.is_active:
        why = f" Reason: {_ended(tenant.suspended_reason)}" if tenant.suspended_reason else ""
        yield Cause("tenant-suspended", f"The workspace is suspended; no mail leaves.{why}")
    for hold in open_holds(message.stream, message.batch_id, now):
        what = "This campaign" if hold.batch_ref else "The workspace’s sending"
        if hold.batch_ref and batch is not None and batch.kind == Batch.Kind.API:
            what = "This stream"
        elif hold.stream and not hold.batch_ref:
            what = f"The workspace’s {hold.stream} mail"
        end = "" if hold.until else " It goes on when an operator lifts the hold."
        yield Cause("held", f"{what} is held: {_ended(hold.reason)}{end}", hold.until)


def open_holds(stream: str, batch_id: uuid.UUID, now: dt.datetime) -> list[SendingHold]:
    """Return the holds on a batch of the tenant in scope, or on the whole tenant."""
    return list(
        SendingHold.objects.filter(
            Q(until=None) | Q(until__gt=now),
            Q(batch_ref=None) | Q(batch_ref=batch_id),
            stream__in=["", stream],
            lifted_at=None,
        ).order_by("created_at")
    )


def _why_no_source(message: Message) -> str:
    domain_id = (
        MessageContent.objects.filter(pk=message.content_id)
        .values_list("domain_id", flat=True)
        .first()
    )
    return why_no_source(message.tenant_id, message.stream, domain_id)


def _is_any_worker_there(now: dt.datetime) -> bool:
    """Tell whether a delivery worker has given a sign of life lately, with mail or without."""
    return DeliveryNode.objects.filter(seen_at__gte=dead_before(now)).exists()


def lane_causes(source_id: str, site: str, now: dt.datetime) -> Iterator[Cause]:
    """Yield what closes the lane that held the message last; another may be open by then."""
    if not site:
        return
    lane = LaneState.objects.filter(source_id=source_id, site=site).first()
    if lane is None:
        return
    title = title_of(site)
    if lane.is_paused:
        why = f": {_ended(lane.paused_reason)}" if lane.paused_reason else "."
        yield Cause(
            "lane-paused",
            f"An operator has paused mail to {title}{why} It leaves when the lane is resumed, or "
            "from another address.",
        )
    if lane.suspended_until is not None and lane.suspended_until > now:
        why = lane.suspended_reason or "it asked for that"
        yield Cause("lane-suspended", f"Mail to {title} rests: {_ended(why)}", lane.suspended_until)


def own_cause(message: Message, entry: QueueEntry, now: dt.datetime) -> Cause:
    """Return what the queue says of this message itself; there is always something."""
    if entry.due_at <= now:
        return _due_cause(message, entry)
    if entry.hold == "node":
        return Cause("next", "A host that can send the message is back; it leaves within seconds.")
    if entry.hold:
        codes = {"cap": "cap", "route": "route", PASSED_ON: PASSED_ON}
        code = codes.get(entry.hold, "limit")
        return Cause(code, _ended(entry.reason) or "A limit to this receiver is used up.")
    if message.attempts == 0:
        return Cause("scheduled", f"Scheduled: the message leaves at {moment(entry.due_at)}.")
    return _refused_cause(message, entry)


def _due_cause(message: Message, entry: QueueEntry) -> Cause:
    if entry.worker:
        return Cause(
            "lease-ended",
            "The worker that had the message stopped before it could say what came of it. Another "
            "takes it over, under the same Message-ID.",
        )
    if entry.hold:
        return Cause("next", f"The message is due again. It waited: {_ended(entry.reason)}")
    if message.stream == "broadcast":
        return Cause("next", "The message is due and waits for its turn among the others.")
    return Cause("next", "The message is next in line.")


def _refused_cause(message: Message, entry: QueueEntry) -> Cause:
    """Return what the last attempt came to: no answer of the DNS, no connection, or a reply."""
    attempt = (
        Attempt.objects.filter(
            message_id=message.pk, id__gte=lower_bound(made_at(message.pk) - _CLOCKS)
        )
        .order_by("-id")
        .first()
    )
    phase = attempt.phase if attempt is not None else ""
    said = message.last_reply or (attempt.reply if attempt is not None else "")
    where = f" by the route {attempt.route}" if attempt is not None and attempt.route else ""
    if phase == "mx":
        return Cause("dns", _ended(said) or f"The DNS does not say where {entry.domain} is.")
    if phase == "tls":
        return Cause("tls", f"No encrypted connection to {entry.domain}{where}: {_ended(said)}")
    if message.bounce_class == "soft/network-error":
        code, default = "unreachable", f"{entry.domain} could not be reached."
    else:
        code, default = "receiver", explain(message.bounce_class)
    return Cause(code, _ended(entry.reason) or default)


def _ended(text: str) -> str:
    """Return `text` as a sentence."""
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
