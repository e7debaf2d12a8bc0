"""The operator's doors to lanes, limits and the messages that wait in a lane."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from esp.console import jobs
from esp.console.hold_rows import lane_actions
from esp.console.lane_forms import LimitForm, QuotaForm, ReasonForm
from esp.console.lane_rows import STATES, lane_rows, limits_table, queue_view, rows_of
from esp.kit.forms import add_domain_error
from esp.kit.jobs import enqueue_on_commit
from esp.kit.pages import status_of
from esp.kit.paging import newest_first
from esp.lib.errors import DomainError
from sending.lanes import services
from sending.lanes.access import access_lane, access_limit
from sending.lanes.models import LaneState, LimitOverride
from sending.lanes.selectors import actions_in_lane, limits_set
from tenants.accounts.models import User
from tenants.directory.access import find_tenant
from tenants.directory.gate import operator_page

_FIELDS = tuple(name for name in QuotaForm.base_fields if name != "note")


def _operator(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the gate has let an operator in
    return request.user


def is_htmx(request: HttpRequest) -> bool:
    """Tell whether only the live part is asked for."""
    return bool(getattr(request, "htmx", False))


@operator_page
@require_GET
def lanes_list(request: HttpRequest) -> HttpResponse:
    """Show the lanes; the table renews itself."""
    search = request.GET.get("q", "").replace("\x00", "").strip()[:60]
    state = request.GET.get("state", "")
    state = state if state in STATES and state != "slowed" else ""
    context = {
        "rows": lane_rows(search=search, state=state),
        "queue": queue_view(),
        "q": search,
        "state": state,
        "states": [(key, label) for key, (_, label) in STATES.items() if key != "slowed"],
    }
    name = "sending/lanes/list.html"
    return render(request, f"{name}#live" if is_htmx(request) else name, context)


@operator_page
@require_GET
def inspect_lane(request: HttpRequest, lane_id: str) -> HttpResponse:
    """Show one lane: what goes on, its limits, what happened."""
    lane = access_lane(_operator(request), lane_id)
    return _lane_page(request, lane)


def _lane_page(
    request: HttpRequest,
    lane: LaneState,
    *,
    limits_form: QuotaForm | None = None,
    pause_form: ReasonForm | None = None,
    bounce_form: ReasonForm | None = None,
    status: int = 200,
) -> HttpResponse:
    (row,) = rows_of([lane], timezone.now())
    own = LimitOverride.objects.filter(scope="lane", key=_key(lane)).first()
    page = newest_first(
        actions_in_lane(lane.source_id, lane.site),
        after=request.GET.get("after"),
        before=request.GET.get("before"),
    )
    context: dict[str, Any] = {"row": row, "lane": lane, "own": own, "page": page}
    name = "sending/lanes/lane.html"
    if is_htmx(request) and request.method == "GET":
        return render(request, f"{name}#live", context)
    context["actions"] = lane_actions(page.rows)
    initial = {name: getattr(own, name) for name in (*_FIELDS, "note")} if own else None
    context["limits_form"] = limits_form or _with_defaults(QuotaForm(initial=initial), row.limits)
    context["pause_form"] = pause_form or ReasonForm(prefix="pause")
    context["bounce_form"] = bounce_form or ReasonForm(prefix="bounce")
    return render(request, name, context, status=status)


def _with_defaults(form: QuotaForm, limits: Any) -> QuotaForm:
    """Show what is in force where nothing is entered."""
    for name in _FIELDS:
        value = getattr(limits, name)
        form.fields[name].widget.attrs["placeholder"] = (
            "no limit" if value is None else f"{value:g}"
        )
    return form


def _key(lane: LaneState) -> str:
    return f"{lane.source_id}|{lane.site}"


@operator_page
@require_POST
def set_lane_limits(request: HttpRequest, lane_id: str) -> HttpResponse:
    """Set a lane's limits; all fields empty goes back to the defaults."""
    operator = _operator(request)
    lane = access_lane(operator, lane_id)
    form = QuotaForm(request.POST)
    if not form.is_valid():
        return _lane_page(request, lane, limits_form=form, status=422)
    quota = form.quota()
    try:
        if any(getattr(quota, name) is not None for name in _FIELDS):
            services.set_limit(
                operator=operator, scope="lane", key=_key(lane), quota=quota,
                note=form.cleaned_data["note"],
            )  # fmt: skip
            text = "The limits are saved: every worker follows within ten seconds."
        else:
            services.clear_limit(operator=operator, scope="lane", key=_key(lane))
            text = "The lane is back to the defaults."
    except DomainError as error:
        add_domain_error(form, error)
        return _lane_page(request, lane, limits_form=form, status=status_of(error))
    messages.success(request, text)
    return redirect("operator-lane", lane_id=lane_id)


@operator_page
@require_POST
def pause(request: HttpRequest, lane_id: str) -> HttpResponse:
    """Stop a lane."""
    operator = _operator(request)
    lane = access_lane(operator, lane_id)
    form = ReasonForm(request.POST, prefix="pause")
    if not form.is_valid():
        return _lane_page(request, lane, pause_form=form, status=422)
    try:
        services.pause_lane(
            operator=operator, source_id=lane.source_id, site=lane.site, **form.cleaned_data
        )
    except DomainError as error:
        add_domain_error(form, error)
        return _lane_page(request, lane, pause_form=form, status=status_of(error))
    messages.success(request, "The lane is paused: what is under way ends, nothing new begins.")
    return redirect("operator-lane", lane_id=lane_id)


@operator_page
@require_POST
def resume(request: HttpRequest, lane_id: str) -> HttpResponse:
    """Open a paused lane; what waits in it is due at once."""
    return _opened(request, lane_id, services.resume_lane, "The lane runs again.")


@operator_page
@require_POST
def lift(request: HttpRequest, lane_id: str) -> HttpResponse:
    """End a suspension before its time; what waits in the lane is due at once."""
    return _opened(request, lane_id, services.lift_suspension, "The suspension is lifted.")


def _opened(
    request: HttpRequest, lane_id: str, service: Callable[..., None], text: str
) -> HttpResponse:
    operator = _operator(request)
    lane = access_lane(operator, lane_id)
    service(operator=operator, source_id=lane.source_id, site=lane.site)
    enqueue_on_commit(jobs.REQUEUE_LANE, lane.source_id, lane.site)
    messages.success(request, text)
    return redirect("operator-lane", lane_id=lane_id)


@operator_page
@require_POST
def requeue(request: HttpRequest, lane_id: str) -> HttpResponse:
    """Make what waits in a lane due now."""
    operator = _operator(request)
    lane = access_lane(operator, lane_id)
    if _note(operator, lane, "requeue", "all that waits is due at once"):
        enqueue_on_commit(jobs.REQUEUE_LANE, lane.source_id, lane.site)
    messages.success(request, "What waits here is tried again at once.")
    return redirect("operator-lane", lane_id=lane_id)


@operator_page
@require_POST
def drain(request: HttpRequest, lane_id: str) -> HttpResponse:
    """Close a lane and let what waits in it leave by other sources of its pool."""
    operator = _operator(request)
    lane = access_lane(operator, lane_id)
    if _note(operator, lane, "drain", "what waits may leave by other sources"):
        if not lane.is_paused:
            services.pause_lane(
                operator=operator, source_id=lane.source_id, site=lane.site, reason="Draining"
            )
        enqueue_on_commit(jobs.REQUEUE_LANE, lane.source_id, lane.site)
    messages.success(request, "The lane takes no more; other sources of its pool take what waits.")
    return redirect("operator-lane", lane_id=lane_id)


@operator_page
@require_POST
def bounce(request: HttpRequest, lane_id: str) -> HttpResponse:
    """End what waits in a lane, with a reason that its senders read."""
    operator = _operator(request)
    lane = access_lane(operator, lane_id)
    form = ReasonForm(request.POST, prefix="bounce")
    if not form.is_valid():
        return _lane_page(request, lane, bounce_form=form, status=422)
    reason = form.cleaned_data["reason"]
    if _note(operator, lane, "bounce", reason):
        enqueue_on_commit(jobs.BOUNCE_LANE, lane.source_id, lane.site, reason)
    messages.success(request, "What waits here is being ended.")
    return redirect("operator-lane", lane_id=lane_id)


def _note(operator: User, lane: LaneState, action: str, detail: str) -> bool:
    return services.note_queue_action(
        operator=operator, action=action, source_id=lane.source_id, site=lane.site, detail=detail
    )


@operator_page
@require_http_methods(["GET", "POST"])
def limits(request: HttpRequest) -> HttpResponse:
    """Show the limits that were set, and set one."""
    form = LimitForm(request.POST if request.method == "POST" else None)
    status = 200
    if form.is_bound:
        try:
            if form.is_valid():
                operator, key = _operator(request), form.cleaned_data["key"]
                if form.cleaned_data["scope"] == "tenant":
                    key = str(find_tenant(operator, key, field="key").pk)
                services.set_limit(
                    operator=operator,
                    scope=form.cleaned_data["scope"],
                    key=key,
                    quota=form.quota(),
                    note=form.cleaned_data["note"],
                )
                messages.success(request, "The limit is set: workers follow within ten seconds.")
                return redirect("operator-limits")
            status = 422
        except DomainError as error:
            add_domain_error(form, error)
            status = status_of(error)
    context = {"form": form, "rows": limits_table(list(limits_set()[:500]))}
    return render(request, "sending/lanes/limits.html", context, status=status)


@operator_page
@require_POST
def clear_limit(request: HttpRequest, limit_id: str) -> HttpResponse:
    """Take a limit away."""
    operator = _operator(request)
    row = access_limit(operator, limit_id)
    services.clear_limit(operator=operator, scope=row.scope, key=row.key)
    messages.success(request, "The limit is removed.")
    return redirect("operator-limits")
