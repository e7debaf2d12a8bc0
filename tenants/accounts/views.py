"""Doors about a person: sign in and out, password, profile."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, logout, update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.views import PasswordResetConfirmView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.urls import reverse_lazy
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from esp.kit.client import client_ip
from esp.kit.forms import add_domain_error
from esp.kit.pages import status_of
from esp.lib.errors import DomainError
from tenants.accounts import services
from tenants.accounts.forms import PasswordResetForm, ProfileForm, SignInForm
from tenants.accounts.models import User
from tenants.scoping.gate import person_page, public_page

# Looking up, rendering and queueing a mail takes some milliseconds more than doing nothing: every
# answer takes this long, so that the time does not tell whether an address has an account.
_RESET_ANSWER_SECONDS = 0.25


def _destination(request: HttpRequest) -> str:
    """Return where to go after signing in; an address on another site is not believed."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if safe else resolve_url(settings.LOGIN_REDIRECT_URL)


@public_page
@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """Show the sign-in form, and sign in. `login` gives the session a new key."""
    destination = _destination(request)
    if request.user.is_authenticated:
        return redirect(destination)
    form = SignInForm(request.POST if request.method == "POST" else None)
    status = 422 if form.is_bound else 200
    if form.is_bound and form.is_valid():
        try:
            user = services.authenticate_person(
                email=form.cleaned_data["email"],
                password=form.cleaned_data["password"],
                ip_address=client_ip(request),
            )
        except DomainError as error:
            add_domain_error(form, error)
            status = status_of(error)
        else:
            login(request, user)
            return redirect(destination)
    context = {"form": form, "next": request.POST.get("next") or request.GET.get("next") or ""}
    return render(request, "tenants/accounts/sign_in.html", context, status=status)


@public_page
@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    logout(request)
    return redirect("accounts-sign-in")


@public_page
@never_cache
@require_http_methods(["GET", "POST"])
def password_reset(request: HttpRequest) -> HttpResponse:
    """Ask for a link to choose a new password; the answer is the same for every address."""
    form = PasswordResetForm(request.POST if request.method == "POST" else None)
    status = 422 if form.is_bound else 200
    if form.is_bound and form.is_valid():
        started = time.monotonic()
        try:
            services.request_password_reset(
                email=form.cleaned_data["email"], ip_address=client_ip(request)
            )
        except DomainError as error:
            add_domain_error(form, error)
            status = status_of(error)
        else:
            time.sleep(max(0.0, _RESET_ANSWER_SECONDS - (time.monotonic() - started)))
            return redirect("accounts-password-reset-done")
    return render(request, "tenants/accounts/password_reset.html", {"form": form}, status=status)


@public_page
@require_GET
def password_reset_done(request: HttpRequest) -> HttpResponse:
    """Say that a mail is on its way, if the address has an account."""
    minutes = settings.PASSWORD_RESET_TIMEOUT // 60
    return render(request, "tenants/accounts/password_reset_done.html", {"minutes": minutes})


# Django's view keeps the token out of the address while the form is open (Referer, history).
password_reset_confirm = public_page(
    PasswordResetConfirmView.as_view(
        template_name="tenants/accounts/password_reset_confirm.html",
        success_url=reverse_lazy("accounts-password-reset-complete"),
    )
)


@public_page
@require_GET
def password_reset_complete(request: HttpRequest) -> HttpResponse:
    """Say that the new password holds."""
    return render(request, "tenants/accounts/password_reset_complete.html")


def _password_form(user: User, data: Any = None) -> PasswordChangeForm:
    form = PasswordChangeForm(user, data)
    # The page begins with the profile: the focus must not jump past it.
    form.fields["old_password"].widget.attrs.pop("autofocus", None)
    return form


def _person(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the gate has let a signed-in person in
    return request.user


@person_page
@require_http_methods(["GET", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    """Show and change the person's name."""
    user = _person(request)
    form = ProfileForm(
        request.POST if request.method == "POST" else None, initial={"name": user.name}
    )
    if form.is_bound and form.is_valid():
        services.update_profile(user=user, name=form.cleaned_data["name"])
        messages.success(request, "Your profile is saved.")
        return redirect("accounts-profile")
    context = {"form": form, "password_form": _password_form(user)}
    status = 422 if form.is_bound else 200
    return render(request, "tenants/accounts/profile.html", context, status=status)


@person_page
@sensitive_post_parameters()
@require_POST
def change_password(request: HttpRequest) -> HttpResponse:
    """Change the password: other sessions end, this one goes on."""
    user = _person(request)
    form = _password_form(user, request.POST)
    if form.is_valid():
        form.save()
        update_session_auth_hash(request, user)
        messages.success(request, "Your password is changed. Other devices are signed out.")
        return redirect("accounts-profile")
    context = {"form": ProfileForm(initial={"name": user.name}), "password_form": form}
    return render(request, "tenants/accounts/profile.html", context, status=422)
