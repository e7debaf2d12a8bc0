"""A repeated request gets the first answer, for 24 hours."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from sending.messages.idempotency import purge_old_keys
from sending.messages.models import IdempotencyKey, Message
from tests import make
from tests.sending.messages.requests import PATH, body

pytestmark = pytest.mark.usefixtures("acme_domain")
KEY = {"Idempotency-Key": "order-7"}


def test_a_repeated_request_gets_the_same_answer(api: make.ApiClient) -> None:
    first = api.post(PATH, body(), **KEY)
    second = api.post(PATH, dict(reversed(list(body().items()))), **KEY)
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == first.json()
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert Message.unscoped.count() == 1


def test_another_body_under_the_same_key_is_refused(api: make.ApiClient) -> None:
    api.post(PATH, body(), **KEY)
    answer = api.post(PATH, body(subject="Another"), **KEY)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency-mismatch")
    assert Message.unscoped.count() == 1


def test_without_a_key_each_request_counts(api: make.ApiClient) -> None:
    api.post(PATH, body())
    api.post(PATH, body())
    assert Message.unscoped.count() == 2


def test_a_key_is_free_again_after_24_hours(api: make.ApiClient) -> None:
    api.post(PATH, body(), **KEY)
    IdempotencyKey.unscoped.update(created_at=timezone.now() - dt.timedelta(hours=24))
    answer = api.post(PATH, body(subject="Another"), **KEY)
    assert answer.status_code == 202
    assert Message.unscoped.count() == 2


def test_old_keys_are_removed_and_young_ones_stay(api: make.ApiClient) -> None:
    api.post(PATH, body(), **KEY)
    api.post(PATH, body(), **{"Idempotency-Key": "order-8"})
    old = IdempotencyKey.unscoped.filter(key="order-7")
    old.update(created_at=timezone.now() - dt.timedelta(hours=25))
    assert purge_old_keys() == 1
    assert IdempotencyKey.unscoped.get().key == "order-8"
