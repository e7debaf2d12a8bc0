"""Messages as they go over the wire: CRLF line ends, dots stuffed."""

from __future__ import annotations

import re

_BARE = re.compile(rb"\r\n|\r|\n")


class WireBytes(bytes):
    """A message whose line ends are known to be right: whoever made it so need not look again."""

    __slots__ = ()


def with_crlf(message: bytes) -> bytes:
    """Return `message` with every line end as CRLF and one at the end.

    Bare CR and LF must not leave the house: RFC 5321 section 2.3.8 forbids them, and receivers that
    take "LF . LF" for the end of data can be fed a second message (SMTP smuggling, 2023). Called
    before signing, since it changes the body; costs three counts for a message already right, and
    nothing for WireBytes.
    """
    if isinstance(message, WireBytes):
        return message
    if not (
        message.count(b"\r\n") == message.count(b"\n") == message.count(b"\r")
        and message.endswith(b"\r\n")
    ):
        message = _BARE.sub(b"\r\n", message)
        if not message.endswith(b"\r\n"):
            message += b"\r\n"
    return message


def dot_stuffed(message: bytes) -> bytes:
    """Return the content of DATA for `message` (CRLF line ends), with its final dot.

    RFC 5321 section 4.5.2: a line that begins with a dot gets another one in front.
    """
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    return stuffed + b".\r\n"
