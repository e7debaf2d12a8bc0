"""One delivery worker of a benchmark: the product's `DeliveryWorker`, slice by slice, till the end.

Runs in a process of its own (`manage.py bench worker`): prints "ready", begins with the first line
on its standard input, prints one line of JSON at the end, and stays until its input ends, so that
the kernel's figures of it can still be read.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import uuid
from collections import Counter
from typing import Any

from sending.dispatch.worker import DeliveryWorker, give_way
from sending.management.bench.parts import Clocks
from sending.management.bench.proc import peak_rss_mb
from sending.management.bench.sampling import Sampler
from sending.messages.models import QueueEntry


def work(batch_id: uuid.UUID, *, profile: bool) -> None:
    """Deliver until the queue holds nothing of the batch any more."""
    logging.disable(logging.INFO)
    give_way()
    clocks = Clocks()
    if not profile:
        clocks.install()
    worker = DeliveryWorker("broadcast")
    _say("ready")
    sys.stdin.readline()
    profiler = Sampler() if profile else None
    begun = time.process_time()
    if profiler:
        profiler.enable()
    counts = _until_empty(worker, batch_id)
    if profiler:
        profiler.disable()
    spent = time.process_time() - begun
    result: dict[str, Any] = {
        "pid": os.getpid(),
        "cpu_seconds": spent,
        "parts": clocks.result(spent) if not profile else {},
        "peak_rss_mb": peak_rss_mb(os.getpid()),
        "counts": counts,
        "profile": profiler.table() if profiler else "",
    }
    _say(json.dumps(result))
    sys.stdin.readline()
    worker.close()


def _until_empty(worker: DeliveryWorker, batch_id: uuid.UUID) -> dict[str, int]:
    counts: Counter[str] = Counter()
    while True:
        summary = worker.run_slice()
        counts.update(
            claimed=summary.claimed,
            delivered=summary.delivered,
            deferred=summary.deferred,
            bounced=summary.bounced,
            **{f"class {name}": count for name, count in summary.by_classification.items()},
        )
        if summary.is_idle:
            if not QueueEntry.objects.filter(batch_id=batch_id).exists():
                return dict(counts)
            time.sleep(0.1)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (the answer)
