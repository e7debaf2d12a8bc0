"""Create, change and delete contacts and the attributes that they have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, connection, transaction

from esp.lib.addresses import parse_address
from esp.lib.errors import Conflict, InvalidInput
from sending.audience.attributes import RESERVED, parse_value
from sending.audience.models import AttributeDefinition, Contact
from tenants.audit.services import record
from tenants.directory.actor import Actor
from tenants.scoping.context import scope

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
MAX_ATTRIBUTES = 200


def create_contact(
    *,
    actor: Actor,
    email: str,
    first_name: str = "",
    last_name: str = "",
    attributes: Mapping[str, Any] | None = None,
) -> Contact:
    """Add a contact; raises InvalidInput, or Conflict when the address is known."""
    actor.require("audience:write")
    address = _address(email)
    with scope(actor.tenant_id):
        contact = Contact(
            tenant_id=actor.tenant_id,
            email=address[0],
            email_norm=address[1],
            first_name=clean_name(first_name, "first_name"),
            last_name=clean_name(last_name, "last_name"),
            attributes=parse_attributes(attributes or {}),
        )
        _save(contact, force_insert=True)
    record(actor, "contact.create", target=contact.public_id)
    return contact


def update_contact(*, actor: Actor, contact: Contact, changes: Mapping[str, Any]) -> Contact:
    """Change fields: email, first_name, last_name, attributes (merged; None removes one)."""
    actor.require("audience:write")
    with scope(actor.tenant_id):
        contact = Contact.objects.select_for_update().get(pk=contact.pk)
        if "email" in changes:
            contact.email, contact.email_norm = _address(changes["email"])
        for name in ("first_name", "last_name"):
            if name in changes:
                setattr(contact, name, clean_name(changes[name], name))
        if "attributes" in changes:
            merged = {**contact.attributes, **parse_attributes(changes["attributes"], keep=True)}
            contact.attributes = {k: v for k, v in merged.items() if v is not None}
        _save(contact)
    record(actor, "contact.update", target=contact.public_id, detail={"fields": sorted(changes)})
    return contact


def delete_contact(*, actor: Actor, contact: Contact) -> None:
    """Delete a contact with subscriptions and history; suppressions of the address stay."""
    actor.require("audience:write")
    with scope(actor.tenant_id), connection.cursor() as cursor:
        cursor.execute("SELECT delete_contact(%s)", [contact.pk])
    record(actor, "contact.delete", target=contact.public_id)


def clean_name(text: str, field: str) -> str:
    """Return a name without blanks around it; raises InvalidInput for control characters."""
    text = text.strip()
    if len(text) > 100:
        raise InvalidInput("A name has at most 100 characters.", field=field)
    if _CONTROL.search(text):
        raise InvalidInput("A name cannot hold line breaks or control characters.", field=field)
    return text


def parse_attributes(raw: Mapping[str, Any], *, keep: bool = False) -> dict[str, Any]:
    """Return attribute values by their definitions' types; `keep` leaves None in, for removal.

    Raises InvalidInput for an unknown key or a value of the wrong type.
    """
    known = {definition.key: definition for definition in AttributeDefinition.objects.all()}
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in known:
            raise InvalidInput(
                f"There is no attribute “{str(key)[:40]}”. Define it first.",
                code="attribute-unknown",
                field=f"attributes.{str(key)[:40]}",
            )
        parsed = parse_value(known[key], value)
        if parsed is not None or keep:
            values[key] = parsed
    return values


def define_attribute(*, actor: Actor, key: str, label: str, kind: str) -> AttributeDefinition:
    """Add a custom attribute; raises InvalidInput, or Conflict when the key is taken."""
    actor.require("audience:write")
    label = clean_name(label, "label")[:80]
    if not _KEY.match(key) or key in RESERVED:
        raise InvalidInput(
            "A key begins with a letter and holds small letters, digits and underscores; "
            f"{', '.join(sorted(RESERVED))} are taken.",
            code="attribute-key",
            field="key",
        )
    if kind not in AttributeDefinition.Kind.values:
        raise InvalidInput("Choose a type.", field="kind")
    with scope(actor.tenant_id):
        if AttributeDefinition.objects.filter(key=key).exists():
            raise Conflict(f"There is an attribute “{key}” already.", field="key")
        if AttributeDefinition.objects.count() >= MAX_ATTRIBUTES:
            raise Conflict(f"A workspace has at most {MAX_ATTRIBUTES} attributes.")
        made = AttributeDefinition.objects.create(
            tenant_id=actor.tenant_id, key=key, label=label or key, kind=kind
        )
    record(actor, "attribute.create", target=key, detail={"kind": kind})
    return made


def remove_attribute(*, actor: Actor, definition: AttributeDefinition) -> None:
    """Remove a definition; values that contacts have stay in them, unseen, until overwritten."""
    actor.require("audience:write")
    with scope(actor.tenant_id):
        definition.delete()
    record(actor, "attribute.remove", target=definition.key)


def _address(email: str) -> tuple[str, str]:
    try:
        address = parse_address(email, allow_display=False)
    except InvalidInput as error:
        raise InvalidInput(error.message, code=error.code, field="email") from error
    return address.addr_spec, address.normalised


def _save(contact: Contact, *, force_insert: bool = False) -> None:
    try:
        with transaction.atomic():
            contact.save(force_insert=force_insert)
    except IntegrityError as error:
        raise Conflict(
            f"There is a contact with the address {contact.email} already.",
            code="contact-exists",
            field="email",
        ) from error
