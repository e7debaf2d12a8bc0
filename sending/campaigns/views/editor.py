"""The editor: five cards on one page, each saved as the person goes, with a live preview."""

from __future__ import annotations

import json

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from esp.kit.forms import add_domain_error
from esp.lib.addresses import parse_address
from esp.lib.errors import Conflict, DomainError, InvalidInput, NotFound
from sending.audience.models import Contact
from sending.audience.recipients import count_audience
from sending.audience.selectors import counts_for_lists, lists_of_tenant
from sending.campaigns import selectors, services
from sending.campaigns.access import access_campaign
from sending.campaigns.cards import cards_of
from sending.campaigns.forms import CARD_FORMS, CardForm, TestSendForm
from sending.campaigns.models import Campaign
from sending.campaigns.preview import State, preview_of
from sending.campaigns.review import list_ids_of
from sending.campaigns.testsend import send_test
from sending.content.access import access_template
from sending.content.preview import FRAME_POLICY, page_of
from tenants.directory.gate import MemberRequest, member_page
from tenants.directory.models import Tenant


# The mail runs nothing and reaches nothing of ours; its pictures and fonts may be anywhere.
def _zone(request: MemberRequest) -> str:
    return Tenant.objects.get(pk=request.actor.tenant_id).timezone or "UTC"


@member_page(needs="campaigns:write")
@require_safe
def campaign_edit(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """The editor of a draft; anything else has its own page."""
    campaign = access_campaign(request.actor, campaign_id, needs="campaigns:write")
    if campaign.status != Campaign.Status.DRAFT:
        return redirect("campaigns-detail", campaign_id=campaign.public_id)
    zone = _zone(request)
    lists = lists_of_tenant()
    counts = counts_for_lists(lists)
    context = {
        "campaign": campaign,
        "forms": {key: form(campaign=campaign, zone=zone) for key, form in CARD_FORMS.items()},
        "cards": {card.key: card for card in cards_of(campaign)},
        "lists": [(one, counts[one.pk].get("subscribed", 0)) for one in lists],
        "chosen": set(campaign.lists.values_list("pk", flat=True)),
        "excluded": set(campaign.excluded_lists.values_list("pk", flat=True)),
        "templates": selectors.templates_to_choose(),
        "merge_tags": selectors.merge_tags(),
        "contacts": selectors.contacts_to_preview(campaign),
        "test_form": TestSendForm(initial={"addresses": _own_address(request)}),
        "zone": zone,
    }
    return render(request, "sending/campaigns/edit.html", context)


def _own_address(request: MemberRequest) -> str:
    return str(getattr(request.user, "email", ""))


def _version(request: MemberRequest) -> int:
    try:
        return int(request.POST.get("version", ""))
    except ValueError as error:
        raise InvalidInput("Load the page again; it does not say what it shows.") from error


@member_page(needs="campaigns:write")
@require_POST
def card_save(request: MemberRequest, campaign_id: str, card: str) -> HttpResponse:
    """Save one card; answers with the parts of the page that say how it stands."""
    campaign = access_campaign(request.actor, campaign_id, needs="campaigns:write")
    if card not in CARD_FORMS:
        raise NotFound("There is no such card.")
    form = CARD_FORMS[card](request.POST, campaign=campaign, zone=_zone(request))
    if not form.is_valid():
        return _saved(request, campaign, card, form, status=422)
    try:
        services.save_draft(
            actor=request.actor,
            campaign=campaign,
            version=_version(request),
            changes=form.changes(),
            **form.relations(),
        )
    except Conflict as error:
        return _stale(request, campaign, error)
    campaign = access_campaign(request.actor, campaign_id)
    response = _saved(request, campaign, card, form)
    response["HX-Trigger"] = json.dumps({f"saved-{card}": {}})
    return response


def _saved(
    request: MemberRequest, campaign: Campaign, card: str, form: CardForm, *, status: int = 200
) -> HttpResponse:
    context = {
        "campaign": campaign,
        "card": card,
        "errors": form.errors,
        "cards": cards_of(campaign),
    }
    return render(request, "sending/campaigns/saved.html", context, status=status)


def _stale(request: MemberRequest, campaign: Campaign, error: Conflict) -> HttpResponse:
    context = {"campaign": campaign, "error": error}
    response = render(request, "sending/campaigns/stale.html", context, status=409)
    response["HX-Retarget"] = "#editor-banner"
    response["HX-Reswap"] = "innerHTML show:top"
    return response


@member_page(needs="campaigns:write")
@require_POST
def template_use(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """Copy a template into the campaign; its subject fills an empty one."""
    campaign = access_campaign(request.actor, campaign_id, needs="campaigns:write")
    template = access_template(request.actor, request.POST.get("template", ""))
    changes = {
        "template": template,
        "content_kind": template.kind,
        "body": template.body,
        "text_body": template.text_body,
        "subject": campaign.subject or template.subject,
        "preview_text": campaign.preview_text or template.preview_text,
    }
    try:
        services.save_draft(
            actor=request.actor, campaign=campaign, version=_version(request), changes=changes
        )
    except Conflict as error:
        return _stale(request, campaign, error)
    messages.success(request, f"“{template.name}” is copied into this campaign.")
    response = HttpResponse(status=204)
    response["HX-Refresh"] = "true"
    return response


@member_page(needs="campaigns:read")
@require_safe
def recipient_count(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """A part: how many people the chosen lists reach."""
    campaign = access_campaign(request.actor, campaign_id)
    list_ids, excluded_ids = list_ids_of(campaign)
    audience = count_audience(
        tenant_id=campaign.tenant_id,
        list_ids=list_ids,
        excluded_list_ids=excluded_ids,
    )
    context = {"audience": audience, "has_lists": bool(list_ids)}
    return render(request, "sending/campaigns/count.html", context)


@member_page(needs="campaigns:read")
@require_safe
def editor_state(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """A part: the checklist beside the cards; asks again while the content is compiled."""
    campaign = access_campaign(request.actor, campaign_id)
    context = {"campaign": campaign, "cards": cards_of(campaign), "card": None, "errors": {}}
    return render(request, "sending/campaigns/saved.html", context)


def _chosen_contact(text: str) -> tuple[Contact | None, str]:
    """Return the contact to fill in for, and a sentence when there is none of that address."""
    if not text.strip():
        return None, ""
    try:
        address = parse_address(text, allow_display=False)
    except InvalidInput as error:
        return None, error.message
    contact = selectors.contact_by_email(address.normalised)
    return contact, "" if contact else f"No contact has the address {text[:80]}."


@member_page(needs="campaigns:read")
@require_safe
def preview_state(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """A part: subject and state of the preview; asks again while the content is compiled."""
    campaign = access_campaign(request.actor, campaign_id)
    contact, problem = _chosen_contact(request.GET.get("as_contact", ""))
    context = {
        "campaign": campaign,
        "preview": preview_of(campaign, contact),
        "contact": contact,
        "contact_problem": problem,
    }
    return render(request, "sending/campaigns/preview.html", context)


@member_page(needs="campaigns:read")
@require_safe
def preview_frame(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """The mail as one contact gets it, as a page that may run nothing."""
    campaign = access_campaign(request.actor, campaign_id)
    contact, _ = _chosen_contact(request.GET.get("as_contact", ""))
    preview = preview_of(campaign, contact)
    headers = {"Content-Security-Policy": FRAME_POLICY, "Cache-Control": "private, no-store"}
    if preview.state is not State.READY or preview.rendered is None:
        text = preview.problem or "Nothing to show yet."
        return HttpResponse(text, content_type="text/plain; charset=utf-8", headers=headers)
    html = preview.rendered.html
    if html is None or request.GET.get("part") == "text":
        return HttpResponse(
            preview.rendered.text, content_type="text/plain; charset=utf-8", headers=headers
        )
    return HttpResponse(page_of(html, dark=request.GET.get("dark") == "1"), headers=headers)


@member_page(needs="campaigns:write")
@require_http_methods(["POST"])
def test_send(request: MemberRequest, campaign_id: str) -> HttpResponse:
    """Send a test to a few addresses; answers with the dialog's inside."""
    campaign = access_campaign(request.actor, campaign_id, needs="campaigns:write")
    form = TestSendForm(request.POST)
    context = {"campaign": campaign, "test_form": form, "items": []}
    if form.is_valid():
        contact, problem = _chosen_contact(form.cleaned_data["as_contact"])
        if problem:
            form.add_error("as_contact", problem)
        else:
            _try_test(request, campaign, form, contact, context)
    status = 422 if form.errors else 200
    return render(request, "sending/campaigns/test.html", context, status=status)


def _try_test(
    request: MemberRequest,
    campaign: Campaign,
    form: TestSendForm,
    contact: Contact | None,
    context: dict[str, object],
) -> None:
    try:
        context["items"] = send_test(
            actor=request.actor,
            campaign=campaign,
            addresses=form.cleaned_data["addresses"],
            as_contact=contact,
        )
    except DomainError as error:
        if error.field and error.field.startswith("to["):
            error.field = "addresses"
        add_domain_error(form, error)
