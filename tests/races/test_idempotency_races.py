"""The same request twice at the same moment: one effect."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from sending.messages import idempotency
from sending.messages.models import Batch, IdempotencyKey, Message
from sending.messages.services import batch_for_api
from tenants.scoping.context import scope
from tests import make
from tests.cast import make_cast
from tests.sending.messages.requests import PATH, body

pytestmark = pytest.mark.django_db(transaction=True)


def _together(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Run `call` in `count` threads that start at once, each with a connection of its own."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        try:
            barrier.wait(timeout=10)
            return call(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_one_key_sent_by_eight_at_once_has_one_effect() -> None:
    cast = make_cast()
    make.domain(cast.acme, "acme.example")
    key = make.api(cast.acme)
    answers = _together(
        8, lambda _: make.ApiClient(key.text).post(PATH, body(), **{"Idempotency-Key": "order-7"})
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["messages"][0]["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 7
    assert Message.unscoped.count() == 1


def test_one_key_with_two_bodies_at_once_sends_one_of_them() -> None:
    cast = make_cast()
    make.domain(cast.acme, "acme.example")
    key = make.api(cast.acme)
    answers = _together(
        2,
        lambda number: make.ApiClient(key.text).post(
            PATH, body(subject=f"Order {number}"), **{"Idempotency-Key": "order-7"}
        ),
    )
    assert sorted(answer.status_code for answer in answers) == [202, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["code"] == "idempotency-mismatch"
    assert Message.unscoped.count() == 1


def test_a_request_that_waits_too_long_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 1)
    cast = make_cast()
    make.domain(cast.acme, "acme.example")
    key = make.api(cast.acme)
    with scope(cast.acme.pk):
        assert idempotency.claim_key("order-7", "x" * 64) is None

        def ask(_: int) -> Any:
            return make.ApiClient(key.text).post(PATH, body(), **{"Idempotency-Key": "order-7"})

        answer = _together(1, ask)[0]
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-in-progress")
    assert not Message.unscoped.exists()


def test_a_request_that_failed_leaves_its_key_free() -> None:
    cast = make_cast()
    make.domain(cast.acme, "acme.example")
    api = make.api(cast.acme)
    headers = {"Idempotency-Key": "order-7"}
    assert api.post(PATH, body(to=[]), **headers).status_code == 422
    assert not IdempotencyKey.unscoped.exists()
    assert api.post(PATH, body(), **headers).status_code == 202


def test_two_tenants_may_use_the_same_key() -> None:
    cast = make_cast()
    make.domain(cast.acme, "acme.example")
    make.domain(cast.globex, "globex.example")
    headers = {"Idempotency-Key": "order-7"}
    first = make.api(cast.acme).post(PATH, body(), **headers)
    second = make.api(cast.globex).post(PATH, body(sender={"email": "a@globex.example"}), **headers)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() != second.json()


def test_the_first_messages_of_a_stream_make_one_batch() -> None:
    cast = make_cast()

    def first(_: int) -> Any:
        with scope(cast.acme.pk):
            return batch_for_api(cast.acme.pk, "transactional").pk

    assert len(set(_together(6, first))) == 1
    assert Batch.unscoped.count() == 1
