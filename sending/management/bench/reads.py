"""How fast pages of contacts are for the web process, under its role and row-level security.

Runs in a process of its own (`manage.py bench reads`), because a process has one database role.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import connection

from esp.lib.ids import encode
from sending.audience.models import Contact
from sending.audience.selectors import contacts_page
from tenants.scoping.context import scope

_ROUNDS = 60


def measure_as_web(tenant_id: uuid.UUID, list_id: uuid.UUID) -> dict[str, Any]:
    """Return `measure` of a process that connects as the web does."""
    command = [
        sys.executable,
        str(settings.ROOT / "manage.py"),
        "bench",
        "reads",
        str(tenant_id),
        str(list_id),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "MAILWRIGHT_PROCESS": "web"},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(tenant_id: uuid.UUID, list_id: uuid.UUID, *, rounds: int = _ROUNDS) -> dict[str, Any]:
    """Return the median and the 95th percentile, in milliseconds, of each way to read a page."""
    chance = random.Random(1)  # noqa: S311 (which pages are asked for)
    with scope(tenant_id):
        newest = Contact.objects.order_by("-id").values_list("id", flat=True)[0]
        oldest = Contact.objects.order_by("id").values_list("id", flat=True)[0]
        addresses = [
            Contact.objects.filter(id__gte=_between(chance, oldest, newest))
            .order_by("id")
            .values_list("email_norm", flat=True)[0]
            for _ in range(rounds)
        ]
    rare = iter(addresses)
    parts = iter([address.partition("@")[0][:-1] for address in addresses])
    ways: dict[str, Callable[[], object]] = {
        "first_page": contacts_page,
        "deep_page": lambda: contacts_page(after=encode(_between(chance, oldest, newest))),
        "deep_page_of_list": lambda: contacts_page(
            list_id=list_id, status="subscribed", after=encode(_between(chance, oldest, newest))
        ),
        "search_address": lambda: contacts_page(query=next(rare)),
        "search_part": lambda: contacts_page(query=next(parts)),
        "search_common": lambda: contacts_page(query=chance.choice(["clara", "moreau", "inbox07"])),
    }
    return {
        "role": _role(),
        **{name: _timed(tenant_id, way, rounds) for name, way in ways.items()},
    }


def _between(chance: random.Random, low: uuid.UUID, high: uuid.UUID) -> uuid.UUID:
    return uuid.UUID(int=chance.randint(low.int, high.int))


def _role() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        return str(cursor.fetchone()[0])


def _timed(tenant_id: uuid.UUID, way: Callable[[], object], rounds: int) -> dict[str, float]:
    spent = []
    for _ in range(rounds):
        start = time.perf_counter()
        with scope(tenant_id):
            way()
        spent.append((time.perf_counter() - start) * 1000)
    return {
        "p50_ms": round(statistics.median(spent), 2),
        "p95_ms": round(statistics.quantiles(spent, n=20)[-1], 2),
    }
