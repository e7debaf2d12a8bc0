"""AUTH (RFC 4954) as the lines that a client says, for the mechanisms that relays ask for."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from sending.engine.ports import Relay


def mechanism(relay: Relay) -> str:
    """Return the name of the mechanism as EHLO lists it."""
    return relay.auth.upper()


def dialogue(relay: Relay) -> Sequence[bytes]:
    """Return the command and the answers to each 334, in order, without line ends.

    PLAIN is RFC 4616, in one line with its command; LOGIN (draft-murchison-sasl-login) asks for the
    name and then for the password; XOAUTH2 (developers.google.com/gmail/imap/xoauth2-protocol)
    answers an error's details with an empty line, upon which the refusal comes.
    """
    user, secret = relay.username.encode(), relay.secret.encode()
    if relay.auth == "plain":
        return (b"AUTH PLAIN " + base64.b64encode(b"\0" + user + b"\0" + secret),)
    if relay.auth == "login":
        return (b"AUTH LOGIN", base64.b64encode(user), base64.b64encode(secret))
    token = b"user=" + user + b"\x01auth=Bearer " + secret + b"\x01\x01"
    return (b"AUTH XOAUTH2 " + base64.b64encode(token), b"")


def without_secret(text: str, relay: Relay) -> str:
    """Return `text` of a server with nothing in it that would give the secret away.

    Some servers quote the command that they refuse.
    """
    hidden = [relay.secret, base64.b64encode(relay.secret.encode()).decode()]
    hidden += [line.decode("ascii").rpartition(" ")[2] for line in dialogue(relay)]
    # The longest first: a short one may stand inside a long one, which would then not be found.
    for secret in sorted(hidden, key=len, reverse=True):
        if secret not in ("", "LOGIN"):
            text = text.replace(secret, "…")
    return text
