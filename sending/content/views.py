"""Pages of templates: the library and the editor."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from esp.kit.forms import add_domain_error
from esp.lib.errors import Conflict, DomainError
from sending.content import library
from sending.content.access import access_template
from sending.content.forms import TemplateForm
from sending.content.models import Template
from sending.content.selectors import templates_page
from sending.content.starters import BLANK, STARTERS
from tenants.directory.gate import MemberRequest, member_page


@member_page(needs="templates:read")
@require_safe
def template_list(request: MemberRequest) -> HttpResponse:
    """The tenant's templates, newest first."""
    query = request.GET.get("q", "").strip()
    page = templates_page(
        query=query, after=request.GET.get("after"), before=request.GET.get("before")
    )
    context = {"page": page, "query": query, "starters": (*STARTERS, BLANK)}
    return render(request, "sending/content/list.html", context)


@member_page(needs="templates:write")
@require_POST
def template_create(request: MemberRequest) -> HttpResponse:
    """Make a template from a starter, and open it."""
    template = library.create_template(actor=request.actor, starter=request.POST.get("starter", ""))
    return redirect("templates-edit", template_id=template.public_id)


@member_page(needs="templates:read")
@require_http_methods(["GET", "HEAD", "POST"])
def template_edit(request: MemberRequest, template_id: str) -> HttpResponse:
    """The editor. Who may not write sees it without a way to save."""
    template = access_template(request.actor, template_id)
    if request.method == "POST":
        return _save(request, template)
    form = TemplateForm(
        initial={name: getattr(template, name) for name in TemplateForm.base_fields}
    )
    return _editor(request, template, form)


def _save(request: MemberRequest, template: Template) -> HttpResponse:
    request.actor.require("templates:write")
    form = TemplateForm(request.POST)
    conflict: Conflict | None = None
    if form.is_valid():
        try:
            library.save_template(
                actor=request.actor,
                template=template,
                version=form.cleaned_data["version"],
                changes=form.changes(),
            )
        except Conflict as error:
            conflict = error
        except DomainError as error:
            add_domain_error(form, error)
    if conflict is None and not form.errors:
        if request.htmx:  # type: ignore[attr-defined]
            return _outcome(request, template, form, None, status=200)
        messages.success(request, "Saved.")
        return redirect("templates-edit", template_id=template.public_id)
    status = 409 if conflict is not None else 422
    if request.htmx:  # type: ignore[attr-defined]
        return _outcome(request, template, form, conflict, status=status)
    return _editor(request, template, form, conflict, status=status)


def _outcome(
    request: MemberRequest,
    template: Template,
    form: TemplateForm,
    conflict: Conflict | None,
    *,
    status: int,
) -> HttpResponse:
    """The part of the editor that says what became of saving."""
    context = _context(template, form, conflict)
    response = render(request, "sending/content/edit.html#outcome", context, status=status)
    response["HX-Retarget"] = "#save-outcome"  # an answer of 409 is swapped only when it says where
    response["HX-Reswap"] = "innerHTML"
    return response


def _editor(
    request: MemberRequest,
    template: Template,
    form: TemplateForm,
    conflict: Conflict | None = None,
    *,
    status: int = 200,
) -> HttpResponse:
    context = _context(template, form, conflict)
    return render(request, "sending/content/edit.html", context, status=status)


def _context(
    template: Template, form: TemplateForm, conflict: Conflict | None
) -> dict[str, object]:
    current = Template.objects.filter(pk=template.pk).only("version", "updated_at").first()
    # After a refusal the form keeps the version that its text was written on.
    stale = conflict is not None or bool(form.errors)
    version = form["version"].value() if stale else (current.version if current else 1)
    return {
        "template": template,
        "form": form,
        "conflict": conflict,
        "current": current,
        "version": version,
    }


@member_page(needs="templates:write")
@require_POST
def template_duplicate(request: MemberRequest, template_id: str) -> HttpResponse:
    """Make a copy, and open it."""
    template = access_template(request.actor, template_id, needs="templates:write")
    copy = library.duplicate_template(actor=request.actor, template=template)
    messages.success(request, "This is the copy.")
    return redirect("templates-edit", template_id=copy.public_id)


@member_page(needs="templates:write")
@require_POST
def template_delete(request: MemberRequest, template_id: str) -> HttpResponse:
    """Delete a template."""
    template = access_template(request.actor, template_id, needs="templates:write")
    library.delete_template(actor=request.actor, template=template)
    messages.success(request, f"“{template.name}” is deleted.")
    return redirect("templates-list")
