"""From a stored route to what the engine uses: a Relay or a Carrier."""

from __future__ import annotations

import hashlib
import json
import threading
from typing import Any
from uuid import UUID

from django.conf import settings

from sending.engine.ports import Relay
from sending.routes.http.carrier import HttpCarrier
from sending.routes.models import Route
from sending.routes.providers import PROVIDERS, Provider


class Unusable(Exception):
    """The route cannot be used as it is; the text says why, without secrets."""


def secrets_of(route: Route) -> dict[str, Any]:
    """Return a route's secrets; raises Unusable where they cannot be read."""
    if not route.secrets:
        return {}
    try:
        found = json.loads(route.secrets)
    except ValueError as error:
        raise Unusable("its stored secrets cannot be read") from error
    return dict(found)


def relay_of(route: Route) -> Relay:
    """Return the smarthost of `route`; raises Unusable.

    A renewed token is read as it stands: the job `routes.check` keeps it fresh.
    """
    options, secrets = route.options, secrets_of(route)
    auth = str(options.get("auth", ""))
    secret = str(secrets.get("secret", ""))
    if auth == "xoauth2_refresh":
        secret = str(secrets.get("access_token", ""))
        if not secret:
            raise Unusable("there is no access token yet")
    wire = {"api_key": "plain", "xoauth2_refresh": "xoauth2"}.get(auth, auth)
    try:
        return Relay(
            host=options["host"],
            port=int(options["port"]),
            tls=options["tls"],
            verify=bool(options["verify"]),
            auth=wire,  # type: ignore[arg-type]  # checked when it was saved
            username=str(options.get("username", "")),
            secret=secret,
            certificate=str(secrets.get("certificate", "")),
            key=str(secrets.get("key", "")),
            allow_private=bool(options.get("own_network")) or settings.ALLOW_PRIVATE_MX,
        )
    except (KeyError, ValueError) as error:
        raise Unusable("its settings are incomplete") from error


def provider_of(route: Route) -> Provider:
    """Return the provider of an HTTP route; raises Unusable."""
    provider = PROVIDERS.get(str(route.options.get("provider", "")))
    if provider is None:
        raise Unusable("its provider is not known any more")
    return provider


def http_settings(route: Route) -> tuple[dict[str, str], str]:
    """Return anymail's settings of an HTTP route, secrets among them, and the base URL."""
    provider = provider_of(route)
    stored = {**route.options, **secrets_of(route)}
    found = {field.name: str(stored[field.name]) for field in provider.fields
             if stored.get(field.name)}  # fmt: skip
    missing = [field.label for field in provider.fields
               if field.is_required and field.name not in found]  # fmt: skip
    if missing:
        raise Unusable(f"it lacks the {missing[0]}")
    base_url = str(route.options.get("base_url") or "") or provider.base_url.format(**found)
    return found, base_url if base_url.endswith("/") else f"{base_url}/"


_carriers: dict[UUID, tuple[str, HttpCarrier]] = {}
_lock = threading.Lock()


def carrier_of(route: Route) -> HttpCarrier:
    """Return the carrier of an HTTP route; one a process and route, as long as its settings stand.

    Raises Unusable.
    """
    provider = provider_of(route)
    found, base_url = http_settings(route)
    state = json.dumps([provider.name, base_url, found], sort_keys=True)
    fingerprint = hashlib.sha256(state.encode()).hexdigest()
    with _lock:
        kept = _carriers.get(route.pk)
        if kept is not None and kept[0] == fingerprint:
            return kept[1]
        try:
            carrier = HttpCarrier(provider, found, base_url=base_url)
        except ImportError as error:
            raise Unusable(f"{provider.title} needs a package that is not installed") from error
        if kept is not None:
            kept[1].close()
        _carriers[route.pk] = (fingerprint, carrier)
    return carrier
