"""Waking delivery once new messages are committed."""

from __future__ import annotations

from functools import partial

from django.db import transaction

from esp.kit import wakeups
from esp.kit.jobs import enqueue_now
from sending.messages import jobs


def wake_on_commit(stream: str) -> None:
    """Wake a delivery worker of `stream` once the running transaction is committed."""
    transaction.on_commit(partial(_wake, stream))


def _wake(stream: str) -> None:
    """Tell those who listen; where nobody does, start a task that will."""
    if not wakeups.wake(stream):
        enqueue_now(jobs.DELIVER_BY_STREAM[stream])
