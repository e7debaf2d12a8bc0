"""One mail transaction on an open session: MAIL, RCPT, DATA or BDAT, and what the answers mean.

Where the server offers PIPELINING (RFC 2920) the commands go in one write; with CHUNKING too
(RFC 3030) the content goes with them, on a connection that has just delivered. Otherwise one
command at a time. All three judge the replies by the same function, in the order of the commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sending.engine.ports import Kind, Outcome, Phase
from sending.engine.replies import Reply
from sending.engine.smtp.channel import Channel, RawReply, reply_of
from sending.engine.smtp.session import Session
from sending.engine.smtp.wire import dot_stuffed, with_crlf

_RESET = b"RSET\r\n"
_UNKNOWN_COMMAND = (500, 501, 502, 503, 504)


@dataclass(slots=True)
class Letter:
    """One message as a session takes it: `mail` and `rcpt` are command paths, ready for the wire.

    `data` has CRLF line ends and is not dot-stuffed. `is_leaving` is set before the first byte of
    the content goes out: from then on the message's fate is the server's.
    """

    mail: str
    rcpt: str
    data: bytes = field(repr=False)
    is_leaving: bool = False


@dataclass(slots=True)
class Commands:
    """What is said in one go: lines, the phase of each, and how long its reply may take (seconds).

    Three lists rather than a list of values: one of these is made for each message.
    """

    phases: list[Phase]
    lines: list[bytes]
    patience: list[float]

    def add(self, phase: Phase, line: bytes, patience: float) -> None:
        """Say `line` after the others."""
        self.phases.append(phase)
        self.lines.append(line)
        self.patience.append(patience)


async def send(session: Session, letter: Letter) -> Outcome:
    """Run one transaction; afterwards `session.is_open` tells whether the session lives on.

    When cancelled it cuts the connection, since a half-done transaction cannot be resumed.
    """
    try:
        outcome = await _transaction(session, letter)
    except BaseException:
        await session.abort()
        raise
    if outcome.kind != "delivered" and (outcome.smtp_code in (None, 421) or not session.is_open):
        # 421: the server closes the channel (RFC 5321 section 3.8), whatever we do.
        await session.abort()
    return outcome


async def _transaction(session: Session, letter: Letter) -> Outcome:
    content = with_crlf(letter.data)
    channel = session.channel
    if channel is None:
        return session.ended("mail", Reply(None, "The connection was lost.",
                                           failure="disconnected"))  # fmt: skip
    is_ascii = letter.mail.isascii() and letter.rcpt.isascii()
    unfit = _unfit(session, content, is_ascii=is_ascii)
    if unfit is not None:
        return unfit
    commands = _envelope(session, letter, content, is_ascii=is_ascii)
    is_hot = _is_hot(session)
    session.needs_reset = True
    if session.features.pipelining and session.settings.pipelining:
        if is_hot and len(content) <= session.settings.chunk_octets:
            return await _in_one_chunk(session, channel, commands, content, letter)
        failed = await _pipelined(session, channel, commands)
    else:
        failed = await _one_by_one(session, channel, commands)
    return failed if failed is not None else await _body(session, channel, content, letter)


def _is_hot(session: Session) -> bool:
    """Tell whether the content may go with its commands.

    On a connection that delivered a moment ago: one that stood idle may be dead, and a server that
    has just refused a recipient may refuse the next one, content and all.
    """
    return (
        session.features.chunking
        and session.may_chunk
        and session.messages > 0
        and not session.needs_reset
        and session.clock.monotonic() - session.idle_since <= session.settings.hot_seconds
    )


def _unfit(session: Session, content: bytes, *, is_ascii: bool) -> Outcome | None:
    """Say what the server has already told us that it will not take."""
    features = session.features
    if features.max_size is not None and features.max_size < len(content):
        text = f"The message has {len(content)} bytes, the server takes {features.max_size}."
        reply = Reply(552, text, "5.3.4")
        return session.ended("mail", reply, classification="block/content")
    # Domains are A-labels by now; only local parts can need SMTPUTF8.
    if not (is_ascii or features.smtputf8):
        reply = Reply(553, "The server does not take addresses outside ASCII.", "5.6.7")
        return session.ended("mail", reply, classification="soft/protocol-error")
    return None


def _envelope(session: Session, letter: Letter, content: bytes, *, is_ascii: bool) -> Commands:
    """Return MAIL and RCPT, with RSET before them where the last transaction did not end."""
    features, timeouts = session.features, session.settings.timeouts
    mail = f"MAIL FROM:<{letter.mail}>"
    if features.size:
        mail += f" SIZE={len(content)}"
    # Without 8BITMIME the bytes go as they are: converting would break the signature, and servers
    # without it that also clear the eighth bit have died out.
    if features.eight_bit and not content.isascii():
        mail += " BODY=8BITMIME"
    if features.smtputf8 and not is_ascii:
        mail += " SMTPUTF8"
    lines = [f"{mail}\r\n".encode(), f"RCPT TO:<{letter.rcpt}>\r\n".encode()]
    if session.needs_reset:
        patience = [timeouts.reset, timeouts.mail, timeouts.rcpt]
        return Commands(["mail", "mail", "rcpt"], [_RESET, *lines], patience)
    return Commands(["mail", "rcpt"], lines, [timeouts.mail, timeouts.rcpt])


# --- one by one ------------------------------------------------------------------------------


async def _one_by_one(session: Session, channel: Channel, commands: Commands) -> Outcome | None:
    """Say one command after the other; stop at the first that is refused."""
    commands.add("data", b"DATA\r\n", session.settings.timeouts.data)
    for phase, line, patience in zip(
        commands.phases, commands.lines, commands.patience, strict=True
    ):
        one = Commands([phase], [line], [patience])
        start = session.clock.monotonic()
        replies = await channel.exchange(line, one.patience)
        session.timed(one.phases, replies, start)
        failed = _refusal(session, channel, one, replies)
        if failed is not None:
            return failed
    return None


# --- pipelined (RFC 2920) --------------------------------------------------------------------


async def _pipelined(session: Session, channel: Channel, commands: Commands) -> Outcome | None:
    """Say all commands up to DATA in one write; returns None when the content may follow."""
    commands.add("data", b"DATA\r\n", session.settings.timeouts.data)
    start = session.clock.monotonic()
    replies = await channel.exchange(
        b"".join(commands.lines), commands.patience, short=session.settings.timeouts.reset
    )
    session.timed(commands.phases, replies, start)
    failed = _refusal(session, channel, commands, replies)
    is_ready = len(replies) == len(commands.lines) and 300 <= replies[-1][0] < 400
    if failed is not None and is_ready:
        await _leave_data(session, channel, replies)
    return failed


async def _leave_data(session: Session, channel: Channel, replies: Sequence[RawReply]) -> None:
    """Get out of a DATA that the server began although MAIL or RCPT was refused.

    RFC 2920 section 3.1: a lone dot ends it, and with no recipient nothing can be delivered. Where
    the recipient was accepted (and only MAIL refused) a dot might deliver an empty message, so the
    connection is cut instead: without the final dot nothing is taken (RFC 5321 section 4.1.1.4).
    """
    if replies[-2][0] < 300:
        await session.abort()
        return
    answers = await channel.exchange(b".\r\n", (session.settings.timeouts.data,))
    if not answers or answers[0][0] < 400:
        # It says that it took an empty message for nobody; do not talk with it any longer.
        await session.abort()


# --- in one chunk (RFC 3030) -----------------------------------------------------------------


async def _in_one_chunk(
    session: Session, channel: Channel, commands: Commands, content: bytes, letter: Letter
) -> Outcome:
    """Say MAIL, RCPT and BDAT with the whole content in one write.

    RFC 3030 section 2: a server that refused the recipient answers 503 to BDAT and drops the
    octets. When replies are missing the message may have been taken, unless one of those that came
    was a refusal.
    """
    timeouts = session.settings.timeouts
    commands.add("body", b"BDAT %d LAST\r\n" % len(content), timeouts.body)
    letter.is_leaving = True
    start = session.clock.monotonic()
    replies = await channel.exchange(
        b"".join([*commands.lines, content]), commands.patience, short=timeouts.reset
    )
    session.timed(commands.phases, replies, start)
    is_complete = len(replies) == len(commands.lines)
    if is_complete and replies[-1][0] < 300 and replies[-2][0] < 300:
        # The server took the message for the recipient, whatever it said to MAIL.
        return _delivered(session, replies[-1])
    failed = _refusal(session, channel, commands, replies, is_ambiguous=True)
    assert failed is not None, "a chunk is delivered or refused"
    if failed.phase == "body" and failed.smtp_code in _UNKNOWN_COMMAND:
        # It offered CHUNKING and knows no BDAT: that says nothing of the message. What it made of
        # the content, line by line, is anybody's guess.
        session.chunks_failed = True
        await session.abort()
        return replace(failed, kind="deferred", classification="soft/protocol-error")
    if failed.is_ambiguous and failed.phase != "body":
        session.chunks_failed = True
    return failed


# --- the content -----------------------------------------------------------------------------


async def _body(session: Session, channel: Channel, content: bytes, letter: Letter) -> Outcome:
    if not channel.is_usable:
        # A reply to the content that came before it, or a cut: nothing has left yet.
        return session.ended("body", channel.explain())
    patience = session.settings.timeouts.body
    commands = Commands(["body"], [dot_stuffed(content)], [patience])
    letter.is_leaving = True
    start = session.clock.monotonic()
    replies = await channel.exchange(commands.lines[0], commands.patience)
    session.timed(commands.phases, replies, start)
    failed = _refusal(session, channel, commands, replies, is_ambiguous=True)
    return failed if failed is not None else _delivered(session, replies[0])


def _delivered(session: Session, raw: RawReply) -> Outcome:
    session.needs_reset = False
    session.messages += 1
    return session.ended("body", reply_of(raw), kind="delivered", classification="none/delivered")


# --- what the replies mean -------------------------------------------------------------------


def _refusal(
    session: Session,
    channel: Channel,
    commands: Commands,
    replies: Sequence[RawReply],
    *,
    is_ambiguous: bool = False,
) -> Outcome | None:
    """Return the outcome of the first command that was not agreed to, None when all were.

    `is_ambiguous`: the content was on its way, so that a missing reply leaves its fate open.
    """
    for number, phase in enumerate(commands.phases):
        if number == len(replies):
            return session.ended(phase, channel.explain(), is_ambiguous=is_ambiguous)
        code = replies[number][0]
        if (code == 354) if phase == "data" else (code // 100 == 2):
            continue
        if phase == "data" and code < 400:
            # The server believes that it is still in command mode (or that we log in): the content
            # would be commands, and what it says to them would pass for the message's reply.
            reply = Reply(None, f"DATA was answered with {code}.", failure="protocol")
            return session.ended("data", reply)
        kind: Kind | None = "deferred" if commands.lines[number] == _RESET else None
        return session.ended(phase, reply_of(replies[number]), kind=kind)
    return None
