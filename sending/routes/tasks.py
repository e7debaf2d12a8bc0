"""The room's background tasks."""

from __future__ import annotations

from celery import shared_task

from sending.routes import jobs
from sending.routes.services import check_routes


@shared_task(name=jobs.CHECK, soft_time_limit=240, time_limit=300)
def check() -> None:
    """Check the routes that are due."""
    check_routes()
