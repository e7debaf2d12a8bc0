"""Each malformed request gets its own stable code and leaves no row behind."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any

import pytest
from django.test import Client

from sending.messages.models import IdempotencyKey, Message, MessageContent
from tests import make
from tests.sending.messages.requests import PATH, body

pytestmark = pytest.mark.usefixtures("acme_domain")

FILE = base64.b64encode(b"hello").decode()


def _file(**changes: Any) -> list[dict[str, Any]]:
    return [{"filename": "a.txt", "content_type": "text/plain", "content": FILE} | changes]


def _soon(**delta: float) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(**delta)).isoformat()


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("no recipients", {"to": []}, "to", "recipients-missing"),
    (
        "too many recipients",
        {"to": [{"email": f"a{n}@bigmail.test"} for n in range(1001)]},
        "to",
        "too-many-recipients",
    ),
    (
        "a bad address among good ones",
        {"to": [{"email": "a@bigmail.test"}, {"email": "a@@bigmail.test"}]},
        "to[1].email",
        "address-invalid",
    ),
    ("an empty address", {"to": [{"email": ""}]}, "to[0].email", "blank"),
    (
        "letters that need SMTPUTF8",
        {"to": [{"email": "jörg@bigmail.test"}]},
        "to[0].email",
        "address-smtputf8",
    ),
    (
        "a header in an address",
        {"to": [{"email": "a@bigmail.test\r\nBcc: b@bigmail.test"}]},
        "to[0].email",
        "address-invalid",
    ),
    (
        "a header in a recipient's name",
        {"to": [{"email": "a@bigmail.test", "name": "A\r\nBcc: b@bigmail.test"}]},
        "to[0].name",
        "control-character",
    ),
    (
        "a header in the sender's name",
        {"sender": {"email": "a@acme.example", "name": "A\nBcc: b@bigmail.test"}},
        "from.name",
        "control-character",
    ),
    ("a header in the subject", {"subject": "A\r\nBcc: b@x.test"}, "subject", "control-character"),
    ("a header in reply_to", {"reply_to": "a@b.test\nX: y"}, "reply_to", "address-invalid"),
    ("a header in a header", {"headers": {"X-A": "1\r\nBcc: b@x.test"}}, "headers.X-A", ""),
    ("a header's bad name", {"headers": {"X A:": "1"}}, "headers.X A:", "header-name"),
    ("a reserved header", {"headers": {"Bcc": "b@x.test"}}, "headers.Bcc", "header-reserved"),
    ("a MIME header", {"headers": {"Content-Type": "a/b"}}, "headers.Content-Type", ""),
    ("a header twice", {"headers": {"X-A": "1", "x-a": "2"}}, "headers.x-a", "header-twice"),
    ("a control character in a tag", {"tags": ["a\x01"]}, "tags[0]", "control-character"),
    ("too many tags", {"tags": [f"t{n}" for n in range(11)]}, "tags", "too-many-tags"),
    ("an unknown field", {"subjet": "typo"}, "subjet", "unknown"),
    (
        "an unknown field of a recipient",
        {"to": [{"email": "a@bigmail.test", "vars": {}}]},
        "to[0].vars",
        "unknown",
    ),
    ("no content", {"html": None}, "html", "content-missing"),
    ("html and mjml", {"mjml": "<mjml></mjml>"}, "mjml", "content-ambiguous"),
    ("html and a template", {"template_id": "tpl_x"}, "html", "content-missing"),
    (
        "a template that is none",
        {"html": None, "template_id": "tpl_x"},
        "template_id",
        "template-unknown",
    ),
    ("no subject", {"subject": " "}, "subject", "subject-missing"),
    ("a Liquid tag left open", {"html": "<p>{{ name </p>"}, "html", "content"),
    ("a Liquid tag that is not allowed", {"html": "{% include 'x' %}"}, "html", "content"),
    ("broken Liquid in the subject", {"subject": "{% if %}"}, "subject", "content"),
    ("broken Liquid in the text part", {"text": "{{ 'a' | nope }}"}, "text", "content"),
    ("nesting without end", {"html": "<div>" * 5000}, "html", "content"),
    ("NUL in the html", {"html": "a\x00b"}, "html", "null_characters_not_allowed"),
    (
        "NUL in a variable",
        {"to": [{"email": "a@bigmail.test", "variables": {"x": "a\x00b"}}]},
        "to[0].variables",
        "control-character",
    ),
    ("NUL in the metadata", {"metadata": {"a": "\x00"}}, "metadata", "control-character"),
    ("metadata that is too large", {"metadata": {"a": "x" * 5000}}, "metadata", "too-large"),
    ("variables that are no object", {"to": [{"email": "a@b.test", "variables": 1}]}, "", ""),
    ("a time in the past", {"send_at": _soon(hours=-1)}, "send_at", "in-the-past"),
    ("a time too far ahead", {"send_at": _soon(days=31)}, "send_at", "too-far-ahead"),
    ("a life too short", {"ttl_seconds": 29}, "ttl_seconds", "ttl-out-of-range"),
    ("a life too long", {"ttl_seconds": 604801}, "ttl_seconds", "ttl-out-of-range"),
    ("a life that is none", {"ttl_seconds": "soon"}, "ttl_seconds", "invalid"),
    ("a time that is none", {"send_at": "tomorrow"}, "send_at", "invalid"),
    ("a stream that is none", {"stream": "urgent"}, "stream", "invalid_choice"),
    (
        "an attachment that is not base64",
        {"attachments": _file(content="a?")},
        "attachments[0].content",
        "not-base64",
    ),
    (
        "a file name with a folder",
        {"attachments": _file(filename="../a")},
        "attachments[0].filename",
        "filename",
    ),
    (
        "a header in a file name",
        {"attachments": _file(filename="a\r\nX: y")},
        "attachments[0].filename",
        "control-character",
    ),
    (
        "a multipart attachment",
        {"attachments": _file(content_type="multipart/mixed")},
        "attachments[0].content_type",
        "content-type",
    ),
    (
        "attachments that are too large",
        {"attachments": _file(content=base64.b64encode(bytes(10_500_000)).decode())},
        "attachments[0]",
        "too-large",
    ),
]


@pytest.mark.parametrize(
    ("changes", "field", "code"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_it_is_refused(api: make.ApiClient, changes: dict[str, Any], field: str, code: str) -> None:
    answer = api.post(PATH, body(**changes), **{"Idempotency-Key": "k"})
    problem = answer.json()
    assert answer.status_code == 422, problem
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert problem["detail"]
    if field:
        assert problem["errors"][0]["field"] == field, problem
    if code:
        assert problem["errors"][0]["code"] == code, problem
    assert not MessageContent.unscoped.exists()
    assert not Message.unscoped.exists()
    assert not IdempotencyKey.unscoped.exists()


RAW: list[tuple[str, bytes, str, int, str]] = [
    ("malformed JSON", b'{"to": [', "application/json", 400, "malformed-json"),
    ("endless nesting", b"[" * 200_000, "application/json", 400, "malformed-json"),
    ("half a character pair", b'{"subject": "\\ud800"}', "application/json", 400, "malformed-json"),
    ("broken UTF-8", b'{"subject": "\xff"}', "application/json", 400, "malformed-json"),
    ("a list", b"[1]", "application/json", 422, "invalid"),
    ("nothing", b"", "application/json", 422, "invalid"),
    ("a form", b"to=a@b.test", "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
    ("plain text", b"hello", "text/plain", 415, "unsupported-media-type"),
    ("XML", b"<a/>", "application/xml", 415, "unsupported-media-type"),
    ("too large", b"x" * (26 * 1024 * 1024), "application/json", 413, "too-large"),
]


@pytest.mark.parametrize(
    ("data", "content_type", "status", "code"), [r[1:] for r in RAW], ids=[r[0] for r in RAW]
)
def test_a_raw_body_is_refused(
    api: make.ApiClient, data: bytes, content_type: str, status: int, code: str
) -> None:
    answer = Client().post(
        PATH, data, content_type=content_type, headers={"Authorization": f"Bearer {api.text}"}
    )
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not Message.unscoped.exists()


@pytest.mark.parametrize("key", ["", "k" * 256, "a b", "ä"])
def test_a_bad_idempotency_key_is_refused(api: make.ApiClient, key: str) -> None:
    answer = api.post(PATH, body(), **{"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-invalid")


@pytest.mark.parametrize(
    "query",
    [
        {"status": "lost"},
        {"limit": "0"},
        {"limit": "many"},
        {"cursor": "forged"},
        {"batch": "msg_x"},
        {"since": "yesterday"},
        {"since": "0001-01-01T00:00:00Z"},
        {"recipient": "nobody"},
        {"recipient": "a\x00@b.test"},
        {"tag": "\x00"},
        {"page": "2"},
    ],
    ids=str,
)
def test_a_bad_query_is_refused(api: make.ApiClient, query: dict[str, str]) -> None:
    assert api.get(PATH, query).status_code == 422


@pytest.mark.parametrize("verb", ["put", "patch", "delete"])
def test_other_methods_are_refused(api: make.ApiClient, verb: str) -> None:
    answer = getattr(api, verb)(PATH, {})
    assert (answer.status_code, answer.json()["code"]) == (405, "method-not-allowed")
