"""Accept messages, compile what they share, stop and go on with batches."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from esp.kit.jobs import enqueue_on_commit
from esp.lib.errors import Conflict, InvalidInput
from esp.lib.ids import new_id, to_public
from sending.content.compiler import compile_content
from sending.content.errors import ContentError
from sending.content.models import Template
from sending.content.types import CompiledContent, ContentSource
from sending.events.models import EventKind
from sending.events.services import Fact, record_facts
from sending.messages import jobs
from sending.messages.backpressure import check_room
from sending.messages.errors import SenderNotVerified, TenantNotActive
from sending.messages.intake import CheckedRequest, check_request, check_source
from sending.messages.models import Batch, Message, MessageContent, QueueEntry, Stream
from sending.messages.queue import (
    Envelope,
    NewContent,
    NewMessage,
    clear_cancelled_chunk,
    insert_messages,
)
from sending.messages.selectors import Standing, compiled_of, pending_compile, standing_of
from sending.messages.types import AcceptedBatch, AcceptedItem, SendRequest
from sending.messages.wakeup import wake_on_commit
from tenants.audit.services import record
from tenants.directory.actor import Actor
from tenants.directory.models import Tenant
from tenants.scoping.context import joined_scope, scope

# A worker that compiling kills leaves its mark before; what killed this many is not tried again.
MAX_COMPILE_TRIES = 20


def accept_messages(*, actor: Actor, request: SendRequest) -> AcceptedBatch:
    """Write the messages of `request` and wake delivery once the transaction is committed.

    One content, one message and queue entry per recipient, or nothing at all. A suppressed
    recipient becomes a message that is `dropped`, with the reason. Raises InvalidInput and
    ContentError (with the field at fault), SenderNotVerified, TenantNotActive, QueueFull and
    PermissionMissing.
    """
    actor.require("messages:send")
    with joined_scope(actor.tenant_id):
        now = timezone.now()
        checked = check_request(request, now=now)
        standing = standing_of(
            sender=checked.sender.addr_spec,
            stream=request.stream,
            emails={recipient.address.normalised for recipient in checked.recipients},
        )
        _check_tenant(standing.tenant, request.stream)
        check_room(standing.tenant, request.stream, messages=len(checked.recipients))
        domain_id = _sending_domain(standing, checked)
        source = _source_for(request, checked)
        check_source(source)
        # Nothing was written up to here; what fails from now on fails with the whole transaction.
        with transaction.atomic(savepoint=False):
            batch_id = standing.batch_id or batch_for_api(actor.tenant_id, request.stream).pk
            content = _content_for(request, checked, source, domain_id)
            envelope = Envelope(
                tenant_id=actor.tenant_id,
                batch_id=batch_id,
                stream=request.stream,
                tags=checked.tags,
                metadata=checked.metadata,
                now=now,
                due_at=checked.due_at,
                ttl_seconds=checked.ttl_seconds,
            )
            messages = _messages_for(checked, standing.refusals)
            insert_messages(envelope, content, messages)
            record_facts([_fact(envelope, message) for message in messages])
    if checked.due_at <= now and any(not message.refusal for message in messages):
        wake_on_commit(request.stream)
    return AcceptedBatch(
        batch_id=batch_id,
        content_id=content.id,
        items=tuple(_item(message) for message in messages),
    )


def _check_tenant(tenant: Tenant, stream: str) -> None:
    if not tenant.is_active:
        raise TenantNotActive("This workspace is suspended and cannot send.")
    if stream == Stream.BROADCAST and not tenant.postal_address.strip():
        raise InvalidInput(
            "Broadcast mail needs a postal address: set it in the workspace's settings.",
            code="postal-address-missing",
            field="stream",
        )


def _sending_domain(standing: Standing, checked: CheckedRequest) -> uuid.UUID:
    if standing.domain_id is None:
        raise SenderNotVerified(
            f"{checked.sender.domain_unicode} is not a verified sending domain of this workspace. "
            "Add it under Deliverability and publish its records.",
            field="from.email",
        )
    return standing.domain_id


def _source_for(request: SendRequest, checked: CheckedRequest) -> ContentSource:
    """Return what is to be sent; a template is frozen as it stands now."""
    source = request.source
    if source is None:
        assert checked.template_id is not None
        template = Template.objects.filter(pk=checked.template_id).first()
        if template is None:
            raise InvalidInput(
                "There is no template with this id.", code="template-unknown", field="template_id"
            )
        source = ContentSource(
            kind=template.kind,  # type: ignore[arg-type]
            body=template.body,
            subject=request.subject or template.subject,
            text_body=template.text_body or None,
            preview_text=template.preview_text,
        )
    if not source.subject.strip():
        raise InvalidInput("The message needs a subject.", code="subject-missing", field="subject")
    if not source.body.strip():
        field = "template_id" if request.template_id else source.kind
        raise InvalidInput("The content is empty.", code="content-missing", field=field)
    return source


def batch_for_api(tenant_id: uuid.UUID, stream: str) -> Batch:
    """Return the tenant's API batch of `stream`; the first message makes it, once."""
    known = Batch.objects.filter(kind=Batch.Kind.API, stream=stream).first()
    if known is not None:
        return known
    label = f"API ({Stream(stream).label.lower()})"
    made = Batch(tenant_id=tenant_id, kind=Batch.Kind.API, stream=stream, label=label)
    # Two first messages at once: the second waits here, inserts nothing and reads the first's row.
    Batch.objects.bulk_create([made], ignore_conflicts=True)
    return Batch.objects.get(kind=Batch.Kind.API, stream=stream)


def _content_for(
    request: SendRequest, checked: CheckedRequest, source: ContentSource, domain_id: uuid.UUID
) -> NewContent:
    return NewContent(
        id=new_id(),
        domain_id=domain_id,
        from_name=checked.from_name,
        from_email=checked.sender.addr_spec,
        reply_to=checked.reply_to,
        compiled=pending_compile(source, footer=request.stream == Stream.BROADCAST),
        headers=checked.headers,
        attachments=checked.attachments,
        track_opens=request.track_opens,
        track_clicks=request.track_clicks,
    )


def _messages_for(checked: CheckedRequest, refused: Mapping[str, str]) -> list[NewMessage]:
    messages = []
    for recipient in checked.recipients:
        email = recipient.address.normalised
        reason = refused.get(email)
        messages.append(
            NewMessage(
                id=new_id(),
                recipient=email,
                name=recipient.name,
                variables=recipient.variables,
                domain=recipient.address.domain_ascii,
                refusal=f"The address is suppressed ({reason})." if reason else "",
                contact_id=recipient.contact_id,
            )
        )
    return messages


def _fact(envelope: Envelope, message: NewMessage) -> Fact:
    return Fact(
        tenant_id=envelope.tenant_id,
        message_id=message.id,
        batch_id=envelope.batch_id,
        contact_id=message.contact_id,
        recipient=message.recipient,
        kind=EventKind.DROPPED if message.refusal else EventKind.ACCEPTED,
        at=envelope.now,
        detail={"reason": message.refusal} if message.refusal else {},
    )


def _item(message: NewMessage) -> AcceptedItem:
    status = Message.Status.DROPPED if message.refusal else Message.Status.QUEUED
    return AcceptedItem(message.id, message.recipient, status, message.refusal)


# --- content ---


def ensure_compiled(content_id: uuid.UUID) -> CompiledContent:
    """Return the compiled content of messages, compiling it first where that is still to do.

    For workers (native code meets tenants' content here), across tenants. The row is locked only to
    read and to write, not while compiling: a worker that dies there leaves no lock, and two workers
    at once do the same work with the same result. Raises ContentError with a sentence for people
    when the content cannot be compiled, now and every time after.
    """
    state = _begin_compile(content_id)
    if state is None:
        content = MessageContent.unscoped.defer("attachments").get(pk=content_id)
        compiled = compiled_of(content)
        if compiled is not None:
            return compiled
        state = content.compiled
    problem = state.get("problem")
    if problem:
        raise ContentError(problem, code=state.get("problem_code"))
    try:
        compiled = compile_content(ContentSource(**state["source"]), footer=state["footer"])
    except ContentError as error:
        problem = {"problem": error.message, "problem_code": error.code}
        _finish_compile(content_id, state | problem)
        raise
    _finish_compile(content_id, json.loads(compiled.to_json()))
    return compiled


# One round trip each, and none waits for the disk: somebody waits for the message, and what
# PostgreSQL forgets in a crash of its own is only done again.
_BEGIN_COMPILE = """
    WITH quick AS (SELECT set_config('synchronous_commit', 'off', true) AS mode)
    UPDATE sending_messagecontent SET compiled = compiled
        || jsonb_build_object('tries', coalesce((compiled ->> 'tries')::int, 0) + 1)
        || CASE WHEN coalesce((compiled ->> 'tries')::int, 0) >= %s
            THEN jsonb_build_object('problem', %s::text) ELSE '{}' END
    FROM quick
    WHERE quick.mode = 'off' AND id = %s AND compiled ? 'source' AND NOT compiled ? 'problem'
    RETURNING compiled::text
"""
_FINISH_COMPILE = """
    WITH quick AS (SELECT set_config('synchronous_commit', 'off', true) AS mode)
    UPDATE sending_messagecontent SET compiled = %s::jsonb
    FROM quick WHERE quick.mode = 'off' AND id = %s AND compiled ? 'source'
"""


def _begin_compile(content_id: uuid.UUID) -> dict[str, Any] | None:
    """Count a try before it is made; return what is to be compiled, None where nothing is."""
    problem = "The content cannot be compiled: it brought the compiler down."
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN_COMPILE, [MAX_COMPILE_TRIES, problem, content_id])
        row = cursor.fetchone()
    return json.loads(row[0]) if row else None


def _finish_compile(content_id: uuid.UUID, state: dict[str, object]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_FINISH_COMPILE, [json.dumps(state), content_id])


# --- batches ---


def _needed(batch: Batch) -> str:
    return "campaigns:send" if batch.kind == Batch.Kind.CAMPAIGN else "messages:send"


def _change_status(actor: Actor, batch: Batch, *, before: list[str], after: str) -> bool:
    """Change the status by a conditional update; tell whether this call did it."""
    actor.require(_needed(batch))
    with scope(actor.tenant_id):
        over_at = timezone.now() if after == Batch.Status.CANCELLED else None
        changed = Batch.objects.filter(pk=batch.pk, status__in=before).update(
            status=after, finished_at=over_at
        )
    if changed:
        record(actor, f"messages.{after}_batch", target=to_public("bat", batch.pk))
        batch.status = after
    else:
        batch.refresh_from_db(fields=["status"])
    return changed == 1


def pause_batch(*, actor: Actor, batch: Batch) -> None:
    """Stop claiming messages of the batch; those in a worker's hands still leave.

    Pausing a paused batch is no error. Raises Conflict when the batch is over.
    """
    status = Batch.Status
    if _change_status(actor, batch, before=[status.RUNNING], after=status.PAUSED):
        return
    if batch.status != status.PAUSED:
        raise Conflict("This batch is over already.", code="batch-over")


def resume_batch(*, actor: Actor, batch: Batch) -> None:
    """Go on with a paused batch, and wake delivery. Raises Conflict when the batch is over."""
    status = Batch.Status
    if _change_status(actor, batch, before=[status.PAUSED], after=status.RUNNING):
        wake_on_commit(batch.stream)
        return
    if batch.status != status.RUNNING:
        raise Conflict("This batch is over already.", code="batch-over")


def cancel_batch(*, actor: Actor, batch: Batch) -> None:
    """End a campaign's batch: from now on nothing of it is claimed, a job empties its queue.

    Cancelling twice is no error. Raises Conflict when the batch is done, or is the API's (which
    never ends: pause it instead).
    """
    if batch.kind == Batch.Kind.API:
        raise Conflict("API messages can be paused, not cancelled.", code="batch-endless")
    status = Batch.Status
    if _change_status(actor, batch, before=[status.RUNNING, status.PAUSED], after=status.CANCELLED):
        enqueue_on_commit(jobs.CLEAR_CANCELLED)
        return
    if batch.status != status.CANCELLED:
        raise Conflict("This batch has been sent already.", code="batch-over")


def clear_cancelled() -> int:
    """Take the messages of cancelled batches off the queue, chunk by chunk; return how many.

    For workers, across tenants. Messages in a worker's hands are left for the next run.
    """
    total = 0
    waiting = QueueEntry.objects.filter(batch_id=OuterRef("pk"))
    rows = Batch.unscoped.filter(Exists(waiting), status=Batch.Status.CANCELLED)
    for batch in rows:
        while True:
            with transaction.atomic():
                cleared = clear_cancelled_chunk(batch, now=timezone.now())
            total += cleared
            if cleared == 0:
                break
    return total
