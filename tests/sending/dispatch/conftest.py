"""A simulated internet, a verified domain of Acme's in it, and a delivery worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deliverability.domains import services as domains
from deliverability.domains.models import Domain
from deliverability.domains.records import expected_records
from deliverability.ips.selectors import forget_sources
from esp.simulator.client import DnsRecord, SimulatorClient
from esp.simulator.config import SimulatorConfig
from esp.simulator.server import SimulatorThread
from sending.dispatch.worker import DeliveryWorker
from tenants.scoping.context import scope
from tests import make
from tests.cast import Cast, make_cast


@dataclass
class World:
    """The cast, the simulator's client, and Acme's domain, verified by real DNS."""

    cast: Cast
    client: SimulatorClient
    domain: Domain


@pytest.fixture
def simulator(tmp_path: Path) -> Iterator[SimulatorThread]:
    """A simulated internet of this test's own."""
    config = SimulatorConfig(data_dir=tmp_path / "simulator").with_profile(
        break_after_dot=False, greylist_seconds=0.5
    )
    with SimulatorThread(config) as thread:
        yield thread


@pytest.fixture
def world(transactional_db: None, simulator: SimulatorThread, settings: Any) -> World:
    """Acme sends from acme.example, whose records are published in the simulated DNS."""
    addresses = simulator.addresses
    settings.DNS_RESOLVERS = [addresses["dns"]]
    settings.SMTP_PORT = addresses["smtp_port"]
    settings.SIMULATOR_URL = simulator.url
    cast = make_cast()
    forget_sources()
    make.ip_address(make.ip_pool(), "127.0.2.1", ehlo_name="out1.mailwright.test")
    client = SimulatorClient(simulator.url)
    with scope(cast.acme.pk):
        domain = domains.add_domain(actor=cast.alice_actor, name="acme.example")
        client.publish_records(
            [DnsRecord(r.host, r.type, r.value) for r in expected_records(domain)]
        )
        domains.check_domain(actor=cast.alice_actor, domain=domain)
    return World(cast, client, domain)


@pytest.fixture
def worker(world: World) -> Iterator[DeliveryWorker]:
    """A worker for broadcast mail."""
    worker = DeliveryWorker("broadcast")
    yield worker
    worker.close()
