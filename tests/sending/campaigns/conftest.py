"""Acme can send here: a verified domain, a sender, a list with readers, a draft that is ready."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from deliverability.domains.models import Sender
from sending.audience.models import ContactList
from sending.campaigns.models import Campaign
from sending.campaigns.review import content_source
from sending.content.services import compile_version, request_compiled
from tenants.directory.models import Tenant
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast

BODY = '<p>Hello {{ first_name | default: "you" }}, see <a href="https://acme.example/">us</a></p>'


@dataclass(frozen=True)
class World:
    """What a campaign of Acme's needs."""

    tenant: Tenant
    sender: Sender
    news: ContactList

    def draft(self, name: str = "News", **fields: object) -> Campaign:
        """Return a draft with everything in place."""
        values: dict[str, object] = {
            "sender": self.sender,
            "subject": "News for {{ first_name | default: 'you' }}",
            "body": BODY,
            "lists": [self.news],
            **fields,
        }
        return make.campaign(self.tenant, name, **values)

    def compile(self, campaign: Campaign) -> None:
        """Do what the content worker does."""
        with scope(self.tenant.pk):
            version = request_compiled(source=content_source(campaign), footer=True)
        compile_version(tenant_id=self.tenant.pk, version_id=version.pk)

    def ready(self, name: str = "News", **fields: object) -> Campaign:
        """Return a draft that may be sent at once."""
        campaign = self.draft(name, **fields)
        self.compile(campaign)
        return campaign

    def readers(self, count: int, **fields: object) -> None:
        """Put `count` further contacts on the list."""
        for _ in range(count):
            make.subscription(make.contact(self.tenant, **fields), self.news)


def make_world(cast: Cast) -> World:
    domain = make.domain(cast.acme, "acme.example")
    sender = make.sender(domain, "news@acme.example", name="Acme News")
    world = World(cast.acme, sender, make.contact_list(cast.acme, "Newsletter"))
    world.readers(3, first_name="Ada")
    return world


@pytest.fixture
def world(cast: Cast) -> World:
    return make_world(cast)
