"""Doors about the workspace: switching, settings, members, invitations."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from esp.kit.forms import add_domain_error
from esp.kit.pages import status_of
from esp.lib.errors import DomainError, NotFound
from tenants.accounts.models import User
from tenants.directory import services
from tenants.directory.access import access_invitation, access_member, access_own_membership
from tenants.directory.forms import ROLE_WORDS, InviteForm, JoinForm, WorkspaceForm
from tenants.directory.gate import MemberRequest, member_page, person_page, public_page
from tenants.directory.models import Tenant
from tenants.directory.permissions import Role
from tenants.directory.selectors import members, memberships_of, open_invitations

WORKSPACE_SESSION_KEY = "workspace"


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the gate has let a signed-in person in
    return request.user


@person_page
@require_POST
def switch_workspace(request: HttpRequest) -> HttpResponse:
    """Work in another workspace of one's own from now on."""
    wanted = request.POST.get("tenant", "")
    own = {str(row.tenant_id) for row in memberships_of(_person(request))}
    if wanted not in own:
        raise NotFound("You are not a member of this workspace.")
    request.session[WORKSPACE_SESSION_KEY] = wanted
    return redirect("dashboard")


@member_page(needs=None)
@require_http_methods(["GET", "POST"])
def workspace_settings(request: MemberRequest) -> HttpResponse:
    """Show the workspace's settings, and change them (needs settings:write)."""
    actor = request.actor
    tenant = Tenant.objects.get(pk=actor.tenant_id)
    if request.method == "GET":
        initial = {
            "name": tenant.name,
            "postal_address": tenant.postal_address,
            "timezone": tenant.timezone,
        }
        return _settings_page(request, WorkspaceForm(initial=initial), tenant)
    actor.require("settings:write")
    form = WorkspaceForm(request.POST)
    if form.is_valid():
        try:
            services.update_workspace(actor=actor, **form.cleaned_data)
        except DomainError as error:
            add_domain_error(form, error)
        else:
            messages.success(request, "The settings are saved.")
            return redirect("settings-workspace")
    return _settings_page(request, form, tenant, status=422)


def _settings_page(
    request: MemberRequest, form: WorkspaceForm, tenant: Tenant, *, status: int = 200
) -> HttpResponse:
    own = access_own_membership(request.actor)
    context = {"form": form, "workspace": tenant, "own": own}
    return render(request, "tenants/directory/workspace.html", context, status=status)


@member_page(needs="members:read")
@require_GET
def members_list(request: MemberRequest) -> HttpResponse:
    """Show members and open invitations."""
    return _members_page(request, InviteForm())


def _members_page(request: MemberRequest, form: InviteForm, *, status: int = 200) -> HttpResponse:
    people = members()
    own_role = next((row.role for row in people if row.user_id == request.actor.user_id), "")
    context = {
        "members": people,
        "owners": sum(row.role == Role.OWNER for row in people),
        "invitations": open_invitations(),
        "form": form,
        "roles": [(role.value, role.label) for role in Role],
        "role_words": [(role.label, ROLE_WORDS[role]) for role in Role],
        "own_role": own_role,
        # Whom only an owner may change.
        "fixed": {row.pk for row in people if row.role == Role.OWNER != own_role},
    }
    return render(request, "tenants/directory/members.html", context, status=status)


@member_page(needs="members:write")
@require_POST
def invite(request: MemberRequest) -> HttpResponse:
    """Invite a person by mail."""
    form = InviteForm(request.POST)
    if not form.is_valid():
        return _members_page(request, form, status=422)
    try:
        found = services.invite_member(actor=request.actor, **form.cleaned_data)
    except DomainError as error:
        form.add_error("email" if error.code.startswith("already") else None, error.message)
        return _members_page(request, form, status=status_of(error))
    messages.success(request, f"The invitation to {found.email} is on its way.")
    return redirect("members-list")


@member_page(needs="members:write")
@require_POST
def revoke_invitation(request: MemberRequest, invitation_id: str) -> HttpResponse:
    """Take an open invitation back."""
    invitation = access_invitation(request.actor, invitation_id)
    services.revoke_invitation(actor=request.actor, invitation=invitation)
    messages.success(request, f"The invitation to {invitation.email} no longer works.")
    return redirect("members-list")


@member_page(needs="members:write")
@require_POST
def change_role(request: MemberRequest, member_id: str) -> HttpResponse:
    """Give a member another role."""
    membership = access_member(request.actor, member_id)
    try:
        services.change_role(
            actor=request.actor, membership=membership, role=request.POST.get("role", "")
        )
    except DomainError as error:
        messages.error(request, error.message)
        return _members_page(request, InviteForm(), status=status_of(error))
    messages.success(request, f"{membership.user} has another role now.")
    return redirect("members-list")


@member_page(needs="members:write")
@require_POST
def remove_member(request: MemberRequest, member_id: str) -> HttpResponse:
    """Take a person out of the workspace."""
    membership = access_member(request.actor, member_id)
    try:
        services.remove_member(actor=request.actor, membership=membership)
    except DomainError as error:
        messages.error(request, error.message)
        return _members_page(request, InviteForm(), status=status_of(error))
    messages.success(request, f"{membership.user} is no longer a member.")
    if membership.user_id == request.actor.user_id:
        return redirect("dashboard")
    return redirect("members-list")


@member_page(needs=None)
@require_POST
def leave_workspace(request: MemberRequest) -> HttpResponse:
    """Leave the workspace oneself."""
    membership = access_own_membership(request.actor)
    services.remove_member(actor=request.actor, membership=membership)
    request.session.pop(WORKSPACE_SESSION_KEY, None)
    messages.success(request, "You have left the workspace.")
    return redirect("dashboard")


@public_page
@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "POST"])
def accept_invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Accept an invitation: as the signed-in person, or with a new account."""
    try:
        opened = services.find_invitation(token)
        form = JoinForm(request.POST if request.method == "POST" else None)
        if request.method == "POST":
            answer = _accept(request, token, form)
            if answer is not None:
                return answer
    except DomainError as error:
        context = {"error": error, "signed_in": request.user.is_authenticated}
        page = "tenants/directory/invitation_gone.html"
        return render(request, page, context, status=status_of(error))
    context = {
        "opened": opened,
        "form": form,
        "is_invited": _is_invited(request, opened.invitation.email),
    }
    page = "tenants/directory/invitation.html"
    return render(request, page, context, status=422 if form.errors else 200)


def _is_invited(request: HttpRequest, email: str) -> bool:
    user = request.user
    return isinstance(user, User) and user.email.lower() == email.lower()


def _accept(request: HttpRequest, token: str, form: JoinForm) -> HttpResponse | None:
    """Let the person in; None when the form has to be shown again. Raises DomainError."""
    if request.user.is_authenticated:
        membership = services.accept_as_member(token=token, user=_person(request))
        request.session[WORKSPACE_SESSION_KEY] = str(membership.tenant_id)
        return redirect("dashboard")
    if not form.is_valid():
        return None
    opened = services.find_invitation(token)
    try:
        user = services.accept_as_new_person(token=token, **form.cleaned_data)
    except DomainError as error:
        if error.field is None:
            raise
        add_domain_error(form, error)
        return None
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    request.session[WORKSPACE_SESSION_KEY] = str(opened.tenant.pk)
    return redirect("dashboard")
