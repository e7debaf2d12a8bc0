"""Judges shaping as a whole: every site has a real MX, every rule decides a real reply.

A rule that can never fire is worse than none, because people rely on it: well-known shaping files
had rules with a misspelt site, a doubled backslash or a trailing dot that nobody noticed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from sending.engine.classify import classify
from sending.engine.replies import Reply, parse_reply
from sending.engine.shaping.file import Draft, Problem
from sending.engine.shaping.rules import ShapingRule, fits, plain
from sending.engine.shaping.sites import SiteIndex

# Stands for a site that no rule names.
ELSEWHERE = ""


def rules_for(rules: Iterable[ShapingRule], site: str) -> tuple[ShapingRule, ...]:
    """Return the rules about `site` in the order of trying: its own, then the general ones."""
    all_rules = tuple(rules)
    return (
        *(rule for rule in all_rules if site in rule.sites),
        *(rule for rule in all_rules if not rule.sites),
    )


def first_match(
    rules: Sequence[ShapingRule], reply: Reply, classification: str
) -> ShapingRule | None:
    """Return the first rule that `reply` meets; None where none does or there was no reply."""
    if reply.code is None or reply.code < 400:
        return None
    text = plain(reply.text)
    for rule in rules:
        if rule.matches(reply.code, reply.enhanced, text, classification):
            return rule
    return None


def check(draft: Draft, *, only_files: tuple[str, ...]) -> list[Problem]:
    """Return what is wrong with the sites, and with the rules that stand in `only_files`."""
    if draft.default is None:
        return [Problem(only_files[0], 1, "the [default] limits are missing")]
    # Where two sites claim one suffix, the recorded hosts of one of them seem wrong as well.
    sites = _overlaps(draft) or _recorded_hosts(draft)
    return [*sites, *_rules(draft, only_files)]


def _overlaps(draft: Draft) -> list[Problem]:
    owners: dict[str, str] = {}
    problems = []
    for site in draft.sites.values():
        place = draft.places["site", site.id]
        for index, suffix in enumerate(site.suffixes):
            if (owner := owners.setdefault(suffix, site.id)) != site.id:
                reason = f"the suffix {suffix} belongs to the site {owner!r} already"
                problems.append(place.problem(reason, "suffixes", index))
    return problems


def _recorded_hosts(draft: Draft) -> list[Problem]:
    """Every recorded MX must be its site's own, and every suffix have a recorded MX."""
    index = SiteIndex(draft.sites.values())
    problems = []
    for site in draft.sites.values():
        place = draft.places["site", site.id]
        for number, host in enumerate(site.mx):
            if (owner := index.of_host(host)) != site.id:
                reason = f"the recorded MX {host} belongs to {owner or 'no site'}, not {site.id!r}"
                problems.append(place.problem(reason, "mx", number))
        for number, suffix in enumerate(site.suffixes):
            if not any(host == suffix or host.endswith(f".{suffix}") for host in site.mx):
                reason = f"no recorded MX ends in {suffix}"
                problems.append(place.problem(reason, "suffixes", number))
    return problems


def _rules(draft: Draft, only_files: tuple[str, ...]) -> list[Problem]:
    problems = []
    for rule in draft.rules.values():
        place = draft.places["rule", rule.id]
        if place.file not in only_files:
            continue
        for number, site in enumerate(rule.sites):
            if site not in draft.sites:
                close = difflib.get_close_matches(site, draft.sites, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                reason = f"there is no site {site!r}{hint}"
                problems.append(place.problem(reason, "sites", number))
        if not rule.examples:
            problems.append(place.problem("the rule has no recorded reply in examples"))
        problems += _examples(draft, rule)
        problems += _unproven(draft, rule)
    return problems


def _examples(draft: Draft, rule: ShapingRule) -> list[Problem]:
    """Every example must be decided by its rule, at each of its sites."""
    place = draft.places["rule", rule.id]
    problems = []
    for number, example in enumerate(rule.examples):
        reply = parse_reply(example)
        classification = _classify(reply)
        for site in rule.sites or (ELSEWHERE,):
            decided = first_match(rules_for(draft.rules.values(), site), reply, classification)
            if decided is not rule:
                by = f"decided by the rule {decided.id!r}" if decided else "met by no rule"
                where = f" at {site!r}" if site else ""
                problems.append(place.problem(f"{example!r} is {by}{where}", "examples", number))
                break
    return problems


def _unproven(draft: Draft, rule: ShapingRule) -> list[Problem]:
    """Every code, pattern and class of a rule must be met by one of its examples."""
    place = draft.places["rule", rule.id]
    replies = [parse_reply(example) for example in rule.examples]
    problems = []
    for number, pattern in enumerate(rule.texts):
        if not any(pattern.search(plain(reply.text)) for reply in replies):
            reason = f"no example has the text {pattern.pattern!r}"
            problems.append(place.problem(reason, "text", number))
    for code in sorted(rule.codes - {reply.code for reply in replies}):
        problems.append(place.problem(f"no example has the code {code}", "code"))
    for name in sorted(rule.classes - {_classify(reply) for reply in replies}):
        problems.append(place.problem(f"no example is of the class {name}", "class"))
    for number, form in enumerate(rule.enhanced):
        if not any(fits(reply.enhanced, form) for reply in replies):
            reason = f"no example has the enhanced code {'.'.join(form)}"
            problems.append(place.problem(reason, "enhanced", number))
    return problems


def _classify(reply: Reply) -> str:
    return classify(code=reply.code, enhanced=reply.enhanced, text=reply.text)
