"""What a mail is: reports by the book, bounces in words, complaints, replies, all else."""

from __future__ import annotations

import random
import time

import pytest

from sending.feedback.parse import parse_mail
from tests.sending.feedback import mails

READER = "reader@bigmail.test"


def text_bounce(body: str, *, sender: str = "MAILER-DAEMON@mx.old.test", subject: str) -> bytes:
    head = f"From: {sender}\nTo: b.someone@bounce.acme.example\nSubject: {subject}\n\n"
    return (head + body).encode()


def test_it_reads_a_report_by_the_book() -> None:
    parsed = parse_mail(mails.dsn(READER, message_id="abc@bounce.acme.example"))
    assert (parsed.kind, parsed.action, parsed.status) == ("dsn", "failed", "5.1.1")
    assert parsed.recipients == (READER,)
    assert parsed.classification == "hard/invalid-recipient"
    assert parsed.diagnostic == "550 5.1.1 No such user here"
    assert parsed.message_id == "abc@bounce.acme.example"


@pytest.mark.parametrize(
    ("status", "diagnostic", "expected"),
    [
        ("5.2.2", "smtp; 552 5.2.2 The mailbox of this user is full", "soft/mailbox-full"),
        ("5.7.1", "smtp; 554 5.7.1 Blocked, see zen.spamhaus.org", "block/reputation"),
        ("4.4.7", "", "soft/expired"),
        ("5.1.10", "", "hard/invalid-domain"),
        ("5.0.0", "x-unix; Recipient unknown", "hard/invalid-recipient"),
    ],
)
def test_it_classifies_by_words_then_codes(status: str, diagnostic: str, expected: str) -> None:
    parsed = parse_mail(mails.dsn(READER, status=status, diagnostic=diagnostic))
    assert parsed.classification == expected


def test_words_for_people_decide_where_the_fields_say_nothing() -> None:
    raw = mails.dsn(
        READER,
        status="5.0.0",
        diagnostic="smtp; 550 Failed",
        words="I am sorry.\n\nThe server said: 550 5.1.1 User unknown here",
    )
    assert parse_mail(raw).classification == "hard/invalid-recipient"


@pytest.mark.parametrize(
    ("action", "expected"),
    [("delayed", "delayed"), ("relayed", "relayed"), ("DELIVERED", "delivered")],
)
def test_it_tells_failures_from_other_reports(action: str, expected: str) -> None:
    parsed = parse_mail(mails.dsn(READER, action=action, status="2.0.0", diagnostic="smtp; ok"))
    assert parsed.action == expected


def test_a_report_on_several_recipients_names_them_all() -> None:
    raw = mails.dsn(READER).replace(
        b"Diagnostic-Code",
        b"X-Queue: 1\r\n\r\nFinal-Recipient: rfc822; <second@bigmail.test>\r\nAction: delayed\r\n"
        b"Status: 4.2.2\r\nDiagnostic-Code",
        1,
    )
    parsed = parse_mail(raw)
    assert parsed.recipients == (READER, "second@bigmail.test")
    assert [report.action for report in parsed.reports] == ["failed", "delayed"]
    assert parsed.action == "failed"


@pytest.mark.parametrize(
    ("subject", "body", "expected"),
    [
        (
            "failure notice",
            (
                "Hi. This is the mail program at old.test.\nI wasn't able to deliver.\n\n"
                "<gone@bigmail.test>:\n192.0.2.1 does not like recipient.\n"
                "Remote host said: 550 5.1.1 User unknown\n"
            ),
            "hard/invalid-recipient",
        ),
        (
            "Mail delivery failed: returning message to sender",
            (
                "A message that you sent could not be delivered to one or more of its recipients.\n"
                "The following address(es) failed:\n\n  gone@bigmail.test\n"
                "    SMTP error from remote mail server after RCPT TO:<gone@bigmail.test>:\n"
                "    552 5.2.2 mailbox is full\n"
            ),
            "soft/mailbox-full",
        ),
        (
            "Returned mail: see transcript for details",
            (
                "   ----- The following addresses had permanent fatal errors -----\n"
                "<gone@bigmail.test>\n    (reason: 554 5.7.1 Message looks like spam)\n"
            ),
            "block/spam",
        ),
        (
            "Undeliverable: Hello",
            (
                "Your message\n\nTo: gone@bigmail.test\nSubject: Hello\n\n"
                "did not reach the recipient.\nThe mailbox gone@bigmail.test is disabled.\n"
            ),
            "hard/inactive-recipient",
        ),
    ],
)
def test_it_reads_bounces_that_speak_to_people(subject: str, body: str, expected: str) -> None:
    quoted = "\n--- Below is a copy of the message.\n\nReceived: from us\nMessage-ID: <x1@b.test>\n"
    parsed = parse_mail(text_bounce(body + quoted, subject=subject))
    assert parsed.kind == "dsn"
    assert parsed.recipients == ("gone@bigmail.test",)
    assert (parsed.action, parsed.classification) == ("failed", expected)
    assert parsed.message_id == "x1@b.test"


def test_a_warning_is_a_delay() -> None:
    body = (
        "Delivery to the following recipient has been delayed:\n\n  gone@bigmail.test\n\n"
        "You do not need to resend your message. It will be retried for two days.\n"
    )
    parsed = parse_mail(text_bounce(body, subject="Delivery Status Notification (Delay)"))
    assert (parsed.kind, parsed.action) == ("dsn", "delayed")


def test_it_reads_a_complaint() -> None:
    parsed = parse_mail(mails.arf(READER, message_id="abc@b.test", mail_from="b.x@b.test"))
    assert (parsed.kind, parsed.feedback_type) == ("arf", "abuse")
    assert parsed.recipients == (READER,)
    assert (parsed.message_id, parsed.return_path) == ("abc@b.test", "b.x@b.test")
    assert parsed.classification == "none/complaint"


def test_it_reads_a_redacted_complaint() -> None:
    parsed = parse_mail(mails.arf(message_id="abc@b.test"))
    assert (parsed.kind, parsed.recipients, parsed.message_id) == ("arf", (), "abc@b.test")


@pytest.mark.parametrize(
    "raw",
    [
        mails.auto_reply(),
        mails.auto_reply("Re: Hello"),
        mails.ordinary("Automatic reply: Hello"),
        mails.ordinary("Abwesenheitsnotiz"),
        mails.ordinary().replace(b"Subject", b"X-Autoreply: yes\r\nSubject"),
        mails.ordinary("Re: Hello", "I am currently out of the office."),
    ],
)
def test_it_knows_automatic_replies(raw: bytes) -> None:
    assert parse_mail(raw).kind == "auto-reply"


@pytest.mark.parametrize(
    "raw",
    [
        mails.ordinary(),
        mails.ordinary("Question about delivery", "Could you deliver on Monday?"),
        mails.ordinary("Your statistics", "Three messages bounced: user unknown."),
        b"",
        b"\r\n\r\n",
        b"Subject: only a header",
    ],
)
def test_ordinary_mail_is_no_bounce(raw: bytes) -> None:
    assert parse_mail(raw).kind == "other"


_NESTED = b"".join(
    b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(2000)
)
_HOSTILE = {
    "nul": b"\x00" * 100_000,
    "noise": random.Random(7).randbytes(300_000),
    "nesting": b"From: mailer-daemon@x.test\r\n" + _NESTED,
    "parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 50_000,
    "at signs": text_bounce("a@" * 200_000, subject="Undelivered"),
    "addresses": text_bounce("<u@example.com>:\n" * 30_000, subject="Undelivered"),
    "tags": b"Content-Type: text/html\r\n" + text_bounce("<p " * 150_000, subject="Undelivered"),
    "charset": mails.ordinary().replace(
        b"\r\n\r\n", b"\r\nContent-Type: text/plain; charset=\xff\r\n\r\n"
    ),
    "words": b"Subject: =?utf-8?b?!!!?= =?nope?q?=ZZ?=\r\n\r\n",
    "base64": b"Content-Transfer-Encoding: base64\r\n\r\nAAAAA",
    "groups": mails.dsn(READER) + b"Final-Recipient: rfc822; a@b.test\r\n\r\n" * 20_000,
    "many said": text_bounce("550 said: mail from " * 20_000, subject="Undelivered"),
}


@pytest.mark.parametrize("name", sorted(_HOSTILE))
def test_nothing_that_a_mail_contains_raises_or_takes_long(name: str) -> None:
    started = time.process_time()
    parse_mail(_HOSTILE[name])
    assert time.process_time() - started < 8


def test_a_report_in_broken_mime_is_still_read() -> None:
    whole = mails.dsn(READER)
    for cut in range(400, len(whole), 37):
        assert parse_mail(whole[:cut]).kind in ("dsn", "auto-reply")
    assert parse_mail(whole.replace(b"--=_b--", b"")).recipients == (READER,)
    assert parse_mail(whole.replace(b'boundary="=_b"', b"")).recipients == (READER,)


def test_texts_can_be_stored() -> None:
    raw = mails.dsn(READER, diagnostic="smtp; 550 5.1.1 no\x00 such \x1b user \ud83d".encode(
        "utf-8", "replace").decode())  # fmt: skip
    parsed = parse_mail(raw.replace(b"such", b"su\xffch\x00"))
    assert "\x00" not in parsed.diagnostic
    parsed.diagnostic.encode()
