"""Reads shaping files: every wrong key, type, number and pattern is refused with line and reason.

Whether the rules make sense together (examples that decide, sites that overlap) is judged in
`checks`, once all files are read.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sending.engine.classify import CATEGORIES
from sending.engine.shaping.limits import REACTION_KINDS, Limits, Reaction
from sending.engine.shaping.patterns import compile_pattern
from sending.engine.shaping.rules import ShapingRule
from sending.engine.shaping.sites import Site
from sending.engine.shaping.toml_lines import Path, line_numbers


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


class ShapingInvalid(ValueError):
    """A shaping file is wrong; `problems` has every finding, and the text one a line."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


@dataclass(slots=True)
class Draft:
    """What the files say so far, with the place of each item for later complaints."""

    default: Limits | None = None
    sites: dict[str, Site] = field(default_factory=dict)
    rules: dict[str, ShapingRule] = field(default_factory=dict)
    places: dict[tuple[str, str], Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item stands: a file and the lines of its parts."""

    file: str
    lines: Mapping[Path, int]
    path: Path

    def line(self, *parts: str | int) -> int:
        """Return the line of a part of the item, or of the nearest thing around it."""
        path = (*self.path, *parts)
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[:-1]
        return 1

    def problem(self, reason: str, *parts: str | int) -> Problem:
        """Return a complaint about a part of the item."""
        return Problem(self.file, self.line(*parts), reason)


_LIMITS: Mapping[str, type] = {
    "connections": int,
    "messages_per_connection": int,
    "connections_per_minute": int,
    "per_second": float,
    "per_minute": int,
    "per_hour": int,
    "per_day": int,
}
_BOUNDED = ("connections", "messages_per_connection")
_SITE_KEYS = ("title", "suffixes", "mx", "source", *_LIMITS)
_STEP_KEYS = ("reaction", "seconds", "factor", "times", "within_seconds")
_CONDITIONS = ("code", "enhanced", "text", "class")
_RULE_KEYS = ("id", "title", "sites", "source", "examples", "then", *_CONDITIONS, *_STEP_KEYS)
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_HOST = re.compile(r"(?!-)[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_ENHANCED = re.compile(r"(?:[45]|\*)\.(?:\d{1,3}|\*)\.(?:\d{1,3}|\*)")


def read_file(text: str, *, name: str, draft: Draft) -> None:
    """Add what the file `text` says to `draft`, over what it has; problems are collected there."""
    text = text.removeprefix("\ufeff")  # the mark that some editors put in front
    try:
        data = tomllib.loads(text)
    except RecursionError:
        deepest = max(text.splitlines(), key=lambda line: line.count("[") + line.count("{"))
        number = text.splitlines().index(deepest) + 1
        draft.problems.append(Problem(name, number, "brackets are nested far too deep"))
        return
    except ValueError as error:
        draft.problems.append(_no_toml(error, name, text))
        return
    _File(name, line_numbers(text), draft).read(data)


def _no_toml(error: ValueError, name: str, text: str) -> Problem:
    """Return the complaint about a file that the parser refused."""
    if line := re.search(r"at line (\d+)", str(error)):
        return Problem(name, int(line[1]), f"this is not TOML: {error}")
    if number := re.search(r"\d{1000,}", text):  # Python's own limit, which names no place
        return Problem(name, text.count("\n", 0, number.start()) + 1, "a number is far too long")
    return Problem(name, text.count("\n") + 1, f"this is not TOML: {error}")


class _File:
    def __init__(self, name: str, lines: Mapping[Path, int], draft: Draft) -> None:
        self._name = name
        self._lines = lines
        self._draft = draft

    def read(self, data: Mapping[str, Any]) -> None:
        top = self._place()
        self._only(top, data, ("default", "site", "rule", "off"))
        if "default" in data:
            self._default(data["default"])
        for site_id, entry in self._tables(top, data, "site"):
            self._site(site_id, entry)
        rules = data.get("rule", [])
        if not isinstance(rules, list):
            self._complain(top, "rules are written as [[rule]]", "rule")
            rules = []
        for index, entry in enumerate(rules):
            self._rule(index, entry)
        for index, rule_id in enumerate(self._texts(top, data, "off")):
            if self._draft.rules.pop(rule_id, None) is None:
                close = difflib.get_close_matches(rule_id, self._draft.rules, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                reason = f"there is no rule {rule_id!r} to switch off{hint}"
                self._complain(top, reason, "off", index)

    # --- Sites ---

    def _default(self, entry: object) -> None:
        place = self._place("default")
        if not isinstance(entry, dict):
            self._complain(place, "this must be a table")
            return
        self._only(place, entry, ("source", *_LIMITS))
        # Where it is wrong the file is refused; the stand-in saves every site from complaining too.
        limits = self._limits(place, entry, self._draft.default)
        self._draft.default = limits or Limits(1, 1)

    def _site(self, site_id: str, entry: Mapping[str, Any]) -> None:
        place = self._place("site", site_id)
        draft = self._draft
        self._only(place, entry, _SITE_KEYS)
        if not _ID.fullmatch(site_id) or len(site_id) > 40:
            self._complain(place, "a site's name has lower-case letters, digits and hyphens")
        known = draft.sites.get(site_id)
        if known is None and not {"title", "suffixes", "mx", "source"} & entry.keys():
            # Only limits, as for a site that exists: the name is wrong, all else would follow.
            close = difflib.get_close_matches(site_id, draft.sites, n=1)
            hint = (
                f"did you mean {close[0]!r}?" if close else f"known are {', '.join(draft.sites)}."
            )
            reason = f"there is no site {site_id!r} to change; {hint}"
            self._complain(place, f"{reason} A new one needs title, suffixes, mx and source")
            return
        limits = self._limits(place, entry, known.limits if known else draft.default)
        suffixes = self._hosts(place, entry, "suffixes") or (known.suffixes if known else ())
        recorded = self._hosts(place, entry, "mx") or (known.mx if known else ())
        title = self._text(place, entry, "title", known.title if known else None)
        source = self._text(place, entry, "source", known.source if known else None)
        if not suffixes:
            self._complain(place, "the site has no suffixes, so no MX can ever be its own")
        if not recorded:
            self._complain(place, "the site has no recorded mx to prove its suffixes")
        if limits is not None:
            draft.sites[site_id] = Site(site_id, title, suffixes, recorded, limits, source)
            draft.places["site", site_id] = place

    def _limits(self, place: Place, entry: Mapping[str, Any], base: Limits | None) -> Limits | None:
        given: dict[str, Any] = {}
        for key, kind in _LIMITS.items():
            if key not in entry:
                continue
            value = entry[key]
            if value == "unlimited" and key not in _BOUNDED:
                given[key] = None
            elif (number := self._number(place, entry, key, kind)) is not None:
                given[key] = number
        if base is not None:
            return replace(base, **given)
        if missing := [key for key in _BOUNDED if key not in entry]:
            self._complain(place, f"the limits lack {' and '.join(missing)}")
        if any(key not in given for key in _BOUNDED):
            return None
        return Limits(**given)

    # --- Rules ---

    def _rule(self, index: int, entry: object) -> None:
        place = self._place("rule", index)
        if not isinstance(entry, dict):
            self._complain(place, "this must be a table")
            return
        self._only(place, entry, _RULE_KEYS)
        rule_id = self._text(place, entry, "id")
        if rule_id and (not _ID.fullmatch(rule_id) or len(rule_id) > 60):
            self._complain(place, "an id has lower-case letters, digits and hyphens", "id")
        title = self._text(place, entry, "title")
        if not any(key in entry for key in _CONDITIONS):
            self._complain(place, f"the rule has no condition ({', '.join(_CONDITIONS)})")
        if "sites" not in entry:
            self._complain(place, 'the rule names no sites; write ["*"] for all')
        rule = ShapingRule(
            id=rule_id,
            title=title,
            sites=tuple(s for s in self._texts(place, entry, "sites") if s != "*"),
            codes=frozenset(self._codes(place, entry)),
            enhanced=self._enhanced(place, entry),
            texts=self._patterns(place, entry),
            classes=frozenset(self._classes(place, entry)),
            reactions=self._reactions(place, entry, rule_id, title),
            source=self._text(place, entry, "source"),
            examples=self._texts(place, entry, "examples"),
        )
        self._keep(rule, place)

    def _keep(self, rule: ShapingRule, place: Place) -> None:
        known = self._draft.places.get(("rule", rule.id))
        if known is not None and known.file == self._name:
            first = known.line("id")
            self._complain(place, f"the id {rule.id!r} stands in line {first} already", "id")
        self._draft.rules.pop(rule.id, None)
        self._draft.rules[rule.id] = rule
        self._draft.places["rule", rule.id] = place

    def _codes(self, place: Place, entry: Mapping[str, Any]) -> list[int]:
        codes = entry.get("code", [])
        if not isinstance(codes, list):
            self._complain(place, "code is a list of numbers", "code")
            return []
        for index, code in enumerate(codes):
            if type(code) is not int or not 400 <= code <= 599:
                self._complain(place, f"{code!r} is no code from 400 to 599", "code", index)
        return codes

    def _enhanced(self, place: Place, entry: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
        forms = []
        for index, form in enumerate(self._texts(place, entry, "enhanced")):
            if _ENHANCED.fullmatch(form):
                forms.append(tuple(form.split(".")))
            else:
                reason = f"{form!r} is no enhanced code such as 4.7.28 or *.7.28"
                self._complain(place, reason, "enhanced", index)
        return tuple(forms)

    def _patterns(self, place: Place, entry: Mapping[str, Any]) -> tuple[re.Pattern[str], ...]:
        patterns = []
        for index, text in enumerate(self._texts(place, entry, "text")):
            try:
                patterns.append(compile_pattern(text))
            except ValueError as error:
                self._complain(place, f"{text!r}: {error}", "text", index)
        return tuple(patterns)

    def _classes(self, place: Place, entry: Mapping[str, Any]) -> tuple[str, ...]:
        names = self._texts(place, entry, "class")
        for index, name in enumerate(names):
            if name not in CATEGORIES:
                self._complain(place, f"the class {name!r} does not exist", "class", index)
        return names

    def _reactions(
        self, place: Place, entry: Mapping[str, Any], rule: str, title: str
    ) -> tuple[Reaction, ...]:
        steps: list[tuple[Mapping[str, Any], Path]] = [(entry, ())]
        then = entry.get("then", [])
        if not isinstance(then, list) or not all(isinstance(step, dict) for step in then):
            self._complain(place, "then is a list of tables {reaction = …, seconds = …}", "then")
            then = []
        steps += [(step, ("then", index)) for index, step in enumerate(then)]
        found = []
        for step, path in steps:
            inner = self._place("rule", place.path[1], *path)
            if path:
                self._only(inner, step, _STEP_KEYS)
            if (reaction := self._reaction(inner, step, rule, title)) is not None:
                found.append(reaction)
        return tuple(found)

    def _reaction(
        self, place: Place, step: Mapping[str, Any], rule: str, title: str
    ) -> Reaction | None:
        kind = step.get("reaction")
        if kind == "nothing":
            if extra := [key for key in _STEP_KEYS[1:] if key in step]:
                self._complain(place, f"nothing takes no {' and no '.join(extra)}", extra[0])
            return None
        if kind is None:
            self._complain(place, "reaction is missing")
            return None
        if kind not in REACTION_KINDS:
            reason = f"reaction {kind!r} is none of nothing, {', '.join(REACTION_KINDS)}"
            self._complain(place, reason, "reaction")
            return None
        times, within = self._threshold(place, step)
        return Reaction(
            kind,
            rule,
            title,
            seconds=self._seconds(place, step, kind),
            factor=self._factor(place, step, kind),
            times=times,
            within_seconds=within,
        )

    def _seconds(self, place: Place, step: Mapping[str, Any], kind: str) -> float:
        if "seconds" not in step:
            self._complain(place, f"{kind} needs seconds", "reaction")
            return 0.0
        if kind.startswith("hold_") and step["seconds"] == 0:
            return 0.0  # until somebody lets it go
        return self._number(place, step, "seconds", float) or 0.0

    def _factor(self, place: Place, step: Mapping[str, Any], kind: str) -> float:
        if kind != "slow_down":
            if "factor" in step:
                self._complain(place, f"{kind} takes no factor", "factor")
            return 1.0
        factor = self._number(place, step, "factor", float)
        if factor is not None and factor >= 1:
            self._complain(place, "slow_down needs a factor between 0 and 1", "factor")
        return factor or 0.5

    def _threshold(self, place: Place, step: Mapping[str, Any]) -> tuple[int, float]:
        if ("times" in step) != ("within_seconds" in step):
            self._complain(place, "times and within_seconds go together")
        elif "times" in step:
            times = int(self._number(place, step, "times", int) or 1)
            return times, self._number(place, step, "within_seconds", float) or 0.0
        return 1, 0.0

    # --- Values ---

    def _place(self, *path: str | int) -> Place:
        return Place(self._name, self._lines, path)

    def _complain(self, place: Place, reason: str, *parts: str | int) -> None:
        self._draft.problems.append(place.problem(reason, *parts))

    def _only(self, place: Place, entry: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in entry:
            if key not in known:
                self._complain(place, f"unknown key {key!r}; known are {', '.join(known)}", key)

    def _tables(
        self, place: Place, data: Mapping[str, Any], key: str
    ) -> list[tuple[str, Mapping[str, Any]]]:
        found = data.get(key, {})
        if not isinstance(found, dict):
            self._complain(place, f"{key} must be a table", key)
            return []
        for name, entry in found.items():
            if not isinstance(entry, dict):
                self._complain(place, "this must be a table", key, name)
        return [(name, entry) for name, entry in found.items() if isinstance(entry, dict)]

    def _text(
        self, place: Place, entry: Mapping[str, Any], key: str, known: str | None = None
    ) -> str:
        value = entry.get(key, known)
        if isinstance(value, str) and value.strip():
            return value
        reason = (
            f"{key} is missing" if value is None else f"{key} must be a text with something in it"
        )
        self._complain(place, reason, key)
        return ""

    def _texts(self, place: Place, entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
        if key not in entry:
            return ()
        values = entry[key]
        if not isinstance(values, list) or not values:
            self._complain(place, f"{key} must be a list with something in it", key)
            return ()
        for index, value in enumerate(values):
            if not isinstance(value, str) or not value:
                self._complain(place, f"{value!r} in {key} is no text", key, index)
        return tuple(value for value in values if isinstance(value, str) and value)

    def _hosts(self, place: Place, entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
        names = self._texts(place, entry, key)
        for index, name in enumerate(names):
            if not _HOST.fullmatch(name):
                self._complain(place, f"{name!r} is no host name in lower case", key, index)
        return names

    def _number(
        self, place: Place, entry: Mapping[str, Any], key: str, kind: type
    ) -> float | int | None:
        value = entry.get(key)
        fits: Callable[[object], bool] = (
            (lambda v: type(v) is int) if kind is int else (lambda v: type(v) in (int, float))
        )
        if not fits(value):
            what = "a whole number" if kind is int else "a number"
            self._complain(place, f"{key} must be {what}, not {value!r}", key)
            return None
        if not 0 < value < 1e9:  # type: ignore[operator]
            self._complain(place, f"{key} must be above zero and below 10^9, not {value!r}", key)
            return None
        return value
