"""`manage.py rehearse`: a whole campaign on the simulated internet, checked recipient by recipient.

Exit code 0 only when every recipient reached a final state that the simulated mailboxes confirm.
"""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from esp.simulator.client import SimulatorUnreachable
from sending.management.rehearsal.run import Rehearsal, RehearsalStopped


class Command(BaseCommand):
    help = "Import contacts, send them a campaign, and compare with the simulated mailboxes."
    requires_system_checks = []  # they would load every page

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--contacts", type=int, default=2000)
        parser.add_argument("--tenant", default="acme", help="slug of the tenant that sends")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument(
            "--patience", type=float, default=600.0, help="seconds that a step may take"
        )
        parser.add_argument("--json", action="store_true", help="end with one line of JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it and report; raises CommandError with one sentence when it cannot be run."""
        if not settings.SIMULATOR_URL:
            raise CommandError("There is no simulated internet: start it by `make demo`.")
        rehearsal = Rehearsal(
            slug=options["tenant"],
            contacts=options["contacts"],
            seed=options["seed"],
            patience=options["patience"],
            say=self._say,
        )
        try:
            result = rehearsal.run()
        except (RehearsalStopped, SimulatorUnreachable) as error:
            raise CommandError(str(error)) from error
        for line in result.reckoning.disagreements[:20]:
            self._say(line)
        if options["json"]:
            self.stdout.write(result.json)
        if not result.reckoning.is_exact:
            sys.exit(1)

    def _say(self, line: str) -> None:
        self.stderr.write(line)
