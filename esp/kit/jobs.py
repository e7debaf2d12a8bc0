"""Background jobs by name: services say what shall be done after the commit, never how.

A job is a Celery task's name with ids as arguments. Losing one costs seconds: what must not be
lost is a committed row that a sweep finds again.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery import current_app
from django.db import transaction

log = logging.getLogger(__name__)


def enqueue_now(
    name: str,
    *args: Any,
    countdown: float | None = None,
    queue: str | None = None,
    expires: float | None = None,
) -> None:
    """Wake the worker of job `name`; a broker that is away is logged, never raised.

    `queue` stands in for the job's own one; after `expires` seconds nobody takes the job any more.
    """
    try:
        current_app.send_task(
            name, args=args, countdown=countdown, queue=queue, expires=expires, retry=False
        )
    except Exception as error:  # any broker error: the sweep finds the work
        log.warning("the broker did not take the job %s: %s", name, error)


def enqueue_on_commit(name: str, *args: Any, countdown: float | None = None) -> None:
    """Wake the worker of job `name` once the running transaction is committed."""
    transaction.on_commit(partial(enqueue_now, name, *args, countdown=countdown))
