"""What an incoming mail says, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MailKind = Literal["dsn", "arf", "auto-reply", "other"]
Action = Literal["failed", "delayed", "delivered", "relayed", "expanded"]


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """What a delivery status notification says of one recipient.

    `status` is the RFC 3463 code or "", `diagnostic` the server's words on one line, at most 500
    characters; `classification` the unified "class/category".
    """

    address: str
    action: Action
    status: str = ""
    diagnostic: str = ""
    classification: str = "unknown/unknown"


@dataclass(frozen=True, slots=True)
class ParsedMail:
    """What an incoming mail is and says.

    `recipients` are whom a DSN or complaint speaks of; `message_id` is the Message-ID of our mail
    that it quotes, without angle brackets; `return_path` its envelope sender, where it is told;
    `feedback_type` is that of an ARF report. `source` is how it came: "dsn" for mail, else the name
    of the provider whose API has taken our message.
    """

    kind: MailKind
    reports: tuple[RecipientReport, ...] = ()
    recipients: tuple[str, ...] = ()
    message_id: str = ""
    return_path: str = ""
    feedback_type: str = ""
    subject: str = ""
    source: str = "dsn"

    @property
    def report(self) -> RecipientReport | None:
        """The report that matters most: a failure before a delay before everything else."""
        order = ("failed", "delayed")
        ranked = sorted(
            self.reports, key=lambda report: (report.action not in order, report.action != "failed")
        )
        return ranked[0] if ranked else None

    @property
    def action(self) -> str:
        return self.report.action if self.report else ""

    @property
    def status(self) -> str:
        return self.report.status if self.report else ""

    @property
    def diagnostic(self) -> str:
        return self.report.diagnostic if self.report else ""

    @property
    def classification(self) -> str:
        """The unified "class/category" of the mail as a whole."""
        if self.kind == "arf":
            return "none/complaint"
        if self.kind == "auto-reply":
            return "none/auto-reply"
        return self.report.classification if self.report else "none/not-a-bounce"
