"""What the demo consists of: its addresses, its environment, and its programs."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from esp.stack.machine import LOOPBACK, require_free_port
from esp.stack.supervisor import MARK, Program

INBOUND_HOST = "127.0.1.1"
PRODUCT_DOMAIN = "mailwright.test"
# Set outside, these would make the demo a different one from run to run.
_FROM_OUTSIDE = ("DATABASE_URL", "DJANGO_SETTINGS_MODULE", "MAILWRIGHT_PROCESS", "DEBUG")


@dataclass(frozen=True, slots=True)
class Ports:
    """The fixed ports of the demo: those that people and simulated hosts must know."""

    web: int = 8000
    smtp: int = 2525
    dns: int = 5300
    simulator: int = 8025

    def require_free(self) -> None:
        """Raise `StackError` with one sentence for the first port that is taken."""
        require_free_port(
            self.web, purpose="the web site", advice="run `make demo ARGS='--port 8001'`"
        )
        other = "run `make demo ARGS='--smtp-port 2526'`"
        require_free_port(
            self.smtp, purpose="the inbound mail server", advice=other, host=INBOUND_HOST
        )
        other = "run `make demo ARGS='--dns-port 5301'`"
        for udp in (False, True):
            require_free_port(self.dns, purpose="the simulated DNS", advice=other, udp=udp)
        require_free_port(
            self.simulator,
            purpose="the simulated mailboxes",
            advice="run `make demo ARGS='--simulator-port 8026'`",
        )

    @property
    def site_url(self) -> str:
        """The address of the site."""
        return f"http://{LOOPBACK}:{self.web}"

    @property
    def simulator_url(self) -> str:
        """The address of the simulator's own interface."""
        return f"http://{LOOPBACK}:{self.simulator}"


def demo_environment(
    *, var: Path, ports: Ports, servers: Mapping[str, str], started_at: float
) -> dict[str, str]:
    """Return the whole environment of the demo's programs (this one's, plus the demo's values)."""
    inherited = {name: value for name, value in os.environ.items() if name not in _FROM_OUTSIDE}
    return {**inherited, **demo_values(var=var, ports=ports, servers=servers)} | {
        "DEMO_STARTED_AT": f"{started_at:.3f}",
        MARK: str(var),
        "PYTHONUNBUFFERED": "1",
    }


def demo_values(*, var: Path, ports: Ports, servers: Mapping[str, str]) -> dict[str, str]:
    """Return what makes the demo the demo, for `var/embedded.env` as well."""
    return {
        **servers,
        "DEMO": "1",
        "SECRET_KEY": _kept_secret(var / "demo-secret.json"),
        "SITE_URL": ports.site_url,
        "PRODUCT_DOMAIN": PRODUCT_DOMAIN,
        "SMTP_PORT": str(ports.smtp),
        "DNS_RESOLVERS": f"{LOOPBACK}:{ports.dns}",
        "INBOUND_LISTEN": f"{INBOUND_HOST}:{ports.smtp}",
        "SIMULATOR_URL": ports.simulator_url,
        "RETRY_PROFILE": "rehearsal",
        "DATA_DIR": str(var / "data"),
    }


def write_embedded_env(path: Path, values: Mapping[str, str]) -> None:
    """Leave the addresses where `manage.py` in another terminal finds them."""
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.writelines(f"{name}={value}\n" for name, value in values.items())
    fresh.replace(path)


def simulator_program(
    *, root: Path, logs: Path, environment: Mapping[str, str], ports: Ports
) -> Program:
    """Return the simulated internet; its mailboxes are kept beside the logs."""
    command = [
        sys.executable, "-m", "esp.simulator", "--profile", "demo",
        "--data", str(logs.parent / "simulator"),
        "--http", f"{LOOPBACK}:{ports.simulator}", "--dns", f"{LOOPBACK}:{ports.dns}",
        "--smtp-port", str(ports.smtp), "--mx-of-product", INBOUND_HOST,
        "--site-url", ports.site_url, "--feedback-address", f"fbl@bounces.{PRODUCT_DOMAIN}",
    ]  # fmt: skip
    return Program(
        name="simulator", command=command, environment=environment, folder=root, logs=logs
    )


def product_programs(
    *, root: Path, logs: Path, environment: Mapping[str, str], ports: Ports
) -> list[Program]:
    """Return the programs of the product itself, as production runs them."""
    worker = {**environment, "MAILWRIGHT_PROCESS": "worker"}
    web = {**environment, "MAILWRIGHT_PROCESS": "web"}
    python = [sys.executable]

    def program(name: str, command: list[str], settings: Mapping[str, str]) -> Program:
        return Program(name=name, command=command, environment=settings, folder=root, logs=logs)

    def celery_worker(name: str, queues: str, processes: int) -> Program:
        command = [
            *python, "-m", "celery", "-A", "esp.celery", "worker", "-Q", queues,
            "-c", str(processes), "-n", f"{name}@%h", "-l", "INFO",
            "--without-gossip", "--without-mingle",
        ]  # fmt: skip
        return program(f"worker-{name}", command, worker)

    beat = [
        *python, "-m", "celery", "-A", "esp.celery", "beat", "-l", "INFO",
        "-s", str(logs.parent / "celerybeat-schedule"), "--pidfile=",
    ]  # fmt: skip
    granian = [
        *python, "-m", "granian", "--interface", "wsgi", "--host", LOOPBACK,
        "--port", str(ports.web), "--workers", "1", "--blocking-threads", "8", "--no-ws",
        # A request that hangs must not hold up a deploy; esp/wsgi.py ends one that still starts.
        "--workers-kill-timeout", "8", "--log-level", "warning", "esp.wsgi:application",
    ]  # fmt: skip
    return [
        program("web", granian, web),
        program("inbound", [*python, "manage.py", "inbound"], worker),
        celery_worker("transactional", "transactional", 1),
        celery_worker("broadcast", "broadcast", 2),
        celery_worker("background", "feedback,imports,webhooks,default", 2),
        program("scheduler", beat, worker),
    ]


def _kept_secret(path: Path) -> str:
    """Return the demo's secret key, made once, so that sessions and tracking links stay good."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump({"secret_key": secrets.token_urlsafe(50)}, out)
    return str(json.loads(path.read_text())["secret_key"])
