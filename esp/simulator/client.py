"""Talks to a running simulator: for pages, tests, the demo and the benchmarks.

Synchronous, standard library alone; every method raises SimulatorUnreachable or SimulatorRefused.
"""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

T = TypeVar("T")


class SimulatorUnreachable(Exception):
    """No simulator answers at the address."""


class SimulatorRefused(Exception):
    """The simulator answered that it will not; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """A record to publish; TXT values are plain text, other types as in a zone file."""

    name: str
    type: str
    value: str
    ttl: int = 300


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox that holds mail; `last_at` in Unix seconds."""

    address: str
    provider: str
    messages: int
    last_at: float


@dataclass(frozen=True, slots=True)
class MailboxPage:
    """One page of mailboxes, the latest first."""

    mailboxes: list[Mailbox]
    page: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class MessageSummary:
    """One accepted copy. `authentication` has spf, dkim, dmarc, aligned and header, or is None."""

    id: int
    provider: str
    recipient: str
    mail_from: str
    message_id: str
    subject: str
    sender: str
    size: int
    authentication: dict[str, Any] | None
    received_at: float
    source_ip: str
    tls: str
    copy: int


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One accepted copy with its content: headers in order, the octets as received, the parts."""

    summary: MessageSummary
    headers: list[tuple[str, str]]
    raw: bytes
    html: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What happened, counted. `delivered` are pairs of Message-ID and recipient, `duplicates`
    further copies that no withheld reply (`unknown_fate`) explains."""

    delivered: int
    duplicates: int
    unknown_fate: int
    refused: int
    deferred_replies: int
    complaints_sent: int
    late_bounces_sent: int
    autoreplies_sent: int
    outgoing_failed: int
    opens: int
    clicks: int
    machine_opens: int
    machine_clicks: int
    unsubscribes: int
    fetches_failed: int
    pending_reactions: int


@dataclass(frozen=True, slots=True)
class LedgerFact:
    """One line of the ledger. A refusal at RCPT has no Message-ID, but a `mail_from`."""

    id: int
    at: float
    kind: str
    provider: str
    recipient: str
    mail_from: str
    message_id: str
    code: int | None
    text: str
    stored_id: int | None


class SimulatorClient:
    """The control API of one simulator, at `base_url` (`http://127.0.0.1:8053`)."""

    def __init__(self, base_url: str, *, timeout: float = 10.0) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout

    def health(self) -> dict[str, Any]:
        """Return status, clock and addresses."""
        return self._call("GET", "/health")

    def publish_records(self, records: Iterable[DnsRecord | dict[str, Any]]) -> int:
        """Publish records; they replace what stood at the same name and type. Returns how many."""
        entries = [asdict(r) if isinstance(r, DnsRecord) else r for r in records]
        return int(self._call("POST", "/zones/records", entries)["published"])

    def zone(self, domain: str) -> list[DnsRecord]:
        """Return the records at and below a domain."""
        found = self._call("GET", f"/zones/{quote(domain, safe='')}")["records"]
        return [_make(DnsRecord, record) for record in found]

    def delete_zone(self, domain: str) -> int:
        """Remove the records at and below a domain; returns how many."""
        return int(self._call("DELETE", f"/zones/{quote(domain, safe='')}")["deleted"])

    def mailboxes(self, *, provider: str = "", q: str = "", page: int = 1) -> MailboxPage:
        """Return mailboxes that hold mail, 50 a page, filtered by provider and part of address."""
        query = urlencode({"provider": provider, "q": q, "page": page})
        found = self._call("GET", f"/mailboxes?{query}")
        boxes = [_make(Mailbox, box) for box in found["mailboxes"]]
        return MailboxPage(boxes, found["page"], found["has_more"])

    def messages(self, address: str) -> list[MessageSummary]:
        """Return up to 200 messages of a mailbox, newest first."""
        found = self._call("GET", f"/mailboxes/{quote(address, safe='')}/messages")["messages"]
        return [_make(MessageSummary, message) for message in found]

    def message(self, id_: int) -> StoredMessage:
        """Return one message. Raises SimulatorRefused with status 404 when there is none."""
        found = self._call("GET", f"/messages/{id_}")
        return StoredMessage(
            summary=_make(MessageSummary, found),
            headers=[(name, value) for name, value in found["headers"]],
            raw=base64.b64decode(found["raw_base64"]),
            html=found["html"],
            text=found["text"],
        )

    def summary(self, *, message_id_domain: str = "", since: float = 0.0) -> Summary:
        """Count what happened since a time (Unix seconds), for one sender's domain or for all."""
        query = urlencode({"message_id_domain": message_id_domain, "since": since})
        return _make(Summary, self._call("GET", f"/summary?{query}"))

    def ledger(
        self, *, after_id: int = 0, kinds: Iterable[str] = (), message_id_domain: str = ""
    ) -> Iterator[LedgerFact]:
        """Yield facts in order, page by page; without `kinds` the final ones: delivered,
        unknown_fate, refused."""
        position: int | None = after_id
        while position is not None:
            query = urlencode(
                {
                    "after_id": position,
                    "limit": 5000,
                    "kinds": ",".join(kinds),
                    "message_id_domain": message_id_domain,
                }
            )
            found = self._call("GET", f"/ledger?{query}")
            for fact in found["facts"]:
                yield _make(LedgerFact, fact)
            position = found["next_after_id"]

    def set_readers(self, **rates: float | tuple[float, float]) -> dict[str, Any]:
        """Change the readers' rates (`open_rate=0.5`, `delay_seconds=(0, 1)`) from now on."""
        return self._call("POST", "/readers", rates)

    def set_clock(self, *, advance_seconds: float = 0.0, speed: float | None = None) -> float:
        """Put the simulated clock forward or change its speed; returns its time."""
        body = {"advance_seconds": advance_seconds} | ({} if speed is None else {"speed": speed})
        return float(self._call("POST", "/clock", body)["now"])

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 (the address is the operator's setting)
            self.base_url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:  # noqa: S310
                answer: dict[str, Any] = json.loads(response.read())
                return answer
        except urllib.error.HTTPError as error:
            with error:
                message = _error_text(error.read())
            raise SimulatorRefused(error.code, message) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SimulatorUnreachable(
                f"No simulator answers at {self.base_url}: {error}"
            ) from error


def _error_text(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace")[:200]


def _make(kind: type[T], values: dict[str, Any]) -> T:
    # A newer simulator may say more than this client knows.
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in values.items() if name in known})
