"""Pages of imports: upload, map, check, run."""

from __future__ import annotations

from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import FileResponse, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from esp.kit.forms import add_domain_error
from esp.lib.errors import DomainError, NotFound
from sending.audience import selectors
from sending.audience.access import access_import
from sending.audience.forms import MappingForm, UploadForm
from sending.audience.importer import upload_path
from sending.audience.models import Import
from sending.audience.services import imports as services
from tenants.directory.gate import MemberRequest, member_page

_REASONS = {
    "malformed": "Malformed row",
    "ragged": "Wrong number of cells",
    "no-address": "No address",
    "invalid-address": "Invalid address",
    "invalid-value": "Invalid value",
    "duplicate": "Duplicate in this file",
}


@member_page(needs="audience:read")
@require_safe
def import_list(request: MemberRequest) -> HttpResponse:
    """Imports, newest first."""
    page = selectors.imports_page(after=request.GET.get("after"), before=request.GET.get("before"))
    return render(request, "sending/audience/imports.html", {"page": page})


@member_page(needs="audience:write")
@require_http_methods(["GET", "HEAD", "POST"])
def import_add(request: MemberRequest) -> HttpResponse:
    """Upload a file."""
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        file: UploadedFile[Any] = form.cleaned_data["file"]
        try:
            job = services.upload_import(actor=request.actor, file=file)
            return redirect("imports-detail", import_id=job.public_id)
        except DomainError as error:
            add_domain_error(form, error)
    status = 422 if form.errors else 200
    return render(request, "sending/audience/import_add.html", {"form": form}, status=status)


@member_page(needs="audience:read")
@require_safe
def import_detail(request: MemberRequest, import_id: str) -> HttpResponse:
    """One import: its mapping, what the check found, its progress, its result."""
    job = access_import(request.actor, import_id)
    if request.htmx:  # type: ignore[attr-defined]
        detail = _detail(job)
        response = render(request, "sending/audience/import.html#state", detail)
        if not detail["is_live"]:  # what can be done next stands outside of the live part
            response["HX-Refresh"] = "true"
        return response
    context = {**_detail(job), "form": MappingForm(job=job, initial=_initial(job))}
    return render(request, "sending/audience/import.html", context)


def _initial(job: Import) -> dict[str, object]:
    return {
        "contact_list": job.contact_list,
        "consent_text": job.consent_text,
        "on_duplicate": job.on_duplicate,
        "has_header": job.dialect["has_header"],
    }


def _detail(job: Import) -> dict[str, object]:
    totals = job.counts.get("totals", {})
    reasons = job.counts.get("reasons", {})
    rows = job.dialect.get("first", [])
    columns = int(job.dialect["columns"])
    return {
        "job": job,
        "totals": totals,
        "reasons": [(_REASONS.get(key, key), number) for key, number in reasons.items()],
        "percent_done": min(100, 100 * job.bytes_done // max(1, job.size_bytes)),
        "is_live": job.status in {Import.Status.CHECKING, Import.Status.RUNNING},
        "is_open": job.status
        in {Import.Status.UPLOADED, Import.Status.CHECKED, Import.Status.FAILED},
        "sample": [(row + [""] * columns)[:columns] for row in rows[:6]],
        "bad_total": totals.get("bad", 0) + totals.get("duplicates", 0),
    }


@member_page(needs="audience:write")
@require_POST
def import_check(request: MemberRequest, import_id: str) -> HttpResponse:
    """Settle the mapping and try the file."""
    job = access_import(request.actor, import_id, needs="audience:write")
    form = MappingForm(request.POST, job=job)
    if form.is_valid():
        data = form.cleaned_data
        try:
            services.check_import(
                actor=request.actor,
                job=job,
                targets=form.targets(),
                contact_list=data["contact_list"],
                on_duplicate=data["on_duplicate"],
                consent_text=data["consent_text"],
                has_header=data["has_header"],
            )
            return redirect("imports-detail", import_id=import_id)
        except DomainError as error:
            add_domain_error(form, error)
    context = {**_detail(job), "form": form}
    return render(request, "sending/audience/import.html", context, status=422)


@member_page(needs="audience:write")
@require_POST
def import_start(request: MemberRequest, import_id: str) -> HttpResponse:
    """Run a checked import."""
    job = access_import(request.actor, import_id, needs="audience:write")
    services.start_import(actor=request.actor, job=job)
    return redirect("imports-detail", import_id=import_id)


@member_page(needs="audience:read")
@require_safe
def import_errors(request: MemberRequest, import_id: str) -> HttpResponseBase:
    """The bad rows with their reasons, as CSV."""
    job = access_import(request.actor, import_id)
    path = upload_path(job.errors_path)
    if not job.errors_path or not path.is_file():
        raise NotFound("There is no file of bad rows.")
    name = f"{job.filename.rpartition('.')[0] or job.filename}-bad-rows.csv"
    return FileResponse(
        path.open("rb"), as_attachment=True, filename=name, content_type="text/csv; charset=utf-8"
    )
