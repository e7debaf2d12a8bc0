"""The builders make rows that the database takes, each for the tenant that it was given."""

from __future__ import annotations

from tests import make
from tests.cast import Cast


def test_every_builder_makes_a_row_of_its_tenant(cast: Cast) -> None:
    domain = make.domain(cast.acme)
    person = make.contact(cast.acme)
    people = make.contact_list(cast.acme)
    batch = make.batch(cast.acme)
    content = make.message_content(domain)
    made = [
        domain,
        make.dkim_key(domain),
        make.sender(domain),
        person,
        people,
        make.subscription(person, people),
        make.suppression(cast.acme, "gone@bigmail.test"),
        make.template(cast.acme),
        make.campaign(cast.acme, lists=[people]),
        batch,
        content,
        make.message(batch, content),
        make.pool_rule(cast.acme, make.ip_pool()),
        make.api_key(cast.acme)[0],
    ]
    assert {row.tenant_id for row in made} == {cast.acme.pk}
    assert make.ip_address(make.ip_pool()).status == "active"
