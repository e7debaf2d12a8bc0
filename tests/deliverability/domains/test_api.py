"""The domains API at its doors; what DNS says is tested with the services."""

from __future__ import annotations

import pytest

from deliverability.domains.models import Domain
from esp.lib.ids import to_public
from tests import make
from tests.cast import Cast

PATH = "/api/v1/domains"


@pytest.fixture
def path(cast: Cast) -> str:
    """The address of a domain of Acme's that is not verified."""
    domain = make.domain(cast.acme, "acme.example", verified=False)
    make.dkim_key(domain)
    return f"{PATH}/{to_public('dom', domain.pk)}"


def test_a_domain_is_added_with_its_records(api: make.ApiClient) -> None:
    answer = api.post(PATH, {"name": "News.Acme.example"})
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert (body["name"], body["status"]) == ("news.acme.example", "pending")
    assert {record["kind"] for record in body["records"]} >= {"dkim-rsa", "return-path"}
    assert all(record["is_ok"] is None for record in body["records"])
    assert api.get(f"{PATH}/{body['id']}").json() == body
    assert [one["id"] for one in api.get(PATH).json()["data"]] == [body["id"]]


@pytest.mark.parametrize(
    "data", [{}, {"name": ""}, {"name": "co.uk"}, {"name": "a\x00b"}, {"name": "x.y", "z": 1}, []]
)
def test_it_rejects_bad_input(api: make.ApiClient, data: object) -> None:
    assert api.post(PATH, data).status_code == 422
    assert not Domain.unscoped.exists()


def test_adding_twice_is_a_conflict(api: make.ApiClient) -> None:
    assert api.post(PATH, {"name": "acme.example"}).status_code == 201
    answer = api.post(PATH, {"name": "acme.example"})
    assert (answer.status_code, answer.json()["code"]) == (409, "domain-exists")


def test_it_refuses_another_tenant(globex_api: make.ApiClient, path: str) -> None:
    assert globex_api.get(path).status_code == 404
    assert globex_api.post(f"{path}/check").status_code == 404
    assert globex_api.get(PATH).json() == {"data": []}


def test_it_refuses_lack_of_permission(cast: Cast, path: str) -> None:
    reader = make.api(cast.acme, scopes=["domains:read"])
    assert reader.post(PATH, {"name": "b.example"}).status_code == 403
    assert reader.post(f"{path}/check").status_code == 403
    sender = make.api(cast.acme, scopes=["messages:send"])
    assert sender.get(PATH).status_code == 403
    assert sender.get(path).status_code == 403
