"""What happened to one message: its events and its attempts, in the order of their moments."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field
from typing import Any

from django.db.models import QuerySet

from esp.kit.paging import Page, newest_first
from esp.lib.ids import lower_bound, made_at
from sending.events.models import Attempt, Event
from sending.events.phases import phase_title, steps_of

# Opens and clicks of one message can be many; a timeline that nobody can read helps nobody.
MAX_ENTRIES = 500


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One event, with the attempt that it came of where there is one."""

    event: Event
    attempt: Attempt | None = None

    @property
    def steps(self) -> list[tuple[str, float]]:
        """The attempt's seconds by step, in words and in order."""
        return steps_of(self.attempt.timings) if self.attempt is not None else []

    @property
    def took(self) -> float:
        """The attempt's seconds altogether."""
        return sum(seconds for _, seconds in self.steps)

    @property
    def phase(self) -> str:
        """The step in which the attempt ended, in words."""
        return phase_title(self.attempt.phase) if self.attempt is not None else ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Events with their attempts, oldest first, and attempts that made no event (yet)."""

    entries: list[TimelineEntry]
    attempts: list[Attempt] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What a list of events is narrowed to; empty fields do not narrow."""

    kind: str = ""
    recipient: str = ""  # normalised
    message_id: uuid.UUID | None = None
    batch_id: uuid.UUID | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


def timeline_of(message_id: uuid.UUID) -> Timeline:
    """Return what happened to a message of the tenant in scope."""
    # The keys of events and attempts are younger than the message's own: partitions before it are
    # not looked at. A minute covers two machines' clocks.
    floor = lower_bound(made_at(message_id) - dt.timedelta(minutes=1))
    events = list(
        Event.objects.filter(message_id=message_id, id__gte=floor).order_by("at", "id")[
            :MAX_ENTRIES
        ]
    )
    attempts = list(
        Attempt.objects.filter(message_id=message_id, id__gte=floor).order_by("number", "id")[
            :MAX_ENTRIES
        ]
    )
    by_number = {attempt.number: attempt for attempt in attempts}
    entries = [TimelineEntry(event, by_number.get(_number_of(event))) for event in events]
    return Timeline(entries, attempts)


def _number_of(event: Event) -> int:
    detail: dict[str, Any] = event.detail
    number = detail.get("attempt")
    return number if isinstance(number, int) else -1


def events_page(
    chosen: EventFilter,
    *,
    after: str | None = None,
    before: str | None = None,
    size: int = 50,
    default_since: dt.datetime,
) -> Page[Event]:
    """Return a page of the events of the tenant in scope, newest first.

    Events before `default_since` are left out unless `since`, a message or a batch is asked for.
    """
    rows: QuerySet[Event] = Event.objects.all()
    since = chosen.since
    if since is None and chosen.message_id is None and chosen.batch_id is None:
        since = default_since
    if since is not None:
        rows = rows.filter(id__gte=lower_bound(since))
    if chosen.until is not None:
        rows = rows.filter(id__lt=lower_bound(chosen.until))
    for name in ("kind", "recipient", "message_id", "batch_id"):
        value = getattr(chosen, name)
        if value:
            rows = rows.filter(**{name: value})
    return newest_first(rows, after=after, before=before, size=size)
