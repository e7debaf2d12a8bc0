"""What an operator may set for a route, checked before it is saved.

`Route.options` holds what may be read, `Route.secrets` (encrypted) what may not. Every refusal
names its field and the reason, and never repeats a secret.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import re
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings

from esp.lib.errors import InvalidInput
from sending.engine.addresses import ascii_domain
from sending.engine.mx import is_public
from sending.routes.handshake import ended_at
from sending.routes.providers import PROVIDERS, Provider

TLS_MODES = {
    "starttls": "STARTTLS, required (587)",
    "implicit": "TLS from the start (465)",
    "opportunistic": "STARTTLS when offered (25)",
    "never": "None",
}
AUTH_KINDS = {
    "": "None",
    "plain": "User and password (PLAIN)",
    "login": "User and password (LOGIN)",
    "api_key": "API key",
    "xoauth2": "Bearer token (XOAUTH2)",
    "xoauth2_refresh": "Bearer token, renewed by a refresh token (XOAUTH2)",
}
SMARTHOST_SECRETS = ("secret", "refresh_token", "client_secret", "certificate", "key")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_PRIVATE_NAMES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Checked:
    """What is to be stored: `options` in the open, `secrets` encrypted."""

    options: dict[str, Any]
    secrets: dict[str, str] = field(repr=False)


def check_smarthost(given: Mapping[str, Any], kept: Mapping[str, str]) -> Checked:
    """Return a smarthost's settings; a secret that is not given anew stays as `kept`.

    Raises InvalidInput.
    """
    own = bool(given.get("own_network"))
    tls, auth = _choice(given, "tls", TLS_MODES), _choice(given, "auth", AUTH_KINDS)
    verify = bool(given.get("verify"))
    if auth and tls in ("opportunistic", "never"):
        raise InvalidInput(
            "This would send the password in clear: choose STARTTLS (required) or TLS from the "
            "start, or no log-in.",
            field="tls",
        )
    if auth and not verify and not own:
        raise InvalidInput(
            "Without checking the certificate anyone in between could take the password. Check "
            "it, or say that the server is in your own network.",
            field="verify",
        )
    options: dict[str, Any] = {
        "host": check_host(str(given.get("host", "")), field="host", own_network=own),
        "port": _port(given.get("port")),
        "tls": tls,
        "verify": verify,
        "auth": auth,
        "own_network": own,
        "bind_source": bool(given.get("bind_source")),
        "username": "",
    }
    secrets = _given_or_kept(given, kept, SMARTHOST_SECRETS)
    found = _certificate(secrets)
    if found and tls == "never":
        raise InvalidInput("A client certificate needs TLS.", field="tls")
    found |= _login(options, auth, given, secrets)
    return Checked(options, found)


def _login(
    options: dict[str, Any], auth: str, given: Mapping[str, Any], secrets: Mapping[str, str]
) -> dict[str, str]:
    """Check what the log-in needs; returns its secrets, adds the rest to `options`."""
    if not auth:
        return {}
    options["username"] = _line(given, "username", "the user name")
    if not options["username"]:
        raise InvalidInput(
            "Give the user name; providers that take an API key say which (often “apikey”).",
            field="username",
        )
    if auth != "xoauth2_refresh":
        return {"secret": _secret(secrets, "secret", "the password, API key or token")}
    options["token_url"] = check_url(
        str(given.get("token_url", "")), field="token_url", own_network=options["own_network"]
    )
    options["client_id"] = _line(given, "client_id", "the client ID")
    options["scope"] = _line(given, "scope", "the scope")
    if not options["client_id"]:
        raise InvalidInput("Give the client ID that the token belongs to.", field="client_id")
    found = {"refresh_token": _secret(secrets, "refresh_token", "the refresh token")}
    if secrets.get("client_secret"):
        found["client_secret"] = secrets["client_secret"]
    return found


def check_http(given: Mapping[str, Any], kept: Mapping[str, str]) -> Checked:
    """Return an HTTP route's settings; a secret that is not given anew stays as `kept`.

    Raises InvalidInput.
    """
    provider = PROVIDERS.get(str(given.get("provider", "")))
    if provider is None:
        raise InvalidInput("Choose a provider from the list.", field="provider")
    missing = missing_package(provider)
    if missing:
        raise InvalidInput(missing, field="provider")
    own = bool(given.get("own_network"))
    options: dict[str, Any] = {"provider": provider.name, "base_url": "", "own_network": own}
    if given.get("base_url") or not provider.base_url:
        url = check_url(str(given.get("base_url", "")), field="base_url", own_network=own)
        options["base_url"] = url
    secrets = _given_or_kept(given, kept, provider.secret_names)
    found = {}
    for setting in provider.fields:
        if setting.is_secret:
            found[setting.name] = _secret(secrets, setting.name, f"the {setting.label}")
            continue
        value = _line(given, setting.name, f"the {setting.label}")
        if not value and setting.is_required:
            raise InvalidInput(f"{provider.title} needs the {setting.label}.", field=setting.name)
        if not re.fullmatch(r"[A-Za-z0-9._:@/+-]*", value) or "//" in value or ".." in value:
            raise InvalidInput(f"This is not a {setting.label}.", field=setting.name)
        if value:
            options[setting.name] = value
    return Checked(options, found)


def missing_package(provider: Provider) -> str:
    """Return what to install before `provider` can be used; "" when all is there."""
    package = provider.needs_package
    if not package or importlib.util.find_spec(package) is not None:
        return ""
    return (
        f"{provider.title} needs the package {package}, which is not installed here. Install "
        "requirements/ses.txt on every machine that runs workers or the web process."
    )


def check_host(text: str, *, field: str, own_network: bool) -> str:
    """Return a host name or IP address in lower case; raises InvalidInput.

    Private and loopback hosts only where the operator says that they are meant.
    """
    text = text.strip().rstrip(".")
    is_private = _is_private_address(text)
    if is_private is None:
        try:
            text = ascii_domain(text)
        except ValueError:
            text = ""
        labels = text.split(".")
        # "127.1" and "0x7f.1" are addresses to the C library; no name ends in a number.
        is_number = re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]) is not None
        if not text or is_number or not all(_LABEL.fullmatch(label) for label in labels):
            raise InvalidInput(
                "Give a host name such as smtp.example.com, or an IP address, without a port.",
                field=field,
            )
        is_private = "." not in text or text.endswith(_PRIVATE_NAMES)
    if is_private and not (own_network or settings.ALLOW_PRIVATE_MX):
        raise InvalidInput(
            "This host is not on the public internet. If you mean it, say that it is in your own "
            "network.",
            field=field,
        )
    return text


def _is_private_address(text: str) -> bool | None:
    """Tell whether an IP address is private; None for something that is no address."""
    try:
        return not is_public(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return None


def check_url(text: str, *, field: str, own_network: bool) -> str:
    """Return an https URL that ends with a slash; raises InvalidInput.

    http only for a host in one's own network: else the key would travel in clear.
    """
    text = text.strip()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidInput(
            "This is no URL: it has the form https://name/path.", field=field
        ) from error
    if parts.scheme not in ("http", "https") or not host or _UNPRINTABLE.search(text):
        raise InvalidInput("Give a URL that starts with https://.", field=field)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidInput("Give the URL without user, password, ? and #.", field=field)
    if port is not None and not 0 < port < 65536:
        raise InvalidInput("The port in the URL must be from 1 to 65535.", field=field)
    host = check_host(host, field=field, own_network=own_network)
    is_public_name = _is_private_address(host) is None and "." in host
    if parts.scheme == "http" and (is_public_name or _is_private_address(host) is False):
        raise InvalidInput(
            "Over http the key would travel in clear: the URL must start with https://.",
            field=field,
        )
    return text


def _certificate(secrets: Mapping[str, str]) -> dict[str, str]:
    """Return a client certificate and its key, or nothing; raises InvalidInput."""
    certificate, key = secrets.get("certificate", ""), secrets.get("key", "")
    if not certificate and not key:
        return {}
    if not certificate or not key:
        name = "certificate" if not certificate else "key"
        raise InvalidInput("Give both the client certificate and its key, or neither.", field=name)
    try:
        x509.load_pem_x509_certificates(certificate.encode())
    except ValueError as error:
        raise InvalidInput("This is no certificate in PEM form.", field="certificate") from error
    ends = ended_at(certificate)
    if ends is not None:
        text = f"This certificate ended on {ends:%-d %B %Y}."
        raise InvalidInput(text, field="certificate")
    try:
        load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError) as error:
        text = "This is no private key in PEM form without a password."
        raise InvalidInput(text, field="key") from error
    if not _belong_together(certificate, key):
        raise InvalidInput("The key does not belong to the certificate.", field="key")
    return {"certificate": certificate, "key": key}


def _belong_together(certificate: str, key: str) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with tempfile.NamedTemporaryFile("w", suffix=".pem", encoding="ascii") as file:
        file.write(f"{certificate.strip()}\n{key.strip()}\n")
        file.flush()
        try:
            context.load_cert_chain(file.name)
        except ssl.SSLError:
            return False
    return True


def _given_or_kept(
    given: Mapping[str, Any], kept: Mapping[str, str], names: tuple[str, ...]
) -> dict[str, str]:
    return {name: str(given.get(name) or kept.get(name, "")).strip() for name in names}


def _secret(secrets: Mapping[str, str], name: str, label: str) -> str:
    value = secrets.get(name, "")
    if not value:
        raise InvalidInput(f"Give {label}.", field=name)
    if _UNPRINTABLE.search(value) or len(value) > 4000:
        raise InvalidInput(f"There is a line break or too much in {label}.", field=name)
    return value


def _line(given: Mapping[str, Any], name: str, label: str) -> str:
    value = str(given.get(name, "") or "").strip()
    if _UNPRINTABLE.search(value) or len(value) > 500:
        raise InvalidInput(f"There is a line break or too much in {label}.", field=name)
    return value


def _choice(given: Mapping[str, Any], name: str, choices: Mapping[str, str]) -> str:
    value = str(given.get(name, "") or "")
    if value not in choices:
        raise InvalidInput("Choose from the list.", field=name)
    return value


def _port(given: Any) -> int:
    try:
        port = int(given)
    except (TypeError, ValueError):
        port = 0
    if not 0 < port < 65536:
        raise InvalidInput("Give a port from 1 to 65535: 587, 465 or 25 as a rule.", field="port")
    return port
