"""A provider's report and a refused call, as values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

ReportKind = Literal[
    "bounced", "deferred", "delivered", "complained", "unsubscribed", "autoreplied"
]


class BadCall(Exception):
    """The call is not taken: `status` for HTTP, the text for operators, without secrets."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that a provider says of one message.

    `message` is our public id ("msg_…"), where the provider handed it back; `provider_id` the id
    that it gave the message itself. `text` are its or the receiver's words, `status` the RFC 3463
    code; `hint` the class that the provider's own word stands for, where words and code say
    nothing. `at` is ISO 8601 or "", `event_id` the provider's id of the event or "".
    """

    kind: ReportKind
    message: str = ""
    provider_id: str = ""
    recipient: str = ""
    status: str = ""
    text: str = ""
    hint: str = ""
    at: str = ""
    event_id: str = ""

    @property
    def key(self) -> str:
        """What is the same in a repeated report: 64 hex digits.

        Some providers sign and number each try anew, so the event's own time tells more than its
        id; that stands in only where there is no time.
        """
        when = self.at or self.event_id
        parts = [self.kind, self.message or self.provider_id, self.recipient.lower(), when]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class CallContent:
    """What a call held: reports that matter to us, and how many of other kinds."""

    reports: tuple[Report, ...] = ()
    others: int = 0
