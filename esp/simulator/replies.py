"""The replies of the simulated providers, worded as large providers word them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """An SMTP reply (RFC 5321 4.2): code, enhanced status (RFC 3463) or '', lines of text.

    After `closes` the server hangs up.
    """

    code: int
    status: str
    text: str
    closes: bool = False

    @property
    def is_final(self) -> bool:
        return self.code >= 500

    def wire(self) -> bytes:
        prefix = f"{self.status} " if self.status else ""
        lines = self.text.split("\n")
        marks = ["-"] * (len(lines) - 1) + [" "]
        return "".join(
            f"{self.code}{mark}{prefix}{line}\r\n" for mark, line in zip(marks, lines, strict=True)
        ).encode("utf-8", "replace")

    @property
    def one_line(self) -> str:
        return f"{self.status} {self.text}".strip().replace("\n", " ")


# Nothing is said: the exchange went on by other means (a TLS handshake).
SILENCE = Reply(0, "", "")
OK = Reply(250, "2.0.0", "OK")
BYE = Reply(221, "2.0.0", "Closing connection", closes=True)
GO_AHEAD = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
BAD_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
UNKNOWN_COMMAND = Reply(502, "5.5.1", "Unrecognized command")
BAD_SYNTAX = Reply(501, "5.5.2", "Syntax error in parameters")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long", closes=True)
IDLE = Reply(421, "4.4.2", "Timeout: closing connection", closes=True)
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients")
TLS_GO = Reply(220, "2.0.0", "Ready to start TLS")
TLS_NO = Reply(454, "4.7.0", "TLS not available")
STORE_TROUBLE = Reply(451, "4.3.0", "Temporary trouble with the mail store, try again later")


def too_many_connections(title: str, ip: str) -> Reply:
    text = f"{title} limits connections: too many concurrent SMTP connections from {ip}"
    return Reply(421, "4.7.0", f"{text}, please try again later", closes=True)


def rate_limited(title: str, ip: str) -> Reply:
    return Reply(
        421,
        "4.7.28",
        f"{title} has detected an unusual rate of unsolicited mail originating\n"
        f"from your IP address [{ip}]. To protect our users from spam, mail sent from\n"
        "your IP address has been temporarily rate limited. Please try again later.",
        closes=True,
    )


def session_used_up(title: str) -> Reply:
    text = f"{title}: too many messages in this session, open a new connection"
    return Reply(421, "4.7.0", text, closes=True)


def greylisted(seconds: float) -> Reply:
    wait = max(round(seconds), 1)
    text = f"Recipient address rejected: Greylisted, please try again in {wait} seconds"
    return Reply(451, "4.7.1", text)


def relay_denied(address: str) -> Reply:
    return Reply(550, "5.7.1", f"<{address}>: Relay access denied")


def unknown_user(address: str) -> Reply:
    return Reply(
        550,
        "5.1.1",
        f"<{address}>: The email account that you tried to reach does not exist.\n"
        "Please check the recipient's email address for typos or unnecessary spaces.",
    )


def mailbox_full(address: str, *, for_now: bool) -> Reply:
    text = f"<{address}>: The email account that you tried to reach is over quota"
    return Reply(452, "4.2.2", text) if for_now else Reply(552, "5.2.2", text)


def receiving_too_fast(address: str) -> Reply:
    text = f"<{address}>: The user is receiving mail at a rate that prevents delivery now"
    return Reply(450, "4.2.1", f"{text}, try again later")


def spam_blocked(title: str, ip: str) -> Reply:
    return Reply(
        550,
        "5.7.1",
        f"[{ip}] {title} has detected that this message is likely unsolicited mail.\n"
        "To reduce the amount of spam sent to our users, this message has been blocked.",
    )


def unauthenticated(title: str) -> Reply:
    return Reply(
        550,
        "5.7.26",
        "Your email has been blocked because the sender is unauthenticated.\n"
        f"{title} requires all senders to authenticate with either SPF or DKIM.",
    )


def unaligned(domain: str) -> Reply:
    return Reply(
        550,
        "5.7.26",
        f"Unauthenticated email from {domain or 'this sender'} is not accepted due to the\n"
        "domain's DMARC policy: neither SPF nor DKIM is aligned with the From domain.",
    )


def too_large(limit: int) -> Reply:
    return Reply(552, "5.3.4", f"Message size exceeds the fixed maximum of {limit} bytes")
