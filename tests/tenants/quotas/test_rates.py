"""The API's rate limit: a bucket a tenant, headers, and 429 with the time to wait."""

from __future__ import annotations

from typing import ClassVar

import pytest
from django.urls import path
from pytest_django import Settings
from rest_framework.request import Request
from rest_framework.response import Response

from esp.kit.drf import ApiView
from esp.kit.valkey import client
from esp.lib.errors import LimitReached
from tenants.quotas.services import check_rate
from tests import make
from tests.cast import Cast


class Echo(ApiView):
    """A view behind the project's real throttle and middleware."""

    scopes: ClassVar[dict[str, str]] = {"GET": "messages:read"}

    def get(self, request: Request) -> Response:
        return Response({"ok": True})


urlpatterns = [path("api/v1/echo", Echo.as_view())]

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture(autouse=True)
def three_requests(settings: Settings) -> None:
    settings.API_RATES = {"api": (1, 3), "send": (1, 5)}


def test_the_headers_say_what_is_left(api: make.ApiClient) -> None:
    answers = [api.get("/api/v1/echo") for _ in range(2)]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["2", "1"]
    assert answers[1]["RateLimit-Limit"] == "3"
    assert 1 <= int(answers[1]["RateLimit-Reset"]) <= 2


def test_too_many_requests_are_told_when_to_come_back(api: make.ApiClient) -> None:
    answers = [api.get("/api/v1/echo") for _ in range(5)]
    last = answers[-1]
    assert last.status_code == 429
    assert last["Content-Type"] == "application/problem+json"
    assert last.json()["code"] == "rate-limited"
    assert int(last["Retry-After"]) >= 1
    assert last["RateLimit-Remaining"] == "0"


def test_one_tenant_does_not_use_up_anothers(
    api: make.ApiClient, globex_api: make.ApiClient
) -> None:
    for _ in range(5):
        api.get("/api/v1/echo")
    assert globex_api.get("/api/v1/echo").status_code == 200


def test_kinds_have_buckets_of_their_own(cast: Cast) -> None:
    for _ in range(3):
        check_rate(cast.acme.pk, "api")
    assert check_rate(cast.acme.pk, "send", cost=2).remaining == 3
    with pytest.raises(LimitReached) as caught:
        check_rate(cast.acme.pk, "api")
    assert caught.value.retry_after > 0


def test_a_request_without_a_key_is_no_tenants(db: None) -> None:
    answer = make.ApiClient("mw_nonsense").get("/api/v1/echo")
    assert answer.status_code == 401
    assert "RateLimit-Limit" not in answer


def test_an_address_that_goes_on_without_a_valid_key_is_stopped(
    db: None, api: make.ApiClient
) -> None:
    client().delete("mw:bucket:badkey:127.0.0.1")
    wrong = make.ApiClient("mw_nonsense")
    answers = [wrong.get("/api/v1/echo") for _ in range(60)]
    assert [answer.status_code for answer in answers] == [401] * 60
    # One a second is allowed again meanwhile, which a busy machine may take for a few requests.
    more = (wrong.get("/api/v1/echo") for _ in range(300))
    last = next(answer for answer in more if answer.status_code != 401)
    assert (last.status_code, last.json()["code"]) == (429, "rate-limited")
    assert int(last["Retry-After"]) >= 1
    assert api.get("/api/v1/echo").status_code == 200  # a live key is never held up by others
    client().delete("mw:bucket:badkey:127.0.0.1")
