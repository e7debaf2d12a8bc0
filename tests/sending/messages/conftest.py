"""Acme has a verified domain here."""

from __future__ import annotations

import pytest

from deliverability.domains.models import Domain
from tests import make
from tests.cast import Cast


@pytest.fixture
def acme_domain(cast: Cast) -> Domain:
    return make.domain(cast.acme, "acme.example")
