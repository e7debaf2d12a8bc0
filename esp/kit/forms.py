"""Forms on pages: controls that look and read like the rest, and service errors on their fields."""

from __future__ import annotations

from typing import Final

from django import forms
from django.forms.boundfield import BoundField

from esp.lib.errors import DomainError

# Named in full, because Tailwind finds class names by reading this file.
_CLASSES: Final[tuple[tuple[type[forms.Widget], str], ...]] = (
    # A group's attributes also go on the element around it: its controls are styled by type.
    (forms.CheckboxSelectMultiple, ""),
    (forms.RadioSelect, ""),
    (forms.CheckboxInput, "checkbox checkbox-sm checkbox-primary"),
    (forms.SelectMultiple, "select h-auto w-full"),
    (forms.Select, "select w-full"),
    (forms.Textarea, "textarea w-full"),
    (forms.FileInput, "file-input w-full"),
    (forms.Widget, "input w-full"),
)


def class_for(widget: forms.Widget) -> str:
    """Return the CSS classes of a control."""
    return next(classes for kind, classes in _CLASSES if isinstance(widget, kind))


def kind_of(field: BoundField) -> str:
    """Return how a field is laid out: "checkbox", "group" (several controls) or "control"."""
    widget = field.field.widget
    if isinstance(widget, (forms.CheckboxSelectMultiple, forms.RadioSelect)):
        return "group"
    return "checkbox" if isinstance(widget, forms.CheckboxInput) else "control"


def control_attributes(field: BoundField, *, extra_class: str = "") -> dict[str, str]:
    """Return the attributes that tie a control to its help and error and give it its look."""
    widget = field.field.widget
    own = str(widget.attrs.get("class", ""))
    classes = own if _looks_styled(own) else f"{class_for(widget)} {own}"
    attributes = {"class": f"{classes} {extra_class}".strip()} if classes.strip() else {}
    described = [f"{field.auto_id}_helptext"] if field.help_text else []
    if field.errors:
        attributes["aria-invalid"] = "true"
        described.append(f"{field.auto_id}_error")
    if described and "aria-describedby" not in widget.attrs:
        attributes["aria-describedby"] = " ".join(described)
    return attributes


def _looks_styled(classes: str) -> bool:
    known = {"input", "select", "textarea", "checkbox", "radio", "file-input", "toggle", "range"}
    return bool(known & set(classes.split()))


def add_domain_error(form: forms.BaseForm, error: DomainError) -> None:
    """Put a service's refusal on the field that it names, or above the form."""
    field = error.field if error.field in form.fields else None
    form.add_error(field, error.message)
