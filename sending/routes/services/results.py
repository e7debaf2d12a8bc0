"""What came of attempts by route: statistics by the minute, and rests for routes that fail."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from deliverability.alerts.services import close_alert, raise_alert
from sending.engine.ports import Outcome
from sending.routes.models import Route
from sending.routes.types import RouteResult

ALERT = "route-failing"
# So many failures in a row, and the route rests: long enough to matter, short enough to come back.
THRESHOLD = 3
_FIRST_REST = dt.timedelta(seconds=30)
_LONGEST_REST = dt.timedelta(minutes=15)

_BEFORE_MAIL = {"mx", "connect", "greeting", "ehlo", "tls", "auth"}
_NOT_TRIED = {"render", "slice", "envelope", "throttle"}
# Limits are met by sending more slowly, which is the lane's business, not by another route.
_NO_FAULT = {"soft/throttled", "soft/greylisted"}

_COUNT = """
INSERT INTO sending_routestat (route_id, minute, delivered, deferred, bounced, seconds)
SELECT * FROM unnest(%s::uuid[], %s::timestamptz[], %s::int[], %s::int[], %s::int[], %s::float[])
ON CONFLICT (route_id, minute) DO UPDATE SET
    delivered = sending_routestat.delivered + excluded.delivered,
    deferred = sending_routestat.deferred + excluded.deferred,
    bounced = sending_routestat.bounced + excluded.bounced,
    seconds = sending_routestat.seconds + excluded.seconds
"""


def result_of(outcome: Outcome) -> RouteResult | None:
    """Return an outcome as `note_results` takes it; None when no route was tried."""
    if outcome.phase in _NOT_TRIED:
        return None
    return RouteResult(
        route=outcome.route,
        kind=outcome.kind,
        at=outcome.at,
        seconds=sum(outcome.timings.values()),
        is_failure=bool(outcome.route) and _is_failure(outcome),
        error=outcome.text,
    )


def _is_failure(outcome: Outcome) -> bool:
    """Tell whether the route was at fault, not this message or its recipient."""
    if outcome.kind != "deferred" or outcome.classification in _NO_FAULT:
        return False
    cut_short = outcome.smtp_code is None and outcome.phase in ("mail", "rcpt", "data", "body")
    return outcome.phase in _BEFORE_MAIL or outcome.is_ambiguous or cut_short


def note_results(rows: Iterable[RouteResult], *, now: dt.datetime | None = None) -> None:
    """Count results by route and minute, and let a route rest that failed too often in a row.

    Takes any number of rows, of any routes; names that are no route any more are left out. Direct
    delivery ("") counts for the route of that kind, when there is one. A few statements, whatever
    the number of rows. Call it in the database thread, after the results themselves are safe.
    """
    by_name: dict[str, list[RouteResult]] = defaultdict(list)
    for row in rows:
        by_name[row.route].append(row)
    if not by_name:
        return
    wanted = Q(name__in=list(by_name))
    if "" in by_name:
        wanted |= Q(kind=Route.Kind.DIRECT)
    known = list(Route.objects.filter(wanted).order_by("id"))
    found = {route.pk: by_name.get("" if route.kind == Route.Kind.DIRECT else route.name, [])
             for route in known}  # fmt: skip
    _count(found)
    for route in known:
        results = sorted(found[route.pk], key=lambda row: row.at)
        if results and (route.failures or any(row.is_failure for row in results)):
            note_health(route.pk, results, now=now or timezone.now())


def _count(found: dict[uuid.UUID, list[RouteResult]]) -> None:
    sums: dict[tuple[uuid.UUID, dt.datetime], list[float]] = defaultdict(lambda: [0, 0, 0, 0.0])
    places = {"delivered": 0, "deferred": 1, "bounced": 2}
    for route_id, results in found.items():
        for row in results:
            entry = sums[(route_id, row.at.replace(second=0, microsecond=0))]
            entry[places[row.kind]] += 1
            entry[3] += row.seconds
    if not sums:
        return
    keys = sorted(sums)  # one order for all workers, so that they cannot deadlock
    columns: list[list[Any]] = [[key[0] for key in keys], [key[1] for key in keys]]
    columns += [[sums[key][place] for key in keys] for place in range(4)]
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, columns)


def note_health(
    route_id: uuid.UUID, results: Sequence[RouteResult], *, now: dt.datetime, is_check: bool = False
) -> None:
    """Apply results, oldest first, to a route's health.

    Any answer that is no failure ends a row of failures. While a route rests, failures of messages
    that were under way change nothing; those of a check do.
    """
    trailing = 0
    for row in reversed(results):
        if not row.is_failure:
            break
        trailing += 1
    with transaction.atomic():
        route = Route.objects.select_for_update().filter(pk=route_id).first()
        if route is None:
            return
        if trailing == 0:
            _recovered(route)
            return
        rests = route.rests_until is not None and route.rests_until > now
        if rests and not is_check:
            return
        before = 0 if trailing < len(results) else route.failures
        # A burst of messages that fail together is one event, not a hundred.
        route.failures = before + 1 if before >= THRESHOLD else min(before + trailing, THRESHOLD)
        route.last_error = results[-1].error[:300]
        if route.failures >= THRESHOLD:
            route.rests_until = now + rest_for(route.failures)
        route.save(update_fields=["failures", "last_error", "rests_until"])
        if route.failures >= THRESHOLD:
            _alert(route)


def rest_for(failures: int) -> dt.timedelta:
    """Return how long a route rests: 30 seconds, doubled each time, 15 minutes at most."""
    times = min(max(failures - THRESHOLD, 0), 10)
    return min(_FIRST_REST * (1 << times), _LONGEST_REST)


def _recovered(route: Route) -> None:
    if not route.failures and route.rests_until is None:
        return
    route.failures, route.rests_until, route.last_error = 0, None, ""
    route.save(update_fields=["failures", "rests_until", "last_error"])
    close_alert(code=ALERT, subject=route.name)


def _alert(route: Route) -> None:
    raise_alert(
        code=ALERT,
        subject=route.name,
        severity="warning",
        title=f"The route {route.name} fails and rests.",
        detail=f"Last error: {route.last_error}\n\nMail goes by the other routes of its sets, or "
        "waits where there is none. The route is tried again by itself; its page has a test.",
    )
