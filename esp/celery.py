"""The Celery application: which task runs on which queue, and what runs on a schedule.

PostgreSQL is the queue of record; tasks only wake workers up. A task that is lost, doubled or late
is harmless: the scheduled sweeps find what is left.
"""

from __future__ import annotations

import os

from celery import Celery
from celery.signals import worker_shutting_down

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "esp.settings")
os.environ.setdefault("MAILWRIGHT_PROCESS", "worker")
# Celery runs Django's checks at each start, which load every page, and ignores what they find.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

from django.conf import settings

from esp.kit.stopping import ask_to_stop, end_in_time

QUEUES = ("transactional", "broadcast", "feedback", "webhooks", "imports", "default")

# Celery tells the main process alone; the children that deliver share this flag with it.
worker_shutting_down.connect(ask_to_stop)
worker_shutting_down.connect(end_in_time)

app = Celery("mailwright")
app.set_default()  # for every thread: Celery else makes up an app without broker in the others
app.conf.update(
    broker_url=settings.REDIS_URL,
    broker_connection_retry_on_startup=True,
    # A request that wakes a worker must not wait for a broker that is away: the sweeps find the
    # work. (A worker's own connection retries by itself, whatever stands here.)
    broker_transport_options={
        "visibility_timeout": 3600,
        "socket_timeout": 5,
        "socket_connect_timeout": 0.5,
        "max_retries": 0,
    },
    beat_scheduler="esp.kit.beat:SturdyScheduler",
    task_ignore_result=True,
    task_default_queue="default",
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    task_serializer="json",
    accept_content=["json"],
    timezone="UTC",
    enable_utc=True,
    # Celery else opens a new database connection for every task (celery issue 10554).
    CELERY_DB_REUSE_MAX=1000,
    task_routes={
        "dispatch.deliver_transactional": {"queue": "transactional"},
        "dispatch.deliver_broadcast": {"queue": "broadcast"},
        "feedback.*": {"queue": "feedback"},
        "audience.*": {"queue": "imports"},
    },
    beat_schedule={
        "audience-forget-files": {
            "task": "audience.forget_import_files",
            "schedule": 24 * 3600.0,
        },
        "audience-resume-imports": {"task": "audience.resume_imports", "schedule": 30.0},
        # How soon a sweep is of no use any more; no sooner than clocks of two hosts may differ, or
        # a busy worker may take to come to it: else it would never run at all.
        "dispatch-wake": {"task": "dispatch.wake", "schedule": 2.0, "options": {"expires": 10}},
        "dispatch-check-queue": {
            "task": "dispatch.check_queue",
            "schedule": 60.0,
            "options": {"expires": 60},
        },
        "dispatch-expire": {"task": "dispatch.expire", "schedule": 10.0},
        "campaigns-sweep": {
            "task": "campaigns.sweep",
            "schedule": 3.0,
            "options": {"expires": 10},
        },
        "feedback-sweep": {"task": "feedback.sweep", "schedule": 5.0, "options": {"expires": 10}},
        "feedback-purge": {"task": "feedback.purge", "schedule": 24 * 3600.0},
        "console-count-queue": {
            "task": "console.count_queue",
            "schedule": 15.0,
            "options": {"expires": 15},
        },
        "ips-check-nodes": {
            "task": "ips.check_nodes",
            "schedule": 15.0,
            "options": {"expires": 15},
        },
        "ips-check-ptr": {"task": "ips.check_ptr", "schedule": 24 * 3600.0},
        "messages-clear-cancelled": {"task": "messages.clear_cancelled", "schedule": 30.0},
        "messages-forget-old": {"task": "messages.forget_old", "schedule": 24 * 3600.0},
        "messages-purge-idempotency": {
            "task": "messages.purge_idempotency",
            "schedule": 24 * 3600.0,
        },
        "messages-watch-queue": {
            "task": "messages.watch_queue",
            "schedule": 15.0,
            "options": {"expires": 15},
        },
        "content-forget-versions": {
            "task": "content.forget_versions",
            "schedule": 24 * 3600.0,
        },
        "routes-check": {"task": "routes.check", "schedule": 10.0, "options": {"expires": 10}},
        "dispatch-partitions": {"task": "dispatch.make_partitions", "schedule": 6 * 3600.0},
    },
)
app.autodiscover_tasks(
    [
        "tenants.accounts",
        "deliverability.alerts",
        "deliverability.domains",
        "deliverability.ips",
        "sending.audience",
        "sending.content",
        "sending.messages",
        "sending.events",
        "sending.campaigns",
        "sending.feedback",
        "sending.dispatch",
        "esp.console",
        "sending.routes",
    ]
)
app.autodiscover_tasks(["sending.dispatch"], related_name="watch")
