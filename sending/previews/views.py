"""Doors of previews: ask for one, look at it, choose whose eyes, send a test.

They take content from an editor as it stands, saved or not.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from esp.kit.forms import add_domain_error
from esp.kit.pages import status_of
from esp.lib.errors import DomainError
from sending.audience.access import access_contact
from sending.audience.models import Contact
from sending.content.access import access_template, access_version
from sending.content.errors import ContentError
from sending.content.preview import FRAME_POLICY, Preview, page_of
from sending.messages.types import AcceptedItem
from sending.previews import services
from sending.previews.forms import PreviewForm, TestForm
from sending.previews.selectors import contacts_like, merge_tags
from tenants.directory.actor import Actor
from tenants.directory.gate import MemberRequest, member_page


@member_page(needs="templates:read")
@require_safe
def panel(request: MemberRequest) -> HttpResponse:
    """The preview beside an editor, for htmx to put there."""
    context = {"form": TestForm(), "of": request.GET.get("of", "")[:40]}
    return render(request, "sending/previews/panel.html", context)


@member_page(needs="templates:read")
@require_safe
def tags(request: MemberRequest) -> HttpResponse:
    """The menu of merge tags, for htmx to put above an editor."""
    return render(request, "sending/previews/tags.html", {"groups": merge_tags()})


@member_page(needs="audience:read")
@never_cache
@require_safe
def contacts(request: MemberRequest) -> HttpResponse:
    """Some contacts whose name or address holds `q`."""
    found = contacts_like(request.GET.get("q", ""))
    rows = [
        {
            "id": contact.public_id,
            "email": contact.email,
            "name": f"{contact.first_name} {contact.last_name}".strip(),
        }
        for contact in found
    ]
    return JsonResponse({"contacts": rows})


@member_page(needs="templates:read")
@require_POST
def show(request: MemberRequest) -> HttpResponse:
    """Take content from an editor and say how far its preview is."""
    form = PreviewForm(request.POST)
    if not form.is_valid():
        field, errors = next(iter(form.errors.items()))
        return _answer(Preview("problem", problem=str(errors[0]), field=field), "")
    contact = _contact(request.actor, form.cleaned_data["contact"])
    found = services.preview_as_contact(
        source=form.source(), contact=contact, footer=form.cleaned_data["footer"]
    )
    return _answer(found, form.cleaned_data["contact"])


@member_page(needs="templates:read")
@never_cache
@require_safe
def look(request: MemberRequest, version_id: str) -> HttpResponse:
    """Say how far a preview is that was asked for before."""
    version = access_version(request.actor, version_id)
    contact_id = request.GET.get("contact", "")
    contact = _contact(request.actor, contact_id)
    return _answer(services.preview_version(version=version, contact=contact), contact_id)


def _contact(actor: Actor, contact_id: str) -> Contact | None:
    return access_contact(actor, contact_id) if contact_id else None


def _answer(found: Preview, contact_id: str) -> JsonResponse:
    body: dict[str, Any] = {"state": found.state}
    if found.version is not None:
        path = reverse("previews-look", args=[found.version.public_id])
        body["url"] = f"{path}?contact={contact_id}"
        body["page"] = (
            f"{reverse('previews-page', args=[found.version.public_id])}?contact={contact_id}"
        )
    if found.state == "problem":
        body |= {"problem": found.problem, "line": found.line, "field": found.field}
    if found.rendered is not None:
        body |= {
            "subject": found.rendered.subject,
            "preheader": found.preheader,
            "text": found.rendered.text,
            "has_html": found.rendered.html is not None,
            "missing": found.missing,
            "notes": found.notes,
        }
    return JsonResponse(body)


@member_page(needs="templates:read")
@never_cache
@require_safe
def page(request: MemberRequest, version_id: str) -> HttpResponse:
    """The mail itself, for a frame. It may run nothing and has no origin."""
    version = access_version(request.actor, version_id)
    contact = _contact(request.actor, request.GET.get("contact", ""))
    found = services.preview_version(version=version, contact=contact)
    if found.rendered is None or found.rendered.html is None:
        text = found.rendered.text if found.rendered else found.problem
        response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    else:
        dark = request.GET.get("dark") == "1"
        response = HttpResponse(page_of(found.rendered.html, dark=dark))
    response["Content-Security-Policy"] = FRAME_POLICY
    response["Referrer-Policy"] = "no-referrer"
    return response


@member_page(needs="templates:write")
@require_http_methods(["POST"])
def test(request: MemberRequest, template_id: str) -> HttpResponse:
    """Send a template as it stands in the editor to a few addresses."""
    template = access_template(request.actor, template_id, needs="templates:write")
    form = TestForm(request.POST)
    sent: list[AcceptedItem] = []
    status = 200
    if form.is_valid():
        values = form.cleaned_data
        contact = _contact(request.actor, values["contact"])
        try:
            sent = services.send_test(
                actor=request.actor,
                source=form.source(),
                sender=values["sender"],
                addresses=services.addresses_in(values["addresses"]),
                variables=services.variables_for(contact) if contact else {},
                footer=values["footer"],
                target=template.public_id,
            )
        except DomainError as error:
            _explain(form, error)
            status = status_of(error)
    else:
        _explain_content(form)
    context = {"form": form, "of": template.public_id, "sent": sent}
    status = 422 if form.errors and status != 403 else status
    return render(request, "sending/previews/test_form.html", context, status=status)


def _explain(form: TestForm, error: DomainError) -> None:
    """Put a refusal where the person can see it: the fields of the content are not on this form."""
    field = error.field or ""
    if field.startswith("to["):
        index = int(field[3:].partition("]")[0])
        address = services.addresses_in(form.cleaned_data["addresses"])[index]
        named = address in error.message
        form.add_error("addresses", error.message if named else f"{address[:100]}: {error.message}")
    elif isinstance(error, ContentError) or field not in {"addresses", "sender"}:
        form.add_error(None, error.message)
    else:
        add_domain_error(form, error)


def _explain_content(form: TestForm) -> None:
    """Say above the form what is wrong with the content: its fields stand in the editor."""
    for name in set(form.errors) - {"addresses", "sender", "__all__"}:
        for sentence in form.errors[name]:
            form.add_error(None, f"{form[name].label}: {sentence}")
