"""Invite people by mail, and let them in by the link they got.

The link's token is `<tenant>_<secret>`: the tenant stands in it so that the row is looked up
inside that tenant's scope; of the secret only a hash is kept.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils import timezone

from esp.kit.mail import send_system_mail
from esp.kit.valkey import take
from esp.lib.errors import Conflict, InvalidInput, LimitReached, NotFound, PermissionMissing
from esp.lib.ids import decode, encode
from tenants.accounts.models import User
from tenants.audit.services import record
from tenants.directory.actor import Actor, operator_actor
from tenants.directory.models import Invitation, Membership, Tenant
from tenants.directory.permissions import ROLE_PERMISSIONS, Role
from tenants.directory.services.members import is_owner
from tenants.scoping.context import scope

VALID_DAYS = 7
_A_DAY = 100  # invitations of one tenant
_SECRET_BYTES = 32


@dataclass(frozen=True)
class OpenInvitation:
    """An invitation that can be accepted, and whether the address has an account already."""

    invitation: Invitation
    tenant: Tenant
    has_account: bool


def invite_member(*, actor: Actor, email: str, role: str) -> Invitation:
    """Send an invitation; an open one to the same address is renewed, and its old link ends.

    Raises InvalidInput, PermissionMissing (only owners invite owners), Conflict for a member,
    LimitReached after a hundred in a day.
    """
    actor.require("members:write")
    if role not in Role.values:
        raise InvalidInput("Choose a role from the list.", field="role")
    if role == Role.OWNER and not is_owner(actor):
        raise PermissionMissing("Only an owner can invite an owner.")
    allowed = take(f"invite:{actor.tenant_id.hex}", rate=_A_DAY / 86_400, burst=_A_DAY)
    if not allowed.allowed:
        raise LimitReached(
            "Too many invitations today. Try again tomorrow.", retry_after=allowed.retry_after
        )
    tenant = Tenant.objects.get(pk=actor.tenant_id)
    return _invite(actor=actor, tenant=tenant, email=email, role=role)


def invite_owner(*, operator: User, tenant: Tenant, email: str) -> Invitation:
    """Invite an owner in an operator's name (a new tenant, or one that lost its owners)."""
    if not operator.is_operator:
        raise NotFound("There is nothing at this address.")
    with scope(tenant.pk):
        actor = operator_actor(operator, tenant.pk)
        return _invite(actor=actor, tenant=tenant, email=email, role=Role.OWNER)


def _clean_address(email: str) -> str:
    email = email.strip()
    try:
        validate_email(email)
    except ValidationError as error:
        raise InvalidInput("This is not an email address.", field="email") from error
    if len(email) > 254:
        raise InvalidInput("The address is too long.", field="email")
    return email


def _invite(*, actor: Actor, tenant: Tenant, email: str, role: str) -> Invitation:
    email = _clean_address(email)
    if Membership.objects.filter(user__email__iexact=email).exists():
        raise Conflict("This person is a member already.", code="already-member")
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    values = {
        "email": email,
        "role": role,
        "secret_hash": _hash(secret),
        "invited_by_id": actor.user_id,
        "expires_at": timezone.now() + dt.timedelta(days=VALID_DAYS),
    }
    open_rows = Invitation.objects.filter(accepted_at=None)
    found = open_rows.filter(email__iexact=email).select_for_update().first()
    if found is not None and found.role == Role.OWNER != role and not is_owner(actor):
        raise PermissionMissing("Only an owner can change an owner's invitation.")
    try:
        with transaction.atomic():
            if found is None:
                found = Invitation.objects.create(tenant=tenant, **values)
            else:
                Invitation.objects.filter(pk=found.pk).update(**values)
                found.refresh_from_db()
    except IntegrityError as error:  # two people invited the same address at once
        raise Conflict("This person has just been invited.", code="already-invited") from error
    record(actor, "directory.invite_member", target=email, detail={"role": role})
    inviter = User.objects.filter(pk=actor.user_id or 0).first()
    token = f"{encode(tenant.pk)}_{secret}"
    send_system_mail(
        "invitation",
        to=email,
        context={
            "tenant": tenant,
            "inviter": "" if inviter is None or inviter.is_operator else str(inviter),
            "role": Role(role).label,
            "days": VALID_DAYS,
            "link": f"{settings.SITE_URL}{reverse('invitation-accept', args=[token])}",
        },
    )
    return found


def revoke_invitation(*, actor: Actor, invitation: Invitation) -> None:
    """End an open invitation. Raises Conflict when it was accepted meanwhile."""
    actor.require("members:write")
    if invitation.role == Role.OWNER and not is_owner(actor):
        raise PermissionMissing("Only an owner can take back an owner's invitation.")
    deleted, _ = Invitation.objects.filter(pk=invitation.pk, accepted_at=None).delete()
    if not deleted:
        raise Conflict("The invitation is no longer open.")
    record(actor, "directory.revoke_invitation", target=invitation.email)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _gone() -> NotFound:
    return NotFound(
        "This invitation no longer works: it was used, taken back or replaced by a newer one, is "
        "too old, or the link was not copied in full. Ask for a new one.",
        code="invitation-gone",
    )


def find_invitation(token: str) -> OpenInvitation:
    """Return the open invitation of a link's token; raises NotFound for any other text."""
    tenant_text, _, secret = token.partition("_")
    try:
        tenant_id = decode(tenant_text)
    except ValueError as error:
        raise _gone() from error
    with scope(tenant_id):
        found = (
            Invitation.objects.filter(
                secret_hash=_hash(secret), accepted_at=None, expires_at__gt=timezone.now()
            )
            .select_related("tenant")
            .first()
        )
    if found is None:
        raise _gone()
    has_account = User.objects.filter(email__iexact=found.email).exists()
    return OpenInvitation(invitation=found, tenant=found.tenant, has_account=has_account)


def _join(opened: OpenInvitation, user: User) -> Membership:
    """Use the invitation up and make the membership, in the running transaction and scope."""
    invitation = opened.invitation
    used = Invitation.objects.filter(
        pk=invitation.pk, accepted_at=None, secret_hash=invitation.secret_hash
    ).update(accepted_at=timezone.now())
    if not used:
        raise _gone()
    membership, made = Membership.objects.get_or_create(
        tenant_id=invitation.tenant_id, user=user, defaults={"role": invitation.role}
    )
    if made:
        actor = Actor(
            tenant_id=invitation.tenant_id,
            permissions=ROLE_PERMISSIONS[membership.role],
            user_id=user.pk,
            label=user.email,
        )
        record(actor, "directory.join", target=user.email, detail={"role": membership.role})
    return membership


def accept_as_member(*, token: str, user: User) -> Membership:
    """Let a signed-in person in, whose address is the invited one. Raises NotFound, Conflict."""
    opened = find_invitation(token)
    if user.email.lower() != opened.invitation.email.lower():
        raise Conflict(
            f"This invitation is for {opened.invitation.email}, and you are signed in as "
            f"{user.email}. Sign out first, then open the link again.",
            code="other-person",
        )
    with scope(opened.tenant.pk):
        return _join(opened, user)


def accept_as_new_person(*, token: str, name: str, password: str) -> User:
    """Make an account for the invited address and let the person in.

    Raises NotFound, InvalidInput (a weak password), Conflict (the address has an account).
    """
    opened = find_invitation(token)
    if opened.has_account:
        raise Conflict("This address has an account: sign in to accept.", code="has-account")
    user = User(email=opened.invitation.email, name=" ".join(name.split()))
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise InvalidInput(" ".join(error.messages), field="password") from error
    user.set_password(password)
    try:
        with scope(opened.tenant.pk):
            user.save()
            _join(opened, user)
    except IntegrityError as error:
        raise Conflict("This address has an account: sign in to accept.") from error
    return user
