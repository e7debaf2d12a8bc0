"""What goes into and comes out of accepting messages: plain values, no HTTP, no rows."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from sending.content.types import ContentSource


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient as asked for; `email` is text that nobody has checked yet."""

    email: str
    name: str = ""
    variables: Mapping[str, object] = field(default_factory=dict)
    contact_id: uuid.UUID | None = None  # the contact that this is, where the caller knows it


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file: `content` is base64; with `content_id` the HTML shows it by `cid:`."""

    filename: str
    content_type: str
    content: str
    content_id: str = ""


@dataclass(frozen=True, slots=True)
class SendRequest:
    """Messages that someone wants sent: one content, one to 1,000 recipients.

    `source` is what the person wrote, or None with `template_id` (public form, `tpl_…`); the
    request's own subject then wins over the template's. `fields` names the request's field that
    each part of `source` came from, so that an error points there. `ttl_seconds` is how long the
    messages are of use from when they are due; None is the stream's own patience.
    """

    from_email: str
    recipients: tuple[Recipient, ...]
    source: ContentSource | None = None
    template_id: str = ""
    subject: str = ""
    from_name: str = ""
    reply_to: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
    send_at: dt.datetime | None = None
    ttl_seconds: int | None = None
    track_opens: bool = False
    track_clicks: bool = False
    stream: str = "transactional"


@dataclass(frozen=True, slots=True)
class AcceptedItem:
    """What became of one recipient: a message that is queued, or dropped for `reason`."""

    message_id: uuid.UUID
    email: str
    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AcceptedBatch:
    """What became of a request, in the order of its recipients."""

    batch_id: uuid.UUID
    content_id: uuid.UUID
    items: tuple[AcceptedItem, ...]

    @property
    def queued(self) -> int:
        return sum(item.status == "queued" for item in self.items)
