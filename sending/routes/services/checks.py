"""The periodic look at routes: those that rest, those that nothing was sent by, and tokens."""

from __future__ import annotations

import datetime as dt
import json

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from deliverability.alerts.services import close_alert, raise_alert
from sending.routes.building import Unusable, secrets_of
from sending.routes.models import Route, RouteStat
from sending.routes.probe import probe
from sending.routes.services.results import note_health
from sending.routes.tokens import NoToken, fetch_token, needs_token
from sending.routes.types import Probe, RouteResult

TOKEN_ALERT = "route-token"  # noqa: S105 (an alert's code)
_CHECK_IDLE_EVERY = dt.timedelta(minutes=5)
# A rest that ends before the next look is checked in this one, so that no message goes first.
_AHEAD = dt.timedelta(seconds=15)
_KEEP_STATS = dt.timedelta(days=2)


def check_routes(*, now: dt.datetime | None = None) -> int:
    """Renew tokens and check the routes that are due; returns how many were checked.

    A resting route whose rest ends is checked before mail goes there again; one without traffic is
    checked every five minutes, so that a dead spare is known before it is needed.
    """
    now = now or timezone.now()
    renew_tokens(now=now)
    checked = 0
    for route in due_routes(now):
        # Several schedulers or slow checks: whoever moves `checked_at` has the route.
        mine = Route.objects.filter(pk=route.pk, checked_at=route.checked_at)
        if mine.update(checked_at=now):
            check_route(route)
            checked += 1
    RouteStat.objects.filter(minute__lt=now - _KEEP_STATS).delete()
    return checked


def due_routes(now: dt.datetime) -> list[Route]:
    """Return the routes to check now."""
    used = RouteStat.objects.filter(route=OuterRef("pk"), minute__gte=now - _CHECK_IDLE_EVERY)
    is_stale = Q(checked_at=None) | Q(checked_at__lte=now - _CHECK_IDLE_EVERY)
    rows = Route.objects.filter(status=Route.Status.ACTIVE).exclude(kind=Route.Kind.DIRECT)
    return list(
        rows.filter(
            Q(rests_until__lte=now + _AHEAD) | (Q(rests_until=None) & is_stale & ~Exists(used))
        ).order_by("id")
    )


def check_route(route: Route) -> Probe:
    """Try a route and note what came of it in its health."""
    found = probe(route)
    now = timezone.now()
    if found.error or found.proves:
        result = RouteResult(
            route.name,
            "deferred" if found.error else "delivered",
            now,
            is_failure=bool(found.error),
            error=found.error,
        )
        note_health(route.pk, [result], now=now, is_check=True)
    return found


def renew_tokens(*, now: dt.datetime) -> None:
    """Fetch access tokens that end soon, for all delivery processes."""
    for route in Route.objects.filter(
        kind=Route.Kind.SMARTHOST, status=Route.Status.ACTIVE, options__auth="xoauth2_refresh"
    ):
        try:
            renew_token(route, now=now)
        except NoToken as error:
            raise_alert(
                code=TOKEN_ALERT,
                subject=route.name,
                severity="warning",
                title=f"The route {route.name} gets no new access token.",
                detail=str(error),
            )
        else:
            close_alert(code=TOKEN_ALERT, subject=route.name)


def renew_token(route: Route, *, now: dt.datetime) -> None:
    """Fetch a route's access token if it ends soon; raises NoToken.

    The call is made outside of a transaction; when an operator has changed the route meanwhile,
    the answer is dropped, since it may belong to another account.
    """
    try:
        secrets = secrets_of(route)
    except Unusable as error:
        raise NoToken(str(error)) from error
    if not needs_token(route.options, secrets, now=now):
        return
    renewed = fetch_token(route.options, secrets, now=now)
    with transaction.atomic():
        row = Route.objects.select_for_update().filter(pk=route.pk).first()
        if row is None or row.secrets != route.secrets:
            return
        row.secrets = json.dumps(renewed)
        row.save(update_fields=["secrets"])
    route.secrets = json.dumps(renewed)
