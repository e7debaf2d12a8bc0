"""Mails as the world sends them to us, written for these tests."""

from __future__ import annotations


def dsn(
    recipient: str,
    *,
    action: str = "failed",
    status: str = "5.1.1",
    diagnostic: str = "smtp; 550 5.1.1 No such user here",
    message_id: str = "",
    words: str = "Your message could not be delivered.",
) -> bytes:
    """Return a delivery status notification by RFC 3464."""
    quoted = f"Message-ID: <{message_id}>\n" if message_id else ""
    return _crlf(f"""\
From: Mail Delivery Subsystem <mailer-daemon@bigmail.test>
To: someone@bounce.acme.example
Subject: Delivery Status Notification
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="=_b"

--=_b
Content-Type: text/plain

{words}

--=_b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.bigmail.test

Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Diagnostic-Code: {diagnostic}

--=_b
Content-Type: text/rfc822-headers

From: hello@acme.example
{quoted}To: {recipient}
Subject: Hello

--=_b--
""")


def arf(
    recipient: str = "",
    *,
    feedback_type: str = "abuse",
    message_id: str = "",
    mail_from: str = "",
) -> bytes:
    """Return a feedback report by RFC 5965; without recipient and sender it is redacted."""
    fields = f"Original-Rcpt-To: <{recipient}>\n" if recipient else ""
    fields += f"Original-Mail-From: <{mail_from}>\n" if mail_from else ""
    quoted = f"Message-ID: <{message_id}>\n" if message_id else ""
    return _crlf(f"""\
From: feedback@bigmail.test
To: fbl@bounces.mailwright.test
Subject: FW: Hello
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="=_b"

--=_b
Content-Type: text/plain

This is an email abuse report.

--=_b
Content-Type: message/feedback-report

Feedback-Type: {feedback_type}
User-Agent: BigMail-FBL/1.0
Version: 1
{fields}
--=_b
Content-Type: message/rfc822

From: hello@acme.example
{quoted}Subject: Hello

Hello!

--=_b--
""")


def auto_reply(subject: str = "Out of office: Hello") -> bytes:
    """Return a vacation note by RFC 3834."""
    return _crlf(f"""\
From: Reader <reader@bigmail.test>
To: someone@bounce.acme.example
Subject: {subject}
Auto-Submitted: auto-replied

I am away until Monday.
""")


def ordinary(subject: str = "Hello", body: str = "How are you?") -> bytes:
    """Return a mail that a person writes."""
    return _crlf(f"""\
From: Reader <reader@bigmail.test>
To: someone@bounce.acme.example
Subject: {subject}

{body}
""")


def _crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()
