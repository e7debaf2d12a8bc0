"""Doors of the API keys: list, create (shown once), revoke."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from esp.kit.forms import add_domain_error
from esp.lib.errors import DomainError
from tenants.apikeys import services
from tenants.apikeys.access import access_key
from tenants.apikeys.forms import KeyForm, scope_choices
from tenants.apikeys.selectors import api_keys
from tenants.directory.gate import MemberRequest, member_page


@member_page(needs="keys:read")
@require_GET
def keys_list(request: MemberRequest) -> HttpResponse:
    """Show the workspace's keys."""
    return render(request, "tenants/apikeys/list.html", {"keys": api_keys()})


@member_page(needs="keys:write")
@never_cache
@require_http_methods(["GET", "POST"])
def create_key(request: MemberRequest) -> HttpResponse:
    """Make a key. Its text is in this one answer and nowhere else, so there is no redirect."""
    if request.method == "GET":
        form = KeyForm(actor=request.actor, initial={"scopes": ["messages:send"]})
        return _form_page(request, form)
    form = KeyForm(request.POST, actor=request.actor)
    if form.is_valid():
        try:
            key, text = services.create_key(actor=request.actor, **form.cleaned_data)
        except DomainError as error:
            add_domain_error(form, error)
        else:
            return render(request, "tenants/apikeys/created.html", {"key": key, "text": text})
    return _form_page(request, form, status=422)


def _form_page(request: MemberRequest, form: KeyForm, *, status: int = 200) -> HttpResponse:
    context: dict[str, Any] = {
        "form": form,
        "groups": scope_choices(request.actor),
        "chosen": set(form["scopes"].value() or []),
    }
    return render(request, "tenants/apikeys/create.html", context, status=status)


@member_page(needs="keys:write")
@require_POST
def revoke_key(request: MemberRequest, key_id: str) -> HttpResponse:
    """End a key at once."""
    key = access_key(request.actor, key_id)
    services.revoke_key(actor=request.actor, key=key)
    messages.success(request, f"The key “{key.name}” no longer works.")
    return redirect("keys-list")
