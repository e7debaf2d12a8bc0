"""A campaign's recipients as CSV, streamed: a million lines pass through, none is kept."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Final

from esp.lib.ids import to_public
from sending.audience.csv_cells import csv_line
from sending.engine.classify import title
from sending.messages.finding import next_batch_keys
from sending.messages.models import Message
from tenants.scoping.context import scope

CHUNK: Final = 2000
_HEAD: Final = (
    "message", "address", "name", "status", "mailbox provider", "attempts", "bounce class",
    "bounce", "last reply", "accepted", "final", "bounced late", "opened", "opened by machine",
    "clicked", "unsubscribed", "complained",
)  # fmt: skip
_FIELDS: Final = (
    "id", "recipient", "recipient_name", "first_name", "last_name", "status", "site",
    "attempts", "bounce_class", "last_reply", "created_at", "final_at", "bounced_late_at",
    "opened_at", "machine_opened_at", "clicked_at", "unsubscribed_at", "complained_at",
)  # fmt: skip


def recipient_lines(*, tenant_id: uuid.UUID, batch_id: uuid.UUID) -> Iterator[str]:
    """Yield the lines of the CSV file, the head first.

    Runs after the request's transaction has ended: each chunk opens a scope of its own and closes
    it before anything is handed to the client, however slowly that reads. A message whose status
    changes meanwhile stands in the file once, in its old or its new one.
    """
    yield "\ufeff" + csv_line(_HEAD)  # spreadsheets take the mark for UTF-8
    after = uuid.UUID(int=0)
    while True:
        with scope(tenant_id):
            keys = next_batch_keys(batch_id, after=after, limit=CHUNK)
            rows = list(Message.objects.filter(pk__in=keys).order_by("id").only(*_FIELDS))
        if not rows:
            return
        after = rows[-1].pk
        yield "".join(csv_line(_cells(row)) for row in rows)


def _cells(message: Message) -> list[object]:
    return [
        to_public("msg", message.pk),
        message.recipient,
        message.addressee,
        message.get_status_display(),
        message.site,
        message.attempts,
        message.bounce_class,
        title(message.bounce_class) if message.bounce_class else "",
        message.last_reply,
        _time(message.created_at),
        _time(message.final_at),
        _time(message.bounced_late_at),
        _time(message.opened_at),
        _time(message.machine_opened_at),
        _time(message.clicked_at),
        _time(message.unsubscribed_at),
        _time(message.complained_at),
    ]


def _time(moment: dt.datetime | None) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""
