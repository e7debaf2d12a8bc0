"""A name server on loopback whose records a test writes, as the configured resolver."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from deliverability.domains.models import Domain
from deliverability.domains.records import expected_records
from tests.engine_sink.dns_sink import DnsSink


@pytest.fixture
def name_server(settings: Settings) -> Iterator[DnsSink]:
    """An empty name server; the product asks it."""
    sink = DnsSink()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(sink.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    settings.DNS_RESOLVERS = [f"127.0.0.1:{sink.port}"]
    yield sink
    asyncio.run_coroutine_threadsafe(sink.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def publish(sink: DnsSink, domain: Domain) -> None:
    """Publish what the product asks for; long texts in strings of 200 characters."""
    for record in expected_records(domain):
        text = f"{record.value}."
        if record.type == "TXT":
            parts = [record.value[at : at + 200] for at in range(0, len(record.value), 200)]
            text = " ".join(f'"{part}"' for part in parts)
        sink.records[f"{record.host} {record.type}"] = [text]
