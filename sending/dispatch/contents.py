"""Turn a leased message into bytes for the wire: render, address, assemble, sign.

All that messages of one content share (parsed templates, signers, sender) is made once and kept.
"""

from __future__ import annotations

import base64
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from django.conf import settings

from deliverability.domains.selectors import SendingIdentity, sending_identity
from deliverability.ips.selectors import SourceIp
from esp.kit.keys import signing_key
from esp.lib.addresses import Address, parse_address
from esp.lib.errors import InvalidInput
from esp.lib.ids import encode
from esp.lib.tokens import TrackKind, TrackTokens
from sending.content.coded import CodedRenderer
from sending.content.errors import ContentError
from sending.content.mime import Attachment, frame
from sending.content.outgoing import Addressed, Outgoing, Stationery
from sending.content.types import CompiledContent, RenderContext
from sending.dispatch.claims import Job
from sending.engine import ports, verp
from sending.engine.dkim.plan import SigningPlan, Wanted
from sending.engine.dkim.signing import SIGNED_HEADERS, Algorithm, Signer
from sending.messages.models import MessageContent, Stream
from sending.messages.services import ensure_compiled
from tenants.directory.models import Tenant

_SIGNED = (*SIGNED_HEADERS, "List-Id", "CFBL-Address")
_KEPT_SECONDS = 60.0  # a domain that lost its verification stops within this time
_KEPT_CONTENTS = 200


class ContentUnusable(Exception):
    """The content cannot be sent; the text says why, and the message bounces with it."""


@dataclass(frozen=True)
class Paper:
    """What messages of one content and kind (to a list, or single) are written and signed on."""

    outgoing: Outgoing
    plan: SigningPlan


@dataclass(frozen=True)
class ReadyContent:
    """What messages of one content share."""

    single: Paper
    to_list: Paper
    return_path_domain: str
    postal_address: str
    track_opens: bool
    track_clicks: bool
    site: str
    track_key: bytes
    verp_key: bytes
    loaded_at: float


@dataclass(frozen=True)
class _Sender:
    """Who sends from a domain, as the database said at `asked_at`."""

    identity: SendingIdentity | None
    tenant: Tenant
    asked_at: float


class ContentCache:
    """Loads contents through `run_in_database` (a thread with a connection), keeps the latest."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By the number of the id: asked for each message, and a UUID's hash is a call of its own.
        self._kept: OrderedDict[int, ReadyContent] = OrderedDict()
        # Each single message has a content of its own: who sends is asked once for many of them.
        self._senders: OrderedDict[uuid.UUID, _Sender] = OrderedDict()

    def get(self, content_id: uuid.UUID) -> ReadyContent | None:
        """Return a content that was loaded a short while ago, or None."""
        ready = self._kept.get(content_id.int)
        if ready is None or self._clock() - ready.loaded_at > _KEPT_SECONDS:
            return None
        self._kept.move_to_end(content_id.int)
        return ready

    def load(self, content_id: uuid.UUID) -> ReadyContent:
        """Read, compile where needed, parse and keep a content; raises ContentUnusable."""
        ready = self._load(content_id)
        self._kept[content_id.int] = ready
        while len(self._kept) > _KEPT_CONTENTS:
            self._kept.popitem(last=False)
        return ready

    def _load(self, content_id: uuid.UUID) -> ReadyContent:
        content = MessageContent.unscoped.filter(pk=content_id).first()
        if content is None:
            raise ContentUnusable("The content of this message is gone.")
        sender = self._sender(content)
        identity = sender.identity
        if identity is None or not identity.is_verified:
            host = content.from_email.rpartition("@")[2]
            raise ContentUnusable(f"The domain {host} is not verified any more.")
        try:
            compiled = ensure_compiled(content_id)
        except ContentError as error:
            raise ContentUnusable(error.message) from error
        try:
            return make_ready(
                content,
                compiled=compiled,
                identity=identity,
                tenant=sender.tenant,
                now=sender.asked_at,
            )
        except (ContentError, InvalidInput) as error:
            raise ContentUnusable(error.message) from error

    def _sender(self, content: MessageContent) -> _Sender:
        kept = self._senders.get(content.domain_id)
        now = self._clock()
        if (
            kept is None
            or kept.tenant.pk != content.tenant_id
            or kept.identity is None
            or not kept.identity.is_verified
            or now - kept.asked_at > _KEPT_SECONDS
        ):
            identity = sending_identity(content.domain_id)
            kept = _Sender(identity, Tenant.objects.get(pk=content.tenant_id), now)
            self._senders[content.domain_id] = kept
            while len(self._senders) > _KEPT_CONTENTS:
                self._senders.popitem(last=False)
        return kept


def make_ready(
    content: MessageContent,
    *,
    compiled: CompiledContent,
    identity: SendingIdentity,
    tenant: Tenant,
    now: float = 0.0,
) -> ReadyContent:
    """Return what messages of `content` share; reads nothing from the database.

    Raises ContentError or InvalidInput for content that can be sent to nobody.
    """
    domain = identity.return_path_domain
    renderer = CodedRenderer(compiled, pixel=content.track_opens)
    around = frame(
        text_encoding=renderer.text_encoding,
        html_encoding=renderer.html_encoding,
        attachments=[_attachment(entry) for entry in content.attachments],
        seed=encode(content.pk),
    )
    signers = [
        _signer(identity.name, key.selector, key.algorithm, key.private_pem)
        for key in identity.keys
    ]
    stationery = Stationery(
        sender=replace(parse_address(content.from_email), display=content.from_name),
        reply_to=(parse_address(content.reply_to),) if content.reply_to else (),
        one_click=settings.SITE_URL.startswith("https:") or settings.ALLOW_PRIVATE_MX,
        list_id=_list_id(content, tenant, identity),
        cfbl_address=f"{verp.feedback_address(domain)}; report=arf",
        custom=dict(content.headers),
    )

    def paper(*, is_list: bool) -> Paper:
        outgoing = Outgoing(renderer, around, replace(stationery, is_list=is_list))
        own = outgoing.own_names
        return Paper(outgoing, SigningPlan(signers, fixed=outgoing.fixed, own=own, headers=_SIGNED))

    return ReadyContent(
        single=paper(is_list=False),
        to_list=paper(is_list=True),
        return_path_domain=domain,
        postal_address=tenant.postal_address,
        track_opens=content.track_opens,
        track_clicks=content.track_clicks,
        site=settings.SITE_URL,
        track_key=signing_key("tracking"),
        verp_key=signing_key("verp"),
        loaded_at=now,
    )


@lru_cache(maxsize=1024)
def _signer(domain: str, selector: str, algorithm: Algorithm, private_pem: str) -> Signer:
    """Keep parsed keys: OpenSSL checks the primes of an RSA key, some 75 ms of CPU.

    Each single message has a content of its own, so that this was most of a receipt's way.
    """
    return Signer(domain, selector, algorithm, private_pem.encode())


def _list_id(content: MessageContent, tenant: Tenant, identity: SendingIdentity) -> str | None:
    """Return the List-Id (RFC 2919) of mail to lists."""
    if not content.list_ids:
        return None
    name = "".join(char for char in tenant.name if char.isalnum() or char in " -_").strip()
    return f"{name} <{encode(content.list_ids[0])}.{identity.return_path_domain}>"


def _attachment(entry: dict[str, str]) -> Attachment:
    return Attachment(
        filename=entry["filename"],
        content=base64.b64decode(entry["content"]),
        content_type=entry["content_type"],
        content_id=entry["content_id"] or None,
    )


def render_context(
    job: Job, content: ReadyContent, tokens: TrackTokens, unsubscribe_url: str
) -> RenderContext:
    """Return what the content of `job` is filled with."""
    site = content.site
    return RenderContext(
        variables=job.variables,
        unsubscribe_url=unsubscribe_url,
        preferences_url=f"{site}/t/p/{tokens.pack(TrackKind.PREFERENCES)}",
        view_url=f"{site}/t/v/{tokens.pack(TrackKind.VIEW)}",
        postal_address=content.postal_address,
        link_url=tokens.clicks(f"{site}/t/c/") if content.track_clicks else None,
        pixel_url=f"{site}/t/o/{tokens.pack(TrackKind.OPEN)}" if content.track_opens else None,
        now=job.created_at,
    )


def _feedback_id(job: Job) -> str:
    return _named_feedback_id(job.batch_id.int, job.tenant_id.int, job.stream)


@lru_cache(maxsize=1024)
def _named_feedback_id(batch: int, tenant: int, stream: str) -> str:
    """Return the Feedback-ID; the ids come as numbers, whose hashes cost nothing."""
    return f"{encode(uuid.UUID(int=batch))}:{encode(uuid.UUID(int=tenant))}:{stream}:mailwright"


def envelope_of(job: Job, content: ReadyContent) -> tuple[str, str]:
    """Return (mail_from, rcpt_to) of `job` without making its bytes; raises InvalidInput.

    The job keeps its addresses for the moment when the bytes are made.
    """
    job.addresses = _addresses(job, content)
    return job.addresses.return_path, _parsed(job.recipient).addr_spec


def _addresses(job: Job, content: ReadyContent) -> verp.Addresses:
    return verp.addresses(job.message_id, key=content.verp_key, domain=content.return_path_domain)


@lru_cache(maxsize=512)
def _parsed(recipient: str) -> Address:
    """Kept for the moment between a message's envelope and its bytes."""
    return parse_address(recipient, allow_display=False, allow_smtputf8=True)


def unsigned_data(job: Job, content: ReadyContent) -> tuple[Wanted, bytes]:
    """Return the message of `job`, and the signatures that go before it.

    The Message-ID and the Date are the same for every try, so that a receiver that got the message
    twice after a crash can tell. Raises ContentError or InvalidInput for content that fails.
    """
    is_list = job.stream == Stream.BROADCAST
    paper = content.to_list if is_list else content.single
    own = job.addresses or _addresses(job, content)
    tokens = TrackTokens(content.track_key, job.tenant_id, job.message_id)
    unsubscribe_url = f"{content.site}/t/u/{tokens.pack(TrackKind.UNSUBSCRIBE)}"
    seconds = int(job.created_at.timestamp())
    addressed = Addressed(
        to=_parsed(job.recipient),
        to_name=job.recipient_name,
        message_id=f"<{own.name}@{content.return_path_domain}>",
        date=seconds,
        feedback_id=_feedback_id(job),
        unsubscribe=(unsubscribe_url, f"mailto:{own.unsubscribe}") if is_list else (),
    )
    context = render_context(job, content, tokens, unsubscribe_url)
    written = paper.outgoing.write(context, addressed)
    wanted = paper.plan.prepare(written.lines, written.body, timestamp=seconds)
    return wanted, paper.outgoing.assembled(written)


def as_source(source: SourceIp) -> ports.Source:
    """Return the engine's form of a source IP."""
    return ports.Source(id=str(source.id), address=source.address, ehlo_name=source.ehlo_name)
