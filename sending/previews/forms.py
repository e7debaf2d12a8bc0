"""Forms of previews and tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms

from deliverability.domains.models import Domain, Sender
from sending.content.forms import SourceForm


class PreviewForm(SourceForm):
    """Content to look at, as it stands in an editor."""

    contact = forms.CharField(required=False, max_length=40)
    footer = forms.BooleanField(required=False)


if TYPE_CHECKING:
    _ModelChoiceField = forms.ModelChoiceField[Sender]
else:
    _ModelChoiceField = forms.ModelChoiceField


class _SenderField(_ModelChoiceField):
    def to_python(self, value: Any) -> Sender | None:
        """Return the sender; a value that is no id at all is refused like an unknown one."""
        try:
            return super().to_python(value)
        except forms.ValidationError as error:
            message = self.error_messages["invalid_choice"]
            raise forms.ValidationError(message, code="invalid_choice") from error

    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.name} <{obj.email}>"


class TestForm(PreviewForm):
    """Content to send to a few addresses."""

    __test__ = False  # no test class, whatever its name says

    addresses = forms.CharField(
        label="To",
        max_length=1500,
        help_text="Up to five addresses, with commas between them.",
        error_messages={"required": "Enter at least one address."},
        widget=forms.TextInput(attrs={"placeholder": "you@example.com", "inputmode": "email"}),
    )
    sender = _SenderField(
        label="From",
        queryset=None,
        empty_label=None,
        error_messages={
            "required": "Choose a sender.",
            "invalid_choice": "Choose one of your senders.",
        },
    )

    def __init__(self, data: Any = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        self.fields["sender"].queryset = (  # type: ignore[attr-defined]
            Sender.objects.filter(domain__status=Domain.Status.VERIFIED)
            .select_related("domain")
            .order_by("email")
        )
