"""Automatic replies: vacation notes, receipts, challenges. They say nothing about the address."""

from __future__ import annotations

import re

from sending.feedback.mailparts import Mail

_SUBJECT = re.compile(
    r"out[ -]of[ -](?:the[ -])?office|auto(?:matic)?[ -]?(?:reply|response|answer|responder)|"
    r"autoreply|autoresponse|on vacation|vacation (?:reply|message|notice)|\bvacation\b|"
    r"away from (?:my|the) (?:mail|office|desk)|on (?:annual |maternity |parental )?leave|"
    r"i am (?:away|out)|abwesen|automatische antwort|réponse automatique|absence du bureau|"
    r"respuesta automática|fuera de la oficina|risposta automatica|afwezig|自動(?:返信|応答)|"
    r"automatyczna odpowied|nieobecno|please confirm your (?:message|email)|confirm by clicking|"
    r"your (?:e-?mail|message) (?:has been|was) received|thank you for (?:your|contacting)",
    re.IGNORECASE,
)
_WORDS = re.compile(
    r"\bi (?:am|will be) (?:currently )?(?:out of|away|on (?:vacation|holiday|leave)|not in)|"
    r"out of (?:the )?office|this is an auto(?:mated|matic)|auto(?:matic)?[ -]?(?:reply|response)|"
    r"will (?:respond|reply|answer).{0,60}(?:when i|upon my|on my) return|no longer check this",
    re.IGNORECASE,
)
_CHALLENGE = re.compile(
    r"not pre-?approved|challenge.response|confirm .{0,30}you are (?:a )?human|waitlisted", re.I
)
_VACATION_HEADERS = (
    "x-autoreply",
    "x-autorespond",
    "x-autoresponse",
    "x-auto-response",
    "x-vacation",
    "x-mail-autoreply",
    "x-ms-exchange-inbox-rules-loop",
)


def is_auto_reply(mail: Mail) -> bool:
    """Tell whether a program wrote `mail` in answer to ours (RFC 3834 section 5 and customs).

    Ask about reports and bounces first: many of them call themselves auto-replied too.
    """
    submitted = mail.headers.get("auto-submitted", "").split(";")[0].strip().lower()
    if submitted.startswith(("auto-replied", "auto-notified")):
        return True
    if any(name in mail.headers for name in _VACATION_HEADERS):
        return True
    if mail.headers.get("precedence", "").strip().lower() in ("auto_reply", "auto-reply"):
        return True
    if _SUBJECT.search(mail.header("subject")):
        return True
    answers = mail.header("subject").lower().startswith(("re:", "aw:", "auto:"))
    return answers and bool(_WORDS.search(mail.text[:4000]))


def says_vacation(mail: Mail) -> bool:
    """Tell whether the sender calls it an automatic reply in so many words, unlike any bounce."""
    if any(name in mail.headers for name in _VACATION_HEADERS):
        return True
    return bool(_SUBJECT.search(mail.header("subject")))


def is_challenge(diagnostic: str) -> bool:
    """Tell whether a report is in truth a challenge: the mail waits until its sender answers."""
    return bool(_CHALLENGE.search(diagnostic))
