"""While the database is away or takes no writes, nothing is promised: 503 and when to come back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import Client

from sending.messages.models import Message
from tests import make
from tests.cast import Cast, make_cast
from tests.sending.messages.requests import PATH, body


@pytest.fixture
def cast(transactional_db: None) -> Cast:
    cast = make_cast()
    make.domain(cast.acme, "acme.example")
    return cast


@pytest.fixture
def read_only(cast: Cast) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    yield
    connection.close()


@pytest.fixture
def away(cast: Cast) -> Iterator[None]:
    connection.close()
    port = connection.settings_dict["PORT"]
    connection.settings_dict["PORT"] = "1"
    yield
    connection.close()
    connection.settings_dict["PORT"] = port


def test_a_read_only_database_accepts_no_message(api: make.ApiClient, read_only: None) -> None:
    answer = api.post(PATH, body())
    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "database-away"
    assert Message.unscoped.count() == 0


def test_a_database_that_is_away_accepts_no_message(api: make.ApiClient, away: None) -> None:
    answer = api.post(PATH, body())
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert answer.json()["code"] == "database-away"


def test_it_accepts_again_once_the_database_is_back(api: make.ApiClient) -> None:
    port = connection.settings_dict["PORT"]
    connection.close()
    connection.settings_dict["PORT"] = "1"
    assert api.post(PATH, body()).status_code == 503
    connection.settings_dict["PORT"] = port
    assert api.post(PATH, body()).status_code == 202


def test_a_page_says_so_in_a_sentence(alice: Client, away: None) -> None:
    answer = alice.get("/audience/contacts/")
    assert answer.status_code == 503
    assert "Back in a moment" in answer.content.decode()
    assert answer["Retry-After"] == "5"


def test_health_answers_without_a_database(away: None) -> None:
    assert Client().get("/healthz").status_code == 200
