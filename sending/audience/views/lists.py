"""Pages of lists, suppressions and sign-up forms (the members' side)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from esp.kit.forms import add_domain_error
from esp.lib.errors import DomainError
from sending.audience import selectors
from sending.audience.access import access_form, access_list, access_suppression
from sending.audience.csv_cells import csv_line
from sending.audience.forms import ListForm, SignupFormForm, SuppressionForm
from sending.audience.models import ContactList, SignupForm, Suppression
from sending.audience.services import lists as list_services
from sending.audience.services import signup, suppressions
from tenants.directory.gate import MemberRequest, member_page
from tenants.scoping.context import scope

_SIMPLE = "sending/audience/simple_form.html"


@member_page(needs="audience:read")
@require_safe
def list_list(request: MemberRequest) -> HttpResponse:
    """Lists with their counts by status."""
    archived = request.GET.get("archived") == "1"
    lists = selectors.lists_of_tenant(archived=archived)
    counts = selectors.counts_for_lists(lists)
    context = {"rows": [(item, counts[item.pk]) for item in lists], "archived": archived}
    return render(request, "sending/audience/lists.html", context)


@member_page(needs="audience:write")
@require_http_methods(["GET", "HEAD", "POST"])
def list_add(request: MemberRequest) -> HttpResponse:
    """Make a list."""
    return _list_form(request, None)


@member_page(needs="audience:write")
@require_http_methods(["GET", "HEAD", "POST"])
def list_edit(request: MemberRequest, list_id: str) -> HttpResponse:
    """Change a list."""
    return _list_form(request, access_list(request.actor, list_id, needs="audience:write"))


def _list_form(request: MemberRequest, item: ContactList | None) -> HttpResponse:
    initial = None
    if item is not None:
        initial = {"name": item.name, "description": item.description, "opt_in": item.opt_in}
    form = ListForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            if item is None:
                list_services.create_list(actor=request.actor, **form.cleaned_data)
            else:
                list_services.update_list(
                    actor=request.actor, contact_list=item, **form.cleaned_data
                )
            return redirect("lists-list")
        except DomainError as error:
            add_domain_error(form, error)
    heading = "New list" if item is None else "Edit list"
    context = {"form": form, "heading": heading, "back": "lists-list"}
    return render(request, _SIMPLE, context, status=422 if form.errors else 200)


@member_page(needs="audience:write")
@require_POST
def list_archive(request: MemberRequest, list_id: str) -> HttpResponse:
    """Archive a list, or take it back into use."""
    item = access_list(request.actor, list_id, needs="audience:write")
    archived = item.archived_at is None
    list_services.archive_list(actor=request.actor, contact_list=item, archived=archived)
    messages.success(request, f"“{item.name}” is {'archived' if archived else 'in use again'}.")
    return redirect("lists-list")


@member_page(needs="suppressions:read")
@require_safe
def suppression_list(request: MemberRequest) -> HttpResponse:
    """Suppressions, newest first."""
    query = request.GET.get("q", "")
    page = selectors.suppressions_page(
        query=query, after=request.GET.get("after"), before=request.GET.get("before")
    )
    context = {"page": page, "query": query}
    part = "#results" if request.htmx and not request.htmx.boosted else ""  # type: ignore[attr-defined]
    return render(request, f"sending/audience/suppressions.html{part}", context)


@member_page(needs="suppressions:write")
@require_http_methods(["GET", "HEAD", "POST"])
def suppression_add(request: MemberRequest) -> HttpResponse:
    """Suppress an address."""
    form = SuppressionForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            row, created = suppressions.add_suppression(actor=request.actor, **form.cleaned_data)
            word = "is suppressed" if created else "was suppressed already"
            messages.success(request, f"{row.email_norm} {word}.")
            return redirect("suppressions-list")
        except DomainError as error:
            add_domain_error(form, error)
    context = {"form": form, "heading": "Suppress an address", "back": "suppressions-list"}
    return render(request, _SIMPLE, context, status=422 if form.errors else 200)


@member_page(needs="suppressions:write")
@require_POST
def suppression_remove(request: MemberRequest, suppression_id: str) -> HttpResponse:
    """Let an address be written to again."""
    row = access_suppression(request.actor, suppression_id, needs="suppressions:write")
    suppressions.remove_suppression(actor=request.actor, suppression=row)
    messages.success(request, f"{row.email_norm} may be written to again.")
    return redirect("suppressions-list")


@member_page(needs="suppressions:read")
@require_safe
def suppression_export(request: MemberRequest) -> HttpResponseBase:
    """All suppressions as CSV."""
    response = StreamingHttpResponse(
        _export_lines(request.actor.tenant_id), content_type="text/csv; charset=utf-8"
    )
    response["Content-Disposition"] = 'attachment; filename="suppressions.csv"'
    return response


def _export_lines(tenant_id: uuid.UUID) -> Iterator[str]:
    """Yield the file page by page: it is written after the request's own transaction."""
    yield "\ufeff" + csv_line(["email", "scope", "reason", "source", "detail", "created_at"])
    last: uuid.UUID | None = None
    while True:
        with scope(tenant_id):
            rows = Suppression.objects.order_by("-id")
            found = list((rows.filter(id__lt=last) if last else rows)[:5000])
        if not found:
            return
        last = found[-1].pk
        yield "".join(
            csv_line(
                [r.email_norm, r.scope, r.reason, r.source, r.detail, r.created_at.isoformat()]
            )
            for r in found
        )


@member_page(needs="audience:read")
@require_safe
def form_list(request: MemberRequest) -> HttpResponse:
    """Sign-up forms."""
    forms = selectors.forms_of_tenant()
    context = {
        "rows": [
            (form, signup.hosted_address(form), selectors.form_results(form)) for form in forms
        ]
    }
    return render(request, "sending/audience/forms.html", context)


@member_page(needs="audience:write")
@require_http_methods(["GET", "HEAD", "POST"])
def form_add(request: MemberRequest) -> HttpResponse:
    """Make a sign-up form."""
    return _signup_form(request, None)


@member_page(needs="audience:write")
@require_http_methods(["GET", "HEAD", "POST"])
def form_edit(request: MemberRequest, form_id: str) -> HttpResponse:
    """Change a sign-up form."""
    return _signup_form(request, access_form(request.actor, form_id, needs="audience:write"))


_FORM_FIELDS = ("title", "intro", "contact_list", "sender", "consent_text", "asks_name")


def _signup_form(request: MemberRequest, item: SignupForm | None) -> HttpResponse:
    initial: dict[str, object] = {"asks_name": True}
    if item is not None:
        initial = {name: getattr(item, name) for name in _FORM_FIELDS}
    form = SignupFormForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            signup.save_form(actor=request.actor, form=item, **form.cleaned_data)
            return redirect("forms-list")
        except DomainError as error:
            add_domain_error(form, error)
    heading = "New sign-up form" if item is None else "Edit sign-up form"
    context = {
        "form": form,
        "heading": heading,
        "back": "forms-list",
        "no_sender": not signup.verified_senders(),
    }
    return render(request, _SIMPLE, context, status=422 if form.errors else 200)


@member_page(needs="audience:write")
@require_POST
def form_delete(request: MemberRequest, form_id: str) -> HttpResponse:
    """Take a form off the web."""
    item = access_form(request.actor, form_id, needs="audience:write")
    signup.delete_form(actor=request.actor, form=item)
    messages.success(request, f"“{item.title}” is deleted.")
    return redirect("forms-list")
