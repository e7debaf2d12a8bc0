"""A campaign's worker leaves a busy core to what people wait for."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from sending.dispatch.worker import give_way


def test_a_campaigns_worker_is_weaker_and_pushes_nobody_out() -> None:
    def standing() -> tuple[int, int]:
        return os.nice(0), os.sched_getscheduler(0)

    before = standing()
    with ThreadPoolExecutor(1) as apart:  # the kernel keeps both for each thread
        assert apart.submit(standing).result() == before
        apart.submit(give_way).result()
        niceness, policy = apart.submit(standing).result()
    assert niceness == min(before[0] + 12, 19)
    assert policy == os.SCHED_BATCH
    assert standing() == before
