"""Where the scheduler's process starts to look after the servers."""

from __future__ import annotations

from typing import Any

from celery.signals import beat_init

from deliverability.alerts.health import start_thread


@beat_init.connect
def watch_health(**_: Any) -> None:
    """Look beside the schedule: a job would need the very servers that it is to miss."""
    start_thread()
