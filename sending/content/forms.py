"""Forms of the template pages."""

from __future__ import annotations

from typing import Final

from django import forms

from sending.content.models import ContentKind
from sending.content.types import ContentSource

_PLAIN: Final = {"autocomplete": "off"}
# The browser's own aids get in the way of code.
_CODE: Final = {
    "spellcheck": "false",
    "autocapitalize": "off",
    "autocomplete": "off",
    "autocorrect": "off",
    "wrap": "off",
}


class SourceForm(forms.Form):
    """What a person wrote, as it stands in an editor; sizes and syntax are the services' part."""

    kind = forms.ChoiceField(
        label="Written in",
        choices=ContentKind.choices,
        error_messages={"invalid_choice": "Choose HTML, MJML or plain text."},
        widget=forms.Select(attrs={"data-source": "kind"}),
    )
    subject = forms.CharField(
        label="Subject",
        required=False,
        widget=forms.TextInput(attrs={**_PLAIN, "data-source": "subject", "maxlength": 300}),
    )
    preview_text = forms.CharField(
        label="Preview text",
        required=False,
        help_text="Inboxes show it behind the subject.",
        widget=forms.TextInput(attrs={**_PLAIN, "data-source": "preview_text", "maxlength": 200}),
    )
    body = forms.CharField(
        label="Body",
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={**_CODE, "data-source": "body", "rows": 24}),
    )
    text_body = forms.CharField(
        label="Plain-text part",
        required=False,
        strip=False,
        help_text="Leave it empty and it is made from the body.",
        widget=forms.Textarea(attrs={**_CODE, "data-source": "text_body", "rows": 8}),
    )

    def source(self) -> ContentSource:
        """Return the content of a valid form, as the compiler takes it."""
        values = self.cleaned_data
        text_body = _lines(values["text_body"])
        return ContentSource(
            kind=values["kind"],
            body=_lines(values["body"]),
            subject=values["subject"],
            text_body=text_body if text_body.strip() else None,
            preview_text=values["preview_text"],
        )


class TemplateForm(SourceForm):
    """The template editor. `version` is the one that the person has before their eyes."""

    name = forms.CharField(
        label="Name",
        error_messages={"required": "Give the template a name."},
        widget=forms.TextInput(attrs={**_PLAIN, "maxlength": 120}),
    )
    version = forms.IntegerField(widget=forms.HiddenInput)

    field_order = ("name", "kind", "subject", "preview_text", "body", "text_body", "version")

    def changes(self) -> dict[str, str]:
        """Return the fields to save; call it on a valid form."""
        values = {key: value for key, value in self.cleaned_data.items() if key != "version"}
        values["body"], values["text_body"] = _lines(values["body"]), _lines(values["text_body"])
        return values


def _lines(text: str) -> str:
    """Browsers send CRLF; lines are kept with LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
