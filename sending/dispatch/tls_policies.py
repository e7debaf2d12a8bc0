"""TLS policies and results between the engine's advisor and the database."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

from django.utils import timezone

from deliverability.tls.selectors import policy_of
from deliverability.tls.services import SessionCount, add_results, save_policy
from sending.engine.secure.advisor import StoredPolicy
from sending.engine.secure.mta_sts import Mode, StsPolicy
from sending.engine.secure.results import TlsReport

InDatabase = Callable[[Callable[[], Any]], Awaitable[Any]]


class DatabaseStore:
    """Implements the advisor's `PolicyStore`: policies outlive the worker that fetched them.

    `in_database` runs a function in the thread that owns the database connection.
    """

    def __init__(self, in_database: InDatabase) -> None:
        self._in_database = in_database

    async def load(self, domain: str) -> StoredPolicy | None:
        """Return the stored policy of `domain`, perhaps one that has ended."""
        row = await self._in_database(lambda: policy_of(domain))
        if row is None:
            return None
        age = int((row.expires_at - row.fetched_at).total_seconds())
        policy = StsPolicy(cast(Mode, row.mode), age, tuple(row.mx_patterns))
        return StoredPolicy(row.domain, row.policy_id, policy, row.expires_at.timestamp())

    async def save(self, stored: StoredPolicy) -> None:
        """Keep `stored` for all workers."""
        expires_at = dt.datetime.fromtimestamp(stored.expires_at, dt.UTC)
        await self._in_database(
            lambda: save_policy(
                domain=stored.domain,
                policy_id=stored.policy_id,
                mode=stored.policy.mode,
                mx_patterns=list(stored.policy.mx),
                expires_at=expires_at,
                now=timezone.now(),
            )
        )


def write_results(counts: Counter[TlsReport]) -> None:
    """Add what sessions came to, to today's counts."""
    today = timezone.now().date()
    add_results(
        SessionCount(
            day=today,
            domain=report.domain,
            policy_type=report.policy_type,
            result_type=report.result,
            mx_host=report.mx_host,
            source_address=report.source_address,
            sessions=sessions,
        )
        for report, sessions in counts.items()
    )
