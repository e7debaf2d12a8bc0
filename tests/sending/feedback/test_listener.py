"""The inbound server, spoken to by real SMTP clients over real sockets."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from esp.kit.keys import signing_key
from esp.lib.ids import new_id
from esp.simulator import outbound
from esp.simulator.mailbox import Delivery
from esp.simulator.providers import load_providers
from sending.engine import verp
from sending.feedback.certificate import self_signed
from sending.feedback.listener import Limits
from sending.feedback.models import InboundMail
from sending.feedback.services import process_inbound
from sending.feedback.store import DatabaseStore
from tests.cast import make_cast
from tests.sending.feedback import mails
from tests.sending.feedback.conftest import FEEDBACK, READER, Sent, make_sent

Listen = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]
PROVIDER = load_providers()[0]


@contextmanager
def database_away() -> Iterator[None]:
    """Let the database refuse every new connection, and end all but this test's."""
    database = connection.settings_dict
    name = database["NAME"]
    elsewhere = psycopg.connect(
        dbname="postgres", user=database["USER"], password=database["PASSWORD"],
        host=database["HOST"], port=database["PORT"], autocommit=True,
    )  # fmt: skip
    with elsewhere, connection.cursor() as cursor:
        elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            end_connections(cursor)
            yield
        finally:
            elsewhere.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def end_connections(cursor: Any) -> None:
    cursor.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    )


@pytest.fixture
def kept_message(transactional_db: None) -> Sent:
    """A delivered message, committed: the listener has a connection of its own."""
    return make_sent(make_cast())


@pytest.fixture
def server(kept_message: Sent, listen: Listen) -> Iterator[Any]:
    with listen(DatabaseStore(), tls=self_signed("mx.test")) as running:
        yield running


def client(server: Any) -> smtplib.SMTP:
    smtp = smtplib.SMTP("127.0.0.1", server.port, local_hostname="mx.bigmail.test", timeout=20)
    smtp.ehlo()
    return smtp


def send(server: Any, to: str, raw: bytes, mail_from: str = "") -> None:
    with client(server) as smtp:
        smtp.sendmail(mail_from, [to], raw)


def refusal(server: Any, to: str) -> tuple[int, bytes]:
    with client(server) as smtp:
        smtp.mail("")
        return smtp.rcpt(to)


def work_all() -> None:
    for pk in InboundMail.objects.filter(status="new").values_list("pk", flat=True):
        process_inbound(pk)


def test_it_keeps_a_mail_before_it_says_yes(kept_message: Sent, server: Any) -> None:
    raw = mails.dsn(READER)
    send(server, kept_message.return_path, raw)
    mail = InboundMail.objects.get()
    assert (mail.rcpt_to, mail.mail_from) == (kept_message.return_path, "")
    assert bytes(mail.raw) == raw


def test_a_second_recipient_is_a_row_of_its_own(kept_message: Sent, server: Any) -> None:
    with client(server) as smtp:
        to = [kept_message.return_path, FEEDBACK, FEEDBACK, "postmaster@mailwright.test"]
        smtp.sendmail("a@b.test", to, mails.ordinary())
    assert InboundMail.objects.count() == 3


@pytest.mark.parametrize(
    "to",
    [
        "someone@acme.example",
        "fbl@elsewhere.test",
        "abuse@elsewhere.test",
        verp.return_path(uuid.UUID(int=7 << 76), key=b"x" * 32, domain="bounces.mailwright.test"),
        "b.0123.deadbeef@bounces.mailwright.test",
        "u." + "z" * 26 + ".00000000@bounces.mailwright.test",
    ],
)
def test_it_refuses_unknown_and_forged_addresses(server: Any, to: str) -> None:
    code, text = refusal(server, to)
    assert (code, text[:5]) == (550, b"5.1.1")


@pytest.mark.parametrize(
    "to", ["fbl@bounce.acme.example", "ABUSE@bounces.mailwright.test", "Postmaster"]
)
def test_it_takes_mail_at_addresses_that_must_exist(server: Any, to: str) -> None:
    assert refusal(server, to)[0] == 250


def test_an_address_of_an_older_key_is_taken(server: Any, settings: Any) -> None:
    address = verp.return_path(new_id(), key=signing_key("verp"), domain="bounces.mailwright.test")
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another key that is long enough to be a key of ours 0123456789"
    assert refusal(server, address.upper())[0] == 250


def test_a_database_that_is_away_means_later_and_nothing_is_lost(
    kept_message: Sent, server: Any
) -> None:
    send(server, kept_message.return_path, mails.dsn(READER))
    with database_away():
        with pytest.raises(smtplib.SMTPDataError) as failure:
            send(server, kept_message.return_path, mails.dsn(READER))
        assert failure.value.smtp_code == 452
        assert refusal(server, "fbl@bounce.acme.example")[0] == 452
    send(server, kept_message.return_path, mails.dsn(READER))
    assert InboundMail.objects.count() == 2


def test_a_connection_that_broke_is_opened_anew(kept_message: Sent, server: Any) -> None:
    send(server, kept_message.return_path, mails.dsn(READER))
    with connection.cursor() as cursor:
        end_connections(cursor)
    send(server, kept_message.return_path, mails.dsn(READER))
    assert InboundMail.objects.count() == 2


def test_a_mail_above_the_size_is_refused(kept_message: Sent, server: Any) -> None:
    raw = mails.ordinary() + (b"0123456789" * 7 + b"\r\n") * 150_000
    assert len(raw) > 10 * 1024 * 1024
    with client(server) as smtp:
        assert smtp.mail("", [f"size={len(raw)}"])[0] == 552
        smtp.rset()
        smtp.mail("")
        smtp.rcpt(kept_message.return_path)
        assert smtp.data(raw)[0] == 552
        assert smtp.noop()[0] == 250
    assert InboundMail.objects.count() == 0


def test_a_client_that_floods_is_cut_off(kept_message: Sent, listen: Listen) -> None:
    with listen(DatabaseStore(), limits=Limits(flood_bytes=100_000)) as server:
        with client(server) as smtp:
            smtp.mail("")
            smtp.rcpt(kept_message.return_path)
            with pytest.raises((smtplib.SMTPException, OSError)):
                smtp.data(b"x" * 70 * 1000 * 50)
        send(server, kept_message.return_path, mails.dsn(READER))
    assert InboundMail.objects.count() == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_client_above_the_limit_is_told_to_come_back(
    listen: Listen, transactional_db: None
) -> None:
    with listen(DatabaseStore(), limits=Limits(connections_per_address=2)) as server:
        first, second = client(server), client(server)
        with pytest.raises(smtplib.SMTPConnectError) as failure:
            client(server)
        assert failure.value.smtp_code == 421
        first.quit()
        second.quit()
        with client(server) as third:
            assert third.noop()[0] == 250


def test_an_idle_client_is_dropped(listen: Listen, transactional_db: None) -> None:
    with (
        listen(DatabaseStore(), limits=Limits(idle_seconds=0.3)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as idle,
    ):
        idle.recv(1000)
        assert idle.recv(1000) == b""


def test_it_offers_tls(kept_message: Sent, server: Any) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with client(server) as smtp:
        smtp.starttls(context=context)
        smtp.sendmail("", [kept_message.return_path], mails.dsn(READER))
    assert InboundMail.objects.count() == 1


def test_nul_long_lines_and_other_octets_are_kept_as_they_are(
    kept_message: Sent, server: Any
) -> None:
    raw = b"Subject: x\r\n\r\n" + bytes(range(1, 10)) + b"\x00\xff" * 5000 + b"\r\n.dot\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as line:
        answers = line.makefile("rb")
        answers.readline()
        for command in (b"HELO x", b"MAIL FROM:<>", b"RCPT TO:<%s>", b"DATA"):
            filled = command.replace(b"%s", kept_message.return_path.encode())
            line.sendall(filled + b"\r\n")
            assert answers.readline()[:1] in b"23"
        line.sendall(raw.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert answers.readline().startswith(b"250")
        answers.close()
    mail = InboundMail.objects.get()
    assert bytes(mail.raw) == raw
    process_inbound(mail.pk)
    mail.refresh_from_db()
    assert mail.status == "ignored"


def delivery(sent: Sent) -> Delivery:
    """The message as a simulated mailbox holds it."""
    head = f"From: hello@acme.example\r\nMessage-ID: <{sent.message_id}>\r\nSubject: Hello\r\n\r\n"
    return Delivery(
        provider=PROVIDER.domain, recipient=READER, mail_from=sent.return_path,
        message_id=f"<{sent.message_id}>", subject="Hello", sender="hello@acme.example",
        raw=head.encode() + b"Hi!\r\n", authentication=None, received_at=1.0,
        source_ip="127.0.2.1", tls="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make_mail", "events", "suppressed"),
    [
        (lambda d, s: outbound.late_bounce(d, PROVIDER, at=2.0), ["bounced_late"], ["bounce"]),
        (
            lambda d, s: outbound.complaint(d, PROVIDER, to=FEEDBACK, at=2.0),
            ["complained"],
            ["complaint"],
        ),
        (lambda d, s: outbound.auto_reply(d, PROVIDER, at=2.0), ["autoreplied"], []),
        (
            lambda d, s: outbound.unsubscribe_mail(d, PROVIDER, to=s.unsubscribe, at=2.0),
            ["unsubscribed"],
            [],
        ),
    ],
)
def test_what_mailbox_providers_send_becomes_events(
    kept_message: Sent, server: Any, make_mail: Any, events: list[str], suppressed: list[str]
) -> None:
    mail = make_mail(delivery(kept_message), kept_message)
    for _ in range(2):  # providers repeat themselves
        send(server, mail.recipient, mail.raw, mail.mail_from)
    work_all()
    assert kept_message.events() == events
    assert [reason for _, _, reason in kept_message.suppressions()] == suppressed


def run_command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "inbound", *arguments], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "LOG_LEVEL": "WARNING"},
    )  # fmt: skip


def test_the_command_listens_until_it_is_told_to_end() -> None:
    process = run_command("--listen", "127.0.0.1:0")
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as smtp:
            assert b"STARTTLS" in smtp.ehlo()[1]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0


def test_the_command_says_in_one_sentence_that_the_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = run_command("--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert len(errors.strip().splitlines()) == 1
    assert "cannot listen" in errors
