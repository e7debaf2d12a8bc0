"""Take a file in, say what its columns mean, try it, run it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.utils import timezone

from esp.kit.jobs import enqueue_on_commit
from esp.lib.errors import Conflict, InvalidInput
from esp.lib.ids import new_id
from sending.audience import csv_source, import_mapping, jobs
from sending.audience.attributes import RESERVED
from sending.audience.importer import upload_path
from sending.audience.models import AttributeDefinition, ContactList, Import
from sending.audience.services.contacts import define_attribute
from tenants.audit.services import record
from tenants.directory.actor import Actor
from tenants.scoping.context import scope

_NEW = "new:"


def upload_import(*, actor: Actor, file: UploadedFile[Any]) -> Import:
    """Keep an uploaded file and describe it; raises InvalidInput for what is not CSV.

    The file is written in pieces, brought to UTF-8, and never held in memory.
    """
    actor.require("audience:write")
    key = new_id()
    folder = f"imports/{actor.tenant_id}"
    raw, clean = upload_path(f"{folder}/{key}.upload"), upload_path(f"{folder}/{key}.csv")
    filename = (file.name or "file.csv")[:255]
    csv_source.refuse_other_formats(file.read(8), filename)
    file.seek(0)
    clean.parent.mkdir(parents=True, exist_ok=True)
    try:
        with raw.open("wb") as writer:
            for chunk in file.chunks(1024 * 1024):
                writer.write(chunk)
        encoding = csv_source.detect_encoding(raw)
        csv_source.normalise(raw, clean, encoding)
        dialect, first = csv_source.describe(clean, encoding)
    except InvalidInput:
        clean.unlink(missing_ok=True)
        raise
    finally:
        raw.unlink(missing_ok=True)
    with scope(actor.tenant_id):
        keys = list(AttributeDefinition.objects.values_list("key", flat=True))
        header = first[0] if dialect.has_header else [""] * dialect.columns
        header = header + [""] * (dialect.columns - len(header))
        job = Import.objects.create(
            id=key,
            tenant_id=actor.tenant_id,
            filename=filename.replace("\x00", ""),
            path=f"{folder}/{key}.csv",
            errors_path=f"{folder}/{key}-errors.csv",
            size_bytes=clean.stat().st_size,
            dialect={**dialect.as_json(), "first": [[c[:200] for c in row] for row in first]},
            mapping=import_mapping.guess(header, first[1:], keys),
            created_by_id=actor.user_id,
        )
    record(actor, "import.upload", target=job.public_id, detail={"bytes": job.size_bytes})
    return job


def check_import(
    *,
    actor: Actor,
    job: Import,
    targets: Sequence[str],
    contact_list: ContactList | None,
    on_duplicate: str,
    consent_text: str,
    has_header: bool,
) -> None:
    """Settle what the columns mean and have the file tried in the background.

    A target `new:<kind>` makes an attribute named like the column. Raises InvalidInput for a
    mapping that cannot be used, Conflict while the import is running or done.
    """
    actor.require("audience:write")
    if contact_list is not None and not consent_text.strip():
        raise InvalidInput("Say how these people agreed to get mail.", field="consent_text")
    if on_duplicate not in Import.OnDuplicate.values:
        raise InvalidInput("Choose what happens to known contacts.", field="on_duplicate")
    if len(targets) != job.dialect["columns"]:
        raise InvalidInput("Say of each column what it is.", field="mapping")
    with scope(actor.tenant_id):
        plain = ["" if target.startswith(_NEW) else target for target in targets]
        import_mapping.resolve(plain)
        _refuse_unknown(plain)
        mapping = [_settled(actor, job, index, target) for index, target in enumerate(targets)]
        import_mapping.resolve(mapping)
        open_states = [Import.Status.UPLOADED, Import.Status.CHECKED, Import.Status.FAILED]
        changed = Import.objects.filter(pk=job.pk, status__in=open_states).update(
            status=Import.Status.CHECKING,
            mapping=mapping,
            dialect={**job.dialect, "has_header": has_header},
            contact_list=contact_list,
            on_duplicate=on_duplicate,
            consent_text=consent_text.strip()[:500],
            **_from_the_start(),
        )
        if not changed:
            raise Conflict("This import is being worked on, or done.", code="import-not-open")
        enqueue_on_commit(jobs.CHECK_IMPORT, str(job.pk))


def start_import(*, actor: Actor, job: Import) -> None:
    """Have a checked import run in the background; pressing twice starts one run."""
    actor.require("audience:write")
    with scope(actor.tenant_id):
        changed = Import.objects.filter(pk=job.pk, status=Import.Status.CHECKED).update(
            status=Import.Status.RUNNING, **_from_the_start()
        )
        if not changed:
            raise Conflict("Only a checked import can be started, once.", code="import-not-checked")
        record(actor, "import.start", target=job.public_id, detail={"file": job.filename})
        enqueue_on_commit(jobs.RUN_IMPORT, str(job.pk))


def _from_the_start() -> dict[str, object]:
    return {
        "bytes_done": 0,
        "cursor": {},
        "counts": {},
        "claim": None,
        "problem": "",
        "started_at": None,
        "finished_at": None,
        "heartbeat_at": timezone.now(),  # the sweep gives the wake-up its time
    }


def _refuse_unknown(targets: Sequence[str]) -> None:
    wanted = {t.partition(".")[2] for t in targets if t.startswith("attributes.")}
    known = set(AttributeDefinition.objects.filter(key__in=wanted).values_list("key", flat=True))
    if wanted - known:
        raise InvalidInput("A column goes into an attribute that does not exist.", field="mapping")


def _settled(actor: Actor, job: Import, index: int, target: str) -> str:
    if not target.startswith(_NEW):
        return target
    rows = job.dialect.get("first") or [[]]
    header = rows[0][index] if job.dialect["has_header"] and index < len(rows[0]) else ""
    key = import_mapping.key_of(header) or f"column_{index + 1}"
    if key in RESERVED:  # a column "Today" is no reason to refuse the file
        key = f"{key}_value"
    known = AttributeDefinition.objects.filter(key=key).first()
    if known is None:
        label = header.strip()[:80] or key
        define_attribute(actor=actor, key=key, label=label, kind=target.removeprefix(_NEW))
    return f"attributes.{key}"
