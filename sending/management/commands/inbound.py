"""Take bounces, complaints and unsubscribe mails by SMTP, until the process is told to end."""

from __future__ import annotations

import asyncio
import logging
import signal
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from sending.feedback.certificate import self_signed
from sending.feedback.listener import InboundServer
from sending.feedback.store import DatabaseStore


class Command(BaseCommand):
    """`manage.py inbound [--listen host:port] [--no-tls]`."""

    help = "Listen for bounces, complaints and unsubscribe mails."
    requires_system_checks = []  # they would load every page

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--listen",
            default=settings.INBOUND_LISTEN,
            metavar="HOST:PORT",
            help="where to listen (INBOUND_LISTEN; [::1]:25 for IPv6)",
        )
        parser.add_argument("--no-tls", action="store_true", help="do not offer STARTTLS")

    def handle(self, *_args: Any, **options: Any) -> None:
        host, port = _host_and_port(options["listen"])
        logging.getLogger("mail.log").setLevel(logging.WARNING)  # a line for every command else
        tls = None if options["no_tls"] else self_signed(settings.RETURN_PATH_TARGET)
        server = InboundServer(
            DatabaseStore(), host=host, port=port, hostname=settings.RETURN_PATH_TARGET, tls=tls
        )
        try:
            asyncio.run(self._serve(server))
        except OSError as error:
            raise CommandError(
                f"The inbound mail server cannot listen on {host}:{port} "
                f"({error.strerror or error}): stop what uses the port, or set INBOUND_LISTEN."
            ) from error

    async def _serve(self, server: InboundServer) -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        async with server:
            self.stdout.write(f"listening for mail on {server.host}:{server.port}")
            self.stdout.flush()
            await ended.wait()


def _host_and_port(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise CommandError(f"'{text}' is no address to listen on: write host:port.")
    return host.strip("[]"), int(port)
