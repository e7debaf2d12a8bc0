"""Why no address of a pool can send, with all that keeps them from it."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from deliverability.ips.models import DeliveryNode
from deliverability.ips.selectors import why_no_source
from tests import make
from tests.cast import Cast

pytestmark = pytest.mark.django_db


def test_a_dead_node_and_a_quarantined_address_are_both_named(cast: Cast) -> None:
    pool = make.ip_pool("Letters", purpose="broadcast")
    make.ip_address(pool, node="node-9")
    make.ip_address(pool, status="quarantined", status_reason="Listed, removal asked for.")
    seen = timezone.now() - dt.timedelta(minutes=5)
    DeliveryNode.objects.create(name="node-9", seen_at=seen)
    assert why_no_source(cast.acme.pk, "broadcast", None) == (
        "The node node-9, which has addresses of the pool Letters, has given no sign of life since "
        f"{seen:%Y-%m-%d %H:%M:%S} UTC. What else the pool Letters has is quarantined: Listed, "
        "removal asked for."
    )
