"""Embedded PostgreSQL and Valkey together, for the demo, the tests and the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from esp.stack.postgres import APP, OWNER, WORKER, PostgresServer
from esp.stack.valkey import ValkeyServer


@dataclass(frozen=True, slots=True)
class Servers:
    """The two running servers and the addresses to reach them."""

    postgres: PostgresServer
    valkey: ValkeyServer

    @property
    def database_url(self) -> str:
        """For web and API: row-level security holds this role."""
        return self.postgres.url(APP)

    @property
    def worker_database_url(self) -> str:
        """For workers, which act for every tenant."""
        return self.postgres.url(WORKER)

    @property
    def owner_database_url(self) -> str:
        """For migrations."""
        return self.postgres.url(OWNER)

    @property
    def redis_url(self) -> str:
        """For Celery, counters and caches."""
        return self.valkey.url

    def environment(self) -> dict[str, str]:
        """Return the addresses under the names that the settings read."""
        return {
            "DATABASE_URL": self.database_url,
            "WORKER_DATABASE_URL": self.worker_database_url,
            "OWNER_DATABASE_URL": self.owner_database_url,
            "REDIS_URL": self.redis_url,
        }


def start_servers(directory: Path, *, fast: bool) -> Servers:
    """Start both servers with data under `directory`; the caller stops them.

    `fast=True` gives up durability (tests); benchmarks and the demo keep it. Raises `StackError`.
    """
    postgres = PostgresServer(directory, fast=fast)
    valkey = ValkeyServer(directory)
    try:
        postgres.start()
        valkey.start()
    except BaseException:
        valkey.stop()
        postgres.stop()
        raise
    return Servers(postgres, valkey)


def stop_servers(servers: Servers) -> None:
    """Stop both servers, the database last."""
    servers.valkey.stop()
    servers.postgres.stop()


@contextmanager
def embedded_servers(directory: Path, fast: bool) -> Iterator[Servers]:
    """Run both servers for the time of a `with` block, on free ports, data under `directory`."""
    servers = start_servers(directory, fast=fast)
    try:
        yield servers
    finally:
        stop_servers(servers)
