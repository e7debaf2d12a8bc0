"""`python -m esp.simulator`: run the simulated internet until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

import uvloop

from esp.simulator.config import PROFILES, SimulatorConfig, SimulatorError
from esp.simulator.server import Simulator


def address(text: str) -> tuple[str, int]:
    """Parse HOST:PORT. Raises ValueError, which argparse turns into a sentence."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(text)
    return host, int(port)


def parse(arguments: list[str]) -> SimulatorConfig:
    """Turn the command line into a configuration."""
    parser = argparse.ArgumentParser(prog="python -m esp.simulator", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory for the mailboxes")
    parser.add_argument("--http", type=address, default=("127.0.0.1", 0), help="HOST:PORT")
    parser.add_argument("--dns", type=address, default=("127.0.0.1", 0), help="HOST:PORT")
    parser.add_argument("--smtp-port", type=int, default=0, help="one port for all SMTP hosts")
    parser.add_argument("--outbound-smtp-port", type=int, help="port of the product's inbound side")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mx-of-product", default="127.0.1.1", help="loopback address")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="demo")
    parser.add_argument("--site-url", default="http://127.0.0.1:8000")
    parser.add_argument("--feedback-address", default="fbl@mailwright.test")
    options = parser.parse_args(arguments)
    return SimulatorConfig(
        data_dir=options.data,
        http_host=options.http[0],
        http_port=options.http[1],
        dns_host=options.dns[0],
        dns_port=options.dns[1],
        smtp_port=options.smtp_port,
        outbound_smtp_port=options.outbound_smtp_port,
        seed=options.seed,
        mx_of_product=options.mx_of_product,
        site_url=options.site_url,
        feedback_address=options.feedback_address,
        profile=PROFILES[options.profile],
    )


async def run(config: SimulatorConfig) -> None:
    """Run until a signal asks to stop; prints one line of JSON when everything listens."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with Simulator(config) as simulator:
        print(json.dumps(simulator.addresses), flush=True)  # noqa: T201 (the ready line)
        await stopping.wait()


def main() -> int:
    config = parse(sys.argv[1:])
    try:
        uvloop.run(run(config))
    except SimulatorError as error:
        print(error, file=sys.stderr)  # noqa: T201 (the one sentence)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
