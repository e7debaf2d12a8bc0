"""Policies survive the worker; results reach the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from deliverability.tls.models import TlsResult
from sending.dispatch.tls_policies import DatabaseStore, write_results
from sending.engine.secure.advisor import StoredPolicy
from sending.engine.secure.mta_sts import StsPolicy
from sending.engine.secure.results import TlsReport

pytestmark = pytest.mark.django_db


async def in_database(work: Callable[[], Any]) -> Any:
    return await sync_to_async(work)()


def test_a_policy_comes_back_as_it_was() -> None:
    stored = StoredPolicy("strict.test", "a1", StsPolicy("enforce", 86400, ("mx1.test",)), 4.0e9)

    async def round_trip() -> StoredPolicy | None:
        store = DatabaseStore(in_database)
        await store.save(stored)
        return await store.load("strict.test")

    found = async_to_sync(round_trip)()
    assert found is not None
    assert (found.domain, found.policy_id, found.expires_at) == ("strict.test", "a1", 4.0e9)
    assert (found.policy.mode, found.policy.mx) == ("enforce", ("mx1.test",))


def test_an_unknown_domain_has_none() -> None:
    assert async_to_sync(DatabaseStore(in_database).load)("plain.test") is None


def test_results_are_counted_by_day() -> None:
    report = TlsReport("strict.test", "sts", "success", "mx1.strict.test", "127.0.0.1")
    write_results(Counter({report: 2}))
    write_results(Counter({report: 3}))
    assert TlsResult.objects.get().sessions == 5
