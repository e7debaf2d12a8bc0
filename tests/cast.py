"""The cast of every test: Alice owns Acme, Bob may only read there, Charlie owns Globex."""

from __future__ import annotations

from dataclasses import dataclass

from tenants.accounts.models import User
from tenants.directory.actor import Actor
from tenants.directory.models import Tenant
from tenants.directory.permissions import Role
from tests import make


@dataclass(frozen=True)
class Cast:
    """Two tenants and three people. Charlie must never see anything of Acme's."""

    acme: Tenant
    globex: Tenant
    alice: User
    bob: User
    charlie: User

    @property
    def alice_actor(self) -> Actor:
        return make.actor(self.alice, self.acme, Role.OWNER)

    @property
    def bob_actor(self) -> Actor:
        return make.actor(self.bob, self.acme, Role.ANALYST)

    @property
    def charlie_actor(self) -> Actor:
        return make.actor(self.charlie, self.globex, Role.OWNER)


def make_cast() -> Cast:
    """Make the tenants, the people and their memberships (everyone's password: make.PASSWORD)."""
    acme = make.tenant("Acme", slug="acme")
    globex = make.tenant("Globex", slug="globex")
    alice = make.user("alice@acme.example", name="Alice Archer")
    bob = make.user("bob@acme.example", name="Bob Baker")
    charlie = make.user("charlie@globex.example", name="Charlie Cook")
    make.membership(alice, acme, Role.OWNER)
    make.membership(bob, acme, Role.ANALYST)
    make.membership(charlie, globex, Role.OWNER)
    return Cast(acme=acme, globex=globex, alice=alice, bob=bob, charlie=charlie)
