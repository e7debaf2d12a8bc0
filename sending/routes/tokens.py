"""Bearer tokens for XOAUTH2: a refresh token becomes an access token (RFC 6749 section 6)."""

from __future__ import annotations

import datetime as dt
from typing import Any

import requests

from sending.routes.http.outcomes import clean
from sending.routes.http.session import BoundedSession

# A token that ends within this time is renewed: well before a session would find it dead.
RENEW_BEFORE = dt.timedelta(minutes=5)
_DEFAULT_SECONDS = 3600.0  # where the server does not say (RFC 6749 section 5.1: it should)


class NoToken(Exception):
    """There is no new token; the text says why, without secrets."""


def needs_token(options: dict[str, Any], secrets: dict[str, Any], *, now: dt.datetime) -> bool:
    """Tell whether a route's access token must be fetched now."""
    if options.get("auth") != "xoauth2_refresh":
        return False
    ends = float(secrets.get("access_token_ends", 0.0))
    return not secrets.get("access_token") or ends < (now + RENEW_BEFORE).timestamp()


def fetch_token(
    options: dict[str, Any], secrets: dict[str, Any], *, now: dt.datetime
) -> dict[str, Any]:
    """Return the secrets with a new access token; raises NoToken. Blocks for 15 seconds at most.

    A new refresh token replaces the old one, as RFC 6749 section 6 wants it.
    """
    form = {
        "grant_type": "refresh_token",
        "refresh_token": secrets["refresh_token"],
        "client_id": options["client_id"],
    }
    if secrets.get("client_secret"):
        form["client_secret"] = secrets["client_secret"]
    if options.get("scope"):
        form["scope"] = options["scope"]
    hidden = (str(secrets["refresh_token"]), str(secrets.get("client_secret", "")))
    session = BoundedSession(connect_seconds=5.0, total_seconds=10.0)
    try:
        with session:
            response = session.request("POST", options["token_url"], data=form)
        found = response.json()
    except requests.JSONDecodeError as error:
        raise NoToken(f"The token server answered {response.status_code} without JSON.") from error
    except (requests.RequestException, OSError) as error:
        raise NoToken(f"The token server was not reached: {clean(str(error), hidden)}") from error
    if not isinstance(found, dict) or not isinstance(found.get("access_token"), str):
        said = (
            found.get("error_description") or found.get("error") if isinstance(found, dict) else ""
        )
        text = clean(str(said or "no access token"), hidden)
        raise NoToken(f"The token server answered {response.status_code}: {text}")
    try:
        seconds = float(found.get("expires_in", _DEFAULT_SECONDS))
    except (TypeError, ValueError):
        seconds = _DEFAULT_SECONDS
    renewed = {**secrets, "access_token": found["access_token"],
               "access_token_ends": now.timestamp() + seconds}  # fmt: skip
    if isinstance(found.get("refresh_token"), str) and found["refresh_token"]:
        renewed["refresh_token"] = found["refresh_token"]
    return renewed
