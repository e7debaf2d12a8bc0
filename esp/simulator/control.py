"""The control API: publish records, read mailboxes, count and reconcile, set clock and readers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from typing import Any

from esp.simulator import ledger
from esp.simulator.clock import Clock
from esp.simulator.config import ReaderRates
from esp.simulator.mailbox import MailStore
from esp.simulator.published import PublishedRecords
from esp.simulator.readers import Readers
from esp.simulator.web import Handler, Request, RequestRefused, Route
from esp.simulator.zones import Record, ZoneStore, make_record

MAX_RECORDS = 10_000


class Control:
    """Handlers over the parts of one running simulator."""

    def __init__(
        self,
        *,
        zones: ZoneStore,
        published: PublishedRecords,
        store: MailStore,
        clock: Clock,
        readers: Readers,
        about: Callable[[], dict[str, Any]],
    ) -> None:
        self._zones, self._published = zones, published
        self._store, self._clock = store, clock
        self._readers, self._about = readers, about

    def routes(self) -> list[Route]:
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/health", self._health),
            ("POST", "/zones/records", self._publish),
            ("GET", "/zones/{domain}", self._zone),
            ("DELETE", "/zones/{domain}", self._delete_zone),
            ("GET", "/mailboxes", self._mailboxes),
            ("GET", "/mailboxes/{address}/messages", self._messages),
            ("GET", "/messages/{id}", self._message),
            ("GET", "/summary", self._summary),
            ("GET", "/ledger", self._ledger),
            ("GET", "/readers", self._reader_rates),
            ("POST", "/readers", self._set_readers),
            ("POST", "/clock", self._set_clock),
        ]
        return [Route(method, pattern, handler) for method, pattern, handler in table]

    async def _health(self, request: Request) -> dict[str, Any]:
        return {"status": "ok", "now": self._clock.now(), **self._about()}

    async def _publish(self, request: Request) -> dict[str, Any]:
        entries = request.body.get("records") if isinstance(request.body, dict) else request.body
        if not isinstance(entries, list) or not 0 < len(entries) <= MAX_RECORDS:
            raise RequestRefused(400, f"Send a list of 1 to {MAX_RECORDS} records.")
        self._published.publish([_record(entry) for entry in entries])
        return {"published": len(entries)}

    async def _zone(self, request: Request) -> dict[str, Any]:
        found = self._zones.records(request.args["domain"])
        return {
            "records": [
                {"name": r.name, "type": r.type, "value": r.value, "ttl": r.ttl} for r in found
            ]
        }

    async def _delete_zone(self, request: Request) -> dict[str, Any]:
        return {"deleted": self._published.delete(request.args["domain"])}

    async def _mailboxes(self, request: Request) -> dict[str, Any]:
        provider, query = request.query.get("provider", ""), request.query.get("q", "")
        page = int(request.number("page", 1))
        return await self._store.read(
            lambda db: ledger.mailboxes(db, provider=provider, query=query, page=page)
        )

    async def _messages(self, request: Request) -> dict[str, Any]:
        address = request.args["address"].lower()
        return await self._store.read(lambda db: ledger.messages(db, address=address))

    async def _message(self, request: Request) -> dict[str, Any]:
        if not request.args["id"].isdecimal() or len(request.args["id"]) > 18:
            raise RequestRefused(404, "There is no such message.")
        id_ = int(request.args["id"])
        found = await self._store.read(lambda db: ledger.message(db, id_=id_))
        if found is None:
            raise RequestRefused(404, "There is no such message.")
        return found

    async def _summary(self, request: Request) -> dict[str, int]:
        domain = request.query.get("message_id_domain", "")
        since = request.number("since", 0)
        counts = await self._store.read(lambda db: ledger.summary(db, domain=domain, since=since))
        return {**counts, "pending_reactions": self._readers.pending}

    async def _ledger(self, request: Request) -> dict[str, Any]:
        after, limit = int(request.number("after_id", 0)), int(request.number("limit", 1000))
        kinds = tuple(filter(None, request.query.get("kinds", "").split(",")))
        domain = request.query.get("message_id_domain", "")
        return await self._store.read(
            lambda db: ledger.ledger(
                db, after_id=after, limit=limit, kinds=kinds or ledger.FINAL_KINDS, domain=domain
            )
        )

    async def _reader_rates(self, request: Request) -> dict[str, Any]:
        return asdict(self._readers.rates)

    async def _set_readers(self, request: Request) -> dict[str, Any]:
        known = {field.name for field in fields(ReaderRates)}
        if not isinstance(request.body, dict) or set(request.body) - known:
            raise RequestRefused(400, f"Send an object with some of: {', '.join(sorted(known))}.")
        try:
            changes = {name: _rate(value) for name, value in request.body.items()}
            self._readers.rates = replace(self._readers.rates, **changes)
        except (TypeError, ValueError) as error:
            raise RequestRefused(400, str(error)) from None
        return asdict(self._readers.rates)

    async def _set_clock(self, request: Request) -> dict[str, float]:
        body = request.body if isinstance(request.body, dict) else {}
        try:
            if "speed" in body:
                self._clock.run_at(float(body["speed"]))
            self._clock.advance(float(body.get("advance_seconds", 0)))
        except (TypeError, ValueError) as error:
            raise RequestRefused(400, str(error)) from None
        return {"now": self._clock.now(), "speed": self._clock.speed}


def _rate(value: Any) -> Any:
    if isinstance(value, list):
        low, high = value
        return float(low), float(high)
    return float(value)


def _record(entry: Any) -> Record:
    if not isinstance(entry, dict):
        raise RequestRefused(400, "A record is an object with name, type and value.")
    try:
        return make_record(
            str(entry["name"]), str(entry["type"]), str(entry["value"]), int(entry.get("ttl", 300))
        )
    except KeyError as error:
        raise RequestRefused(400, f"A record lacks {error}.") from None
    except (TypeError, ValueError) as error:
        raise RequestRefused(400, str(error)) from None
