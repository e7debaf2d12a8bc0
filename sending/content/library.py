"""Write templates: create, edit with a check for other editors, duplicate, delete."""

from __future__ import annotations

import re
from collections.abc import Mapping

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from esp.lib.errors import Conflict, InvalidInput
from esp.lib.ids import to_public
from sending.content.errors import ContentError
from sending.content.guard import check_size
from sending.content.models import ContentKind, Template
from sending.content.selectors import MAX_NAME, free_name
from sending.content.starters import starter_named
from sending.content.types import ContentSource
from tenants.audit.services import record
from tenants.directory.actor import Actor

EDITABLE = frozenset({"name", "kind", "subject", "preview_text", "body", "text_body"})
_LIMITS = {"name": MAX_NAME, "subject": 300, "preview_text": 200}  # as the columns
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def source_of(template: Template) -> ContentSource:
    """Return what the template holds, as the compiler takes it."""
    return ContentSource(
        kind=template.kind,  # type: ignore[arg-type]
        body=template.body,
        subject=template.subject,
        text_body=template.text_body or None,
        preview_text=template.preview_text,
    )


def create_template(*, actor: Actor, starter: str = "") -> Template:
    """Make a template from the starter with this key, or an empty one for "".

    It gets a free name, to be changed in the editor. Raises InvalidInput for an unknown starter.
    """
    actor.require("templates:write")
    chosen = starter_named(starter)
    name = free_name(chosen.name if starter else "Untitled template")
    template = Template(
        tenant_id=actor.tenant_id,
        name=name,
        kind=chosen.kind,
        subject=chosen.subject,
        preview_text=chosen.preview_text,
        body=chosen.body,
    )
    _insert(actor, template, "create", {"starter": starter or "blank"})
    return template


def save_template(
    *, actor: Actor, template: Template, version: int, changes: Mapping[str, str]
) -> int:
    """Save the editor's fields; returns the new version (the same one when nothing changed).

    `version` is the one that the editor has seen. Raises InvalidInput, ContentError (with
    the field), Conflict when the template was changed or deleted since.
    """
    actor.require("templates:write")
    unknown = set(changes) - EDITABLE
    if unknown:
        raise ValueError(f"not a template's fields: {unknown}")
    values = _checked(changes)
    changed = {key: value for key, value in values.items() if getattr(template, key) != value}
    if template.version == version and not changed:
        return version
    try:
        with transaction.atomic():
            rows = Template.objects.filter(pk=template.pk, version=version)
            if not rows.update(version=F("version") + 1, updated_at=timezone.now(), **values):
                _refuse(template)
            record(
                actor,
                "content.edit",
                target=template.public_id,
                detail={"fields": sorted(changed), "version": version + 1},
            )
    except IntegrityError as error:
        raise _name_taken() from error
    template.refresh_from_db()
    return template.version


def _refuse(template: Template) -> None:
    if not Template.objects.filter(pk=template.pk).exists():
        raise Conflict(
            "Someone has deleted this template. Copy your text before you leave the page.",
            code="deleted",
        )
    raise Conflict(
        "Someone else has saved this template while you were editing it. "
        "Your changes are not saved yet.",
        code="stale-version",
    )


def _checked(changes: Mapping[str, str]) -> dict[str, str]:
    """Return the values as they are stored; raises InvalidInput with the field at fault."""
    values = dict(changes)
    for field in set(_LIMITS) & set(values):
        values[field] = values[field].strip()
        if _CONTROL.search(values[field]):
            raise InvalidInput("Line breaks and control characters cannot stand here.", field=field)
        limit = _LIMITS[field]
        if len(values[field]) > limit:
            raise InvalidInput(f"This may have {limit} characters.", field=field)
    if values.get("name") == "":
        raise InvalidInput("Give the template a name.", field="name")
    if values.get("kind", ContentKind.HTML) not in ContentKind.values:
        raise InvalidInput("Choose HTML, MJML or plain text.", field="kind")
    for field in {"body", "text_body"} & set(values):
        try:
            check_size(values[field])
        except ContentError as error:
            error.field = field
            raise
    return values


def duplicate_template(*, actor: Actor, template: Template) -> Template:
    """Make a copy under a free name."""
    actor.require("templates:write")
    fields = {name: getattr(template, name) for name in EDITABLE - {"name"}}
    copy = Template(
        tenant_id=actor.tenant_id, name=free_name(f"{template.name[:112]} (copy)"), **fields
    )
    _insert(actor, copy, "duplicate", {"from": template.public_id})
    return copy


def delete_template(*, actor: Actor, template: Template) -> None:
    """Delete a template. Campaigns and messages made from it keep their own content."""
    actor.require("templates:write")
    with transaction.atomic():
        target = to_public("tpl", template.pk)
        template.delete()
        record(actor, "content.delete", target=target, detail={"name": template.name})


def _insert(actor: Actor, template: Template, verb: str, detail: dict[str, str]) -> None:
    try:
        with transaction.atomic():
            template.save(force_insert=True)
            record(
                actor,
                f"content.{verb}",
                target=template.public_id,
                detail={"name": template.name, **detail},
            )
    except IntegrityError as error:  # someone took the free name in this very moment
        raise _name_taken() from error


def _name_taken() -> InvalidInput:
    return InvalidInput(
        "There is a template of this name already.", code="name-taken", field="name"
    )
