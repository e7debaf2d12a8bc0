"""A name server on loopback, by UDP and TCP: answers from a dictionary, fails on demand."""

from __future__ import annotations

import asyncio
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal, cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

# "deaf" says by UDP to ask by TCP, and then nothing. "overlong" is an MX whose host's name has
# five labels of 63 octets, which no name may have (RFC 1035 section 2.3.4).
Fault = Literal[
    "servfail", "drop", "truncate", "deaf", "garbage", "empty", "wrong-id", "wrong-question",
    "overlong",
]  # fmt: skip


@dataclass
class DnsSink:
    """`records` maps "name TYPE" to record texts; `faults` maps a name to what goes wrong.

    Answers about names in `secure` carry the AD flag, as from a resolver that checks DNSSEC.
    """

    records: dict[str, list[str]] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    secure: set[str] = field(default_factory=set)
    questions: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    over_tcp: int = 0
    ttl: int = 60
    port: int = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._tcp.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(
            lambda: _Udp(self), local_addr=("127.0.0.1", self.port)
        )

    async def stop(self) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def host(self, name: str, *ips: str) -> None:
        """Give `name` its addresses."""
        for ip in ips:
            self.records.setdefault(f"{name} {'AAAA' if ':' in ip else 'A'}", []).append(ip)

    def mx(self, domain: str, *records: str) -> None:
        """Give `domain` its MX records, for example "10 mx1.example."."""
        self.records[f"{domain} MX"] = list(records)

    def answer(self, wire: bytes, *, is_tcp: bool) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.questions[f"{name} {kind}"] += 1
        self.over_tcp += is_tcp
        response = dns.message.make_response(query)
        fault = self.faults.get(name)
        if fault == "drop" or (fault == "deaf" and is_tcp):
            return None
        if fault in _SPOILT:
            return _spoilt(fault, wire)
        if fault == "servfail":
            response.set_rcode(dns.rcode.SERVFAIL)
        elif fault in ("truncate", "deaf") and not is_tcp:
            response.flags |= dns.flags.TC
        else:
            self._fill(response, name, kind)
            if name in self.secure:
                response.flags |= dns.flags.AD
        return response.to_wire()

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> None:
        seen: set[str] = set()
        while name not in seen:
            seen.add(name)
            for wanted in (kind, "CNAME"):
                texts = self.records.get(f"{name} {wanted}")
                if texts:
                    response.answer.append(
                        dns.rrset.from_text_list(name + ".", self.ttl, "IN", wanted, texts)
                    )
                    if wanted == kind:
                        return
                    name = texts[0].rstrip(".")
                    break
        known = {key.split(" ")[0] for key in self.records}
        if not response.answer and name not in known:
            response.set_rcode(dns.rcode.NXDOMAIN)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            wire = self.answer(await reader.readexactly(length), is_tcp=True)
            if wire is not None:
                writer.write(struct.pack("!H", len(wire)) + wire)
                await writer.drain()
            else:
                await reader.read()  # until the other side gives up
        finally:
            writer.close()


def _spoilt(fault: Fault, query: bytes) -> bytes:
    """Return what no client may take for an answer to `query`."""
    if fault == "garbage":
        return query[:2] + b"\xff" * 200
    if fault == "empty":
        return b""
    if fault == "wrong-id":
        return bytes([query[0] ^ 0xFF]) + query[1:2] + b"\x81\x80" + query[4:]
    if fault == "wrong-question":
        other = dns.message.make_query("elsewhere.test", "MX", id=struct.unpack("!H", query[:2])[0])
        response = dns.message.make_response(other)
        response.answer.append(
            dns.rrset.from_text("elsewhere.test.", 60, "IN", "MX", "1 evil.test.")
        )
        return response.to_wire()
    name = b"".join(b"\x3f" + b"a" * 63 for _ in range(5)) + b"\x00"
    data = b"\x00\x0a" + name
    question = query[12 : query.index(b"\x00", 12) + 5]
    record = b"\xc0\x0c\x00\x0f\x00\x01\x00\x00\x00\x3c" + struct.pack("!H", len(data)) + data
    return query[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + question + record


_SPOILT: frozenset[Fault | None] = frozenset(
    {"garbage", "empty", "wrong-id", "wrong-question", "overlong"}
)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, sink: DnsSink) -> None:
        self._sink = sink

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        wire = self._sink.answer(data, is_tcp=False)
        if wire is not None:
            self._transport.sendto(wire, addr)
