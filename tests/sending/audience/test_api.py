"""REST v1 of the audience."""

from __future__ import annotations

from typing import Any

import pytest

from sending.audience.models import Contact, Subscription
from tests import make
from tests.cast import Cast


def test_a_contact_lives(api: make.ApiClient) -> None:
    made = api.post("/api/v1/contacts", {"email": "A@b.test", "first_name": "Ann"})
    assert made.status_code == 201
    path = f"/api/v1/contacts/{made.json()['id']}"
    assert api.patch(path, {"last_name": "Lee"}).json()["last_name"] == "Lee"
    assert api.get(path).json()["first_name"] == "Ann"
    assert api.get("/api/v1/contacts", {"q": "ann"}).json()["data"][0]["email"] == "A@b.test"
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"email": "x"}, 422, "email"),
        ({}, 422, "email"),
        ({"email": "a@b.test", "frist_name": "x"}, 422, "frist_name"),
        ({"email": "a@b.test", "attributes": {"nope": 1}}, 422, "attributes.nope"),
        ({"email": "a@b.test", "first_name": "a\nb"}, 422, "first_name"),
        ({"email": "known@b.test"}, 409, "email"),
    ],
)
def test_bad_contacts_name_the_field(
    api: make.ApiClient, cast: Cast, body: Any, status: int, field: str
) -> None:
    make.contact(cast.acme, "known@b.test")
    answer = api.post("/api/v1/contacts", body)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["field"] == field
    assert Contact.unscoped.count() == 1


def test_cursors_walk_all_contacts(api: make.ApiClient, cast: Cast) -> None:
    made = {make.contact(cast.acme).public_id for _ in range(7)}
    seen, cursor = [], ""
    while cursor is not None:
        page = api.get("/api/v1/contacts", {"limit": 3, "cursor": cursor}).json()
        seen += [row["id"] for row in page["data"]]
        cursor = page["next_cursor"]
    assert len(seen) == 7
    assert set(seen) == made
    for query in ({"cursor": "zz"}, {"limit": "0"}, {"limit": "x"}, {"status": "x"}):
        assert api.get("/api/v1/contacts", query).status_code == 422


def test_lists_and_subscriptions(api: make.ApiClient, cast: Cast) -> None:
    made = api.post("/api/v1/lists", {"name": "News"}).json()
    path = f"/api/v1/lists/{made['id']}"
    assert api.post("/api/v1/lists", {"name": "news"}).status_code == 409
    answer = api.post(f"{path}/subscriptions", {"email": "a@b.test", "consent_text": "Yes."})
    assert (answer.status_code, answer.json()["status"]) == (201, "subscribed")
    assert api.post(f"{path}/subscriptions", {"email": "A@B.test"}).status_code == 201
    assert Contact.unscoped.count() == 1
    assert api.post(f"{path}/subscriptions", {}).status_code == 422
    contact_id = answer.json()["contact_id"]
    assert api.delete(f"{path}/subscriptions/{contact_id}").status_code == 204
    assert Subscription.unscoped.get().status == "unsubscribed"
    again = api.post(f"{path}/subscriptions", {"contact_id": contact_id})
    assert (again.status_code, again.json()["code"]) == (409, "has-unsubscribed")
    assert len(api.get(f"{path}/subscriptions").json()["data"]) == 1
    assert api.patch(path, {"archived": True}).json()["archived"] is True


def test_suppressions(api: make.ApiClient) -> None:
    body = {"email": "A@b.test"}
    first, second = (api.post("/api/v1/suppressions", body) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert api.get("/api/v1/suppressions", {"q": "a@"}).json()["data"][0]["reason"] == "manual"
    assert api.delete(f"/api/v1/suppressions/{first.json()['id']}").status_code == 204


def test_it_refuses_another_tenant_and_narrow_keys(globex_api: make.ApiClient, cast: Cast) -> None:
    contact, chosen = make.contact(cast.acme), make.contact_list(cast.acme)
    row = make.suppression(cast.acme, "a@b.test")
    paths = [f"contacts/{contact.public_id}", f"lists/{chosen.public_id}"]
    paths += [f"suppressions/{row.public_id}", f"lists/{chosen.public_id}/subscriptions"]
    for path in paths:
        assert globex_api.get(f"/api/v1/{path}").status_code == 404, path
    narrow = make.api(cast.acme, scopes=["audience:read"])
    assert narrow.get("/api/v1/contacts").status_code == 200
    assert narrow.post("/api/v1/contacts", {"email": "a@b.test"}).status_code == 403
    assert narrow.get("/api/v1/suppressions").status_code == 403
