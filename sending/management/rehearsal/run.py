"""The main job of the product, as a tenant does it: import a file, compose, review, send, watch."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile

from deliverability.domains.models import Sender
from esp.simulator.client import SimulatorClient
from sending.audience.models import ContactList, Import
from sending.audience.services import create_list
from sending.audience.services.imports import check_import, start_import, upload_import
from sending.campaigns.models import Campaign
from sending.campaigns.report import progress_of
from sending.campaigns.review import review_campaign
from sending.campaigns.services import create_campaign, save_draft, send_campaign
from sending.content.models import ContentKind
from sending.management.rehearsal import letter
from sending.management.rehearsal.bar import Bar
from sending.management.rehearsal.people import people_csv
from sending.management.rehearsal.reconcile import (
    Reckoning,
    first_attempt_at,
    ledger_position,
    reconcile,
)
from sending.messages.models import Message
from tenants.directory.actor import Actor, system_actor
from tenants.directory.models import Tenant
from tenants.scoping.context import scope

T = TypeVar("T")

_POLL_SECONDS = 0.25


class RehearsalStopped(Exception):
    """A step did not come to its end in time; the text says which."""


@dataclass(frozen=True)
class Result:
    """The outcome: the exact counts, and the line of JSON about them."""

    reckoning: Reckoning
    figures: dict[str, Any]

    @property
    def json(self) -> str:
        return json.dumps(self.figures)


class Rehearsal:
    """One run for the tenant `slug`; `say` shows progress to people."""

    def __init__(
        self, *, slug: str, contacts: int, seed: int, patience: float, say: Callable[[str], None]
    ) -> None:
        self.tenant = Tenant.objects.get(slug=slug)
        self.contacts = contacts
        self.seed = seed
        self.patience = patience
        self.say = say
        self.actor: Actor = system_actor(self.tenant.pk, "Rehearsal")
        self.client = SimulatorClient(settings.SIMULATOR_URL)

    def run(self) -> Result:
        """Do it all; raises RehearsalStopped when a step takes longer than `patience` seconds."""
        after_id, since = ledger_position(self.client), time.time()
        contact_list = self._import()
        campaign = self._compose(contact_list)
        expected = self._send(campaign)
        self._watch(campaign, expected)
        self._await_reactions(campaign)
        return self._result(campaign, expected, after_id, since)

    def _scoped(self, work: Callable[[], T]) -> T:
        with scope(self.tenant.pk):
            return work()

    def _wait(self, what: str, check: Callable[[], T | None]) -> T:
        """Return what `check` returns (in the tenant's scope) once it is not None."""
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            found = self._scoped(check)
            if found is not None:
                return found
            time.sleep(_POLL_SECONDS)
        raise RehearsalStopped(f"{what} did not finish within {self.patience:.0f} seconds.")

    # -- the steps ---------------------------------------------------------------------------

    def _import(self) -> ContactList:
        run = self._scoped(Import.objects.count) + 1
        self.say(f"Importing {self.contacts:,} contacts from a CSV file ...")
        data = people_csv(count=self.contacts, seed=self.seed, run=run)
        contact_list = self._scoped(lambda: create_list(actor=self.actor, name=f"Gardeners {run}"))
        file = SimpleUploadedFile(f"gardeners-{run}.csv", data, content_type="text/csv")
        job = self._scoped(lambda: upload_import(actor=self.actor, file=file))
        self._scoped(
            lambda: check_import(
                actor=self.actor,
                job=job,
                targets=["email", "first_name", "last_name", "new:text"],
                contact_list=contact_list,
                on_duplicate=Import.OnDuplicate.UPDATE,
                consent_text="Signed up for the garden letter on our web site.",
                has_header=True,
            )
        )
        self._wait("The dry run of the import", lambda: _import_in(job.pk, Import.Status.CHECKED))
        self._scoped(lambda: start_import(actor=self.actor, job=job))
        done = self._wait("The import", lambda: _import_in(job.pk, Import.Status.DONE))
        self.say(f"Imported: {json.dumps(done.counts)}")
        return contact_list

    def _compose(self, contact_list: ContactList) -> Campaign:
        def compose() -> Campaign:
            campaign = create_campaign(actor=self.actor, name=f"Spring letter to {contact_list}")
            save_draft(
                actor=self.actor,
                campaign=campaign,
                version=campaign.version,
                changes={
                    "sender": Sender.objects.select_related("domain").order_by("id").first(),
                    "subject": letter.SUBJECT,
                    "preview_text": letter.PREVIEW,
                    "content_kind": ContentKind.MJML,
                    "body": letter.BODY,
                },
                lists=[contact_list],
            )
            return campaign

        return self._scoped(compose)

    def _send(self, campaign: Campaign) -> int:
        def reviewed() -> int | None:
            review = review_campaign(campaign)
            return None if review.is_compiling else review.audience.recipients

        expected = self._wait("The review", reviewed)
        self._scoped(lambda: send_campaign(actor=self.actor, campaign=campaign))
        self.say(f"Sending to {expected:,} recipients ...")
        return expected

    def _watch(self, campaign: Campaign, expected: int) -> None:
        bar = Bar()

        def look() -> bool | None:
            campaign.refresh_from_db()
            is_over = campaign.status == Campaign.Status.SENT
            bar.draw(progress_of(campaign), total=expected, finished=is_over)
            return True if is_over else None

        self._wait("The campaign", look)

    def _await_reactions(self, campaign: Campaign) -> None:
        """Wait until readers and late bounces have come back and are recorded."""
        self.say("Waiting for readers, late bounces and complaints ...")

        batch_id = campaign.batch_id
        assert batch_id is not None

        def settled() -> bool | None:
            summary = self.client.summary()
            if summary.pending_reactions:
                return None
            facts = Message.objects.filter(batch_id=batch_id)
            complained = facts.filter(complained_at__isnull=False).count()
            late = facts.filter(bounced_late_at__isnull=False).count()
            ours = self._sent_back(campaign)
            return True if complained >= ours[0] and late >= ours[1] else None

        self._wait("The readers' reactions", settled)

    def _sent_back(self, campaign: Campaign) -> tuple[int, int]:
        """Return how many complaints and late bounces the simulated world sent for this run."""
        assert campaign.started_at is not None
        summary = self.client.summary(since=campaign.started_at.timestamp())
        return summary.complaints_sent, summary.late_bounces_sent

    # -- the result --------------------------------------------------------------------------

    def _result(self, campaign: Campaign, expected: int, after_id: int, since: float) -> Result:
        batch_id = campaign.batch_id
        assert batch_id is not None

        def reckon() -> Result:
            reckoning = reconcile(
                batch_id=batch_id,
                expected=expected,
                client=self.client,
                after_id=after_id,
                since=since,
            )
            return Result(reckoning, _figures(batch_id, reckoning))

        return self._scoped(reckon)


def _import_in(job_id: uuid.UUID, status: str) -> Import | None:
    job = Import.objects.get(pk=job_id)
    if job.status == Import.Status.FAILED:
        raise RehearsalStopped(f"The import failed: {job.problem}")
    return job if job.status == status else None


def _figures(batch_id: uuid.UUID, reckoning: Reckoning) -> dict[str, Any]:
    delivered = Message.objects.filter(batch_id=batch_id, status=Message.Status.DELIVERED)
    times = delivered.order_by("final_at").values_list("final_at", flat=True)
    first, last = times.first(), times.last()
    began = first_attempt_at(batch_id)
    seconds = last.timestamp() - began if last and began else 0.0
    return {
        "recipients": reckoning.recipients,
        "delivered": reckoning.delivered,
        "bounced": reckoning.bounced,
        "bounced_late": reckoning.bounced_late,
        "complained": reckoning.complained,
        "deferred_then_delivered": reckoning.deferred_then_delivered,
        "lost": reckoning.lost,
        "duplicates": reckoning.duplicates,
        "first_delivery_at": first.timestamp() if first else None,
        "messages_per_second": round(delivered.count() / seconds, 1) if seconds > 0 else 0.0,
    }
