"""What operators do with routes; each change stands in the audit log, secrets by name only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from deliverability.alerts.services import close_alert
from esp.kit.jobs import enqueue_on_commit
from esp.lib.errors import Conflict, InvalidInput
from sending.routes import jobs
from sending.routes.building import Unusable, secrets_of
from sending.routes.models import Route, RouteSetMember, RouteWebhook
from sending.routes.options import Checked, check_http, check_smarthost
from sending.routes.services.checks import TOKEN_ALERT, check_route, renew_token
from sending.routes.services.operators import record_change, require_operator
from sending.routes.services.results import ALERT
from sending.routes.tokens import NoToken
from sending.routes.types import Probe, Step
from sending.routes.webhooks.catalogue import WEBHOOKS
from tenants.accounts.models import User

# "route:" and the name together are the site of its lane, which has 60 characters.
_MAX_NAME = 50
_NAME = re.compile(r"[\w][\w .()+@-]*", re.UNICODE)


def save_route(
    *,
    operator: User,
    route: Route | None,
    kind: str,
    name: str,
    status: str,
    given: Mapping[str, Any],
) -> Route:
    """Make a route, or change one's settings; `given` are the settings of its kind.

    Secrets that are left empty stay as they are. A name stays for good: attempts, lanes and
    messages that must come back to this route know it by name. Raises InvalidInput.
    """
    require_operator(operator)
    if status not in Route.Status.values:
        raise InvalidInput("Choose a status from the list.", field="status")
    name = _clean_name(name) if route is None else route.name
    if kind not in Route.Kind.values or (route is not None and route.kind != kind):
        raise InvalidInput("Choose a kind from the list.", field="kind")
    kept = _kept(route)
    checked = _check(kind, given, kept, route)
    if route is None:
        return _create(operator, kind, name, status, checked)
    # The connection is another one: what was known of the old one's health says nothing.
    renewed = {name for name in checked.secrets if checked.secrets[name] != kept.get(name)}
    changes = _changes(route, status, checked)
    if renewed or kept.keys() - checked.secrets.keys() - {"access_token", "access_token_ends"}:
        changes["secrets"] = sorted(renewed) or "removed"
    if not changes:
        return route
    if set(changes) != {"status"}:
        route.failures, route.rests_until, route.last_error = 0, None, ""
        route.checked_at = None
        route.secrets = json.dumps(checked.secrets) if checked.secrets else ""
        close_alert(code=ALERT, subject=route.name)
        close_alert(code=TOKEN_ALERT, subject=route.name)
    route.options, route.status = checked.options, status
    route.save()
    record_change(operator, "routes.update_route", route.name, **changes)
    enqueue_on_commit(jobs.CHECK)
    return route


def _check(
    kind: str, given: Mapping[str, Any], kept: Mapping[str, str], route: Route | None
) -> Checked:
    if kind == Route.Kind.SMARTHOST:
        return check_smarthost(given, kept)
    if kind == Route.Kind.HTTP:
        return check_http(given, kept)
    others = Route.objects.filter(kind=Route.Kind.DIRECT)
    if (others.exclude(pk=route.pk) if route is not None else others).exists():
        raise InvalidInput("There is a route for direct delivery already.", field="name")
    return Checked({}, {})


def _create(operator: User, kind: str, name: str, status: str, checked: Checked) -> Route:
    if Route.objects.filter(name__iexact=name).exists():  # "relay" beside "Relay" misleads
        raise InvalidInput("Another route has this name.", field="name")
    try:
        with transaction.atomic():
            route = Route.objects.create(
                name=name,
                kind=kind,
                status=status,
                options=checked.options,
                secrets=json.dumps(checked.secrets) if checked.secrets else "",
            )
    except IntegrityError as error:
        raise InvalidInput("Another route has this name.", field="name") from error
    if checked.options.get("provider") in WEBHOOKS:
        RouteWebhook.objects.create(route=route, token=token_urlsafe(32))
    detail = {**checked.options, "secrets": sorted(checked.secrets)}
    record_change(operator, "routes.create_route", name, kind=kind, status=status, settings=detail)
    enqueue_on_commit(jobs.CHECK)
    return route


def _kept(route: Route | None) -> dict[str, Any]:
    if route is None:
        return {}
    try:
        return secrets_of(route)
    except Unusable:
        return {}


def _changes(route: Route, status: str, checked: Checked) -> dict[str, Any]:
    before = {**route.options, "status": route.status}
    after = {**checked.options, "status": status}
    keys = sorted(before.keys() | after.keys())
    return {key: [before.get(key), after.get(key)] for key in keys
            if before.get(key) != after.get(key)}  # fmt: skip


def _clean_name(name: str) -> str:
    name = " ".join(name.split())
    if not name or len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"Give a name of letters, digits, spaces and . - _ @ + ( ), at most {_MAX_NAME} "
            "characters, with a letter or digit at its start.",
            field="name",
        )
    return name


def remove_route(*, operator: User, route: Route) -> None:
    """Remove a route that is in no set. Raises Conflict."""
    require_operator(operator)
    members = RouteSetMember.objects.filter(route=route).select_related("route_set")
    names = sorted(member.route_set.name for member in members)
    if names:
        raise Conflict(
            f"The route is in use: take it out of {', '.join(names)} first, or switch it off."
        )
    route.delete()
    close_alert(code=ALERT, subject=route.name)
    close_alert(code=TOKEN_ALERT, subject=route.name)
    record_change(operator, "routes.remove_route", route.name, kind=route.kind)


def test_route(*, operator: User, route: Route) -> Probe:
    """Try a route as far as one can without a message; what came of it counts for its health."""
    require_operator(operator)
    error = ""
    try:
        renew_token(route, now=timezone.now())
    except NoToken as reason:
        error = str(reason)
    found = check_route(route)
    if error:
        found = Probe((Step("Fetch an access token", False, error), *found.steps), error)
    Route.objects.filter(pk=route.pk).update(checked_at=timezone.now())
    record_change(operator, "routes.test_route", route.name, ok=found.is_ok)
    return found
