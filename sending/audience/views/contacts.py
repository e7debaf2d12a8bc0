"""Pages of contacts and their custom attributes."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from esp.kit.forms import add_domain_error
from esp.lib.errors import DomainError
from sending.audience import selectors
from sending.audience.access import access_attribute, access_contact, access_list
from sending.audience.forms import AttributeForm, ContactForm, SubscribeForm
from sending.audience.import_mapping import key_of
from sending.audience.models import Contact, Subscription
from sending.audience.services import contacts as services
from sending.audience.services.subscriptions import subscribe, unsubscribe_by_member
from tenants.directory.gate import MemberRequest, member_page


@member_page(needs="audience:read")
@require_safe
def contact_list(request: MemberRequest) -> HttpResponse:
    """Contacts newest first; search, list and status narrow them (htmx swaps the table)."""
    query = request.GET.get("q", "")
    chosen_list, status = request.GET.get("list", ""), request.GET.get("status", "")
    status = status if status in Subscription.Status.values else ""
    found = access_list(request.actor, chosen_list) if chosen_list else None
    page = selectors.contacts_page(
        query=query,
        list_id=found.pk if found else None,
        status=status,
        after=request.GET.get("after"),
        before=request.GET.get("before"),
    )
    context = {
        "page": page,
        "query": query,
        "status": status,
        "chosen": found,
        "lists": selectors.lists_of_tenant(),
        "statuses": Subscription.Status.choices,
        "total": selectors.contact_total(),
        "is_narrowed": bool(query or found),
    }
    part = "#results" if request.htmx and not request.htmx.boosted else ""  # type: ignore[attr-defined]
    return render(request, f"sending/audience/contacts.html{part}", context)


@member_page(needs="audience:write")
@require_http_methods(["GET", "HEAD", "POST"])
def contact_add(request: MemberRequest) -> HttpResponse:
    """Add one contact."""
    form = ContactForm(request.POST or None, definitions=selectors.attributes_of_tenant())
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        try:
            contact = services.create_contact(
                actor=request.actor,
                email=data["email"],
                first_name=data["first_name"],
                last_name=data["last_name"],
                attributes={k: v for k, v in data["attributes"].items() if v is not None},
            )
            messages.success(request, f"{contact.email} is added.")
            return redirect("contacts-detail", contact_id=contact.public_id)
        except DomainError as error:
            add_domain_error(form, error)
    status = 422 if form.errors else 200
    return render(request, "sending/audience/contact_edit.html", {"form": form}, status=status)


def _messages_url(contact: Contact) -> str:
    """The messages room stands above this one: its page is known by name, or is not there."""
    try:
        return f"{reverse('messages-for-recipient')}?{urlencode({'email': contact.email})}"
    except NoReverseMatch:
        return ""


@member_page(needs="audience:read")
@require_safe
def contact_detail(request: MemberRequest, contact_id: str) -> HttpResponse:
    """What is known of a contact: attributes, subscriptions with history, suppressions, mail."""
    contact = access_contact(request.actor, contact_id)
    definitions = selectors.attributes_of_tenant()
    context = {
        "contact": contact,
        "attributes": [(d.label, contact.attributes.get(d.key), d.kind) for d in definitions],
        "subscriptions": selectors.subscriptions_of(contact),
        "suppressions": selectors.suppressions_of_address(contact.email_norm),
        "subscribe_form": SubscribeForm(),
        "messages_url": _messages_url(contact),
    }
    return render(request, "sending/audience/contact.html", context)


@member_page(needs="audience:write")
@require_http_methods(["GET", "HEAD", "POST"])
def contact_edit(request: MemberRequest, contact_id: str) -> HttpResponse:
    """Change a contact."""
    contact = access_contact(request.actor, contact_id, needs="audience:write")
    form = ContactForm(
        request.POST or None,
        definitions=selectors.attributes_of_tenant(),
        initial=ContactForm.initial_for(contact),
    )
    if request.method == "POST" and form.is_valid():
        fields = ("email", "first_name", "last_name", "attributes")
        try:
            services.update_contact(
                actor=request.actor,
                contact=contact,
                changes={name: form.cleaned_data[name] for name in fields},
            )
            messages.success(request, "The contact is saved.")
            return redirect("contacts-detail", contact_id=contact_id)
        except DomainError as error:
            add_domain_error(form, error)
    context = {"form": form, "contact": contact}
    status = 422 if form.errors else 200
    return render(request, "sending/audience/contact_edit.html", context, status=status)


@member_page(needs="audience:write")
@require_POST
def contact_delete(request: MemberRequest, contact_id: str) -> HttpResponse:
    """Delete a contact."""
    contact = access_contact(request.actor, contact_id, needs="audience:write")
    services.delete_contact(actor=request.actor, contact=contact)
    messages.success(request, f"{contact.email} is deleted.")
    return redirect("contacts-list")


@member_page(needs="audience:write")
@require_POST
def contact_subscribe(request: MemberRequest, contact_id: str) -> HttpResponse:
    """Put a contact on a list."""
    contact = access_contact(request.actor, contact_id, needs="audience:write")
    form = SubscribeForm(request.POST)
    if form.is_valid():
        subscribe(
            actor=request.actor,
            contact=contact,
            contact_list=form.cleaned_data["contact_list"],
            source="manual",
        )
    else:
        messages.error(request, "Choose a list.")
    return redirect("contacts-detail", contact_id=contact_id)


@member_page(needs="audience:write")
@require_POST
def contact_unsubscribe(request: MemberRequest, contact_id: str, list_id: str) -> HttpResponse:
    """Take a contact off a list."""
    contact = access_contact(request.actor, contact_id, needs="audience:write")
    chosen = access_list(request.actor, list_id, needs="audience:write")
    unsubscribe_by_member(actor=request.actor, contact=contact, contact_list=chosen)
    return redirect("contacts-detail", contact_id=contact_id)


@member_page(needs="audience:read")
@require_safe
def attribute_list(request: MemberRequest) -> HttpResponse:
    """The custom attributes."""
    context = {"definitions": selectors.attributes_of_tenant()}
    return render(request, "sending/audience/attributes.html", context)


@member_page(needs="audience:write")
@require_http_methods(["GET", "HEAD", "POST"])
def attribute_add(request: MemberRequest) -> HttpResponse:
    """Define an attribute."""
    form = AttributeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        try:
            services.define_attribute(
                actor=request.actor,
                key=data["key"] or key_of(data["label"]),
                label=data["label"],
                kind=data["kind"],
            )
            return redirect("attributes-list")
        except DomainError as error:
            add_domain_error(form, error)
    status = 422 if form.errors else 200
    context = {"form": form, "heading": "Add attribute", "back": "attributes-list"}
    return render(request, "sending/audience/simple_form.html", context, status=status)


@member_page(needs="audience:write")
@require_POST
def attribute_remove(request: MemberRequest, attribute_id: str) -> HttpResponse:
    """Remove an attribute's definition."""
    definition = access_attribute(request.actor, attribute_id, needs="audience:write")
    services.remove_attribute(actor=request.actor, definition=definition)
    messages.success(request, f"“{definition.label}” is removed.")
    return redirect("attributes-list")
