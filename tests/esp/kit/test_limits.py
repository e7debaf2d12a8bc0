"""Sizes, rates and keys: what is too large is refused, what is counted agrees, what turns stays."""

from __future__ import annotations

import uuid

import pytest
from cryptography.fernet import InvalidToken
from django.db import connection
from django.test import Client
from pytest_django import Settings

from deliverability.domains.models import DkimKey
from esp.kit.fields import cipher
from esp.kit.keys import accepted_keys, signing_key
from esp.kit.valkey import take
from tests import make
from tests.cast import Cast


def test_a_bucket_gives_its_burst_and_then_the_wait() -> None:
    key = f"test:{uuid.uuid4()}"
    answers = [take(key, rate=0.5, burst=3) for _ in range(4)]
    assert [answer.allowed for answer in answers] == [True, True, True, False]
    assert [answer.remaining for answer in answers[:3]] == [2, 1, 0]
    assert 1.0 < answers[-1].retry_after <= 2.0


def test_a_bucket_fills_up_again() -> None:
    key = f"test:{uuid.uuid4()}"
    assert take(key, rate=1000, burst=1).allowed
    while not take(key, rate=1000, burst=1).allowed:
        pass  # a millisecond at most
    assert not take(key, rate=0.001, burst=1, cost=2).allowed


def test_an_api_request_that_is_too_large_is_a_problem(
    api: make.ApiClient, settings: Settings
) -> None:
    settings.API_MAX_BYTES = 1024
    answer = api.post("/api/v1/messages", {"text": "x" * 2000})
    assert answer.status_code == 413
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "too-large"


def test_a_page_that_gets_too_much_says_so(alice: Client, settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1024
    answer = alice.post("/deliverability/domains/add/", {"name": "x" * 4000})
    assert answer.status_code == 413
    assert "larger than" in answer.text


@pytest.mark.parametrize("length", ["abc", "1e9", "9" * 30])
def test_a_length_that_is_none_is_refused(alice: Client, length: str) -> None:
    answer = alice.get("/campaigns/", headers={"Content-Length": length})
    assert answer.status_code in {400, 413}


@pytest.mark.django_db
def test_a_stored_secret_survives_the_turning_of_the_key(cast: Cast, settings: Settings) -> None:
    key = make.dkim_key(make.domain(cast.acme))
    with connection.cursor() as cursor:
        cursor.execute("SELECT private_key FROM deliverability_dkimkey WHERE id = %s", [key.pk])
        stored = cursor.fetchone()[0]
    assert "PRIVATE KEY" not in stored
    old = settings.SECRET_KEY
    settings.SECRET_KEY = "another key of more than fifty characters, made for this test only"
    with pytest.raises(RuntimeError, match="SECRET_KEY_FALLBACKS"):
        DkimKey.unscoped.get(pk=key.pk)
    settings.SECRET_KEY_FALLBACKS = [old]
    again = DkimKey.unscoped.get(pk=key.pk)
    assert again.private_key == key.private_key
    again.save()  # written anew, it needs the old key no more
    settings.SECRET_KEY_FALLBACKS = []
    assert DkimKey.unscoped.get(pk=key.pk).private_key == key.private_key
    with pytest.raises(InvalidToken):
        cipher().decrypt(stored.encode())


def test_old_signatures_are_accepted_while_the_old_key_is_kept(settings: Settings) -> None:
    before = signing_key("tracking")
    old = settings.SECRET_KEY
    settings.SECRET_KEY = "another key of more than fifty characters, made for this test only"
    assert before not in accepted_keys("tracking")
    settings.SECRET_KEY_FALLBACKS = [old]
    assert accepted_keys("tracking") == [signing_key("tracking"), before]
    assert signing_key("tracking") != signing_key("verp")
