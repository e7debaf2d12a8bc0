"""What making the bytes of one message costs: render, MIME, envelope, signature.

One thread, no database, no network: the benchmark's letter for made-up people, with the process's
CPU time around the parts. Signing is measured with RSA-2048, RSA and Ed25519, and without a key;
`rsa_operation` is one bare operation of OpenSSL, below which no single signature can cost, and
`rsa_of_eight` one of eight made at once.
"""

from __future__ import annotations

import datetime as dt
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from deliverability.domains.selectors import SendingIdentity, SigningKey
from esp.lib.clock import SystemClock
from esp.lib.ids import new_id
from sending.content.compiler import compile_content
from sending.content.types import ContentSource
from sending.dispatch import contents
from sending.dispatch.claims import Job
from sending.engine.dkim import multibuffer
from sending.management.bench import letter
from sending.management.bench.people import people
from sending.management.bench.proc import describe_machine
from sending.messages.models import MessageContent, Stream
from tenants.directory.models import Tenant

_WARM_UP = 50
_BLOCK = 50  # messages between two looks at the clock


def bench_bytes(*, messages: int) -> dict[str, Any]:
    """Return CPU milliseconds a message: `make` (all but the signature), `sign_*`, `envelope`.

    `make` is the work without a key; `sign_*` are the differences to it. Each has the median of
    blocks of 50 messages and the fastest block, which other work disturbed least.
    """
    jobs = [_job(row) for row in people(min(messages, 5000))]
    keys = _keys()
    plain = _ready(())
    make = _cost(partial(_whole, content=plain), jobs, messages)
    costs = {
        "make": make,
        "envelope": _cost(partial(contents.envelope_of, content=plain), jobs, messages),
    }
    for name, some in (("rsa", keys[:1]), ("ed25519", keys[1:]), ("both", keys)):
        signed = _cost(partial(_whole, content=_ready(some)), jobs, messages)
        costs[f"sign_{name}"] = {key: round(signed[key] - make[key], 4) for key in make}
    costs["rsa_operation"] = _bare_rsa(jobs, messages)
    library = multibuffer.available()
    if library is not None:
        costs["rsa_of_eight"] = _bare_rsa_of_eight(library, jobs, messages)
    return {
        "bench": "bytes",
        "machine": describe_machine(),
        "messages": messages,
        "bytes_per_message": len(_whole(jobs[0], _ready(keys[:1]))),
        "cpu_ms_per_message": costs,
    }


def _whole(job: Job, content: contents.ReadyContent) -> bytes:
    wanted, message = contents.unsigned_data(job, content)
    return wanted.signed() + message


def _cost(work: Callable[[Job], object], jobs: Sequence[Job], messages: int) -> dict[str, float]:
    """Return the CPU milliseconds of `work` for one job, by the median and the fastest block."""
    for job in jobs[:_WARM_UP]:
        work(job)
    blocks = []
    for start in range(0, messages, _BLOCK):
        block = [jobs[number % len(jobs)] for number in range(start, start + _BLOCK)]
        began = time.process_time()
        for job in block:
            work(job)
        blocks.append((time.process_time() - began) / _BLOCK * 1000)
    return {"median": round(statistics.median(blocks), 4), "fastest": round(min(blocks), 4)}


def _bare_rsa(jobs: Sequence[Job], messages: int) -> dict[str, float]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    scheme, digest, data = padding.PKCS1v15(), hashes.SHA256(), bytes(1200)
    return _cost(lambda _: key.sign(data, scheme, digest), jobs, messages)


def _bare_rsa_of_eight(
    library: multibuffer.MultiBuffer, jobs: Sequence[Job], messages: int
) -> dict[str, float]:
    key = multibuffer.Key(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    wanted = [(key, bytes(1200))] * multibuffer.LANES
    cost = _cost(lambda _: library.signatures(wanted), jobs, messages // multibuffer.LANES)
    return {name: round(value / multibuffer.LANES, 4) for name, value in cost.items()}


def _job(row: dict[str, Any]) -> Job:
    now = SystemClock().now()
    return Job(
        message_id=new_id(),
        tenant_id=_TENANT,
        batch_id=_BATCH,
        content_id=_CONTENT,
        contact_id=new_id(),
        stream=Stream.BROADCAST,
        recipient=row["email"],
        recipient_name=f"{row['first_name']} {row['last_name']}",
        variables=row,
        created_at=now,
        domain=row["email"].rpartition("@")[2],
        attempts=0,
        expires_at=now + dt.timedelta(days=3),
        status="queued",
        suppressed=None,
        has_left=False,
    )


def _ready(keys: Sequence[SigningKey]) -> contents.ReadyContent:
    source = ContentSource(
        kind="html", body=letter.BODY, subject=letter.SUBJECT, preview_text=letter.PREVIEW
    )
    return contents.make_ready(
        MessageContent(
            pk=_CONTENT,
            from_name="The Garden Letter",
            from_email="news@bench.example",
            list_ids=[_LIST],
            track_opens=True,
            track_clicks=True,
        ),
        compiled=compile_content(source, footer=True),
        identity=SendingIdentity(_DOMAIN, "bench.example", "rp.bench.example", True, tuple(keys)),
        tenant=Tenant(pk=_TENANT, name="Bench", postal_address="1 Main Street, Springfield"),
    )


def _keys() -> tuple[SigningKey, SigningKey]:
    pairs = (
        ("r1", "rsa-sha256", rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        ("e1", "ed25519-sha256", ed25519.Ed25519PrivateKey.generate()),
    )
    pems = [
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        for _, _, key in pairs
    ]
    first, second = (SigningKey(s, a, pem) for (s, a, _), pem in zip(pairs, pems, strict=True))
    return first, second


_TENANT, _BATCH, _CONTENT, _LIST, _DOMAIN = (uuid.UUID(int=(7 << 76) | n) for n in range(1, 6))
