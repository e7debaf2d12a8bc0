"""Bounce mails that speak to people only: who could not be reached, and why.

qmail, Exim, old sendmail, Notes and many others write no RFC 3464 report. First the phrases that
these programs put around an address are looked for, in the words in front of the quoted message;
flufl.bounce gives a second opinion.
"""

from __future__ import annotations

import re
from email import message_from_bytes
from email.message import Message

from flufl.bounce import all_failures

from sending.engine.classify import UNKNOWN
from sending.engine.replies import clean
from sending.feedback.dsn import classify_report, find_status
from sending.feedback.mailparts import Mail, strip_tags
from sending.feedback.originals import original_headers
from sending.feedback.types import Action, RecipientReport

_ADDR = r"[^\s<>\"'(),;:\[\]|=]{1,64}@[A-Za-z0-9](?:[\w.-]{0,200}[A-Za-z0-9])?"

_SENDERS = re.compile(
    r"mailer-?daemon|postmaster|mail ?delivery|mailerdaemon|mail[ .-]?system|mdaemon|"
    r"(?:^|<)(?:bounce|no-?reply-?bounce|mailadm|mmdf|uucp|daemon|double-bounce|smtp-gateway)\b",
    re.IGNORECASE,
)
_SUBJECTS = re.compile(
    r"undeliver|un-?delivered|deliver\w* (?:status )?(?:notif|fail|error|problem|report|delay)|"
    r"fail\w* (?:to )?deliver|(?:delivery|mail|message|transport)\b.{0,25}\bfail|failure notice|"
    r"return(?:ed|ing) (?:mail|message|e-?mail)|message (?:status|not delivered|you sent|delayed)|"
    r"(?:could|can)(?:no| no|n')t be (?:delivered|sent)|non.?deliver|nondeliver|not deliver|"
    r"delivery (?:has )?fail|bounced? (?:mail|message)|warning: (?:could not send|message)|"
    r"mail (?:system )?error|user unknown|unknown user|unzustellbar|配信|エラー|"
    r"error sending|rejected|permanent error|mail could not|delayed mail|still being retried|"
    r"mailbox (?:is )?full|over quota|invalid (?:recipient|address)|mail delivery",
    re.IGNORECASE,
)
_WORDS = re.compile(
    r"(?:could|can)(?:no| no|n')t (?:be )?(?:deliver|reach|send)|not (?:be )?deliver|undeliver|"
    r"unable to deliver|delivery (?:to .{0,80} )?(?:failed|error|failure|has failed)|"
    r"permanent (?:fatal )?error|following (?:address|recipient|destination)|failed (?:address|"
    r"recipient)|mail delivery (?:system|failed)|user unknown|unknown user|no such user|"
    r"does not exist|returned to (?:you|sender)|was not (?:delivered|sent)|over quota|"
    r"mailbox (?:is )?full|has been rejected|message (?:was|is|has been) (?:undeliver|reject|"
    r"block|refus)|rcpt to|not reach|wasn't delivered|isn't accepting|bounced|not accepted",
    re.IGNORECASE,
)
_DELAY = re.compile(
    r"warning message only|do not need to resend|not required to resend|still (?:trying|being "
    r"retried)|will (?:continue|keep) (?:to try|trying)|delivery (?:is )?delayed|has been delayed|"
    r"transient (?:non-)?fatal|warning: could not send|will be retried|has not (?:yet )?been "
    r"delivered|continue to be attempted|delayed mail",
    re.IGNORECASE,
)
_GAVE_UP = re.compile(
    r"gave up|giving up|has been (?:too )?long|will not be retried|been returned|"
    r"permanent|no further|retry timeout exceeded",
    re.IGNORECASE,
)

# Where the quoted message begins: nothing after it is the reporter's word.
_QUOTED = re.compile(
    r"(?im)^[ \t>*=|-]{0,40}(?:this is a copy of|(?:below|following) (?:this line )?is a copy|a "
    r"copy of (?:the|your)|original message|your (?:original )?message (?:follows|headers|was)|"
    r"(?:the )?(?:header|body|text|content|start)s? (?:of|from) (?:the |your )?"
    r"(?:original|returned|message)|returned message|unsent message|message headers? follow|"
    r"original (?:mail|e-?mail|headers?)|message header|your message is|undelivered message|"
    r"forwarded message|included is a copy|message text|enclosed is|the message (?:being )?"
    r"return|header follows|-- ?(?:the )?message|----- transcript of message)|"
    r"^[ \t>|]{0,4}(?:received: (?:from|by) |return-path: |message-id: |x-mailer: |"
    r"mime-version: )"
)

_BEFORE = (
    r"deliver\w*|sent|send|message|mail|e-?mail|reach\w*|to the following|recipients?|"
    r"address(?:es|ee)?|user|account|mailbox|failed|final|original|alias|destination|for|to"
)
_BETWEEN = r"[ \t]*(?:\w+[ \t]+){0,4}[(:=]?[ \t]*[\[<\"'(]{0,2}"

# In order of trust: the first kind of phrase that names anybody decides.
_PHRASES = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        # Postfix and qmail: "<a@b>: host … said: …", "<a@b>:" on a line of its own.
        rf"^[ \t]*<({_ADDR})>[ \t]*(?:\([^)\n]*\))?[ \t]*:",
        # Exim: the address alone on an indented line.
        rf"^[ \t]{{1,8}}<?({_ADDR})>?[ \t]*$",
        # sendmail: under "The following addresses had permanent fatal errors", its transcript.
        rf"^<({_ADDR})>[ \t]*$",
        rf"^[ \t]*(?:[45]\d\d[ \t]+)?<?({_ADDR})>?\.\.\.[ \t]",
        rf"rcpt to:[ \t]*<({_ADDR})>",
        rf"\b(?:{_BEFORE})\b{_BETWEEN}(?<![\w.+-])({_ADDR})",
        rf"^[ \t*>-]{{0,8}}<?({_ADDR})>?[ \t]*(?:\([^)\n]*\)|[-:,].*|\[.*)?[ \t]*$",
        rf"<({_ADDR})>",
        rf"[\"'\[(]({_ADDR})[\"'\])]",
        rf"\b({_ADDR})",
    )
)
_SURE = 5
_HEADER_LINE = re.compile(
    r"(?im)^[ \t>]*(?:message-id|references|in-reply-to|from|date|cc)[ \t]*:.*$"
)
_OURS = re.compile(r"^(?:mailer-?daemon|postmaster|abuse|support|help|noc|info@mail|spam)\b", re.I)
_MAX_TEXT = 20_000
_MAX_RECIPIENTS = 50


def looks_like_bounce(mail: Mail) -> bool:
    """Tell whether a mail that carries no report is a bounce all the same.

    Two signs of three: who sends it (or X-Failed-Recipients), its subject, its words. Ordinary mail
    about bounces has at most the words.
    """
    if "x-failed-recipients" in mail.headers:
        return True
    sender = bool(_SENDERS.search(mail.header("from") + " " + mail.headers.get("return-path", "")))
    sender = sender or mail.headers.get("return-path", "").strip() == "<>"
    sender = sender or mail.report_type == "delivery-status"
    subject = bool(_SUBJECTS.search(mail.header("subject")))
    words = bool(_WORDS.search(reporter_words(mail)))
    return sender + subject + words >= 2


def reporter_words(mail: Mail) -> str:
    """Return the words that are the reporter's own: what stands before the quoted message."""
    texts = []
    for part in mail.parts:
        if part.content_type in ("message/rfc822", "text/rfc822-headers"):
            break
        if part.content_type.startswith("text/") or part.content_type == "message/plain":
            text = strip_tags(part.text) if part.content_type == "text/html" else part.text
            texts.append(text)
    text = "\n\n".join(texts)[:_MAX_TEXT]
    match = _QUOTED.search(text)
    if match is not None and match.start() > 0 and "@" in text[: match.start()]:
        return text[: match.start()]
    return text


def text_reports(mail: Mail, raw: bytes) -> tuple[RecipientReport, ...]:
    """Return a report for each recipient that a bounce mail without RFC 3464 part names."""
    words = reporter_words(mail)
    delayed = _is_delay(mail, words)
    action: Action = "delayed" if delayed else "failed"
    recipients = _recipients(mail, words, raw)
    return tuple(_report(address, action, words, len(recipients)) for address in recipients)


def report_without_address(mail: Mail, words: str) -> RecipientReport:
    """Return what a bounce that names nobody says."""
    return _report("", "delayed" if _is_delay(mail, words) else "failed", words, 1)


def _is_delay(mail: Mail, words: str) -> bool:
    said = mail.header("subject") + "\n" + words
    return bool(_DELAY.search(said)) and not _GAVE_UP.search(words)


def _recipients(mail: Mail, words: str, raw: bytes) -> list[str]:
    listed = re.findall(_ADDR, mail.headers.get("x-failed-recipients", "")[:4000])
    if listed:
        return _unique(listed, set())
    strangers = _not_meant(mail)
    words = _HEADER_LINE.sub("", words)
    for pattern in _PHRASES[:_SURE]:
        found = _unique(pattern.findall(words), strangers, even_ours=True)
        if found:
            return found
    second = _unique(_second_opinion(raw), strangers)
    if second:
        return second
    for pattern in _PHRASES[_SURE:]:
        found = _unique(pattern.findall(words), strangers)
        if found:
            return found
    quoted = original_headers(mail)
    return _unique(re.findall(_ADDR, quoted.get("to", "")[:1000]), strangers)[:1]


def _not_meant(mail: Mail) -> set[str]:
    """Return addresses of the conversation itself: reporter and the one who is told."""
    fields = ("from", "to", "return-path", "reply-to", "delivered-to", "sender", "errors-to", "cc")
    text = " ".join(mail.headers.get(name, "")[:1000] for name in fields)
    return {address.lower() for address in re.findall(_ADDR, text)}


def _unique(found: list[str], strangers: set[str], *, even_ours: bool = False) -> list[str]:
    kept: dict[str, str] = {}
    for address in found:
        address = address.strip(".'*")
        if address.lower() not in strangers and (even_ours or not _OURS.match(address)):
            kept.setdefault(address.lower(), address)
    return list(kept.values())[:_MAX_RECIPIENTS]


def _second_opinion(raw: bytes) -> list[str]:
    """Ask flufl.bounce. It parses by the standard library, which recurses: not for deep nesting."""
    data = raw[: 64 * 1024]
    if data.lower().count(b"multipart/") > 12:
        return []
    try:
        message: Message = message_from_bytes(data)
        temporary, permanent = all_failures(message)
    except Exception:  # it raises whatever a hostile mail provokes (8 of 1,138 real ones)
        return []
    found = [*permanent, *temporary]
    return [a.decode("utf-8", "replace") if isinstance(a, bytes) else str(a) for a in found]


def _report(address: str, action: Action, words: str, total: int) -> RecipientReport:
    near = _words_about(address, words) if total > 1 else words
    classification, said = classify_report("", "", near, address=address)
    if classification == UNKNOWN and near is not words:
        classification, said = classify_report("", "", words, address=address)
    if classification == UNKNOWN and action == "delayed":
        classification = "soft/expired"
    if classification == UNKNOWN and address.lower().endswith("@googlegroups.com"):
        # Says in the reader's language: no such group, or no right to post there.
        classification = "block/sender-rejected"
    return RecipientReport(address, action, find_status(said), clean(said)[:500], classification)


def _words_about(address: str, words: str) -> str:
    """Return the words after an address up to the next one: its own reason among many."""
    start = words.lower().find(address.lower())
    if start < 0:
        return words
    rest = words[start + len(address) : start + len(address) + 1500]
    following = re.search(rf"(?m)^[ \t]*<?{_ADDR}>?[ \t]*:?[ \t]*$", rest)
    return rest[: following.start()] if following else rest
