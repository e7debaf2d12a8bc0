"""Forms of the campaign pages: one for each card of the editor, and the small ones.

A card's form turns what stands on it into changes for `services.save_draft`.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, ClassVar, Final
from zoneinfo import ZoneInfo

from django import forms
from django.utils import timezone

from deliverability.domains.models import Domain, Sender
from esp.lib.errors import DomainError
from sending.audience.models import ContactList
from sending.campaigns.models import Campaign
from sending.campaigns.selectors import lists_to_choose
from sending.content.guard import check_size
from sending.content.liquid import check_syntax
from sending.content.models import ContentKind

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_PLAIN = {"autocomplete": "off"}


def one_line(text: str) -> str:
    """Return `text`; raises ValidationError when it could begin a header line of its own."""
    if _CONTROL.search(text):
        raise forms.ValidationError("Line breaks and control characters cannot stand here.")
    return text


def _check_liquid(text: str) -> str:
    try:
        check_size(text)
        check_syntax(text)
    except DomainError as error:
        raise forms.ValidationError(error.message) from error
    return text


class NameForm(forms.Form):
    """A campaign's name; recipients never see it."""

    name = forms.CharField(
        label="Name",
        max_length=150,
        help_text="Only your team sees it, for example “November newsletter”.",
    )

    def clean_name(self) -> str:
        return one_line(self.cleaned_data["name"])


class CardForm(forms.Form):
    """A card of the editor. It knows the campaign that it shows."""

    def __init__(self, data: Any = None, *, campaign: Campaign, zone: str = "UTC") -> None:
        self.campaign = campaign
        self.zone = ZoneInfo(zone)
        super().__init__(data, initial=self.initial_of(campaign), prefix=None)

    def initial_of(self, campaign: Campaign) -> dict[str, Any]:
        """Return what the card shows at first."""
        return {name: getattr(campaign, name) for name in self.base_fields}

    def changes(self) -> dict[str, Any]:
        """Return the fields to save; call it on a valid form."""
        return dict(self.cleaned_data)

    def relations(self) -> dict[str, Any]:
        """Return the lists to save."""
        return {}


class RenameForm(CardForm, NameForm):
    """The campaign's name, above the cards."""


class ToForm(CardForm):
    """Who gets it."""

    lists: forms.ModelMultipleChoiceField[ContactList] = forms.ModelMultipleChoiceField(
        queryset=None,
        required=False,
        label="Send to these lists",
        widget=forms.CheckboxSelectMultiple,
    )
    excluded_lists: forms.ModelMultipleChoiceField[ContactList] = forms.ModelMultipleChoiceField(
        queryset=None,
        required=False,
        label="But not to anyone on",
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, data: Any = None, *, campaign: Campaign, zone: str = "UTC") -> None:
        super().__init__(data, campaign=campaign, zone=zone)
        for name in ("lists", "excluded_lists"):
            self.fields[name].queryset = lists_to_choose()  # type: ignore[attr-defined]

    def initial_of(self, campaign: Campaign) -> dict[str, Any]:
        return {
            "lists": [chosen.pk for chosen in campaign.lists.all()],
            "excluded_lists": [chosen.pk for chosen in campaign.excluded_lists.all()],
        }

    def changes(self) -> dict[str, Any]:
        return {}

    def relations(self) -> dict[str, Any]:
        return dict(self.cleaned_data)


class _SenderField(forms.ModelChoiceField):  # type: ignore[type-arg]
    def label_from_instance(self, obj: Any) -> str:
        waits = obj.domain.status != Domain.Status.VERIFIED
        return f"{obj.name} <{obj.email}>" + (" – domain not verified" if waits else "")


class FromForm(CardForm):
    """Who it comes from."""

    sender = _SenderField(queryset=None, required=False, label="Sender", empty_label="Choose…")

    def __init__(self, data: Any = None, *, campaign: Campaign, zone: str = "UTC") -> None:
        super().__init__(data, campaign=campaign, zone=zone)
        senders = Sender.objects.select_related("domain").order_by("email")
        self.fields["sender"].queryset = senders  # type: ignore[attr-defined]


class SubjectForm(CardForm):
    """What the inbox shows."""

    subject = forms.CharField(
        label="Subject",
        max_length=300,
        required=False,
        widget=forms.TextInput(attrs={**_PLAIN, "data-counts": "subject-count"}),
    )
    preview_text = forms.CharField(
        label="Preview text",
        max_length=200,
        required=False,
        help_text="Inboxes show it after the subject. Without it they show the first words.",
        widget=forms.TextInput(attrs=_PLAIN),
    )

    def clean_subject(self) -> str:
        return _check_liquid(one_line(self.cleaned_data["subject"]))

    def clean_preview_text(self) -> str:
        return _check_liquid(one_line(self.cleaned_data["preview_text"]))


class ContentForm(CardForm):
    """The mail itself. A body that does not compile is kept all the same: it is a draft."""

    content_kind = forms.ChoiceField(
        label="Written as", choices=ContentKind, widget=forms.RadioSelect
    )
    body = forms.CharField(
        label="Body",
        required=False,
        strip=False,
        widget=forms.Textarea(
            attrs={"rows": 18, "spellcheck": "false", "class": "font-mono", "data-editor": ""}
        ),
    )
    text_body = forms.CharField(
        label="Plain-text part",
        required=False,
        strip=False,
        help_text="Left empty, it is made from the HTML.",
        widget=forms.Textarea(attrs={"rows": 8, "class": "font-mono", "data-editor": ""}),
    )

    def clean_body(self) -> str:
        return self._sized("body")

    def clean_text_body(self) -> str:
        return self._sized("text_body")

    def _sized(self, name: str) -> str:
        text: str = self.cleaned_data[name].replace("\r\n", "\n")
        try:
            check_size(text)
        except DomainError as error:
            raise forms.ValidationError(error.message) from error
        return text


class ScheduleForm(CardForm):
    """When it is sent, and what is measured. Times are in the workspace's zone."""

    when = forms.ChoiceField(
        label="When",
        choices=[("now", "As soon as I press Send"), ("later", "At a set time")],
        widget=forms.RadioSelect,
    )
    scheduled_at = forms.DateTimeField(
        label="Date and time",
        required=False,
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    track_opens = forms.BooleanField(
        label="Measure opens",
        required=False,
        help_text="An invisible image. Mail apps that load images by themselves are told apart.",
    )
    track_clicks = forms.BooleanField(
        label="Measure clicks",
        required=False,
        help_text="Links lead over your tracking domain.",
    )

    def initial_of(self, campaign: Campaign) -> dict[str, Any]:
        at = campaign.scheduled_at
        return {
            "when": "later" if at else "now",
            "scheduled_at": at.astimezone(self.zone).replace(tzinfo=None) if at else None,
            "track_opens": campaign.track_opens,
            "track_clicks": campaign.track_clicks,
        }

    def clean_scheduled_at(self) -> dt.datetime | None:
        value: dt.datetime | None = self.cleaned_data["scheduled_at"]
        if value is None or self.cleaned_data.get("when") != "later":
            return None
        return in_zone(value.replace(tzinfo=None), self.zone)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        is_open = data.get("when") == "later" and not data.get("scheduled_at")
        if is_open and "scheduled_at" not in self.errors:
            self.add_error("scheduled_at", "Choose the date and the time.")
        return data

    def changes(self) -> dict[str, Any]:
        names = ("scheduled_at", "track_opens", "track_clicks")
        return {name: self.cleaned_data[name] for name in names}


def in_zone(naive: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """Return the moment that a clock in `zone` shows as `naive`; it must lie in the coming year.

    A time that the clocks skip does not exist; of one that they show twice the first is meant.
    """
    moment = naive.replace(tzinfo=zone).astimezone(dt.UTC)
    if moment.astimezone(zone).replace(tzinfo=None) != naive:
        raise forms.ValidationError("The clocks skip this time on that day. Choose another one.")
    now = timezone.now()
    if moment <= now:
        raise forms.ValidationError("This time has passed.")
    if moment > now + dt.timedelta(days=366):
        raise forms.ValidationError("Choose a time in the coming year.")
    return moment


class TestSendForm(forms.Form):
    """Where a test goes, and as whom it is filled in."""

    __test__: ClassVar[bool] = False  # no test of pytest's

    addresses = forms.CharField(
        label="Send to",
        max_length=1500,
        help_text="Up to five addresses, separated by commas.",
        widget=forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false"}),
    )
    as_contact = forms.CharField(
        label="Filled in for the contact",
        required=False,
        max_length=254,
        widget=forms.TextInput(attrs={"list": "preview-contacts", "placeholder": "nobody"}),
    )

    def clean_addresses(self) -> list[str]:
        parts = re.split(r"[,;\s]+", self.cleaned_data["addresses"])
        return [part for part in parts if part]


CARD_FORMS: Final[dict[str, type[CardForm]]] = {
    "name": RenameForm,
    "to": ToForm,
    "from": FromForm,
    "subject": SubjectForm,
    "content": ContentForm,
    "schedule": ScheduleForm,
}
