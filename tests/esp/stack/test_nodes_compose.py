"""The compose files with which further delivery nodes join."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
NODE = (ROOT / "deploy" / "node.compose.yml").read_text()
MAIN = (ROOT / "deploy" / "main.compose.yml").read_text()
OPTIONAL = {"BROADCAST_PROCESSES", "DNS_RESOLVERS", "SECRET_KEY_FALLBACKS"}


def services(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(text)["services"]
    return loaded


def test_a_missing_value_stops_the_start_with_a_sentence() -> None:
    for name, rest in re.findall(r"\$\{(\w+)(:?[^}]*)\}", NODE + MAIN):
        assert rest.startswith(":?set ") or name in OPTIONAL, name


def test_the_example_names_every_value_of_a_node() -> None:
    example = (ROOT / "deploy" / "node.env.example").read_text()
    lines = [line for line in example.splitlines() if line and not line.startswith("#")]
    assert {line.split("=")[0] for line in lines} == {
        name for name, _ in re.findall(r"\$\{(\w+)(:?[^}]*)\}", NODE)
    }


def test_a_nodes_workers_bind_its_addresses_and_keep_their_journal() -> None:
    found = services(NODE)
    assert len(found) == 2
    for service in found.values():
        assert service["network_mode"] == "host"
        assert service["environment"]["DATA_DIR"] == "/data"
        assert service["volumes"] == ["journal:/data"]
        assert service["environment"]["MAILWRIGHT_PROCESS"] == "worker"
        assert "DATABASE_URL" not in service["environment"]


def test_the_main_machine_listens_on_its_private_address_only() -> None:
    found = services(MAIN)
    assert set(found) == {"postgres", "valkey"}
    for service in found.values():
        (port,) = service["ports"]
        assert port.startswith("${MAIN_HOST:?")


def test_both_files_name_services_and_commands_of_the_main_one() -> None:
    main = services((ROOT / "docker-compose.yml").read_text())
    assert set(services(MAIN)) <= set(main)
    for name, service in services(NODE).items():
        assert service["command"] == main[name]["command"]
