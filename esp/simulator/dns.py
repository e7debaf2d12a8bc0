"""The authoritative name server of the simulated internet, on UDP and TCP (RFC 1035, 6891)."""

from __future__ import annotations

import asyncio
import struct
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from esp.simulator.zones import Lookup, Status, ZoneStore

NEGATIVE_TTL = 5
_RCODES = {
    Status.FOUND: dns.rcode.NOERROR,
    Status.NO_DATA: dns.rcode.NOERROR,
    Status.NO_NAME: dns.rcode.NXDOMAIN,
    Status.REFUSED: dns.rcode.REFUSED,
    Status.FAILURE: dns.rcode.SERVFAIL,
}


def answer(zones: ZoneStore, wire: bytes, *, over_tcp: bool) -> bytes | None:
    """Return the reply to one query in wire format, or None when there must be silence."""
    try:
        query = dns.message.from_wire(wire)
    except dns.exception.DNSException:
        return None
    if query.flags & dns.flags.QR:
        return None
    response = dns.message.make_response(query, our_payload=1232)
    if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
        response.set_rcode(dns.rcode.NOTIMP)
        return response.to_wire()
    question = query.question[0]
    type_ = dns.rdatatype.to_text(question.rdtype)
    found = zones.lookup(question.name.to_text(omit_final_dot=True), type_)
    if found.status is Status.TIMEOUT:
        return None
    _fill(response, found)
    # Without EDNS a datagram holds 512 octets (RFC 1035 4.2.1).
    return _to_wire(response, 65535 if over_tcp else max(query.payload, 512))


def _fill(response: dns.message.Message, found: Lookup) -> None:
    response.set_rcode(_RCODES[found.status])
    if found.status not in (Status.REFUSED, Status.FAILURE):
        response.flags |= dns.flags.AA
    for record in found.records:
        name = dns.name.from_text(record.name)
        rrset = response.find_rrset(
            response.answer, name, dns.rdataclass.IN, record.rdata.rdtype, create=True
        )
        rrset.add(record.rdata, record.ttl)
    if found.status in (Status.NO_DATA, Status.NO_NAME):
        zone = (found.zone or "test") + "."
        soa = f"ns.{zone} hostmaster.{zone} 1 3600 600 86400 {NEGATIVE_TTL}"
        response.authority.append(dns.rrset.from_text(zone, NEGATIVE_TTL, "IN", "SOA", soa))


def _to_wire(response: dns.message.Message, limit: int) -> bytes:
    try:
        return response.to_wire(max_size=limit)
    except dns.exception.TooBig:
        response.answer.clear()
        response.authority.clear()
        response.flags |= dns.flags.TC
        return response.to_wire()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, zones: ZoneStore) -> None:
        self._zones = zones
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not instances of asyncio's classes.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        reply = answer(self._zones, data, over_tcp=False)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)


class NameServer:
    """Answers on one address and port, by datagram and by stream."""

    def __init__(self, zones: ZoneStore) -> None:
        self._zones = zones
        self._datagrams: asyncio.DatagramTransport | None = None
        self._streams: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError when the port is taken. With port 0, UDP and TCP get the same."""
        attempts = 1 if port else 20
        for attempt in range(attempts):
            self._streams = await asyncio.start_server(self._converse, host, port)
            self.port = self._streams.sockets[0].getsockname()[1]
            try:
                loop = asyncio.get_running_loop()
                self._datagrams, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self._zones), local_addr=(host, self.port)
                )
            except OSError:
                self._streams.close()
                if attempt == attempts - 1:
                    raise
            else:
                return

    async def stop(self) -> None:
        if self._datagrams:
            self._datagrams.close()
        if self._streams:
            self._streams.close()
        for writer in list(self._writers):
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                reply = answer(self._zones, await reader.readexactly(length), over_tcp=True)
                if reply is None:
                    return
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()
