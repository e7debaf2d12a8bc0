"""`manage.py check_queue`: prove that every waiting message has a next attempt or a reason.

Exit code 1 when a rule is broken and was not mended.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from sending.dispatch.invariants import Cursor, Report, check_queue
from sending.dispatch.mending import mend


class Command(BaseCommand):
    help = "Check the queue: every waiting message has a next attempt or a named reason."
    requires_system_checks = []  # they would load every page

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", help="walk everything, not one window")
        parser.add_argument("--repair", action="store_true", help="mend what is safe to mend")
        parser.add_argument("--json", action="store_true", help="one line of JSON")
        parser.add_argument("--rows", type=int, default=20_000, help="size of a window")
        parser.add_argument(
            "--overdue-seconds", type=float, default=600.0, help="how late is too late"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Check, mend, say."""
        whole = Report()
        cursor = Cursor()
        while True:
            report = check_queue(
                now=timezone.now(),
                after=cursor,
                rows=options["rows"],
                overdue_seconds=options["overdue_seconds"],
            )
            if options["repair"]:
                mend(report, now=timezone.now())
            _add(whole, report)
            cursor = report.cursor
            if not options["all"] or cursor == Cursor():
                break
        self._say(whole, as_json=options["json"])
        if not whole.is_well:
            sys.exit(1)

    def _say(self, report: Report, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(
                json.dumps(
                    {
                        "is_well": report.is_well,
                        "entries_seen": report.entries_seen,
                        "messages_seen": report.messages_seen,
                        "batches_waiting": report.waiting,
                        "findings": [finding.as_dict() for finding in report.findings],
                        "repaired": report.repaired,
                    }
                )
            )
            return
        for finding in report.findings:
            examples = ", ".join(finding.as_dict()["examples"])
            self.stdout.write(f"{finding.kind}: {finding.sentence} ({examples})")
            if finding.kind in report.repaired:
                self.stdout.write(f"  mended: {report.repaired[finding.kind]}")
        if not report.findings:
            self.stdout.write("Every waiting message has a next attempt or a reason.")
        for state, count in sorted(report.waiting.items()):
            self.stdout.write(f"{count} batches with waiting mail: {state}")


def _add(whole: Report, report: Report) -> None:
    """Add a window's findings to those of the windows before."""
    kinds = {finding.kind: finding for finding in whole.findings}
    for finding in report.findings:
        before = kinds.get(finding.kind)
        ids = tuple(dict.fromkeys((*(before.ids if before else ()), *finding.ids)))
        kinds[finding.kind] = type(finding)(finding.kind, ids)
    whole.findings = [kinds[kind] for kind in sorted(kinds)]
    for state, count in report.waiting.items():
        whole.waiting[state] = whole.waiting.get(state, 0) + count
    whole.entries_seen += report.entries_seen
    whole.messages_seen += report.messages_seen
    for kind, count in report.repaired.items():
        whole.repaired[kind] = whole.repaired.get(kind, 0) + count
