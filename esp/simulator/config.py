"""What a simulator is started with: addresses, seed, and a profile of rates and delays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path


class SimulatorError(Exception):
    """The simulator cannot start or obey; the message says what to do, in one sentence."""


@dataclass(frozen=True, slots=True)
class ReaderRates:
    """Shares (0 to 1) of the messages to which readers do something, and how long they wait.

    `click_rate` is a share of those who opened; the others are shares of delivered messages.
    `machine_rate`: image proxies and security scanners that fetch everything at once.
    """

    open_rate: float = 0.0
    click_rate: float = 0.0
    unsubscribe_rate: float = 0.0
    complain_rate: float = 0.0
    machine_rate: float = 0.0
    delay_seconds: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("open", "click", "unsubscribe", "complain", "machine"):
            if not 0 <= getattr(self, f"{name}_rate") <= 1:
                raise ValueError(f"{name}_rate must lie between 0 and 1.")


@dataclass(frozen=True, slots=True)
class Profile:
    """How the simulated world behaves as a whole; the providers' manners are in their data file."""

    name: str
    readers: ReaderRates = field(default_factory=ReaderRates)
    verify_authentication: bool = True
    # A provider that stores a message and loses its own reply makes a duplicate that is nobody's
    # fault (RFC 1047), so a rehearsal that counts duplicates leaves it out.
    break_after_dot: bool = True
    greylist_seconds: float = 1.0
    slowness: float = 1.0
    unknown_mailbox_rate: float = 0.0
    late_bounce_rate: float = 0.0
    late_bounce_delay_seconds: tuple[float, float] = (0.0, 0.0)


PROFILES = {
    "demo": Profile(
        name="demo",
        readers=ReaderRates(
            open_rate=0.42,
            click_rate=0.18,
            unsubscribe_rate=0.006,
            complain_rate=0.001,
            machine_rate=0.06,
            delay_seconds=(1.0, 5.0),
        ),
        break_after_dot=False,
        greylist_seconds=5.0,
        slowness=1.0,
        unknown_mailbox_rate=0.008,
        late_bounce_rate=0.003,
        late_bounce_delay_seconds=(2.0, 6.0),
    ),
    "test": Profile(name="test", slowness=0.1),
    # For benchmarks: nothing but SMTP and the store.
    "bench": Profile(
        name="bench",
        verify_authentication=False,
        break_after_dot=False,
        greylist_seconds=0.0,
        slowness=0.0,
    ),
}


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """Where a simulator listens and keeps its data. A port of 0 means: a free one.

    `mx_of_product` is the loopback address of the product's inbound listener; `smtp_port` is the
    port of every simulated SMTP host and, unless `outbound_smtp_port` says otherwise, the one the
    simulator sends its own mail (DSN, ARF, auto-replies) to.
    """

    data_dir: Path
    http_host: str = "127.0.0.1"
    http_port: int = 0
    dns_host: str = "127.0.0.1"
    dns_port: int = 0
    smtp_port: int = 0
    outbound_smtp_port: int | None = None
    seed: int = 1
    mx_of_product: str = "127.0.1.1"
    source_network: str = "127.0.2.0/24"
    site_url: str = "http://127.0.0.1:8000"
    product_domain: str = "mailwright.test"
    feedback_address: str = "fbl@mailwright.test"
    profile: Profile = PROFILES["test"]

    def with_profile(self, **changes: object) -> SimulatorConfig:
        """Return a copy whose profile has these fields changed."""
        return replace(self, profile=replace(self.profile, **changes))  # type: ignore[arg-type]
