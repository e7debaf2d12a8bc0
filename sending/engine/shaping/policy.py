"""What each mailbox provider takes from one of our addresses, and what its replies call for.

The facts are data (`engine/data/shaping.toml`, over it an operator's own file); this is how
to ask them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from importlib import resources

from sending.engine.ports import MxAnswer, Outcome
from sending.engine.replies import Reply
from sending.engine.shaping.checks import ELSEWHERE, check, first_match, rules_for
from sending.engine.shaping.file import Draft, Problem, ShapingInvalid, read_file
from sending.engine.shaping.limits import REACTION_KINDS, Limits, Reaction, ReactionKind
from sending.engine.shaping.rules import ShapingRule
from sending.engine.shaping.sites import Site, SiteIndex, readable

__all__ = [
    "REACTION_KINDS",
    "Limits",
    "Problem",
    "Reaction",
    "ReactionKind",
    "Shaping",
    "ShapingInvalid",
    "ShapingRule",
    "Site",
    "load_shaping",
]

SHIPPED = ("sites.toml", "shaping.toml")
OWN = "your own shaping file"


class Shaping:
    """Sites, limits and rules, as loaded; never changes."""

    def __init__(
        self,
        *,
        default: Limits,
        sites: Iterable[Site],
        rules: Iterable[ShapingRule],
        seconds_scale: float = 1.0,
    ) -> None:
        self.default = default
        self.sites: Mapping[str, Site] = {site.id: site for site in sites}
        self.rules = tuple(_scaled(rule, seconds_scale) for rule in rules)
        self._index = SiteIndex(self.sites.values())
        self._rules_by_site = {
            site: rules_for(self.rules, site) for site in (ELSEWHERE, *self.sites)
        }

    def site_of(self, answer: MxAnswer) -> str:
        """Return the site of a domain's MX hosts: a provider's id ("google"), else their set.

        At most 60 characters; long sets are shortened with a digest. No MX: the domain itself.
        """
        return self._index.of_answer(answer)

    def site_title(self, site: str) -> str:
        """Return the site's name for people: "Gmail and Google Workspace", or the hosts."""
        known = self.sites.get(site)
        return known.title if known is not None else readable(site)

    def limits_for(self, site: str) -> Limits:
        """Return the limits of a lane to `site`; the defaults where it is not a known provider."""
        known = self.sites.get(site)
        return known.limits if known is not None else self.default

    def reactions_to(self, outcome: Outcome, site: str) -> tuple[Reaction, ...]:
        """Return what `outcome` in a lane to `site` calls for, by the first rule that it meets.

        Only a server's refusal can call for something: never our own words, a hold or a success.
        Nor can a host that is not the site's: a domain may name a provider's host as its MX and
        answer from another one, which must not slow down everybody's mail to that provider.
        Several reactions are steps of one rule; `times` > 1 is for the caller to count (`Tally`).
        """
        if outcome.kind == "delivered" or outcome.smtp_code is None or outcome.phase == "throttle":
            return ()
        if site in self.sites and outcome.mx_host and self._index.of_host(outcome.mx_host) != site:
            return ()
        reply = Reply(outcome.smtp_code, outcome.text, outcome.enhanced_code)
        rule = self.rule_for(reply, outcome.classification, site)
        return rule.reactions if rule is not None else ()

    def rule_for(self, reply: Reply, classification: str, site: str) -> ShapingRule | None:
        """Return the rule that decides what `reply` of `site` calls for, or None."""
        rules = self._rules_by_site.get(site, self._rules_by_site[ELSEWHERE])
        return first_match(rules, reply, classification)

    @cached_property
    def rules_by_id(self) -> Mapping[str, ShapingRule]:
        """The rules by id, for pages that show where a reaction came from."""
        return {rule.id: rule for rule in self.rules}


@lru_cache(maxsize=8)
def load_shaping(
    text: str | None = None, *, extra: str | None = None, seconds_scale: float = 1.0
) -> Shaping:
    """Load and check the shipped shaping, or `text` instead, and over it an operator's `extra`.

    In `extra` a site that exists needs only the keys that change, a rule with an existing id
    replaces it, and `off = ["id"]` switches rules off; its own rules are tried before the shipped
    ones. `seconds_scale` multiplies how long reactions last, for simulated internets whose
    hours are seconds. The same arguments give the same object. Raises ShapingInvalid naming file,
    line and reason of everything wrong.
    """
    draft = Draft()
    files = shipped_files() if text is None else {SHIPPED[-1]: text}
    for name, content in files.items():
        read_file(content, name=name, draft=draft)
    _refuse(draft.problems)
    _refuse(check(draft, only_files=tuple(files)))
    if extra is not None:
        read_file(extra, name=OWN, draft=draft)
        _refuse(draft.problems)
        # An operator's rules come first; what they overtake then is their decision.
        own = [rule for rule in draft.rules.values() if draft.places["rule", rule.id].file == OWN]
        draft.rules = {rule.id: rule for rule in (*own, *draft.rules.values())}
        _refuse(check(draft, only_files=(OWN,)))
    assert draft.default is not None  # `check` has seen to it
    return Shaping(
        default=draft.default,
        sites=draft.sites.values(),
        rules=draft.rules.values(),
        seconds_scale=seconds_scale,
    )


def shipped_files() -> dict[str, str]:
    """Return the text of the shipped files by name."""
    data = resources.files("sending.engine") / "data"
    return {name: (data / name).read_text("utf-8") for name in SHIPPED}


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise ShapingInvalid(problems)


def _scaled(rule: ShapingRule, scale: float) -> ShapingRule:
    if scale == 1.0:
        return rule
    steps = tuple(
        replace(step, seconds=step.seconds * scale, within_seconds=step.within_seconds * scale)
        for step in rule.reactions
    )
    return replace(rule, reactions=steps)
