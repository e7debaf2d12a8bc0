"""Create, change and archive lists."""

from __future__ import annotations

from django.db import IntegrityError, transaction
from django.utils import timezone

from esp.lib.errors import Conflict, InvalidInput
from sending.audience.models import ContactList
from sending.audience.services.contacts import clean_name
from tenants.audit.services import record
from tenants.directory.actor import Actor
from tenants.scoping.context import scope


def create_list(
    *, actor: Actor, name: str, description: str = "", opt_in: str = ContactList.OptIn.SINGLE
) -> ContactList:
    """Add a list; raises InvalidInput, or Conflict when the name is taken."""
    actor.require("audience:write")
    made = ContactList(tenant_id=actor.tenant_id)
    with scope(actor.tenant_id):
        _fill(made, name, description, opt_in)
    record(actor, "list.create", target=made.public_id, detail={"name": made.name})
    return made


def update_list(
    *, actor: Actor, contact_list: ContactList, name: str, description: str, opt_in: str
) -> ContactList:
    """Change a list; raises InvalidInput, or Conflict when the name is taken."""
    actor.require("audience:write")
    with scope(actor.tenant_id):
        _fill(contact_list, name, description, opt_in)
    record(actor, "list.update", target=contact_list.public_id, detail={"name": name})
    return contact_list


def archive_list(*, actor: Actor, contact_list: ContactList, archived: bool = True) -> None:
    """Take a list out of use (or back into it); nothing of it is lost."""
    actor.require("audience:write")
    with scope(actor.tenant_id):
        contact_list.archived_at = timezone.now() if archived else None
        contact_list.save(update_fields=["archived_at"])
    verb = "list.archive" if archived else "list.restore"
    record(actor, verb, target=contact_list.public_id)


def _fill(contact_list: ContactList, name: str, description: str, opt_in: str) -> None:
    contact_list.name = clean_name(name, "name")
    if not contact_list.name:
        raise InvalidInput("Give the list a name.", field="name")
    if opt_in not in ContactList.OptIn.values:
        raise InvalidInput("Choose single or double opt-in.", field="opt_in")
    contact_list.description = description.strip()[:300]
    contact_list.opt_in = opt_in
    try:
        with transaction.atomic():
            contact_list.save()
    except IntegrityError as error:
        raise Conflict(
            f"There is a list “{contact_list.name}” already.", code="list-exists", field="name"
        ) from error
