"""The simulator as a whole: it starts the parts in order, wires them, and stops them.

`async with Simulator(config)` runs it inside an event loop, `with SimulatorThread(config)` inside a
thread of its own, for callers that are not asynchronous.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Self

from esp.simulator.authentication import Authenticator, AuthVerdict
from esp.simulator.certificates import server_tls
from esp.simulator.clock import Clock
from esp.simulator.config import SimulatorConfig, SimulatorError
from esp.simulator.control import Control
from esp.simulator.dns import NameServer
from esp.simulator.fetch import Fetcher
from esp.simulator.mailbox import MailStore
from esp.simulator.manners import Manners
from esp.simulator.outbound import Outbound
from esp.simulator.providers import MxHost, load_providers
from esp.simulator.published import PublishedRecords
from esp.simulator.readers import Readers
from esp.simulator.smtp import SmtpSession, Surroundings
from esp.simulator.web import JsonServer
from esp.simulator.zones import build_zones

BACKLOG = 512
START_SECONDS = 30.0


class Simulator:
    """One simulated internet. After the start, `addresses` tells where it listens."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.clock = Clock()
        self.providers = load_providers()
        self.zones = build_zones(config, self.providers)
        self.store = MailStore(config.data_dir / "mailboxes.sqlite3")
        self._published = PublishedRecords(config.data_dir / "records.json", self.zones)
        self.smtp_port = config.smtp_port
        self._authenticator = Authenticator(self.zones)
        # One thread: the work is Python's own, more would only pass the lock around.
        self._workers = ThreadPoolExecutor(1, thread_name_prefix="simulator-verify")
        self._name_server = NameServer(self.zones)
        self._servers: list[asyncio.Server] = []
        self._sessions: set[asyncio.Task[None]] = set()
        self._http: JsonServer | None = None
        self._readers: Readers | None = None

    @property
    def addresses(self) -> dict[str, Any]:
        """Where the parts listen, as it is printed when the simulator is ready."""
        config = self.config
        http_port = self._http.port if self._http else 0
        return {
            "http": f"http://{config.http_host}:{http_port}",
            "dns": f"{config.dns_host}:{self._name_server.port}",
            "smtp_port": self.smtp_port,
            "mx_of_product": config.mx_of_product,
            "providers": {p.domain: [host.address for host in p.mx] for p in self.providers},
            "profile": config.profile.name,
            "seed": config.seed,
        }

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start everything. Raises SimulatorError, one sentence, when something is in the way."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        config = self.config
        try:
            await self.store.start()
            self._published.load()
        except (OSError, ValueError, sqlite3.Error) as error:
            raise SimulatorError(
                f"The simulator cannot keep its data in {config.data_dir} ({error}):"
                " give another directory with --data."
            ) from error
        await self._listen_dns()
        sockets = self._bind_smtp()
        self._readers = self._make_readers()
        await self._listen_smtp(sockets)
        control = Control(
            zones=self.zones,
            published=self._published,
            store=self.store,
            clock=self.clock,
            readers=self._readers,
            about=lambda: self.addresses,
        )
        self._http = JsonServer(control.routes())
        try:
            await self._http.start(config.http_host, config.http_port)
        except OSError as error:
            raise _taken("HTTP", config.http_host, config.http_port, "--http") from error

    async def stop(self) -> None:
        """Stop everything that was started; open SMTP sessions are cut."""
        if self._http:
            await self._http.stop()
        for server in self._servers:
            server.close()
        for task in list(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        if self._readers:
            await self._readers.stop()
        await self._name_server.stop()
        await self.store.stop()
        self._workers.shutdown(wait=False)

    async def _listen_dns(self) -> None:
        host, port = self.config.dns_host, self.config.dns_port
        try:
            await self._name_server.start(host, port)
        except OSError as error:
            raise _taken("DNS", host, port, "--dns") from error

    def _make_readers(self) -> Readers:
        outbound_port = self.config.outbound_smtp_port
        return Readers(
            self.config,
            clock=self.clock,
            store=self.store,
            fetcher=Fetcher(self.zones),
            outbound_mail=Outbound(self.zones, self.clock, lambda: outbound_port or self.smtp_port),
            providers=self.providers,
        )

    def _bind_smtp(self) -> list[tuple[MxHost, Manners, socket.socket]]:
        """Bind every MX host to the one SMTP port; picks one that is free on all when it is 0."""
        hosts = [(p, host) for p in self.providers for host in p.mx]
        for _ in range(50):
            port = self.config.smtp_port or _free_port()
            sockets: list[socket.socket] = []
            try:
                sockets.extend(_bound(host.address, port) for _, host in hosts)
                if not self.config.smtp_port and self.config.outbound_smtp_port is None:
                    # The product's inbound side must find the port free at its address too.
                    _bound(self.config.mx_of_product, port).close()
            except OSError as error:
                for bound in sockets:
                    bound.close()
                if self.config.smtp_port:
                    where = hosts[len(sockets)][1].address
                    raise _taken("SMTP", where, port, "--smtp-port") from error
                continue
            self.smtp_port = port
            manners = {
                p.domain: Manners(
                    p, profile=self.config.profile, seed=self.config.seed, clock=self.clock
                )
                for p in self.providers
            }
            pairs = zip(hosts, sockets, strict=True)
            return [(host, manners[p.domain], bound) for (p, host), bound in pairs]
        raise SimulatorError("No port is free on all loopback addresses: close some programs.")

    async def _listen_smtp(self, sockets: list[tuple[MxHost, Manners, socket.socket]]) -> None:
        assert self._readers is not None
        names = [host.name for host, _, _ in sockets]
        around = Surroundings(
            store=self.store,
            clock=self.clock,
            verify=self._verify,
            on_stored=self._readers.on_stored,
            tls=server_tls(names, self.config.data_dir),
        )
        for host, manners, bound in sockets:
            serve = partial(self._serve, host, manners, around)
            self._servers.append(await asyncio.start_server(serve, sock=bound, backlog=BACKLOG))

    async def _serve(
        self,
        host: MxHost,
        manners: Manners,
        around: Surroundings,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            await SmtpSession(host, manners, around, reader, writer).run()
        except asyncio.CancelledError:
            pass  # the simulator stops
        finally:
            self._sessions.discard(task)

    async def _verify(
        self, *, ip: str, helo: str, mail_from: str, raw: bytes
    ) -> AuthVerdict | None:
        if not self.config.profile.verify_authentication:
            return None
        verify = partial(self._authenticator.verify, ip=ip, helo=helo, mail_from=mail_from, raw=raw)
        return await asyncio.get_running_loop().run_in_executor(self._workers, verify)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _bound(address: str, port: int) -> socket.socket:
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
        bound.listen(BACKLOG)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def _taken(what: str, host: str, port: int, option: str) -> SimulatorError:
    return SimulatorError(
        f"The simulator cannot listen for {what} on {host}:{port}:"
        f" stop the program that does, or choose another port with {option}."
    )


class SimulatorThread:
    """A simulator in a thread of its own, for tests and programs that are not asynchronous."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.simulator = Simulator(config)
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._error: BaseException | None = None

    @property
    def addresses(self) -> dict[str, Any]:
        return self.simulator.addresses

    @property
    def url(self) -> str:
        """The address of the control API, for `SimulatorClient`."""
        return str(self.addresses["http"])

    def start(self) -> None:
        """Start and wait until it listens. Raises what the start raises."""
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise SimulatorError("The simulator did not start in time: is the machine overloaded?")
        if self._error:
            raise self._error

    def stop(self) -> None:
        if self._loop and self._stopping and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(START_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # handed to the thread that waits in start
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        async with self.simulator:
            self._ready.set()
            await self._stopping.wait()
