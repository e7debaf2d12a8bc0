"""Play the DNS provider in the simulated internet: publish a domain's records there."""

from __future__ import annotations

from django.conf import settings

from deliverability.domains.models import Domain
from deliverability.domains.records import expected_records
from esp.lib.errors import DomainError, NotFound
from esp.simulator.client import DnsRecord, SimulatorClient, SimulatorUnreachable
from tenants.audit.services import record
from tenants.directory.actor import Actor


class SimulatorAway(DomainError):
    """The simulated internet does not answer."""

    code = "simulator-away"


def simulator() -> SimulatorClient:
    """Return the simulator of demo mode; raises NotFound outside of it."""
    if not settings.DEMO or not settings.SIMULATOR_URL:
        raise NotFound("There is no simulated internet here.")
    return SimulatorClient(settings.SIMULATOR_URL)


def publish_records(*, actor: Actor, domain: Domain) -> int:
    """Publish the records of `domain` in the simulated DNS; return how many."""
    actor.require("domains:write")
    records = [
        DnsRecord(name=expected.host, type=expected.type, value=expected.value)
        for expected in expected_records(domain)
    ]
    try:
        count = simulator().publish_records(records)
    except SimulatorUnreachable as error:
        raise SimulatorAway("The simulated internet does not answer. Is it running?") from error
    record(actor, "rehearsal.publish", target=domain.name, detail={"records": count})
    return count
