"""One MX host under its policy: what its session must fulfil, and how the session is counted."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from sending.engine.secure.advisor import HostRule, TlsAdvisor
from sending.engine.secure.results import ResultType, TlsReport, result_of
from sending.engine.smtp.tls import ChainRefused, Security, StartTlsMissing


@dataclass(frozen=True, slots=True)
class Guard:
    """The rule for one host of a domain, for connections from one source address."""

    advisor: TlsAdvisor | None = None
    rule: HostRule = field(default_factory=HostRule)
    domain: str = ""
    host: str = ""
    source_address: str = ""

    @property
    def refusal(self) -> str:
        """Why the host must not be used at all, or ""; the refusal is counted."""
        if not self.rule.refusal:
            return ""
        self._count(self.rule.refusal_result)
        return "" if self.rule.is_testing else self.rule.refusal

    @property
    def is_strict(self) -> bool:
        """Whether a policy demands TLS of the session."""
        return self.rule.demand != "none" and not self.rule.refusal

    @property
    def is_testing(self) -> bool:
        """Whether mail goes on when the demand is not met (RFC 8461 section 5)."""
        return self.rule.is_testing

    def security(
        self, any_certificate: ssl.SSLContext, verified: Callable[[], ssl.SSLContext]
    ) -> Security:
        """Return what the session must fulfil."""
        context = verified() if self.rule.demand == "verified" else any_certificate
        check = self.rule.problem_of if self.rule.demand == "dane" else None
        return Security("starttls", context, check=check, note=self._note)

    def note_plain(self, error: Exception | None) -> None:
        """Count a session that no policy holds; under one in testing it has been counted."""
        if not self.is_strict and not self.rule.refusal:
            self._note(error)

    def _note(self, error: Exception | None) -> None:
        self._count(self._result(error))

    def _result(self, error: Exception | None) -> ResultType:
        if isinstance(error, StartTlsMissing):
            return "starttls-not-supported"
        if isinstance(error, ChainRefused):
            return "validation-failure"
        # The library wraps what the handshake raised.
        cause = error.__cause__ or error.__context__ if error is not None else None
        return result_of(cause if isinstance(cause, ssl.SSLError) else error)

    def _count(self, result: ResultType) -> None:
        if self.advisor is not None:
            self.advisor.count(
                TlsReport(
                    self.domain, self.rule.policy_type, result, self.host, self.source_address
                )
            )
