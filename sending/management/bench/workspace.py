"""A workspace for a benchmark, and what a person does in it: import a file, start a campaign."""

from __future__ import annotations

import itertools
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.utils import timezone

from deliverability.domains.models import DkimKey, Domain, Sender
from deliverability.domains.services import add_domain, add_sender
from deliverability.ips.models import IpAddress, IpPool
from sending.audience import importer
from sending.audience.models import ContactList, Import
from sending.audience.services import create_list
from sending.audience.services.imports import check_import, start_import, upload_import
from sending.campaigns.models import Campaign
from sending.campaigns.review import review_campaign
from sending.campaigns.services import create_campaign, save_draft, send_campaign
from sending.content.models import CompiledVersion, ContentKind
from sending.content.services import compile_version
from sending.lanes.models import LimitOverride
from sending.management.bench import letter
from sending.management.bench.people import TARGETS, domain_of
from tenants.directory.actor import Actor, system_actor
from tenants.directory.models import Tenant
from tenants.scoping.context import scope

_SOURCES = ("127.0.2.1", "127.0.2.2", "127.0.2.3")
_SITES = 20
# Which keys sign, by the command line's --sign.
_ALGORITHMS = {
    "rsa": [DkimKey.Algorithm.RSA],
    "both": [DkimKey.Algorithm.RSA, DkimKey.Algorithm.ED25519],
    "none": [],
}


@dataclass(frozen=True)
class Workspace:
    """A tenant of the benchmark's own and the actor that acts in it."""

    tenant: Tenant
    actor: Actor
    contact_list: ContactList


@dataclass(frozen=True)
class Imported:
    """A finished import with the seconds of its three steps."""

    job: Import
    upload_seconds: float
    check_seconds: float
    run_seconds: float


def make_workspace(*, name: str = "Bench", host: str = "bench.example") -> Workspace:
    """Make a tenant with a list, a sender on a verified domain, and two source IPs."""
    tenant = Tenant.objects.create(
        name=name, slug=name.lower(), postal_address="1 Main Street, Springfield"
    )
    actor = system_actor(tenant.pk, "Benchmark")
    with scope(tenant.pk):
        contact_list = create_list(actor=actor, name="Gardeners")
        domain = add_domain(actor=actor, name=host)
        # What is measured here is not DNS checks of domains.
        Domain.objects.filter(pk=domain.pk).update(
            status=Domain.Status.VERIFIED, verified_at=timezone.now()
        )
        add_sender(actor=actor, name="The Garden Letter", email=f"news@{host}")
    _make_sources(name)
    _open_sinks()
    return Workspace(tenant, actor, contact_list)


def _make_sources(name: str) -> None:
    """Make two addresses for campaigns and one for single messages, as an operator should."""
    pools = {
        purpose: IpPool.objects.create(name=f"{name} {purpose}", purpose=purpose)
        for purpose in (IpPool.Purpose.BROADCAST, IpPool.Purpose.TRANSACTIONAL)
    }
    for number, address in enumerate(_SOURCES, 1):
        is_last = number == len(_SOURCES)
        pool = pools[IpPool.Purpose.TRANSACTIONAL if is_last else IpPool.Purpose.BROADCAST]
        IpAddress.objects.get_or_create(
            address=address, defaults={"pool": pool, "ehlo_name": f"out{number}.mailwright.test"}
        )


def _open_sinks() -> None:
    """Take the limits off: the sinks have none, and what is measured is not our politeness."""
    for number in range(_SITES):
        LimitOverride.objects.update_or_create(
            scope=LimitOverride.Scope.SITE,
            key=f"mx.{domain_of(number, _SITES)}",
            defaults={
                "connections": 200, "messages_per_connection": 10_000,
                "connections_per_minute": 100_000, "per_second": 100_000,
                "per_minute": 10_000_000, "per_hour": 100_000_000, "per_day": 1_000_000_000,
            },
        )  # fmt: skip


def import_file(workspace: Workspace, path: Path) -> Imported:
    """Upload, check and run an import of `path`, as a person has it done."""
    times = [time.perf_counter()]
    with path.open("rb") as file:
        upload: UploadedFile[Any] = UploadedFile(file, name=path.name, size=path.stat().st_size)
        job = upload_import(actor=workspace.actor, file=upload)
    times.append(time.perf_counter())
    check_import(
        actor=workspace.actor,
        job=job,
        targets=TARGETS,
        contact_list=workspace.contact_list,
        on_duplicate=Import.OnDuplicate.UPDATE,
        consent_text="Signed up for the garden letter on our web site.",
        has_header=True,
    )
    importer.check(job.pk)
    times.append(time.perf_counter())
    start_import(actor=workspace.actor, job=job)
    if not importer.run(job.pk):
        raise RuntimeError("the import did not come to its end")
    times.append(time.perf_counter())
    job = Import.unscoped.get(pk=job.pk)
    return Imported(job, *(end - start for start, end in itertools.pairwise(times)))


def start_campaign(workspace: Workspace, *, sign: str) -> Campaign:
    """Compose the letter, have it compiled, review and start it; its messages are still to make."""
    actor = workspace.actor
    with scope(workspace.tenant.pk):
        sender = Sender.objects.select_related("domain").get()
        campaign = create_campaign(actor=actor, name="Spring letter")
        save_draft(
            actor=actor,
            campaign=campaign,
            version=campaign.version,
            changes={
                "sender": sender,
                "subject": letter.SUBJECT,
                "preview_text": letter.PREVIEW,
                "content_kind": ContentKind.HTML,
                "body": letter.BODY,
            },
            lists=[workspace.contact_list],
        )
        review_campaign(campaign)
    _compile_all(workspace.tenant.pk)
    with scope(workspace.tenant.pk):
        campaign.refresh_from_db()
        send_campaign(actor=actor, campaign=campaign)
        keys = DkimKey.objects.filter(domain=sender.domain)
        keys.exclude(algorithm__in=_ALGORITHMS[sign]).update(is_active=False)
        campaign.refresh_from_db()
    return campaign


def _compile_all(tenant_id: uuid.UUID) -> None:
    """Do the content worker's part."""
    with scope(tenant_id):
        waiting = list(
            CompiledVersion.objects.filter(finished_at=None).values_list("pk", flat=True)
        )
    for version_id in waiting:
        compile_version(tenant_id=tenant_id, version_id=version_id)
