"""What every test may ask for: the cast, signed-in browsers, API clients, a scope.

The database connection of the tests is the owner's; each request through a test client puts on
the web's role, so that row-level security is in force behind every door.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from django.test import Client

from tenants.directory.actor import Actor
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast, make_cast


@pytest.fixture
def cast(db: None) -> Cast:
    """Alice and Bob at Acme, Charlie at Globex."""
    return make_cast()


@pytest.fixture
def alice(cast: Cast) -> Client:
    """A browser in which Acme's owner is signed in."""
    return make.client(cast.alice)


@pytest.fixture
def bob(cast: Cast) -> Client:
    """A browser in which Acme's analyst is signed in: may read, may not change."""
    return make.client(cast.bob)


@pytest.fixture
def charlie(cast: Cast) -> Client:
    """A browser in which the owner of another tenant is signed in."""
    return make.client(cast.charlie)


@pytest.fixture
def visitor(db: None) -> Client:
    """A browser in which nobody is signed in."""
    return Client()


@pytest.fixture
def operator(db: None) -> Client:
    """A browser in which an operator is signed in, who belongs to no tenant."""
    return make.client(make.user("olga@mailwright.test", name="Operator", is_operator=True))


@pytest.fixture
def actor(cast: Cast) -> Actor:
    """Alice, for calling services."""
    return cast.alice_actor


@pytest.fixture
def acme_scope(cast: Cast) -> Iterator[uuid.UUID]:
    """Acme's scope, open for the whole test."""
    with scope(cast.acme.pk):
        yield cast.acme.pk


@pytest.fixture
def api(cast: Cast) -> make.ApiClient:
    """The API with a key of Acme's that may do everything."""
    return make.api(cast.acme)


@pytest.fixture
def globex_api(cast: Cast) -> make.ApiClient:
    """The API with a key of Globex' that may do everything."""
    return make.api(cast.globex)
