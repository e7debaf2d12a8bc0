"""Loading contents: what single messages of one domain share is not made anew for each."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from deliverability.domains.models import Domain
from sending.content.types import ContentSource
from sending.dispatch import contents
from sending.dispatch.contents import ContentCache, ContentUnusable
from sending.engine.dkim.signing import Signer
from sending.messages.selectors import pending_compile
from tests import make
from tests.cast import Cast

pytestmark = pytest.mark.django_db


def single_messages(cast: Cast, count: int) -> list[uuid.UUID]:
    """Return contents of one domain, none of them compiled yet."""
    domain = make.domain(cast.acme)
    make.dkim_key(domain)
    source = ContentSource(kind="html", body="<p>Thank you.</p>", subject="Your order")
    state = pending_compile(source, footer=False)
    return [make.message_content(domain, compiled=state).pk for _ in range(count)]


def test_it_parses_a_key_once_for_all_contents_of_its_domain(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = []

    class Counting(Signer):
        def __init__(self, *arguments: Any) -> None:
            parsed.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(contents, "Signer", Counting)
    cache = ContentCache()
    for pk in single_messages(cast, 5):
        cache.load(pk)
    assert len(parsed) == 1


def test_a_further_message_of_a_domain_costs_few_queries(
    cast: Cast, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    first, second = single_messages(cast, 2)
    cache = ContentCache()
    cache.load(first)
    with django_assert_max_num_queries(3):  # the content, and before and after compiling it
        cache.load(second)


def test_a_domain_that_lost_its_verification_stops_within_a_minute(cast: Cast) -> None:
    now = 1000.0
    first, second, third = single_messages(cast, 3)
    cache = ContentCache(clock=lambda: now)
    cache.load(first)
    Domain.unscoped.update(status=Domain.Status.PENDING)
    now += 50.0
    kept = cache.load(second)
    now += 11.0
    assert cache.get(second) is None, "kept no longer than what it was made from"
    assert kept.return_path_domain
    with pytest.raises(ContentUnusable, match="not verified"):
        cache.load(third)
