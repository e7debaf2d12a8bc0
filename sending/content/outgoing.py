"""Messages of one content as bytes: everything that they share is written once.

The head's lines are in two groups, because a signer wants to prepare one of them: `fixed` lines are
the same in every message, the others are made for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from esp.lib.addresses import Address
from esp.lib.errors import InvalidInput
from sending.content import headers
from sending.content.coded import CodedRenderer
from sending.content.mime import CRLF, Frame
from sending.content.types import RenderContext

# The lines that are made for each message, in their order; the last is for lists only.
OWN_LINES = ("To", "Subject", "Date", "Message-ID", "Feedback-ID", "List-Unsubscribe")


@dataclass(frozen=True, slots=True)
class Stationery:
    """What all messages of a content have in their head.

    `custom` are the tenant's own headers, checked here. `one_click` adds the header of RFC 8058
    to messages that can be unsubscribed from (`is_list`).
    """

    sender: Address
    reply_to: Sequence[Address] = ()
    is_list: bool = False
    one_click: bool = True
    list_id: str | None = None
    cfbl_address: str | None = None
    custom: Mapping[str, str] | Iterable[tuple[str, str]] = ()

    def lines(self) -> list[str]:
        """Return the folded lines; raises InvalidInput for a value that must not be sent."""
        if not self.sender.local.isascii():
            raise InvalidInput(
                "An address needs SMTPUTF8, which is not sent.", code="address-smtputf8"
            )
        lines = [headers.address_header("From", [self.sender])]
        if self.reply_to:
            lines.append(headers.address_header("Reply-To", self.reply_to))
        lines.append("MIME-Version: 1.0")
        if self.is_list and self.one_click:
            lines.append("List-Unsubscribe-Post: List-Unsubscribe=One-Click")
        for name, value in (("List-Id", self.list_id), ("CFBL-Address", self.cfbl_address)):
            if value:
                lines.append(headers.unstructured(name, value))
        pairs = self.custom.items() if isinstance(self.custom, Mapping) else self.custom
        for name, value in pairs:
            headers.check_custom_header(name, value)
            lines.append(headers.unstructured(name, value))
        return lines


@dataclass(slots=True)  # not frozen: that makes a message's values five times as dear
class Addressed:
    """What one message has in its head; `date` is in Unix seconds.

    `unsubscribe` are the URLs of List-Unsubscribe in their order (https, then mailto).
    """

    to: Address
    to_name: str
    message_id: str
    date: int
    feedback_id: str
    unsubscribe: Sequence[str] = ()


@dataclass(slots=True)
class Written:
    """A message: the lines made for it (see OWN_LINES), folded, and the body. CRLF line ends.

    The body is what DKIM's relaxed canonicalization leaves as it is (but for empty lines at the end
    of a message that is one text).
    """

    lines: tuple[str, ...]
    body: bytes


class Outgoing:
    """Writes the messages of one content."""

    def __init__(self, renderer: CodedRenderer, around: Frame, stationery: Stationery) -> None:
        """Raises InvalidInput for what could not be sent to anybody."""
        self._renderer, self._frame = renderer, around
        self._is_list = stationery.is_list
        self.fixed = (*stationery.lines(), *around.headers)
        self._first = self.fixed[0] + CRLF
        self._rest = CRLF.join((*self.fixed[1:], "", ""))

    @property
    def own_names(self) -> tuple[str, ...]:
        """The names of the lines that `write` makes, in their order."""
        return OWN_LINES if self._is_list else OWN_LINES[:-1]

    def write(self, context: RenderContext, addressed: Addressed) -> Written:
        """Return the message of one recipient.

        Raises ContentError at a limit of rendering, and InvalidInput for a recipient or value that
        cannot stand in a header.
        """
        coded = self._renderer.render(context)
        lines: tuple[str, ...] = (
            headers.recipient_line(addressed.to_name, addressed.to),
            headers.subject_line(coded.subject),
            headers.date_line(addressed.date),
            headers.message_id_line(addressed.message_id),
            headers.plain_line("Feedback-ID", addressed.feedback_id),
        )
        if self._is_list:
            lines = (*lines, headers.unsubscribe_line(addressed.unsubscribe))
        around = self._frame
        body = f"{around.before}{coded.text}{around.between}{coded.html or ''}{around.after}"
        if not body.endswith(CRLF):
            body += CRLF
        return Written(lines, body.encode("ascii"))

    def assembled(self, written: Written) -> bytes:
        """Return the whole message, not signed."""
        head = f"{self._first}{CRLF.join(written.lines)}{CRLF}{self._rest}"
        return head.encode("ascii") + written.body
