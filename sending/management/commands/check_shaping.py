"""Check shaping files, and try what a reply would call for before a rule goes live."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from sending.engine.classify import RULES, classify, validate_rules
from sending.engine.ports import MxAnswer, MxHost
from sending.engine.replies import parse_reply
from sending.engine.shaping.hints import retry_after
from sending.engine.shaping.limits import Reaction
from sending.engine.shaping.policy import Shaping, ShapingInvalid, load_shaping


class Command(BaseCommand):
    """`manage.py check_shaping [FILE] [--reply TEXT --site SITE] [--mx HOST ...]`."""

    help = "Check the shaping rules, with your own file over them, and try replies and MX hosts."
    requires_system_checks = []  # they would load every page

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="your own shaping file (TOML)")
        parser.add_argument("--reply", help='a reply as the server says it: "421 4.7.0 Too many…"')
        parser.add_argument("--site", default="", help="the site that says it (google, yahoo, …)")
        parser.add_argument("--mx", nargs="+", default=[], help="the MX hosts of a domain")

    def handle(self, *_args: Any, **options: Any) -> None:
        shaping = _load(options["file"])
        if problems := validate_rules():
            raise CommandError("\n".join(f"replies.toml: {problem}" for problem in problems))
        self.stdout.write(f"{len(shaping.sites)} sites and {len(shaping.rules)} rules are right.")
        self.stdout.write(f"{len(RULES)} rules that tell the classes of replies are right.")
        site = options["site"]
        if options["mx"]:
            hosts = tuple(MxHost(host, 10) for host in options["mx"])
            site = shaping.site_of(MxAnswer("", hosts))
            self.stdout.write(f"Site: {site} ({shaping.site_title(site)})")
            self.stdout.write(f"Limits of a lane: {shaping.limits_for(site)}")
        if options["reply"]:
            self.stdout.write("\n".join(_told(shaping, options["reply"], site)))


def _load(path: Path | None) -> Shaping:
    try:
        return load_shaping(extra=path.read_text("utf-8") if path else None)
    except UnicodeDecodeError as error:
        text = f"{path} cannot be read: it is not UTF-8 (byte {error.start + 1}: {error.reason})"
        raise CommandError(text) from error
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from error
    except ShapingInvalid as error:
        raise CommandError(str(error)) from error


def _told(shaping: Shaping, line: str, site: str) -> list[str]:
    """Return what the reply `line` means and calls for, a sentence a line."""
    reply = parse_reply(line)
    meaning = classify(code=reply.code, enhanced=reply.enhanced, text=reply.text)
    lines = [f"Class: {meaning}"]
    if (hint := retry_after(reply.text)) is not None:
        lines.append(f"It asks to be tried again in {hint:.0f} seconds.")
    rule = shaping.rule_for(reply, meaning, site)
    if rule is None:
        return [*lines, "No rule decides."]
    lines.append(f"Rule: {rule.id} ({rule.title}; {rule.source})")
    if not rule.reactions:
        return [*lines, "It calls for nothing."]
    return [*lines, *(_step(step) for step in rule.reactions)]


def _step(step: Reaction) -> str:
    factor = f" to {step.factor:.0%}" if step.kind == "slow_down" else ""
    length = f" for {step.seconds:.0f} seconds" if step.seconds else " until somebody lets it go"
    when = f", after {step.times} in {step.within_seconds:.0f} seconds" if step.times > 1 else ""
    return f"- {step.kind}{factor}{length}{when}"
