"""Production as it is described: no default secret, every queue served, every package locked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from esp.celery import QUEUES
from esp.stack.world import Ports, demo_values, product_programs

ROOT = Path(__file__).resolve().parent.parent.parent.parent
COMPOSE = (ROOT / "docker-compose.yml").read_text()
OPTIONAL = {
    "BROADCAST_PROCESSES",
    "DNS_RESOLVERS",
    "POSTGRES_MAX_WAL_SIZE",
    "POSTGRES_SHARED_BUFFERS",
    "PROXY_HOPS",
    "SECRET_KEY_FALLBACKS",
    "SYSTEM_FROM",
}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of docker-compose.yml."""
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE)["services"]
    return loaded


def _queues(command: str) -> set[str]:
    found = re.search(r"worker -Q (\S+)", command)
    return set(found.group(1).split(",")) if found else set()


def test_every_value_that_must_be_given_stops_the_start_with_a_sentence() -> None:
    used = re.findall(r"\$\{(\w+)(:?[^}]*)\}", COMPOSE)
    assert used
    for name, rest in used:
        assert rest.startswith(":?set ") or name in OPTIONAL, name


def test_no_secret_has_a_value_of_its_own(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for variable, value in (service.get("environment") or {}).items():
            if variable in OPTIONAL:
                assert re.fullmatch(r"\$\{\w+:-\d?\}", value), variable
            elif re.search(r"PASSWORD|SECRET|DATABASE_URL|REDIS_URL", variable):
                assert ":?" in value, f"{name}: {variable}"
                assert re.sub(r"\$\{[^}]*\}", "", value).count("password") == 0


def test_the_example_names_every_value_and_fills_in_no_secret() -> None:
    example = (ROOT / "deploy" / "env.example").read_text()
    values = dict(
        line.split("=", 1) for line in example.splitlines() if line and not line.startswith("#")
    )
    assert set(values) == {name for name, _rest in re.findall(r"\$\{(\w+)(:?[^}]*)\}", COMPOSE)}
    assert set(values.values()) == {""}


def test_every_service_has_a_health_check(services: dict[str, Any]) -> None:
    without = {name for name, service in services.items() if "healthcheck" not in service}
    assert without == {"migrate"}  # it ends


def test_every_queue_has_its_worker_in_production(services: dict[str, Any]) -> None:
    served = [_queues(str(service.get("command", ""))) for service in services.values()]
    assert sorted(queue for queues in served for queue in queues) == sorted(QUEUES)


def test_every_queue_has_its_worker_in_the_demo(tmp_path: Path) -> None:
    programs = product_programs(root=ROOT, logs=tmp_path, environment={}, ports=Ports())
    served = [_queues(" ".join(program.command)) for program in programs]
    assert sorted(queue for queues in served for queue in queues) == sorted(QUEUES)


def test_only_the_site_is_held_by_row_security_in_the_demo(tmp_path: Path) -> None:
    programs = product_programs(root=ROOT, logs=tmp_path, environment={}, ports=Ports())
    roles = {program.name: program.environment["MAILWRIGHT_PROCESS"] for program in programs}
    assert [name for name, role in roles.items() if role == "web"] == ["web"]
    assert set(roles.values()) == {"web", "worker"}


def test_the_demo_keeps_its_secret_key_between_runs(tmp_path: Path) -> None:
    first, second = (
        demo_values(var=tmp_path, ports=Ports(), servers={})["SECRET_KEY"] for _run in range(2)
    )
    assert first == second
    assert len(first) >= 50


def test_the_front_end_lock_names_no_registry() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    for name, entry in packages.items():
        assert "resolved" not in entry, name
        assert entry.get("integrity") or entry.get("inBundle"), name


@pytest.mark.parametrize("name", ["base", "embedded", "dev", "node"])
def test_every_python_requirement_is_locked_by_hash_without_a_host(name: str) -> None:
    lock = (ROOT / "requirements" / f"{name}.txt").read_text()
    blocks = re.split(r"\n(?=[a-z0-9])", "\n".join(_without_comments(lock)))
    assert blocks
    for block in blocks:
        assert re.match(r"[A-Za-z0-9._-]+(\[.*\])?==", block), block
        assert "--hash=sha256:" in block, block
    assert "://" not in lock


def _without_comments(lock: str) -> list[str]:
    return [line for line in lock.splitlines() if line and not line.lstrip().startswith("#")]


def test_each_process_knows_only_the_database_role_that_is_its_own(
    services: dict[str, Any],
) -> None:
    known = {
        name: {key for key in service.get("environment") or {} if key.endswith("DATABASE_URL")}
        for name, service in services.items()
    }
    assert known["web"] == {"DATABASE_URL"}
    assert known["migrate"] == {"OWNER_DATABASE_URL"}
    workers = {name: urls for name, urls in known.items() if name.startswith("worker")}
    assert len(workers) == 3
    for urls in (*workers.values(), known["scheduler"], known["inbound"]):
        assert urls == {"WORKER_DATABASE_URL"}
