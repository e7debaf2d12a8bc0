"""Delivery status notifications by the book: RFC 3464 groups, RFC 3461 addresses.

Mails that only speak to people are `textbounce`'s.
"""

from __future__ import annotations

import re

from sending.engine.classify import RULES, UNKNOWN, classify, deciding_rule
from sending.engine.replies import Reply, clean, find_enhanced, parse_reply
from sending.feedback.mailparts import Mail, list_fields
from sending.feedback.types import Action, RecipientReport

_ADDRESS = re.compile(
    r"[^\s<>\"'(),;:\[\]]{1,64}@[A-Za-z0-9](?:[\w.-]{0,250}[A-Za-z0-9])?", re.ASCII
)
_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?!\d)")
_TYPE = re.compile(r"^\s*[\w.+-]{2,20}\s*;\s*")
_REPLY_IN_TEXT = re.compile(
    r"(?<![\d.:/-])([45]\d\d)[ -]+(?:#?[45]\.\d{1,3}\.\d{1,3}|[A-Za-z<(\[*])"
)
# Words before a reply that a mail server puts there; the classifier knows them.
_QUOTES_REPLY = re.compile(r"(?i)said:|smtp error from|server returned was:|failed with:|mail from")
_SAYS_NOTHING = re.compile(r"[245]\.0\.0|5\.5\.0|4\.5\.0|[45]\.3\.0|5\.[127]\.0")
_BOILERPLATE = re.compile(
    r"(?i)(?:>|-|\*|\s)*(?:this message was created automatically|a message that you sent (?:could|"
    r"has)|the address(?:es)? to which|your message (?:cannot|could not|can ?not|was not) be "
    r"delivered to|i'm (?:sorry|afraid)|hi\. this is|for further assistance|this is (?:the (?:mail|"
    r"qmail|postfix)|an? auto|a permanent error)|this report relates|a message is delayed|"
    r"delivery to the following|the following address|no action is required|if you do so|"
    r"the original message was received|message will be retried|technical details|reporting-mta|"
    r"do not reply|please do not)"
)
_ACTIONS: dict[str, Action] = {
    "failed": "failed",
    "failure": "failed",
    "fail": "failed",
    "delayed": "delayed",
    "deferred": "delayed",
    "delivered": "delivered",
    "relayed": "relayed",
    "expanded": "expanded",
}
_MAX_GROUPS = 100
_STARTS = ("final-recipient", "original-recipient")


def status_reports(mail: Mail) -> tuple[RecipientReport, ...]:
    """Return what the delivery-status part of `mail` says, a report a recipient; () without one."""
    for part in mail.parts:
        if part.content_type in ("message/delivery-status", "message/global-delivery-status"):
            reports = read_status(part.text, words=mail.text)
            if reports:
                return reports
    for part in mail.parts:  # servers that forget the type of the part
        text = part.text
        if re.search(r"(?im)^final-recipient\s*:", text) and re.search(r"(?im)^action\s*:", text):
            return read_status(text, words=mail.text)
    return ()


def read_status(text: str, *, words: str = "") -> tuple[RecipientReport, ...]:
    """Read the groups of fields of a delivery-status part (RFC 3464 section 2.1).

    `words` is what the mail says to people: it decides where the fields do not say why.
    """
    reports: dict[str, RecipientReport] = {}
    for group in _groups(text):
        report = _report(group, words)
        if report is not None:
            known = reports.get(report.address.lower())
            if known is None or known.classification == UNKNOWN:
                reports[report.address.lower()] = report
    return tuple(reports.values())


def _groups(text: str) -> list[dict[str, str]]:
    """Return the fields of each recipient: a blank line or a repeated Final-Recipient parts them.

    Fields about the whole message are in a group of their own, without recipient. Some servers put
    blank lines inside a recipient's group: what follows without a recipient belongs to it.
    """
    groups: list[dict[str, str]] = [{}]
    for block in re.split(r"\n[ \t]*\n", text.strip())[: _MAX_GROUPS * 2]:
        fields = list_fields(block)
        if any(name in _STARTS for name, _ in fields):
            groups.append({})
        for name, value in fields:
            if name in _STARTS and name in groups[-1]:
                groups.append({})
            groups[-1].setdefault(name, value)
    return groups[:_MAX_GROUPS]


def _report(group: dict[str, str], words: str) -> RecipientReport | None:
    address = _recipient(group)
    if not address:
        return None
    status = find_status(group.get("status", ""))
    action = _action(group.get("action", ""), status)
    diagnostic = _TYPE.sub("", group.get("diagnostic-code", ""))
    if action in ("delivered", "relayed", "expanded"):
        return RecipientReport(address, action, status, clean(diagnostic)[:500], "none/delivered")
    classification, said = classify_report(diagnostic, status, words, address=address)
    return RecipientReport(address, action, status, said[:500], classification)


def _action(value: str, status: str) -> Action:
    word = value.split(";", maxsplit=1)[0].split("(", maxsplit=1)[0].strip().lower()
    found = _ACTIONS.get(word)
    if found is not None:
        return found
    return {"2": "delivered", "4": "delayed"}.get(status[:1], "failed")  # type: ignore[return-value]


def _recipient(group: dict[str, str]) -> str:
    for name in ("final-recipient", "x-actual-recipient", "original-recipient"):
        address = find_address(_TYPE.sub("", group.get(name, "")))
        if address:
            return address
    return ""


def find_address(text: str) -> str:
    """Return the first mail address in `text`, or ""."""
    match = _ADDRESS.search(text[:1000])
    return match.group(0) if match else ""


def find_status(text: str) -> str:
    """Return the first RFC 3463 code in `text`, or ""; 5.0.0 in words like "5.0.0 (undefined)"."""
    match = _STATUS.search(text[:400])
    return match.group(0) if match else ""


def classify_report(
    diagnostic: str, status: str, words: str, *, address: str = ""
) -> tuple[str, str]:
    """Return the unified class and the words that it rests on.

    In order of trust: the diagnostic's words, replies quoted in the words for people, a status that
    says something, the other words, and the bare codes.
    """
    diagnostic = clean(diagnostic)
    coded, plain = said_to_people(words, address)
    quoted = [text for text in (diagnostic, *coded) if text]
    for text in quoted:
        answer = _by_words(text, status)
        if answer:
            return answer, diagnostic or text
    codes = [(_reply(text), text) for text in quoted] + [(Reply(None, "", status), "")]
    for reply, text in codes:
        if reply.enhanced and not _SAYS_NOTHING.fullmatch(reply.enhanced):
            answer = classify(code=reply.code, enhanced=reply.enhanced, text="")
            if answer != UNKNOWN:
                return answer, diagnostic or text
    for text in plain:
        answer = _by_words(text, status)
        if answer:
            return answer, diagnostic or text
    code = next((reply.code for reply, _ in codes if reply.code), None)
    return classify(code=code, enhanced=status or None, text=""), diagnostic or next(
        iter(quoted), ""
    )


def _by_words(text: str, status: str) -> str:
    """Return the class when the words of `text` say it, not only its codes; else ""."""
    reply = _reply(text)
    rule = deciding_rule(RULES, reply)
    if rule is None or not rule.text:
        return ""
    return classify(code=reply.code, enhanced=reply.enhanced or status or None, text=reply.text)


def _reply(text: str) -> Reply:
    """Read a reply out of a text that quotes it: the words before it name the host and command."""
    match = _REPLY_IN_TEXT.search(text)
    if match is None:
        return parse_reply(text)
    told = text[: match.start()]
    if len(told) > 300 or not _QUOTES_REPLY.search(told):
        return parse_reply(text[match.start() :])
    enhanced = find_enhanced(text[match.start() :], int(match.group(1)))
    return Reply(int(match.group(1)), clean(text), enhanced)


def said_to_people(words: str, address: str = "") -> tuple[list[str], list[str]]:
    """Return the paragraphs of `words` that quote a reply's code, and the others.

    Phrases that stand in every bounce are left out; what names the recipient comes first.
    """
    lines = [line for line in words[:20000].split("\n") if not _BOILERPLATE.match(line)]
    blocks = re.split(r"\n[ \t>]*\n", "\n".join(lines))[:80]
    telling = [block for block in map(clean, blocks) if block]
    if address:
        telling.sort(key=lambda block: address.lower() not in block.lower())
    coded = [block for block in telling if _REPLY_IN_TEXT.search(block)]
    return coded, [block for block in telling if block not in coded]
