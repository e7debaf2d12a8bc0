"""The internet of a delivery benchmark: a name server, and sinks on loopback addresses.

One process. It prints one line of JSON when it is ready and obeys lines on its standard input:
`counts` answers with a line of JSON, `ids PATH` writes every Message-ID with its number of copies
to a file, `forget` starts anew, the end of input ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

import uvloop

from esp.simulator.dns import NameServer
from esp.simulator.sink import Counts, serve
from esp.simulator.zones import Record, ZoneStore, make_record
from sending.management.bench.people import domain_of

_NETWORK = "127.0.40."


def _zones(domains: int, addresses: list[str]) -> ZoneStore:
    zones = ZoneStore()
    records: list[Record] = []
    for number in range(domains):
        name = domain_of(number, domains)
        records.append(make_record(name, "MX", f"10 mx.{name}.", ttl=3600))
        records.append(make_record(f"mx.{name}", "A", addresses[number % len(addresses)], ttl=3600))
    zones.publish(records)
    return zones


async def _start_sinks(count: int, counts: Counts) -> tuple[list[str], int]:
    """Start sinks on `count` addresses and one port that is free on all of them."""
    addresses = [f"{_NETWORK}{number + 1}" for number in range(count)]
    for _ in range(20):
        first = await serve(addresses[0], 0, counts)
        port = int(first.sockets[0].getsockname()[1])
        try:
            for address in addresses[1:]:
                await serve(address, port, counts)
        except OSError:
            first.close()
            continue
        return addresses, port
    raise OSError("no port is free on all addresses of the sinks")


def _write_ids(path: Path, counts: Counts) -> None:
    with path.open("wb") as file:
        for message_id, copies in counts.copies.items():
            file.write(b"%d %s\n" % (copies, message_id))


async def _run(domains: int, addresses: int) -> None:
    counts = Counts()
    hosts, port = await _start_sinks(addresses, counts)
    server = NameServer(_zones(domains, hosts))
    await server.start("127.0.0.1", 0)
    _say({"smtp_port": port, "dns_port": server.port, "addresses": hosts})
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := (await reader.readline()).decode().strip():
        command, _, argument = line.partition(" ")
        if command == "ids":
            _write_ids(Path(argument), counts)
        elif command == "forget":
            counts.forget()
        _say(counts.as_dict())


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201 (the answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--domains", type=int, required=True)
    parser.add_argument("--addresses", type=int, required=True)
    options = parser.parse_args()
    # Other people's servers have machines of their own: they push no worker out of its core.
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    uvloop.run(_run(options.domains, options.addresses))


if __name__ == "__main__":
    main()
