"""Signing in and out: one sentence for every failure, a limit, a fresh session."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.core import mail
from django.test import Client

from tests import make
from tests.cast import Cast

WRONG = "The email address or the password is not right."


def fresh_email() -> str:
    """An address of its own: the limits of sign-in are counted by address."""
    return f"p{uuid.uuid4().hex}@example.com"


def post(client: Client, email: str, password: str = make.PASSWORD, **more: str):
    return client.post("/sign-in", {"email": email, "password": password, **more})


def test_it_signs_in_whatever_the_case_of_the_address(visitor: Client) -> None:
    email = fresh_email()
    person = make.user(email)
    answer = post(visitor, email.upper(), next="/profile/")
    assert (answer.status_code, answer["Location"]) == (302, "/profile/")
    assert visitor.session["_auth_user_id"] == str(person.pk)


@pytest.mark.parametrize("kind", ["wrong password", "nobody", "closed"])
def test_every_failure_reads_the_same(visitor: Client, kind: str) -> None:
    email = fresh_email()
    if kind != "nobody":
        make.user(email, is_active=kind != "closed")
    answer = post(visitor, email, "not it at all" if kind == "wrong password" else make.PASSWORD)
    assert answer.status_code == 422
    assert WRONG in answer.content.decode()
    assert email in answer.content.decode()
    assert "_auth_user_id" not in visitor.session


def test_many_tries_are_stopped_with_a_sentence(visitor: Client) -> None:
    email = fresh_email()
    make.user(email)
    visitor.defaults["REMOTE_ADDR"] = f"127.9.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}"
    codes = [post(visitor, email, "wrong").status_code for _ in range(10)]
    assert codes == [422] * 10
    answer = post(visitor, email)
    assert answer.status_code == 429
    assert "Too many sign-in attempts. Try again in" in answer.content.decode()


@pytest.mark.parametrize("bad", ["", "no-address", "a@b\x00.example", "x" * 300 + "@a.example"])
def test_a_bad_address_is_said_on_the_field(visitor: Client, bad: str) -> None:
    answer = post(visitor, bad)
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.content.decode()


def test_it_does_not_lead_to_another_site(visitor: Client) -> None:
    email = fresh_email()
    make.user(email)
    answer = visitor.post(
        "/sign-in", {"email": email, "password": make.PASSWORD, "next": "https://evil.example/"}
    )
    assert answer.status_code == 302
    assert "evil" not in answer["Location"]


def test_signing_in_changes_the_session_key(visitor: Client) -> None:
    email = fresh_email()
    make.user(email)
    session = visitor.session
    session["before"] = "1"
    session.save()
    fixed = session.session_key
    visitor.cookies["sessionid"] = fixed
    post(visitor, email)
    assert visitor.cookies["sessionid"].value != fixed


def test_signing_out_needs_a_post(alice: Client) -> None:
    assert alice.get("/sign-out").status_code == 405
    assert alice.post("/sign-out").status_code == 302
    assert alice.get("/profile/")["Location"].startswith("/sign-in")


def test_a_form_without_the_csrf_token_is_refused(db: None) -> None:
    strict = Client(enforce_csrf_checks=True)
    assert post(strict, fresh_email()).status_code == 403


def test_the_reset_mail_leads_to_a_new_password(visitor: Client) -> None:
    email = fresh_email()
    make.user(email)
    assert visitor.post("/password-reset", {"email": email}).status_code == 302
    (sent,) = mail.outbox
    assert sent.to == [email]
    link = next(word for word in sent.body.split() if "/password-reset/" in word)
    form = visitor.get("/" + link.split("/", 3)[3], follow=True)
    form_path = form.redirect_chain[-1][0]
    new = "a rather new otter"
    weak = visitor.post(form_path, {"new_password1": "short", "new_password2": "short"})
    assert "too short" in weak.content.decode()
    done = visitor.post(form_path, {"new_password1": new, "new_password2": new})
    assert done["Location"] == "/password-reset/complete"
    assert post(Client(), email, new).status_code == 302
    again = visitor.get("/" + link.split("/", 3)[3], follow=True)
    assert "no longer works" in again.content.decode()


def test_the_reset_does_not_tell_who_has_an_account(visitor: Client) -> None:
    known, unknown = fresh_email(), fresh_email()
    make.user(known)
    answers = [visitor.post("/password-reset", {"email": email}) for email in (known, unknown)]
    assert answers[0].status_code == answers[1].status_code == 302
    assert answers[0]["Location"] == answers[1]["Location"]
    assert [message.to for message in mail.outbox] == [[known]]


def test_an_expired_reset_link_is_told_so(visitor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    email = fresh_email()
    make.user(email)
    earlier = dt.datetime.now() - dt.timedelta(hours=2)  # noqa: DTZ005 (as Django's own clock)
    with monkeypatch.context() as patch:
        patch.setattr(PasswordResetTokenGenerator, "_now", lambda _: earlier)
        visitor.post("/password-reset", {"email": email})
    (sent,) = mail.outbox
    link = next(word for word in sent.body.split() if "/password-reset/" in word)
    answer = visitor.get("/" + link.split("/", 3)[3], follow=True)
    assert answer.status_code == 200
    assert "no longer works" in answer.content.decode()


@pytest.mark.parametrize("path", ["/password-reset/x/y", "/password-reset/MQ/set-password"])
def test_a_forged_reset_link_is_told_so(visitor: Client, path: str) -> None:
    answer = visitor.get(path, follow=True)
    assert answer.status_code == 200
    assert "no longer works" in answer.content.decode()


def test_the_profile_changes_the_name(alice: Client, cast: Cast) -> None:
    assert alice.post("/profile/", {"name": "  Alice   A. "}).status_code == 302
    cast.alice.refresh_from_db()
    assert cast.alice.name == "Alice A."
    assert alice.post("/profile/", {"name": ""}).status_code == 422


def test_changing_the_password_ends_other_sessions_only(alice: Client, cast: Cast) -> None:
    other = make.client(cast.alice)
    new = "a rather new otter"
    fields = {"old_password": "wrong", "new_password1": new, "new_password2": new}
    assert alice.post("/profile/password", fields).status_code == 422
    fields["old_password"] = make.PASSWORD
    assert alice.post("/profile/password", fields).status_code == 302
    assert alice.get("/profile/").status_code == 200
    assert other.get("/profile/").status_code == 302
