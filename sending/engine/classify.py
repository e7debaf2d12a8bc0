"""What a reply means: from code, enhanced code and words to the unified classes.

The rules are data (`data/replies.toml`), words first: codes are few and used loosely (550 5.7.1
stands for a dozen different things), so they decide only when the words say nothing.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from sending.engine.ports import Kind, Outcome
from sending.engine.replies import Reply, parse_reply

UNKNOWN = "unknown/unknown"

# What other mail servers wrap around the reply that they got, when they quote it in a bounce mail:
# their words ("rejected by the recipient domain") must not be taken for the receiver's.
_WRAPPINGS = re.compile(
    r".*(?:\bsaid:|(?:other|remote) server returned was:|failed with:|"
    r"smtp error from remote (?:mail )?server after [^:]*(?::\s*<[^>]*>)?[^:]*:"
    r"(?: host [^:]*:)?)\s*(?=\S)",
    re.DOTALL,
)
_AFTER_MAIL = re.compile(r"(?:after|in reply to) mail from", re.IGNORECASE)
_TAIL = re.compile(r"\s*\(in reply to .*$")


@dataclass(frozen=True, slots=True)
class Category:
    """A unified class in words, and what follows from it."""

    name: str
    title: str
    explanation: str
    suppresses: bool = False
    is_transient: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of the rules file; `only` limits text patterns to codes ("none": no code)."""

    name: str
    category: str
    text: tuple[re.Pattern[str], ...] = ()
    enhanced: tuple[re.Pattern[str], ...] = ()
    code: tuple[re.Pattern[str], ...] = ()
    only: re.Pattern[str] | None = None
    examples: tuple[str, ...] = ()

    def matches(self, code: int | None, enhanced: str | None, text: str) -> bool:
        """Tell whether this rule decides; `text` is in lower case."""
        digits = str(code) if code is not None else "none"
        if self.only is not None and not self.only.fullmatch(digits):
            return False
        return (
            any(pattern.search(text) for pattern in self.text)
            or any(pattern.fullmatch(enhanced or "") for pattern in self.enhanced)
            or any(pattern.fullmatch(digits) for pattern in self.code)
        )


def _load(name: str) -> dict[str, Any]:
    path = resources.files("sending.engine") / "data" / name
    return tomllib.loads(path.read_text("utf-8"))


def read_rules(data: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Read the rules of a parsed file; raises KeyError, TypeError or re.error where it is wrong."""

    def patterns(entry: Mapping[str, Any], key: str) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(text, re.IGNORECASE) for text in entry.get(key, ()))

    return tuple(
        Rule(
            name=entry["name"],
            category=entry["class"],
            text=patterns(entry, "text"),
            enhanced=patterns(entry, "enhanced"),
            code=patterns(entry, "code"),
            only=re.compile(entry["only"]) if "only" in entry else None,
            examples=tuple(entry["examples"]),
        )
        for entry in data["rule"]
    )


CATEGORIES: Mapping[str, Category] = {
    name: Category(name, **entry) for name, entry in _load("classes.toml").items()
}
RULES = read_rules(_load("replies.toml"))


def classify(*, code: int | None, enhanced: str | None, text: str) -> str:
    """Return the unified "class/category" of a negative reply.

    `code` is the three-digit code, `enhanced` the RFC 3463 code, `text` the words; each may be
    missing. "unknown/unknown" when nothing says anything.
    """
    return _classify(code, enhanced, text[:2000])


@functools.lru_cache(maxsize=8192)
def _classify(code: int | None, enhanced: str | None, text: str) -> str:
    rule = deciding_rule(RULES, Reply(code, text, enhanced))
    category = rule.category if rule is not None else UNKNOWN
    return about_the_sender(category) if _AFTER_MAIL.search(text) else category


def about_the_sender(classification: str) -> str:
    """Return the class of a reply to MAIL FROM: "no such user" there speaks of the sender.

    Without this, a receiver that does not like our return path would have its users suppressed.
    """
    return "block/sender-rejected" if classification.startswith("hard/") else classification


def classify_text(line: str) -> str:
    """Classify a reply as logs and bounce mails quote it, code and words in one text."""
    reply = parse_reply(line)
    return classify(code=reply.code, enhanced=reply.enhanced, text=reply.text)


def deciding_rule(rules: tuple[Rule, ...], reply: Reply) -> Rule | None:
    """Return the first rule that matches `reply`, or None."""
    text = _plain(reply.text)
    for rule in rules:
        if rule.matches(reply.code, reply.enhanced, text):
            return rule
    return None


def _plain(text: str) -> str:
    """Return `text` in lower case on one line, without the wrapping of whoever quotes it."""
    text = " ".join(text.lower().split())
    # What matters stands in front; the cut bounds what a hostile text can make the patterns cost.
    return _TAIL.sub("", _WRAPPINGS.sub("", text, count=1))[:600]


def validate_rules(rules: tuple[Rule, ...] = RULES) -> list[str]:
    """Return what is wrong with the rules, a sentence each; empty when all is well.

    Every pattern must match an example that stands beside it, and every example must be decided by
    its own rule: a rule that can never match, or is always overtaken, is a mistake.
    """
    problems = []
    for rule in rules:
        if rule.category not in CATEGORIES:
            problems.append(f"{rule.name}: the class {rule.category} does not exist.")
        replies = [parse_reply(example) for example in rule.examples]
        for reply, example in zip(replies, rule.examples, strict=True):
            decided = deciding_rule(rules, reply)
            if decided is not rule:
                other = decided.name if decided is not None else "nothing"
                problems.append(f"{rule.name}: {example!r} is decided by {other}.")
        problems += [
            f"{rule.name}: no example for the pattern {pattern.pattern!r}."
            for pattern in _patterns_without_example(rule, replies)
        ]
    return problems


def _patterns_without_example(rule: Rule, replies: list[Reply]) -> list[re.Pattern[str]]:
    texts = [_plain(reply.text) for reply in replies]
    missing = [p for p in rule.text if not any(p.search(text) for text in texts)]
    missing += [p for p in rule.enhanced if not any(p.fullmatch(r.enhanced or "") for r in replies)]
    missing += [p for p in rule.code if not any(p.fullmatch(str(r.code)) for r in replies)]
    return missing


def kind_for(code: int | None, classification: str) -> Kind:
    """Return what a failed attempt is: "deferred" (try again) or "bounced" (final).

    The first digit decides: the server knows best whether it will change its mind. So a full
    mailbox at 5xx is final for this message (and its class does not suppress the address), and an
    unknown user at 4xx is tried again. The exception are limits and greylisting: a server that says
    "too many recipients" or "greylisted" at 5xx means later (RFC 5321 section 4.5.3.1.10).
    """
    if code is None or code < 500:
        return "deferred"
    category = CATEGORIES.get(classification)
    return "deferred" if category is not None and category.is_transient else "bounced"


def suppresses(classification: str, *, enhanced: str | None = None) -> bool:
    """Tell whether an address is to be suppressed at once for this class.

    All of "hard" does: no such mailbox, mailbox closed, address replaced, domain without mail. The
    domain too, although DNS mistakes get mended: whoever mails dead domains hits traps, and the
    look-up counts temporary failures as soft. A reply whose `enhanced` code speaks of policy
    (x.7.x) never does, whatever its words were taken for: a block for a filter's sake that is
    misread must not cost a living address its mail.
    """
    if enhanced is not None and enhanced.split(".")[1:2] == ["7"] and enhanced != "5.7.13":
        return False
    category = CATEGORIES.get(classification)
    return category is not None and category.suppresses


def is_retryable(outcome: Outcome) -> bool:
    """Tell whether the message should be tried again, expiry permitting."""
    return outcome.kind == "deferred"


def explain(classification: str) -> str:
    """Return a sentence or two for people: what happened, what to do."""
    return CATEGORIES.get(classification, CATEGORIES[UNKNOWN]).explanation


def title(classification: str) -> str:
    """Return a few words for a table's cell or a chart's legend."""
    return CATEGORIES.get(classification, CATEGORIES[UNKNOWN]).title
