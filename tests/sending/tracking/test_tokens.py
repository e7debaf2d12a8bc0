"""An address that is not ours says nothing and does nothing."""

from __future__ import annotations

import pytest
from django.test import Client

from esp.kit.keys import signing_key
from esp.lib.ids import new_id
from esp.lib.tokens import TrackKind, TrackToken
from sending.messages.models import MessageContent
from tests.cast import Cast
from tests.sending.tracking.conftest import LETTERS, Mail

PAGES = [kind for kind in TrackKind if kind != TrackKind.OPEN]


def bad_tokens(sent: Mail, kind: TrackKind, cast: Cast) -> list[str]:
    """Return tokens that must not work as `kind`."""
    good = sent.token(kind)
    message = sent.message
    other = next(one for one in TrackKind if one != kind)
    flipped = good[:-4] + ("A" if good[-4] != "A" else "B") + good[-3:]
    key = signing_key("tracking")
    return [
        flipped,
        good[:-1],
        good[:20],
        good + "A",
        "x",
        "ä" * 68,
        "A" * 68,
        sent.token(other),
        TrackToken(message.tenant_id, message.pk, kind).pack(b"another key of 32 bytes, forged!"),
        TrackToken(cast.globex.pk, message.pk, kind).pack(key),  # another tenant's scope
        TrackToken(message.tenant_id, new_id(), kind).pack(key),  # a message that is gone
    ]


@pytest.mark.parametrize("kind", PAGES)
def test_a_bad_token_is_not_found(reader: Client, sent: Mail, cast: Cast, kind: TrackKind) -> None:
    for token in bad_tokens(sent, kind, cast):
        path = f"/t/{LETTERS[kind]}/{token}"
        assert reader.get(path).status_code == 404, path
        assert reader.post(path, {"List-Unsubscribe": "One-Click"}).status_code in {
            403,
            404,
            405,
        }, path
    assert sent.events() == []
    assert sent.suppressions() == []
    assert set(sent.subscriptions().values()) == {"subscribed"}


def test_a_bad_token_still_gets_its_pixel(reader: Client, sent: Mail, cast: Cast) -> None:
    for token in bad_tokens(sent, TrackKind.OPEN, cast):
        answer = reader.get(f"/t/o/{token}")
        assert (answer.status_code, answer["Content-Type"]) == (200, "image/gif"), token
    assert sent.events() == []


def test_content_that_is_gone_is_not_found(reader: Client, sent: Mail) -> None:
    MessageContent.unscoped.filter(pk=sent.message.content_id).delete()
    assert reader.get(sent.path(TrackKind.CLICK)).status_code == 404
    assert reader.get(sent.path(TrackKind.VIEW)).status_code == 404


def test_content_of_another_format_is_not_found(reader: Client, sent: Mail) -> None:
    MessageContent.unscoped.filter(pk=sent.message.content_id).update(compiled={"format": 99})
    assert reader.get(sent.path(TrackKind.CLICK)).status_code == 404
    assert reader.get(sent.path(TrackKind.VIEW)).status_code == 404
