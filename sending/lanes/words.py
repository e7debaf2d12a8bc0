"""Why a lane has no room, in words for people."""

from __future__ import annotations

import datetime as dt

from sending.lanes.types import Quota

_WHAT = {
    "global": "everything that leaves",
    "tenant": "this tenant",
    "batch": "this campaign",
    "domain": "mail to this domain",
}


def busy(limit: int, site: str, source: str) -> str:
    """Say that all connections are in use."""
    return f"{site} takes at most {_count(limit, 'connection')} from {source}; all are busy."


def narrowed(allowed: int, site: str, source: str) -> str:
    """Say that fewer connections than the limit are used for now, as complaints taught."""
    return f"{site} bears {_count(allowed, 'connection')} from {source} at present; all are busy."


def busy_scope(kind: str, limit: int) -> str:
    """Say that all connections of something else than a lane are in use."""
    return f"The limit of {_count(limit, 'connection')} for {_WHAT[kind]} is reached."


def opening(per_minute: int, site: str, source: str) -> str:
    """Say that no connection may be opened right now."""
    return (
        f"At most {_count(per_minute, 'connection')} a minute are opened from {source} to {site}."
    )


def asking(site: str, source: str) -> str:
    """Say that a worker asks the others for one connection more."""
    return f"A further connection from {source} to {site} is being asked for."


def learning(site: str, source: str) -> str:
    """Say that the rate was cut after complaints and recovers."""
    return f"{site} complained of the rate from {source}: it is slowed and recovers step by step."


def rate(quota: Quota, target: str) -> str:
    """Say that the messages of this second or minute are gone."""
    if quota.per_second is not None and (
        quota.per_minute is None or quota.per_minute / 60 > quota.per_second
    ):
        return f"At most {quota.per_second:g} messages a second leave {target}."
    if quota.per_minute is not None:
        return f"At most {quota.per_minute:,} messages a minute leave {target}."
    return f"The workers are agreeing on the limits of what leaves {target}."


def used_up(span: str, limit: int, target: str, wall: dt.datetime) -> tuple[str, float]:
    """Say that the hour's or the day's messages are gone; return it and the seconds until more."""
    ends = next_window(span, wall)
    when = f"{ends:%H:%M} UTC" if span == "hour" else f"midnight UTC ({ends:%-d %B})"
    text = (
        f"The {span}'s limit of {_count(limit, 'message')} {target} is used up; "
        f"it begins anew at {when}."
    )
    return text, (ends - wall).total_seconds()


def cap(limit: int, target: str, wall: dt.datetime) -> tuple[str, float]:
    """Say that the day's warm-up cap is reached; return it and the seconds until midnight."""
    ends = next_window("day", wall)
    text = (
        f"Today's cap of {_count(limit, 'message')} {target} is reached; "
        f"it begins anew at midnight UTC ({ends:%-d %B})."
    )
    return text, (ends - wall).total_seconds()


def lane_target(source: str, site: str) -> str:
    """Return "from 192.0.2.1 to Google"."""
    return f"from {source} to {site}"


def scope_target(kind: str) -> str:
    """Return "for this tenant"."""
    return f"for {_WHAT[kind]}"


def next_window(span: str, wall: dt.datetime) -> dt.datetime:
    """Return when the hour or the day (UTC) after `wall` begins."""
    if span == "hour":
        return wall.replace(minute=0, second=0, microsecond=0) + dt.timedelta(hours=1)
    return wall.replace(hour=0, minute=0, second=0, microsecond=0) + dt.timedelta(days=1)


def later(wall: dt.datetime, seconds: float) -> dt.datetime:
    """Return the moment `seconds` after `wall`."""
    return wall + dt.timedelta(seconds=seconds)


def until_text(until: dt.datetime) -> str:
    """Return a moment as "3 May 14:05 UTC"."""
    return f"{until:%-d %B %H:%M} UTC"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
