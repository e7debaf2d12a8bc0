"""What the environment says, read once, with a clear sentence for every wrong value."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from environs import Env, EnvError, validate

from esp.lib.retention import SHORTEST_RETENTION_DAYS

_MIGRATING = {"migrate", "makemigrations", "check", "seed_demo", "create_operator"}
_EMBEDDED = Path(__file__).resolve().parent.parent.parent / "var" / "embedded.env"


@dataclass(frozen=True)
class Environment:
    """The values that `esp.settings` uses; `docs/settings.md` explains each."""

    debug: bool
    demo: bool
    testing: bool
    process: str
    secret_key: str
    secret_key_fallbacks: list[str]
    site_url: str
    allowed_hosts: list[str]
    databases: dict[str, str]
    redis_url: str
    data_dir: str
    log_level: str
    request_role: str
    system_from: str
    smtp_port: int
    dns_resolvers: list[str]
    dns_validates: bool
    allow_private_mx: bool
    retry_profile: str
    shaping_file: str
    inbound_listen: str
    product_domain: str
    simulator_url: str
    delivery_concurrency: int
    dkim_sign_together: bool
    proxy_hops: int
    api_rate: int
    send_rate: int
    delivery_pumps: int
    delivery_slice_seconds: float
    delivery_lease_seconds: int
    delivery_node: str
    delivery_node_dead_seconds: int
    campaign_preparers: int
    queue_limit: int
    metrics_token: str
    queue_limit_per_tenant: int
    message_retention_days: int

    def database_for(self, process: str) -> dict[str, Any]:
        """Return Django's database entry for `web`, `worker` or `owner`."""
        url = urlparse(self.databases[process])
        options: dict[str, Any] = {"application_name": f"mailwright-{process}"}
        if process == "web" and not self.testing:
            options["pool"] = {"min_size": 2, "max_size": 16, "timeout": 10}
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path.lstrip("/"),
            "USER": unquote(url.username or ""),
            "PASSWORD": unquote(url.password or ""),
            "HOST": url.hostname or "",
            "PORT": str(url.port or ""),
            "CONN_HEALTH_CHECKS": True,
            "CONN_MAX_AGE": 0 if "pool" in options else 600,
            "OPTIONS": options,
            "TEST": {"NAME": f"test_{url.path.lstrip('/')}"},
        }


def _load_embedded() -> None:
    """Take the addresses of running embedded servers where nothing else is set.

    So `manage.py` works in a second terminal beside `make demo` without any exports.
    """
    if "DATABASE_URL" in os.environ or not _EMBEDDED.is_file():
        return
    for line in _EMBEDDED.read_text().splitlines():
        name, separator, value = line.partition("=")
        if separator and name not in os.environ:
            os.environ[name] = value


def _default_process() -> str:
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in _MIGRATING:
        return "owner"
    return "worker" if command == "inbound" else "web"


def _texts(env: Env, name: str) -> list[str]:
    """Return the texts between commas; an empty value, as compose passes it on, is none."""
    return [text for text in env.str(name, "").split(",") if text]


def _retention(env: Env) -> int:
    days = env.int("MESSAGE_RETENTION_DAYS", 0)
    if days and days < SHORTEST_RETENTION_DAYS:
        raise EnvError(
            f"MESSAGE_RETENTION_DAYS must be 0 (for ever) or at least {SHORTEST_RETENTION_DAYS}: "
            "the unsubscribe link in a mail needs its message"
        )
    return days


def _read(env: Env) -> Environment:
    testing = env.bool("MAILWRIGHT_TESTING", False)
    debug = env.bool("DEBUG", False)
    demo = env.bool("DEMO", False)
    site_url = env.str("SITE_URL", "http://127.0.0.1:8000").rstrip("/")
    host = urlparse(site_url).hostname
    if not host or urlparse(site_url).scheme not in {"http", "https"}:
        raise EnvError("SITE_URL must be a whole address such as https://mail.example.com")
    web = env.str("DATABASE_URL", "postgresql://mailwright_app@127.0.0.1:5432/mailwright")
    product_domain = env.str("PRODUCT_DOMAIN", "mailwright.test" if demo or testing else host)
    secret = env.str("SECRET_KEY", "")
    if not secret and not (debug or demo or testing):
        raise EnvError("SECRET_KEY is not set: give it 50 or more random characters")
    if secret and len(secret) < 32:
        raise EnvError("SECRET_KEY is too short: give it 50 or more random characters")
    return Environment(
        debug=debug,
        demo=demo,
        testing=testing,
        process=env.str(
            "MAILWRIGHT_PROCESS",
            _default_process(),
            validate=validate.OneOf(["web", "worker", "owner"]),
        ),
        secret_key=secret or secrets.token_urlsafe(50),
        secret_key_fallbacks=_texts(env, "SECRET_KEY_FALLBACKS"),
        site_url=site_url,
        allowed_hosts=env.list("ALLOWED_HOSTS", [host, "localhost", "127.0.0.1"]),
        databases={
            "web": web,
            "worker": env.str("WORKER_DATABASE_URL", web),
            "owner": env.str("OWNER_DATABASE_URL", web),
        },
        redis_url=env.str("REDIS_URL", "redis://127.0.0.1:6379/0"),
        data_dir=env.str("DATA_DIR", ""),
        log_level=env.str(
            "LOG_LEVEL", "INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"])
        ),
        request_role=env.str("TENANCY_REQUEST_ROLE", "mailwright_app" if testing else ""),
        system_from=env.str("SYSTEM_FROM", "") or f"Mailwright <no-reply@{product_domain}>",
        smtp_port=env.int("SMTP_PORT", 25, validate=validate.Range(min=1, max=65535)),
        dns_resolvers=_texts(env, "DNS_RESOLVERS"),
        dns_validates=env.bool("DNS_VALIDATES", False),
        allow_private_mx=env.bool("ALLOW_PRIVATE_MX", demo or testing),
        shaping_file=env.str("SHAPING_FILE", ""),
        retry_profile=env.str(
            "RETRY_PROFILE",
            "rehearsal" if demo or testing else "production",
            validate=validate.OneOf(["production", "rehearsal"]),
        ),
        inbound_listen=env.str("INBOUND_LISTEN", "127.0.1.1:2525"),
        product_domain=product_domain,
        simulator_url=env.str("SIMULATOR_URL", ""),
        delivery_concurrency=env.int("DELIVERY_CONCURRENCY", 40),
        dkim_sign_together=env.bool("DKIM_SIGN_TOGETHER", True),
        proxy_hops=env.int(
            "PROXY_HOPS", int(site_url.startswith("https://")), validate=validate.Range(min=0)
        ),
        api_rate=env.int("API_RATE", 50, validate=validate.Range(min=1)),
        send_rate=env.int("SEND_RATE", 100, validate=validate.Range(min=1)),
        delivery_pumps=env.int("DELIVERY_PUMPS", 2),
        delivery_slice_seconds=env.float(
            "DELIVERY_SLICE_SECONDS", 10.0, validate=validate.Range(min=0.5, max=60)
        ),
        delivery_lease_seconds=env.int(
            "DELIVERY_LEASE_SECONDS", 180, validate=validate.Range(min=10)
        ),
        delivery_node=(env.str("DELIVERY_NODE", "") or socket.gethostname())[:100],
        delivery_node_dead_seconds=env.int(
            "DELIVERY_NODE_DEAD_SECONDS", 60, validate=validate.Range(min=5)
        ),
        metrics_token=env.str("METRICS_TOKEN", ""),
        campaign_preparers=env.int("CAMPAIGN_PREPARERS", 2, validate=validate.Range(min=1, max=64)),
        queue_limit=env.int("QUEUE_LIMIT", 20_000_000, validate=validate.Range(min=1)),
        queue_limit_per_tenant=env.int(
            "QUEUE_LIMIT_PER_TENANT", 1_000_000, validate=validate.Range(min=1)
        ),
        message_retention_days=_retention(env),
    )


def read_environment() -> Environment:
    """Return the validated environment; ends the process with one sentence when it is wrong."""
    _load_embedded()
    try:
        return _read(Env())
    except EnvError as error:
        raise SystemExit(f"The environment is not usable: {error}.") from error
