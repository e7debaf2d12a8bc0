"""Forms about a person: signing in, a forgotten password, the profile."""

from __future__ import annotations

from django import forms

_PASSWORD_MAX = 256  # hashing endless passwords is a way to keep a server busy


class SignInForm(forms.Form):
    """Address and password. What is wrong with them is said above the form, for both alike."""

    email = forms.EmailField(
        label="Email address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "username", "autofocus": True}),
    )
    password = forms.CharField(
        strip=False,
        max_length=_PASSWORD_MAX,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class PasswordResetForm(forms.Form):
    """The address whose password is forgotten."""

    email = forms.EmailField(
        label="Email address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "username", "autofocus": True}),
    )


class ProfileForm(forms.Form):
    """What a person says about themselves."""

    name = forms.CharField(
        max_length=150,
        help_text="Others in your workspaces see it in the list of members.",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
