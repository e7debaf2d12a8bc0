"""The only way a door gets an object of the audience."""

from __future__ import annotations

import uuid
from typing import TypeVar

from esp.lib.errors import NotFound
from esp.lib.ids import from_public
from sending.audience.models import (
    AttributeDefinition,
    Contact,
    ContactList,
    Import,
    SignupForm,
    Suppression,
)
from tenants.directory.actor import Actor
from tenants.scoping.models import TenantModel

_M = TypeVar("_M", bound=TenantModel)


def _find(actor: Actor, model: type[_M], prefix: str, public_id: str, needs: str) -> _M:
    actor.require(needs)
    try:
        key: uuid.UUID = from_public(prefix, public_id)
    except ValueError:
        raise NotFound("There is nothing at this address.") from None
    found = model.objects.filter(pk=key, tenant_id=actor.tenant_id).first()
    if found is None:
        raise NotFound("There is nothing at this address.")
    return found


def access_contact(actor: Actor, public_id: str, *, needs: str = "audience:read") -> Contact:
    """Return the contact `con_…`; raises NotFound, PermissionMissing."""
    return _find(actor, Contact, "con", public_id, needs)


def access_list(actor: Actor, public_id: str, *, needs: str = "audience:read") -> ContactList:
    """Return the list `lst_…`; raises NotFound, PermissionMissing."""
    return _find(actor, ContactList, "lst", public_id, needs)


def access_import(actor: Actor, public_id: str, *, needs: str = "audience:read") -> Import:
    """Return the import `imp_…`; raises NotFound, PermissionMissing."""
    return _find(actor, Import, "imp", public_id, needs)


def access_form(actor: Actor, public_id: str, *, needs: str = "audience:read") -> SignupForm:
    """Return the sign-up form `frm_…`; raises NotFound, PermissionMissing."""
    return _find(actor, SignupForm, "frm", public_id, needs)


def access_suppression(
    actor: Actor, public_id: str, *, needs: str = "suppressions:read"
) -> Suppression:
    """Return the suppression `sup_…`; raises NotFound, PermissionMissing."""
    return _find(actor, Suppression, "sup", public_id, needs)


def access_attribute(
    actor: Actor, public_id: str, *, needs: str = "audience:read"
) -> AttributeDefinition:
    """Return the attribute definition `att_…`; raises NotFound, PermissionMissing."""
    return _find(actor, AttributeDefinition, "att", public_id, needs)
