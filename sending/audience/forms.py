"""Forms of the audience's pages."""

from __future__ import annotations

from typing import Any, cast

from django import forms

from deliverability.domains.models import Sender
from esp.lib.errors import InvalidInput
from sending.audience.attributes import parse_value
from sending.audience.import_mapping import FIELDS
from sending.audience.models import (
    AttributeDefinition,
    Contact,
    ContactList,
    Import,
    Suppression,
)

_KIND_LABELS = dict(AttributeDefinition.Kind.choices)


class ContactForm(forms.Form):
    """A contact's address, names and attributes; one field for each definition."""

    email = forms.CharField(
        label="E-mail address",
        max_length=320,
        widget=forms.EmailInput(attrs={"autocomplete": "off", "inputmode": "email"}),
    )
    first_name = forms.CharField(max_length=100, required=False)
    last_name = forms.CharField(max_length=100, required=False)

    def __init__(self, *args: Any, definitions: list[AttributeDefinition], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.definitions = definitions
        for definition in definitions:
            self.fields[f"attributes.{definition.key}"] = _attribute_field(definition)

    @property
    def attribute_fields(self) -> list[forms.BoundField]:
        """The custom attributes' fields, for the template."""
        return [self[f"attributes.{definition.key}"] for definition in self.definitions]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        attributes: dict[str, Any] = {}
        for definition in self.definitions:
            name = f"attributes.{definition.key}"
            try:
                attributes[definition.key] = parse_value(definition, cleaned.get(name))
            except InvalidInput as error:
                self.add_error(name, error.message)
        cleaned["attributes"] = attributes
        return cleaned

    @staticmethod
    def initial_for(contact: Contact) -> dict[str, Any]:
        """Return the form's initial values for a contact."""
        values: dict[str, Any] = {
            "email": contact.email,
            "first_name": contact.first_name,
            "last_name": contact.last_name,
        }
        for key, value in contact.attributes.items():
            shown = ("yes" if value else "no") if isinstance(value, bool) else value
            values[f"attributes.{key}"] = shown
        return values


def _attribute_field(definition: AttributeDefinition) -> forms.Field:
    if definition.kind == AttributeDefinition.Kind.BOOLEAN:
        choices = [("", "Not known"), ("yes", "Yes"), ("no", "No")]
        return forms.ChoiceField(label=definition.label, choices=choices, required=False)
    widgets: dict[str, forms.Widget] = {
        AttributeDefinition.Kind.NUMBER: forms.TextInput(attrs={"inputmode": "decimal"}),
        AttributeDefinition.Kind.DATE: forms.DateInput(attrs={"type": "date"}),
    }
    return forms.CharField(
        label=definition.label,
        required=False,
        max_length=1000,
        widget=widgets.get(definition.kind, forms.TextInput()),
    )


class ListForm(forms.Form):
    """A list's name, what people read about it, and how they join."""

    name = forms.CharField(max_length=120)
    description = forms.CharField(
        max_length=300, required=False, help_text="People see it where they manage what they get."
    )
    opt_in = forms.ChoiceField(
        label="How people join",
        choices=[
            ("single", "Single opt-in: they are subscribed at once"),
            ("double", "Double opt-in: they confirm by a link in a mail first"),
        ],
        widget=forms.RadioSelect,
        initial="single",
    )


class AttributeForm(forms.Form):
    """A custom attribute."""

    label = forms.CharField(max_length=80, help_text="As you call it, for example “City”.")
    key = forms.CharField(
        max_length=40,
        required=False,
        help_text="As templates call it, for example “city”. Made from the label when empty.",
    )
    kind = forms.ChoiceField(label="Type", choices=AttributeDefinition.Kind.choices)


class SuppressionForm(forms.Form):
    """An address to suppress."""

    email = forms.CharField(label="E-mail address", max_length=320, widget=forms.EmailInput)
    scope = forms.ChoiceField(label="What it may not get", choices=Suppression.Scope.choices)
    detail = forms.CharField(label="Note", max_length=500, required=False)


class UploadForm(forms.Form):
    """A CSV file."""

    file = forms.FileField(
        label="CSV file",
        help_text="One row a contact, with a column of e-mail addresses. Up to 1 GB.",
        allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": ".csv,.txt,.tsv,text/csv"}),
    )


class SubscribeForm(forms.Form):
    """The list to put a contact on."""

    contact_list = forms.ModelChoiceField(
        label="List", queryset=ContactList.unscoped.none(), empty_label="Choose a list"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = cast("forms.ModelChoiceField[ContactList]", self.fields["contact_list"])
        field.queryset = ContactList.objects.filter(archived_at=None).order_by("name")


class MappingForm(forms.Form):
    """What each column is, and where the contacts go."""

    contact_list = forms.ModelChoiceField(
        label="Subscribe them to",
        queryset=ContactList.unscoped.none(),
        required=False,
        empty_label="No list: contacts only",
    )
    consent_text = forms.CharField(
        label="How they agreed to get mail",
        max_length=500,
        required=False,
        help_text="Kept as the consent record, for example “Ticked the box at check-out”.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    on_duplicate = forms.ChoiceField(
        label="Contacts that you have already",
        choices=Import.OnDuplicate.choices,
        widget=forms.RadioSelect,
        initial=Import.OnDuplicate.UPDATE,
    )
    has_header = forms.BooleanField(
        label="The first row holds the columns’ names", required=False, initial=True
    )

    def __init__(self, *args: Any, job: Import, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lists = cast("forms.ModelChoiceField[ContactList]", self.fields["contact_list"])
        lists.queryset = ContactList.objects.filter(archived_at=None).order_by("name")
        keys = AttributeDefinition.objects.order_by("label").values_list("key", "label")
        choices: list[Any] = [
            ("", "Ignore"),
            *[(name, name.replace("_", " ").capitalize()) for name in FIELDS],
            ("Attributes", [(f"attributes.{key}", label) for key, label in keys]),
            ("New attribute", [(f"new:{k}", str(v)) for k, v in _KIND_LABELS.items()]),
        ]
        self.columns = int(job.dialect["columns"])
        first = job.dialect.get("first") or []
        for index in range(self.columns):
            name = first[0][index] if first and index < len(first[0]) else ""
            self.fields[f"column_{index}"] = forms.ChoiceField(
                label=f"Column {index + 1}" + (f", {name}" if name else ""),
                choices=choices,
                required=False,
                initial=job.mapping[index] if index < len(job.mapping) else "",
            )

    @property
    def column_fields(self) -> list[forms.BoundField]:
        """The columns' fields in order, for the template."""
        return [self[f"column_{index}"] for index in range(self.columns)]

    def targets(self) -> list[str]:
        """Return the chosen target of each column."""
        return [self.cleaned_data[f"column_{index}"] for index in range(self.columns)]


class SignupFormForm(forms.Form):
    """A hosted sign-up form."""

    title = forms.CharField(max_length=120)
    intro = forms.CharField(
        max_length=500, required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    contact_list = forms.ModelChoiceField(label="List", queryset=ContactList.unscoped.none())
    sender = forms.ModelChoiceField(
        label="Confirmation mail comes from", queryset=Sender.unscoped.none()
    )
    consent_text = forms.CharField(
        label="What people agree to",
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Stands beside the box that they tick, and in the consent record.",
    )
    asks_name = forms.BooleanField(label="Ask for the name too", required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lists = cast("forms.ModelChoiceField[ContactList]", self.fields["contact_list"])
        lists.queryset = ContactList.objects.filter(archived_at=None).order_by("name")
        senders = cast("forms.ModelChoiceField[Sender]", self.fields["sender"])
        senders.queryset = Sender.objects.filter(domain__status="verified").order_by("email")
        senders.label_from_instance = lambda sender: f"{sender.name} <{sender.email}>"  # type: ignore[method-assign,assignment]


class PublicForm(forms.Form):
    """What a visitor fills in; `website` is a trap that people do not see."""

    email = forms.CharField(
        label="E-mail address",
        max_length=320,
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )
    first_name = forms.CharField(
        max_length=100, required=False, widget=forms.TextInput(attrs={"autocomplete": "given-name"})
    )
    last_name = forms.CharField(
        max_length=100,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "family-name"}),
    )
    consent = forms.BooleanField(error_messages={"required": "Tick the box to agree."})
    website = forms.CharField(required=False)
