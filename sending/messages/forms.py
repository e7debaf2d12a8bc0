"""The filter above the message log."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms

from esp.lib.addresses import parse_address
from esp.lib.errors import InvalidInput
from esp.lib.ids import from_public
from sending.messages.finding import MessageFilter
from sending.messages.models import Message


class MessageFilterForm(forms.Form):
    """What the log is narrowed to. The address must be whole: the log finds it by its index."""

    recipient = forms.CharField(required=False, max_length=320, label="Recipient")
    status = forms.ChoiceField(
        required=False, choices=[("", "Every status"), *Message.Status.choices], label="Status"
    )
    tag = forms.CharField(required=False, max_length=64, label="Tag")
    since = forms.DateField(
        required=False, label="From", widget=forms.DateInput(attrs={"type": "date"})
    )
    until = forms.DateField(
        required=False, label="To", widget=forms.DateInput(attrs={"type": "date"})
    )
    batch = forms.CharField(required=False, max_length=40, widget=forms.HiddenInput)

    def clean_recipient(self) -> str:
        text: str = self.cleaned_data["recipient"]
        if not text:
            return ""
        try:
            return parse_address(text, allow_display=False).normalised
        except InvalidInput as error:
            raise forms.ValidationError(
                "Enter a whole address, such as ada@example.com."
            ) from error

    def clean_batch(self) -> Any:
        text: str = self.cleaned_data["batch"]
        if not text:
            return None
        try:
            return from_public("bat", text)
        except ValueError as error:
            raise forms.ValidationError("There is no such batch.") from error

    @property
    def is_narrowed(self) -> bool:
        """Whether anything is asked for."""
        return self.is_valid() and any(self.cleaned_data.values())

    def chosen(self) -> MessageFilter:
        """Return the filter; call it on a valid form."""
        data = self.cleaned_data
        until = data["until"]
        return MessageFilter(
            status=data["status"],
            recipient=data["recipient"],
            tag=data["tag"],
            batch_id=data["batch"],
            since=_midnight(data["since"]),
            until=_midnight(until + dt.timedelta(days=1)) if until else None,
        )


def _midnight(day: dt.date | None) -> dt.datetime | None:
    return None if day is None else dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)
