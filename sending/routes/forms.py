"""Forms of the operators' pages about routes. Secrets are written, never shown again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms

from sending.routes.building import Unusable, secrets_of
from sending.routes.models import Route, RouteSet
from sending.routes.options import AUTH_KINDS, TLS_MODES
from sending.routes.providers import PROVIDERS, Field, Provider
from sending.routes.services.sets import MAX_WEIGHT, STREAMS, Place

_KEPT = "Kept as it is when left empty."
_BASE = ("name", "status")
_LAST_PLACE = 99


def _said(text: str) -> dict[str, str]:
    """Return what a field of numbers says of any wrong one."""
    return dict.fromkeys(("min_value", "max_value", "invalid"), text)


@dataclass(frozen=True, slots=True)
class Group:
    """Fields under one heading; one that few routes need is folded away until it is used."""

    title: str
    fields: list[forms.BoundField]
    is_rare: bool = False

    @property
    def is_used(self) -> bool:
        """Whether anything was entered, is kept, or is wrong here."""
        return any(
            field.errors or field.value() or field.field.widget.attrs.get("placeholder")
            for field in self.fields
        )


class SecretInput(forms.PasswordInput):
    """A field whose value is never sent back, not even with the errors of a form."""

    def __init__(self) -> None:
        super().__init__(attrs={"autocomplete": "off"}, render_value=False)


class SecretArea(forms.Textarea):
    """As SecretInput, for several lines."""

    def format_value(self, value: Any) -> str | None:
        """Show nothing."""
        return None


class RouteForm(forms.Form):
    """What all kinds have; `given` are the settings of the kind."""

    name = forms.CharField(max_length=50, help_text="Stays for good: attempts name it.")
    status = forms.ChoiceField(choices=Route.Status.choices, initial=Route.Status.ACTIVE)

    def __init__(self, *args: Any, route: Route | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        if route is not None:
            del self.fields["name"]
            self._say_what_is_kept(route)

    def _say_what_is_kept(self, route: Route) -> None:
        try:
            kept = secrets_of(route)
        except Unusable:
            return
        for name, field in self.fields.items():
            if kept.get(name):
                field.required = False
                field.help_text = f"{field.help_text} {_KEPT}".strip()
                field.widget.attrs["placeholder"] = "••••••••"

    @property
    def given(self) -> dict[str, Any]:
        """The settings of the kind, as the service takes them."""
        return {name: value for name, value in self.cleaned_data.items() if name not in _BASE}

    @property
    def groups(self) -> list[Group]:
        """The fields by heading, for the page."""
        return [Group("", list(self))]


class DirectForm(RouteForm):
    """Our own delivery, to be a member of sets."""


class SmarthostForm(RouteForm):
    """A server that takes all our mail."""

    host = forms.CharField(
        max_length=253, help_text="A name such as smtp.example.com, or an IP address."
    )
    port = forms.IntegerField(initial=587, help_text="587 with STARTTLS, 465 with TLS, or 25.")
    tls = forms.ChoiceField(label="Encryption", choices=list(TLS_MODES.items()))
    verify = forms.BooleanField(
        label="Check the server’s certificate", required=False, initial=True
    )
    own_network = forms.BooleanField(
        label="It is in our own network",
        required=False,
        help_text="Allows private and loopback addresses for this route.",
    )
    bind_source = forms.BooleanField(
        label="Connect from the tenant’s source IP",
        required=False,
        help_text="Else the operating system chooses the address.",
    )
    auth = forms.ChoiceField(label="Log-in", choices=list(AUTH_KINDS.items()), required=False)
    username = forms.CharField(
        label="User name",
        max_length=200,
        required=False,
        help_text="Providers that take an API key say which name goes with it, such as “apikey”.",
    )
    secret = forms.CharField(
        label="Password, API key or bearer token", required=False, widget=SecretInput
    )
    token_url = forms.CharField(
        label="Token URL",
        max_length=500,
        required=False,
        help_text="Where the refresh token becomes an access token. For the log-in of that name.",
    )
    client_id = forms.CharField(label="Client ID", max_length=300, required=False)
    client_secret = forms.CharField(label="Client secret", required=False, widget=SecretInput)
    refresh_token = forms.CharField(label="Refresh token", required=False, widget=SecretInput)
    scope = forms.CharField(max_length=300, required=False)
    certificate = forms.CharField(
        label="Client certificate", required=False, widget=SecretArea(attrs={"rows": 3}),
        help_text="PEM, for servers that ask for one; with the chain below it.",
    )  # fmt: skip
    key = forms.CharField(
        label="Its private key", required=False, widget=SecretArea(attrs={"rows": 3}),
        help_text="PEM without a password.",
    )  # fmt: skip

    @property
    def groups(self) -> list[Group]:
        """The fields by heading, for the page."""
        base = [name for name in _BASE if name in self.fields]
        token = ("token_url", "client_id", "client_secret", "refresh_token", "scope")
        return [
            Group("", [self[name] for name in (*base, "host", "port", "tls")]),
            Group("Connection", [self[name] for name in ("verify", "own_network", "bind_source")]),
            Group("Log-in", [self[name] for name in ("auth", "username", "secret")]),
            Group("Bearer token that is renewed", [self[name] for name in token], is_rare=True),
            Group(
                "Client certificate", [self[name] for name in ("certificate", "key")], is_rare=True
            ),
        ]


class ProviderForm(RouteForm):
    """A provider's HTTP API; the fields are those that the provider needs."""

    def __init__(self, *args: Any, provider: Provider, **options: Any) -> None:
        route = options.pop("route", None)
        super().__init__(*args, **options)
        for setting in provider.fields:
            self.fields[setting.name] = forms.CharField(
                label=setting.label,
                help_text=setting.help,
                required=setting.is_required,
                max_length=4000 if setting.is_secret else 300,
                widget=SecretInput() if setting.is_secret else None,
            )
        self.fields["base_url"] = forms.CharField(
            label="Base URL",
            required=not provider.base_url,
            max_length=500,
            help_text=f"Left empty: {provider.base_url}" if provider.base_url else "",
        )
        self.fields["own_network"] = forms.BooleanField(
            label="It is in our own network",
            required=False,
            help_text="Allows a private address, and http instead of https, in the base URL.",
        )
        self._provider = provider
        if route is not None:
            del self.fields["name"]
            self._say_what_is_kept(route)

    @property
    def given(self) -> dict[str, Any]:
        """The settings of the kind, as the service takes them."""
        return {**super().given, "provider": self._provider.name}


class RouteSetForm(forms.Form):
    """A set: its name, its strategy, and for each route whether, where and how much."""

    name = forms.CharField(max_length=60)
    strategy = forms.ChoiceField(choices=RouteSet.Strategy.choices)

    def __init__(self, *args: Any, route_set: RouteSet | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._routes = list(Route.objects.order_by("name"))
        members = {}
        if route_set is not None:
            members = {row.route_id: row for row in route_set.members.order_by("position")}
        for route in self._routes:
            row = members.get(route.pk)
            self.fields[f"use-{route.public_id}"] = forms.BooleanField(
                label=route.name, required=False, initial=row is not None
            )
            self.fields[f"place-{route.public_id}"] = forms.IntegerField(
                label=f"Place of {route.name}",
                required=False,
                min_value=1,
                max_value=_LAST_PLACE,
                error_messages=_said(f"A number from 1 to {_LAST_PLACE}, or empty."),
                initial=row.position + 1 if row is not None else None,
            )
            self.fields[f"weight-{route.public_id}"] = forms.IntegerField(
                label=f"Weight of {route.name}",
                required=False,
                min_value=0,
                max_value=MAX_WEIGHT,
                error_messages=_said(f"A number from 0 to {MAX_WEIGHT}."),
                initial=row.weight if row is not None else 1,
            )

    def clean(self) -> dict[str, Any]:
        """Refuse two routes at one place, where the place counts."""
        data = super().clean() or self.cleaned_data
        if data.get("strategy") not in (RouteSet.Strategy.FAILOVER, RouteSet.Strategy.ROUND_ROBIN):
            return data
        taken: dict[int, Route] = {}
        for route in self._routes:
            name = f"place-{route.public_id}"
            place = data.get(name)
            if place is None or not data.get(f"use-{route.public_id}"):
                continue
            first = taken.setdefault(place, route)
            if first is not route:
                self.add_error(name, f"{first.name} has this place, too.")
        return data

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Each route with its three controls, for the page."""
        return [
            {
                "route": route,
                "use": self[f"use-{route.public_id}"],
                "place": self[f"place-{route.public_id}"],
                "weight": self[f"weight-{route.public_id}"],
            }
            for route in self._routes
        ]

    @property
    def places(self) -> list[Place]:
        """The chosen routes in their order; without a place, behind those with one."""
        data = self.cleaned_data
        chosen = [route for route in self._routes if data.get(f"use-{route.public_id}")]
        chosen.sort(key=lambda route: data.get(f"place-{route.public_id}") or _LAST_PLACE + 1)
        weights = [data.get(f"weight-{route.public_id}") for route in chosen]
        return [Place(route, 1 if weight is None else weight)
                for route, weight in zip(chosen, weights, strict=True)]  # fmt: skip


class WebhookForm(forms.Form):
    """What a provider's calls are proven with, beside the address itself."""

    basic_auth = forms.CharField(
        label="User and password",
        required=False,
        widget=SecretInput,
        help_text="As user:password, for providers that take https://user:password@… as address.",
    )

    def __init__(self, *args: Any, key: Field | None, kept: set[str], **options: Any) -> None:
        super().__init__(*args, **options)
        if key is not None:
            self.fields[key.name] = forms.CharField(
                label=key.label,
                required=False,
                help_text=key.help,
                widget=SecretInput if key.is_secret else forms.TextInput,
            )
        for name in kept & set(self.fields):
            self.fields[name].help_text = f"{self.fields[name].help_text} {_KEPT}".strip()
            self.fields[name].widget.attrs["placeholder"] = "••••••••"
        if kept:
            self.fields["forget"] = forms.BooleanField(label="Forget what was kept", required=False)


class ChoiceForm(forms.Form):
    """Which set a stream uses; empty is what stands without a choice."""

    stream = forms.ChoiceField(choices=list(STREAMS.items()))
    route_set = forms.ModelChoiceField(
        RouteSet.objects.order_by("name"),
        label="Route set",
        to_field_name="name",
        required=False,
        empty_label="None",
    )


def provider_named(name: str) -> Provider | None:
    """Return a provider by the name in an address."""
    return PROVIDERS.get(name)
