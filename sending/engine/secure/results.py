"""How sessions fared against the policy that held for them (RFC 8460 section 4)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Literal

PolicyType = Literal["sts", "tlsa", "no-policy-found"]

# RFC 8460 section 4.3. "success" counts in the summary, the others in the failure details.
ResultType = Literal[
    "success",
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]


@dataclass(frozen=True, slots=True)
class TlsReport:
    """One session (or policy) as a TLS report counts it."""

    domain: str
    policy_type: PolicyType
    result: ResultType
    mx_host: str = ""
    source_address: str = ""


# OpenSSL's X509_V_ERR codes.
_EXPIRED = {9, 10}
_MISMATCH = {62, 63, 64}


def result_of(error: BaseException | None) -> ResultType:
    """Return the report's word for how a handshake failed; None is success."""
    if error is None:
        return "success"
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _EXPIRED:
            return "certificate-expired"
        if error.verify_code in _MISMATCH:
            return "certificate-host-mismatch"
        return "certificate-not-trusted"
    return "validation-failure"
