"""Two people change members at the same moment: an owner always remains."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection

from esp.lib.errors import DomainError
from tenants.directory.models import Membership
from tenants.directory.permissions import Role
from tenants.directory.services import change_role
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast


@pytest.mark.django_db(transaction=True)
def test_two_owners_cannot_demote_each_other_at_once(cast: Cast) -> None:
    dora = make.user("dora@acme.example")
    second = make.membership(dora, cast.acme, Role.OWNER)
    first = Membership.unscoped.get(user=cast.alice)
    start = threading.Barrier(2)
    outcomes: list[str] = []

    def demote(actor_user: object, target: Membership) -> Callable[[], None]:
        def work() -> None:
            try:
                start.wait(timeout=10)
                with scope(cast.acme.pk):
                    actor = make.actor(actor_user, cast.acme)  # type: ignore[arg-type]
                    change_role(actor=actor, membership=target, role=Role.ANALYST)
                outcomes.append("done")
            except DomainError as error:
                outcomes.append(error.code)
            finally:
                connection.close()

        return work

    threads = [
        threading.Thread(target=demote(cast.alice, second)),
        threading.Thread(target=demote(dora, first)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(outcomes) in (["done", "permission-missing"], ["done", "last-owner"])
    assert Membership.unscoped.filter(tenant=cast.acme, role=Role.OWNER).count() == 1
