"""MTA-STS policies (RFC 8461): the record, the policy file, and which MX hosts it allows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

Mode = Literal["enforce", "testing", "none"]

# RFC 8461 section 3.2: max_age is at most a year; senders may refuse files above 64 KB (3.3).
MAX_AGE_SECONDS = 31_557_600
MAX_POLICY_BYTES = 64 * 1024

_RECORD_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_MX_PATTERN = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")


class PolicyInvalid(ValueError):
    """The policy file cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A policy as its file says; `mx` holds host names and patterns such as "*.mail.example"."""

    mode: Mode
    max_age_seconds: int
    mx: tuple[str, ...] = ()

    def allows(self, host: str) -> bool:
        """Tell whether mail may go to `host` (section 4.1; a star stands for one label)."""
        name = host.rstrip(".").lower()
        return any(_matches(name, pattern) for pattern in self.mx)


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return name == pattern


def policy_id_of(records: Sequence[str]) -> str:
    """Return the id in the TXT records of `_mta-sts.<domain>`, or "" when there is no policy.

    More than one STSv1 record means none (section 3.1).
    """
    found = [record for record in records if record.startswith("v=STSv1")]
    if len(found) != 1:
        return ""
    fields: dict[str, str] = {}
    for part in found[0].split(";"):
        name, separator, value = part.strip().partition("=")
        if separator:
            fields.setdefault(name.strip(), value.strip())
    policy_id = fields.get("id", "")
    if fields.get("v") != "STSv1" or not _RECORD_ID.fullmatch(policy_id):
        return ""
    return policy_id


def parse_policy(body: bytes) -> StsPolicy:
    """Read a policy file; raises PolicyInvalid with what is wrong (section 3.2).

    Unknown fields are passed over, of a repeated field other than `mx` the first counts.
    """
    if len(body) > MAX_POLICY_BYTES:
        raise PolicyInvalid("the file is larger than 64 KB")
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in body.decode("utf-8", "replace").splitlines():
        name, separator, value = line.partition(":")
        if not separator:
            continue
        name, value = name.strip(), value.strip()
        if name == "mx":
            patterns.append(_pattern(value))
        else:
            fields.setdefault(name, value)
    if fields.get("version") != "STSv1":
        raise PolicyInvalid("the version is not STSv1")
    mode = fields.get("mode", "")
    if mode not in ("enforce", "testing", "none"):
        raise PolicyInvalid(f"the mode is {mode[:20]!r}, not enforce, testing or none")
    if mode != "none" and not patterns:
        raise PolicyInvalid("no mx is named")
    return StsPolicy(cast(Mode, mode), _max_age(fields.get("max_age", "")), tuple(patterns))


def _pattern(value: str) -> str:
    pattern = value.rstrip(".").lower()
    if len(pattern) > 253 or not _MX_PATTERN.fullmatch(pattern):
        raise PolicyInvalid(f"{value[:80]!r} is no host name or pattern")
    return pattern


def _max_age(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", value):
        raise PolicyInvalid(f"max_age is {value[:20]!r}, not a number of seconds")
    return min(int(value), MAX_AGE_SECONDS)
