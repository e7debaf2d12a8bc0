"""The mailbox providers as data: domains, MX hosts on loopback, and the limits of their manners."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data" / "providers.toml"


@dataclass(frozen=True, slots=True)
class MxHost:
    """One SMTP host: its name, its own loopback address, its MX preference."""

    name: str
    address: str
    preference: int


@dataclass(frozen=True, slots=True)
class Provider:
    """One mailbox provider; 0 means no limit, rates are per source IP, times are seconds."""

    domain: str
    title: str
    mx: tuple[MxHost, ...]
    starttls: bool = True
    max_connections: int = 0
    messages_per_second: float = 0.0
    burst: int = 0
    messages_per_connection: int = 0
    greylists: bool = False
    requires_authentication: bool = False
    greeting_delay: float = 0.0
    command_delay: float = 0.0
    message_delay: float = 0.0
    break_rate: float = 0.0
    size_limit: int = 25 * 1024 * 1024


def load_providers(path: Path = DATA) -> tuple[Provider, ...]:
    """Read the providers' file. Raises ValueError when an address is shared or off loopback."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["provider"]
    providers = tuple(_provider(entry) for entry in entries)
    addresses = [host.address for provider in providers for host in provider.mx]
    if len(set(addresses)) != len(addresses):
        raise ValueError("Two simulated SMTP hosts share one address.")
    for address in addresses:
        if not ip_address(address).is_loopback:
            raise ValueError(f"{address} is not a loopback address.")
    return providers


def _provider(entry: dict[str, Any]) -> Provider:
    values = dict(entry)
    values["mx"] = tuple(MxHost(**host) for host in values["mx"])
    return Provider(**values)
