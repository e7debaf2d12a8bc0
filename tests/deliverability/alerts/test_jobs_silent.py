"""Background jobs that do not run are told by the scheduler itself, which needs none of them."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.utils import timezone

from deliverability.alerts.checks import SILENT_SECONDS, note_check
from deliverability.alerts.health import Watch
from deliverability.alerts.selectors import open_alerts
from tests.deliverability.alerts.test_health import dns_server

__all__ = ["dns_server"]

_NOTE = "alerts:check:queue"


@pytest.fixture(autouse=True)
def clean(transactional_db: None) -> Iterator[None]:
    cache.delete(_NOTE)
    yield
    cache.delete(_NOTE)


def note_of(age_seconds: float) -> None:
    at = timezone.now() - dt.timedelta(seconds=age_seconds)
    cache.set(_NOTE, {"text": "nothing wrong", "at": at}, 60)


def watch_of(age_seconds: float) -> Watch:
    return Watch(began_at=time.monotonic() - age_seconds)


def test_jobs_that_have_been_silent_for_minutes_are_told_and_their_return_closes_it() -> None:
    note_of(SILENT_SECONDS + 60)
    watch = watch_of(3600)
    assert watch.look() == ["jobs-silent"]
    (alert,) = open_alerts()
    assert (alert.severity, "`default`" in alert.detail) == ("critical", True)
    note_check("queue", "nothing wrong")
    assert watch.look() == []
    assert open_alerts() == []


def test_a_scheduler_that_has_just_started_waits_before_it_complains() -> None:
    assert watch_of(5).look() == []  # no note at all: the product has just been installed
    note_of(SILENT_SECONDS + 60)  # or was stopped over night
    assert watch_of(5).look() == []


def test_a_note_that_was_lost_for_long_is_silence() -> None:
    assert watch_of(SILENT_SECONDS + 60).look() == ["jobs-silent"]


def test_silence_that_has_another_cause_is_not_told_twice(settings: Any) -> None:
    watch = watch_of(3600)
    watch.problems = ["postgres-down"]
    watch._look_at_jobs()
    assert watch.problems == ["postgres-down"]
    assert watch.look() == [], "the jobs get their time after the database is back"
