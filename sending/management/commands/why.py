"""Say why a message waits or failed, on the terminal."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from esp.lib.ids import from_public
from sending.events.timeline import timeline_of
from sending.lanes.models import LaneState
from sending.lanes.selectors import lane_facts
from sending.messages.batch_waiting import waits_of
from sending.messages.lane_waiting import count_lanes, sees_all_tenants
from sending.messages.models import Batch, Message
from sending.messages.selectors import batch_of, queue_entry_of
from sending.messages.stopped import stopped_mail
from sending.messages.waiting import explanation_of, moment, wait_of
from tenants.scoping.context import scope


class Command(BaseCommand):
    """`manage.py why msg_…`, `manage.py why bat_…` or `manage.py why lane_…`."""

    help = "Say in words why a message, the rest of a batch or a lane waits, and what was tried."
    requires_system_checks = []  # they would load every page

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", help="a message (msg_…), a batch (bat_…) or a lane (lane_…)")

    def handle(self, *_args: Any, **options: Any) -> None:
        public_id = str(options["id"]).strip()
        if public_id.startswith("bat_"):
            self._batch(public_id)
        elif public_id.startswith("lane_"):
            self._lane(public_id)
        else:
            self._message(public_id)

    def _message(self, public_id: str) -> None:
        try:
            message = Message.unscoped.filter(pk=from_public("msg", public_id)).first()
        except ValueError as error:
            raise CommandError("Give an id such as msg_01k9y7mv5xf4a8k2r5t9c3w6hd.") from error
        if message is None:
            raise CommandError("There is no such message.")
        with scope(message.tenant_id):
            entry, batch = queue_entry_of(message), batch_of(message)
            self.stdout.write(f"{message.recipient}: {message.get_status_display()}")
            self.stdout.write(explanation_of(message, entry, batch))
            wait = wait_of(message, entry, batch)
            for cause in wait.causes[1:] if wait is not None else ():
                until = f" Until {moment(cause.until)}." if cause.until else ""
                self.stdout.write(f"Also: {cause.text}{until}")
            if wait is not None:
                self.stdout.write(f"It is given up after {moment(wait.expires_at)}.")
            for attempt in timeline_of(message.pk).attempts:
                by = f" by {attempt.route}" if attempt.route else ""
                where = f"{attempt.mx_host or '–'} from {attempt.source_address or '–'}{by}"
                reply = attempt.reply or "no reply"
                self.stdout.write(f"{moment(attempt.at)}  {attempt.outcome}  {where}  {reply}")

    def _batch(self, public_id: str) -> None:
        try:
            batch = Batch.unscoped.filter(pk=from_public("bat", public_id)).first()
        except ValueError as error:
            raise CommandError("Give an id such as bat_01k9y7mv5wehtr1m6h0q4x7k5p.") from error
        if batch is None:
            raise CommandError("There is no such batch.")
        with scope(batch.tenant_id):
            groups = waits_of(batch)
            self.stdout.write(f"{batch.label}: {batch.get_status_display()}")
            if not groups:
                self.stdout.write("Nothing of it waits.")
            for group in groups:
                more = " or more" if group.is_sampled else ""
                next_at = group.next_attempt_at
                again = f" Next attempt: {moment(next_at)}." if next_at is not None else ""
                if group.is_too_late:
                    again = " They are given up before."
                self.stdout.write(f"{group.count}{more}: {group.cause.text}{again}")

    def _lane(self, public_id: str) -> None:
        try:
            lane = LaneState.objects.filter(pk=from_public("lane", public_id)).first()
        except ValueError as error:
            raise CommandError("Give an id such as lane_01k9y7mv5xf4a8k2r5t9c3w6hd.") from error
        if lane is None:
            raise CommandError("There is no such lane.")
        now = timezone.now()
        facts = lane_facts(lane.source_id, lane.site, now=now)
        self.stdout.write(f"{facts.site_title} from {facts.source_address}: {facts.state}")
        if facts.state != "running":
            until = f" Until {moment(facts.until)}." if facts.until else ""
            reason = (facts.reason or "No reason was given").rstrip(".")
            self.stdout.write(f"{reason}.{until}")
        self.stdout.write(f"Sent today: {facts.sent_day}. Last refusal: {facts.last_reply or '–'}")
        if not sees_all_tenants():
            self.stdout.write("What waits is on the lane's page; here, the workers' role sees it.")
            return
        parts, _ = count_lanes(
            now, stopped=stopped_mail(now), source_id=lane.source_id, site=lane.site
        )
        if not parts:
            self.stdout.write("Nothing waits here.")
        for part in parts:
            example = f" For example: {part.example}" if part.example else ""
            again = f" Next attempt: {moment(part.next_at)}." if part.next_at else ""
            self.stdout.write(f"{part.count} ({part.why}).{example}{again}")
