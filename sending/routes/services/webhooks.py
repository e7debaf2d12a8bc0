"""A route's webhook: its address, its keys, and what came."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from django.db.models import F
from django.utils import timezone

from esp.lib.errors import InvalidInput
from sending.routes.models import Route, RouteWebhook
from sending.routes.services.operators import record_change, require_operator
from sending.routes.webhooks.calls import make_reader
from sending.routes.webhooks.catalogue import WEBHOOKS
from sending.routes.webhooks.types import BadCall
from tenants.accounts.models import User

_MOST = 2000  # characters of a key; a 4096-bit public key in Base64 has about 700


def renew_webhook(*, operator: User, route: Route) -> RouteWebhook:
    """Give a route a webhook's address, or a new one in the place of one that got about.

    Keys stay; the old address is gone at once. Raises InvalidInput for a route whose provider
    reports nothing that we can read.
    """
    require_operator(operator)
    _kind_of(route)
    hook, created = RouteWebhook.objects.get_or_create(
        route=route, defaults={"token": secrets.token_urlsafe(32)}
    )
    if not created:
        hook.token = secrets.token_urlsafe(32)
        hook.save(update_fields=["token"])
    record_change(operator, "routes.renew_webhook", route.name, first=created)
    return hook


def save_webhook(
    *, operator: User, hook: RouteWebhook, given: Mapping[str, Any], forget: bool = False
) -> None:
    """Keep what a provider's calls are proven with; what is left empty stays as it is.

    `given` has `basic_auth` ("user:password") and the provider's own key; with `forget`, what was
    kept goes first. Raises InvalidInput.
    """
    require_operator(operator)
    kind = _kind_of(hook.route)
    kept = {} if forget else hook_secrets(hook)
    found = {name: str(given.get(name) or kept.get(name, "")).strip()
             for name in ("basic_auth", "key")}  # fmt: skip
    user, _, password = found["basic_auth"].partition(":")
    if found["basic_auth"] and not (user and password):
        raise InvalidInput("Give user and password with a colon between.", field="basic_auth")
    for name, value in found.items():
        if len(value) > _MOST or not value.isascii() or not value.isprintable():
            raise InvalidInput("There is a line break or too much in it.", field=name)
    topic = str(given.get("topic_arn") or "").strip()
    if topic and not topic.startswith("arn:aws"):
        raise InvalidInput("An ARN starts with arn:aws.", field="topic_arn")
    try:
        make_reader(_provider(hook.route), basic_auth="", key=topic or found["key"], url="")
    except (BadCall, ValueError) as error:
        label = kind.key.label if kind.key else "key"
        raise InvalidInput(f"This is no {label.lower()}.", field="key") from error
    hook.secrets = json.dumps({name: value for name, value in found.items() if value})
    hook.options = {"topic_arn": topic} if topic else {}
    hook.save(update_fields=["secrets", "options"])
    names = sorted(name for name, value in found.items() if value)
    record_change(operator, "routes.save_webhook", hook.route.name, secrets=names, topic=topic)


def hook_secrets(hook: RouteWebhook) -> dict[str, str]:
    """Return what calls are proven with, by name."""
    found = json.loads(hook.secrets) if hook.secrets else {}
    return {str(name): str(value) for name, value in found.items()}


def note_call(hook: RouteWebhook, *, reports: int) -> None:
    """Count a proven call with so many new reports."""
    RouteWebhook.objects.filter(pk=hook.pk).update(
        called_at=timezone.now(), calls=F("calls") + 1, reports=F("reports") + reports
    )


def note_refusal(hook: RouteWebhook, reason: str) -> None:
    """Count a call that was not taken, with the reason for the route's page."""
    RouteWebhook.objects.filter(pk=hook.pk).update(
        refused_at=timezone.now(), refusals=F("refusals") + 1, refusal=reason[:300]
    )


def note_unmatched(route_id: Any) -> None:
    """Count a report on a message that the route has not carried."""
    RouteWebhook.objects.filter(pk=route_id).update(unmatched=F("unmatched") + 1)


def _provider(route: Route) -> str:
    return str(route.options.get("provider", ""))


def _kind_of(route: Route) -> Any:
    kind = WEBHOOKS.get(_provider(route))
    if kind is None:
        raise InvalidInput("This route's provider reports nothing that can be read here.")
    return kind
