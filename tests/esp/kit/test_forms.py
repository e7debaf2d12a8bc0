"""Fields on pages: their look, and that help and errors are tied to the control."""

from __future__ import annotations

from django import forms
from django.template import Context, Template

from esp.kit.forms import add_domain_error, control_attributes, kind_of
from esp.lib.errors import InvalidInput


class Letter(forms.Form):
    subject = forms.CharField(help_text="What the inbox shows.")
    tracked = forms.BooleanField(required=False)
    when = forms.ChoiceField(
        choices=[("now", "Now"), ("later", "Later")], widget=forms.RadioSelect, required=False
    )
    note = forms.CharField(widget=forms.Textarea(attrs={"class": "font-mono"}), required=False)


def component(name: str, form: forms.Form) -> str:
    return Template('{% cotton field :field="field" / %}').render(Context({"field": form[name]}))


def test_an_error_is_tied_to_its_control() -> None:
    drawn = component("subject", Letter({}))
    assert 'aria-invalid="true"' in drawn
    assert 'aria-describedby="id_subject_helptext id_subject_error"' in drawn
    assert 'id="id_subject_error"' in drawn
    assert 'id="id_subject_helptext"' in drawn


def test_a_field_without_error_says_nothing_of_errors() -> None:
    drawn = component("subject", Letter())
    assert "aria-invalid" not in drawn
    assert "_error" not in drawn
    assert '<label class="field-label ' in drawn


def test_a_field_that_may_stay_empty_says_optional() -> None:
    assert "optional" in component("note", Letter())
    assert "optional" not in component("subject", Letter())


def test_own_classes_of_a_widget_are_kept() -> None:
    assert control_attributes(Letter()["note"])["class"] == "textarea w-full font-mono"


def test_a_group_of_radios_is_a_fieldset_with_a_legend() -> None:
    drawn = component("when", Letter())
    assert "<fieldset" in drawn
    assert "<legend" in drawn
    assert drawn.count('type="radio"') == 2


def test_kinds_of_layout() -> None:
    form = Letter()
    assert [kind_of(form[name]) for name in ("subject", "tracked", "when")] == [
        "control",
        "checkbox",
        "group",
    ]


def test_a_services_refusal_stands_at_the_field_it_names() -> None:
    form = Letter({"subject": "Hello"})
    add_domain_error(form, InvalidInput("This subject is too long.", field="subject"))
    assert form.errors["subject"] == ["This subject is too long."]


def test_a_refusal_of_an_unknown_field_stands_above_the_form() -> None:
    form = Letter({"subject": "Hello"})
    add_domain_error(form, InvalidInput("There is no list.", field="list"))
    assert form.non_field_errors() == ["There is no list."]
