"""The messages API: send, look up, follow."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, cast

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from esp.kit.drf import ApiView, problems, validated
from esp.lib.errors import InvalidInput
from esp.lib.ids import from_public
from sending.events.timeline import EventFilter, events_page, timeline_of
from sending.messages.access import access_batch, access_message
from sending.messages.api.serializers import (
    AcceptedOut,
    BatchWaitOut,
    EventPageOut,
    EventsQuery,
    MessageDetailOut,
    MessagePageOut,
    MessagesQuery,
    SendIn,
    accepted_body,
    entry_body,
    event_body,
    group_body,
    message_body,
    request_from,
    wait_body,
)
from sending.messages.batch_waiting import waits_of
from sending.messages.finding import MessageFilter
from sending.messages.idempotency import claim_key, hash_of, store_answer
from sending.messages.selectors import (
    DEFAULT_WINDOW,
    batch_of,
    content_of,
    messages_page,
    queue_entry_of,
    subject_of,
)
from sending.messages.services import accept_messages
from sending.messages.waiting import explanation_of, wait_of
from tenants.directory.actor import Actor

_SEND_EXAMPLE = OpenApiExample(
    "A receipt",
    request_only=True,
    value={
        "from": {"email": "orders@acme.example", "name": "Acme"},
        "to": [
            {
                "email": "ada@bigmail.test",
                "name": "Ada",
                "variables": {"first_name": "Ada", "total": "29.90"},
            }
        ],
        "subject": "Your order, {{ first_name }}",
        "html": "<p>Thank you, {{ first_name }}. You paid {{ total }} euros.</p>",
        "tags": ["receipt"],
        "metadata": {"order": "10023"},
        "tracking": {"opens": True, "clicks": False},
    },
)
_ACCEPTED_EXAMPLE = OpenApiExample(
    "Accepted",
    response_only=True,
    status_codes=["202"],
    value={
        "batch_id": "bat_01k9y7mv5wehtr1m6h0q4x7k5p",
        "queued": 1,
        "dropped": 0,
        "messages": [
            {
                "id": "msg_01k9y7mv5xf4a8k2r5t9c3w6hd",
                "email": "ada@bigmail.test",
                "status": "queued",
                "reason": "",
            }
        ],
    },
)
_IDEMPOTENCY = OpenApiParameter(
    name="Idempotency-Key",
    location=OpenApiParameter.HEADER,
    description=(
        "Up to 255 visible ASCII characters. For 24 hours the same key with the same body has no "
        "second effect and gets the first answer (`Idempotent-Replayed: true`); with another body "
        "it is refused (409 `idempotency-mismatch`)."
    ),
)


class MessagesView(ApiView):
    """Send messages, and list them."""

    scopes: ClassVar[dict[str, str]] = {"GET": "messages:read", "POST": "messages:send"}

    @property
    def rate_kind(self) -> str:
        """The bucket that a request counts in: sending has one of its own."""
        return "send" if self.request.method == "POST" else "api"

    @extend_schema(
        operation_id="messages_send",
        summary="Send messages",
        description=(
            "Answers 202 once the messages are committed to disk. A suppressed address is not an "
            "error: its message is `dropped`, with the reason."
        ),
        tags=["Messages"],
        request=SendIn,
        parameters=[_IDEMPOTENCY],
        responses={202: AcceptedOut, **problems(400, 401, 403, 409, 413, 415, 422, 429)},
        examples=[_SEND_EXAMPLE, _ACCEPTED_EXAMPLE],
    )
    def post(self, request: Request) -> Response:
        key = request.headers.get("Idempotency-Key")
        if key is not None:
            stored = claim_key(key, hash_of(request.path, request.data))
            if stored is not None:
                return Response(
                    stored.body,
                    status=stored.status_code,
                    headers={"Idempotent-Replayed": "true"},
                )
        asked = request_from(validated(SendIn, request.data))
        accepted = accept_messages(actor=actor_in(request), request=asked)
        body = accepted_body(accepted)
        if key is not None:
            store_answer(key, 202, body)
        return Response(body, status=202)

    @extend_schema(
        operation_id="messages_list",
        summary="List messages",
        tags=["Messages"],
        parameters=[MessagesQuery],
        responses={200: MessagePageOut, **problems(401, 403, 404, 422, 429)},
    )
    def get(self, request: Request) -> Response:
        query = _query(MessagesQuery, request)
        page = messages_page(
            MessageFilter(
                status=query.get("status", ""),
                recipient=query.get("recipient", ""),
                tag=query.get("tag", ""),
                batch_id=_id_in(query, "batch", "bat"),
                since=query.get("since"),
                until=query.get("until"),
            ),
            after=query.get("cursor"),
            size=query["limit"],
        )
        return Response(
            {"data": [message_body(row) for row in page.rows], "next_cursor": page.next_cursor}
        )


class MessageView(ApiView):
    """One message with its timeline."""

    scopes: ClassVar[dict[str, str]] = {"GET": "messages:read"}

    @extend_schema(
        operation_id="messages_get",
        summary="Get a message with its timeline",
        tags=["Messages"],
        responses={200: MessageDetailOut, **problems(401, 403, 404, 422, 429)},
    )
    def get(self, request: Request, message_id: str) -> Response:
        message = access_message(actor_in(request), message_id)
        content = content_of(message)
        entry, batch = queue_entry_of(message), batch_of(message)
        wait = wait_of(message, entry, batch)
        return Response(
            message_body(message)
            | {
                "subject": subject_of(content) if content else "",
                "from_email": content.from_email if content else "",
                "explanation": explanation_of(message, entry, batch, wait=wait),
                "waiting": wait_body(wait),
                "timeline": [entry_body(entry) for entry in timeline_of(message.pk).entries],
            }
        )


class BatchWaitView(ApiView):
    """Why the rest of a batch waits."""

    scopes: ClassVar[dict[str, str]] = {"GET": "messages:read"}

    @extend_schema(
        operation_id="batches_waiting",
        summary="Say why the rest of a batch waits",
        description="At most 20,000 waiting messages are looked at.",
        tags=["Messages"],
        responses={200: BatchWaitOut, **problems(401, 403, 404, 429)},
    )
    def get(self, request: Request, batch_id: str) -> Response:
        batch = access_batch(actor_in(request), batch_id)
        return Response({"groups": [group_body(group) for group in waits_of(batch)]})


class EventsView(ApiView):
    """The event log."""

    scopes: ClassVar[dict[str, str]] = {"GET": "messages:read"}

    @extend_schema(
        operation_id="events_list",
        summary="List events",
        tags=["Events"],
        parameters=[EventsQuery],
        responses={200: EventPageOut, **problems(401, 403, 404, 422, 429)},
    )
    def get(self, request: Request) -> Response:
        query = _query(EventsQuery, request)
        page = events_page(
            EventFilter(
                kind=query.get("kind", ""),
                recipient=query.get("recipient", ""),
                message_id=_id_in(query, "message", "msg"),
                batch_id=_id_in(query, "batch", "bat"),
                since=query.get("since"),
                until=query.get("until"),
            ),
            after=query.get("cursor"),
            size=query["limit"],
            default_since=timezone.now() - DEFAULT_WINDOW,
        )
        return Response(
            {"data": [event_body(row) for row in page.rows], "next_cursor": page.next_cursor}
        )


def actor_in(request: Request) -> Actor:
    """Return who calls; `HasScopes` has made sure that there is someone."""
    return cast(Actor, request.auth)


def _query(kind: type[MessagesQuery | EventsQuery], request: Request) -> dict[str, Any]:
    """Return the validated query string; unknown names are refused like unknown fields."""
    return validated(kind, request.query_params.dict())


def _id_in(query: dict[str, Any], name: str, prefix: str) -> uuid.UUID | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        return from_public(prefix, text)
    except ValueError as error:
        raise InvalidInput(f"This is no id of the kind {prefix}_….", field=name) from error
