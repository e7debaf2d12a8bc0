"""The compose file of a further delivery node asks for what it needs and runs delivery alone."""

from __future__ import annotations

import re
from typing import Any

import yaml

from esp.stack.checks import ROOT

COMPOSE = (ROOT / "deploy" / "node.compose.yml").read_text()
OPTIONAL = {"BROADCAST_PROCESSES", "DNS_RESOLVERS", "SECRET_KEY_FALLBACKS"}
USED = re.findall(r"\$\{(\w+)(:?[^}]*)\}", COMPOSE)
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]


def test_a_missing_value_stops_the_start_with_a_sentence() -> None:
    assert USED
    for name, rest in USED:
        assert rest.startswith(":?set ") or name in OPTIONAL, name


def test_the_example_names_every_value_and_fills_in_none() -> None:
    lines = (ROOT / "deploy" / "node.env.example").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert set(values) == {name for name, _ in USED}
    assert set(values.values()) == {""}


def test_a_node_runs_the_delivery_workers_alone_under_its_own_name_and_network() -> None:
    queues = {re.search(r"-Q (\S+)", service["command"])[1] for service in SERVICES.values()}  # type: ignore[index]
    assert queues == {"transactional", "broadcast"}
    for service in SERVICES.values():
        assert service["network_mode"] == "host"
        assert "DELIVERY_NODE" in service["environment"]
        assert "healthcheck" in service


def test_its_workers_run_what_the_main_machines_run() -> None:
    main = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, service in SERVICES.items():
        assert service["command"] == main[name]["command"]
        assert service["stop_grace_period"] == main[name]["stop_grace_period"]
