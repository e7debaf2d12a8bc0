"""The DNS records that a domain needs, and the judgement of what DNS answers."""

from __future__ import annotations

import re
from dataclasses import dataclass

import dns.resolver
from django.conf import settings

from deliverability.domains.models import DkimKey, DnsCheck, Domain
from esp.lib.dkimkeys import dkim_record
from esp.lib.dns import Lookup, look_up


@dataclass(frozen=True)
class ExpectedRecord:
    """One record to publish: `host` is its full name, `value` exactly what to enter."""

    kind: str  # a DnsCheck.Kind
    type: str
    host: str
    value: str
    is_required: bool
    purpose: str

    @property
    def label(self) -> str:
        return DnsCheck.Kind(self.kind).label


@dataclass(frozen=True)
class Finding:
    """What DNS says about one expected record."""

    record: ExpectedRecord
    is_ok: bool
    found: tuple[str, ...]
    problem: str
    is_temporary: bool = False


def expected_records(domain: Domain) -> list[ExpectedRecord]:
    """Return the records for `domain`, in the order to publish them."""
    keys = {key.algorithm: key for key in domain.dkim_keys.filter(is_active=True)}
    records = []
    for algorithm, kind in (
        (DkimKey.Algorithm.RSA, DnsCheck.Kind.DKIM_RSA),
        (DkimKey.Algorithm.ED25519, DnsCheck.Kind.DKIM_ED25519),
    ):
        key = keys.get(algorithm)
        if key is None:
            continue
        records.append(
            ExpectedRecord(
                kind=kind,
                type="TXT",
                host=f"{key.selector}._domainkey.{domain.name}",
                value=dkim_record(key.algorithm, key.public_key),
                is_required=algorithm == DkimKey.Algorithm.RSA,
                purpose="Signs your mail, so that receivers know it is yours.",
            )
        )
    records.append(
        ExpectedRecord(
            kind=DnsCheck.Kind.RETURN_PATH,
            type="CNAME",
            host=domain.return_path_domain,
            value=settings.RETURN_PATH_TARGET,
            is_required=True,
            purpose="Brings bounces back to us, and aligns SPF with your domain.",
        )
    )
    records.append(
        ExpectedRecord(
            kind=DnsCheck.Kind.DMARC,
            type="TXT",
            host=f"_dmarc.{domain.name}",
            value="v=DMARC1; p=none",
            is_required=True,
            purpose="Tells receivers your policy. Large providers demand that it exists.",
        )
    )
    records.append(
        ExpectedRecord(
            kind=DnsCheck.Kind.TRACKING,
            type="CNAME",
            host=domain.tracking_domain,
            value=settings.TRACKING_TARGET,
            is_required=False,
            purpose="Keeps your own name ready for tracked links; today they carry this site's.",
        )
    )
    return records


def inspect(record: ExpectedRecord, resolver: dns.resolver.Resolver) -> Finding:
    """Look `record` up and judge the answer."""
    answer = look_up(resolver, record.host, record.type)
    if record.type == "CNAME":
        return _judge_cname(record, answer)
    if record.kind == DnsCheck.Kind.DMARC:
        return _judge_dmarc(record, answer)
    return _judge_dkim(record, answer)


def _absent(record: ExpectedRecord, answer: Lookup) -> Finding:
    return Finding(record, False, (), answer.problem, is_temporary=answer.is_temporary)


def _judge_cname(record: ExpectedRecord, answer: Lookup) -> Finding:
    if not answer.values:
        return _absent(record, answer)
    if answer.values == (record.value.lower(),):
        return Finding(record, True, answer.values, "")
    problem = f"It points to {answer.values[0]}, not to {record.value}."
    return Finding(record, False, answer.values, problem)


def _tags(text: str) -> dict[str, str]:
    """Return the tags of a `name=value; …` list (RFC 6376 section 3.2), values without spaces."""
    tags = {}
    for part in text.split(";"):
        name, separator, value = part.partition("=")
        if separator:
            tags[name.strip().lower()] = re.sub(r"\s+", "", value)
    return tags


def _judge_dmarc(record: ExpectedRecord, answer: Lookup) -> Finding:
    policies = tuple(v for v in answer.values if re.match(r"v\s*=\s*DMARC1\s*(;|$)", v))
    if not policies:
        problem = answer.problem or "There is a TXT record, but none that begins with v=DMARC1."
        return Finding(record, False, answer.values, problem, is_temporary=answer.is_temporary)
    if len(policies) > 1:
        # RFC 9989 section 4.10: with more than one record there is no policy at all.
        return Finding(record, False, policies, "There are two DMARC records: keep only one.")
    if _tags(policies[0]).get("p", "none") not in {"none", "quarantine", "reject"}:
        return Finding(record, False, policies, "The policy p= must be none, quarantine or reject.")
    return Finding(record, True, policies, "")


def _judge_dkim(record: ExpectedRecord, answer: Lookup) -> Finding:
    if not answer.values:
        return _absent(record, answer)
    wanted = _tags(record.value)
    for value in answer.values:
        found = _tags(value)
        if found.get("p") == wanted["p"] and found.get("k", "rsa") == wanted["k"]:
            return Finding(record, True, answer.values, "")
    if any("p" in _tags(value) for value in answer.values):
        problem = "There is another key at this name. Replace it with the value shown here."
    else:
        problem = "There is a record, but it holds no key. Was the value cut off?"
    return Finding(record, False, answer.values, problem)
