"""Mail whose MX points back at us, or into our network, leaves by no worker."""

from __future__ import annotations

from typing import Any

from esp.simulator.client import DnsRecord
from sending.dispatch.worker import DeliveryWorker
from sending.events.models import Attempt
from sending.messages.models import Message
from tests import make
from tests.sending.dispatch.conftest import World
from tests.sending.dispatch.test_delivery import queue, run_until_empty


def test_an_mx_of_ours_or_in_our_network_is_refused_outside_the_simulation(
    world: World, worker: DeliveryWorker, settings: Any
) -> None:
    settings.ALLOW_PRIVATE_MX = False
    make.ip_address(make.ip_pool("Other"), "192.0.2.77", node="another-host", status="off")
    world.client.publish_records(
        [
            DnsRecord("loop.example", "MX", "10 mx.loop.example."),
            DnsRecord("mx.loop.example", "A", "127.0.2.1"),  # the address that we send from
            DnsRecord("far.example", "MX", "10 mx.far.example."),
            DnsRecord("mx.far.example", "A", "192.0.2.77"),
            DnsRecord("inside.example", "MX", "10 mx.inside.example."),
            DnsRecord("mx.inside.example", "A", "127.0.0.9"),
        ]
    )
    domains = ("loop.example", "far.example", "inside.example")
    batch = queue(world, [f"bob@{domain}" for domain in domains])
    run_until_empty(worker, batch)
    found = {}
    for message in Message.unscoped.filter(batch=batch):
        attempt = Attempt.unscoped.get(message_id=message.pk)
        assert message.status == "bounced"
        found[message.recipient] = (attempt.bounce_class, attempt.reply)
    for domain in ("loop.example", "far.example"):
        # A mistake of the domain's owner or ours: the address stays on no list.
        bounce_class, reply = found[f"bob@{domain}"]
        assert bounce_class == "soft/network-error"
        assert "would loop" in reply
    assert "not a public address" in found["bob@inside.example"][1]
