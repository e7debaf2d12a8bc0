"""The only way a door gets a member, an invitation or (an operator) a tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from django.db.models import Model, Q, QuerySet

from esp.lib.errors import InvalidInput, NotFound
from esp.lib.ids import from_public
from tenants.accounts.models import User
from tenants.directory.actor import Actor
from tenants.directory.models import Invitation, Membership, Tenant

M = TypeVar("M", bound=Model)
# Tenants of one name that an error tells apart.
_MOST_NAMED = 5


def access_member(actor: Actor, public_id: str, *, needs: str = "members:write") -> Membership:
    """Return a member of the actor's tenant. Raises NotFound, PermissionMissing."""
    actor.require(needs)
    return _member(actor, public_id)


def access_own_membership(actor: Actor) -> Membership:
    """Return the membership that the actor acts by. Raises NotFound."""
    found = None
    if actor.user_id is not None:
        rows = Membership.objects.filter(tenant_id=actor.tenant_id, user_id=actor.user_id)
        found = rows.select_related("user").first()
    if found is None:
        raise NotFound("You are no member here.")
    return found


def _member(actor: Actor, public_id: str) -> Membership:
    try:
        key = from_public("mem", public_id)
    except ValueError as error:
        raise NotFound("There is no such member.") from error
    rows = Membership.objects.filter(tenant_id=actor.tenant_id, pk=key)
    found = rows.select_related("user").first()
    if found is None:
        raise NotFound("There is no such member.")
    return found


def access_invitation(actor: Actor, public_id: str, *, needs: str = "members:write") -> Invitation:
    """Return an invitation of the actor's tenant. Raises NotFound, PermissionMissing."""
    actor.require(needs)
    try:
        key = from_public("inv", public_id)
    except ValueError as error:
        raise NotFound("There is no such invitation.") from error
    found = Invitation.objects.filter(tenant_id=actor.tenant_id, pk=key).first()
    if found is None:
        raise NotFound("There is no such invitation.")
    return found


def access_tenant(operator: User, public_id: str) -> Tenant:
    """Return any tenant, for an operator. Raises NotFound, for everyone else as well."""
    return operator_object(operator, Tenant.objects.all(), "ten", public_id, "tenant")


def find_tenant(operator: User, text: str, *, field: str) -> Tenant:
    """Return the tenant that an operator means by its id, its name or its short name.

    Raises InvalidInput for the form's `field` when there is none, or several have the name: then
    with the ids of these, each of which means one of them.
    """
    text = text.strip()
    if text.lower().startswith("ten_"):
        try:
            return access_tenant(operator, text)
        except NotFound as error:
            raise InvalidInput("There is no tenant with this id.", field=field) from error
    called = Tenant.objects.filter(Q(slug=text.lower()) | Q(name__iexact=text)).order_by("id")
    found = list(called[: _MOST_NAMED + 1]) if operator.is_operator else []
    if not found:
        raise InvalidInput("There is no tenant with this name or id.", field=field)
    if len(found) > 1:
        raise InvalidInput(_which_of(found), field=field)
    return found[0]


def _which_of(tenants: Sequence[Tenant]) -> str:
    named = "; ".join(
        f"{one.public_id} for {one.name}, short name {one.slug}" for one in tenants[:_MOST_NAMED]
    )
    more = "; the others are on the page of tenants" if len(tenants) > _MOST_NAMED else ""
    return f"Several tenants are called so. Type the id of the one you mean: {named}{more}."


def operator_object(operator: User, rows: QuerySet[M], prefix: str, public_id: str, what: str) -> M:
    """Return the one of `rows` that `public_id` names, for an operator.

    Raises NotFound ("There is no such `what`."), for everyone but operators as well, who thus do
    not learn what there is.
    """
    missing = NotFound(f"There is no such {what}.")
    if not operator.is_operator:
        raise missing
    try:
        key = from_public(prefix, public_id)
    except ValueError as error:
        raise missing from error
    found = rows.filter(pk=key).first()
    if found is None:
        raise missing
    return found
