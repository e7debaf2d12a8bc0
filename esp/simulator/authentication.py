"""Does the mail prove where it comes from? SPF, DKIM and DMARC, really verified.

SPF by pyspf, DKIM by dkimpy (so not by the code that signed), alignment by the public suffix list.
Look-ups read the simulated zones directly: the same data that the name server speaks from.
"""

from __future__ import annotations

import base64
import binascii
import re
import warnings
from dataclasses import dataclass
from email.parser import BytesHeaderParser
from email.policy import compat32
from email.utils import getaddresses
from typing import Any

import dkim
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from esp.simulator.zones import Status, ZoneStore, normal_name, org_domain

with warnings.catch_warnings():
    # pyspf 2.0.14 has escape sequences that Python warns about when it compiles the file.
    warnings.simplefilter("ignore")
    import spf

MAX_SIGNATURES = 5
_TAG = re.compile(r"\s*([A-Za-z]+)\s*=\s*([^;]*?)\s*(?:;|$)")


@dataclass(frozen=True, slots=True)
class DkimVerdict:
    """One signature: who signed, with what, and whether it holds."""

    domain: str
    selector: str
    algorithm: str
    result: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AuthVerdict:
    """What a receiver found out about one message; results in the words of RFC 8601."""

    spf: str
    spf_domain: str
    dkim: tuple[DkimVerdict, ...]
    dmarc: str
    dmarc_policy: str
    from_domain: str
    aligned: bool

    @property
    def is_authenticated(self) -> bool:
        return self.spf == "pass" or any(verdict.result == "pass" for verdict in self.dkim)

    def header(self, authserv_id: str) -> str:
        """Return the value of an Authentication-Results header (RFC 8601)."""
        parts = [authserv_id, f"spf={self.spf} smtp.mailfrom={self.spf_domain}"]
        parts += [
            f"dkim={v.result} header.d={v.domain} header.s={v.selector} header.a={v.algorithm}"
            for v in self.dkim
        ] or ["dkim=none"]
        policy = f" (p={self.dmarc_policy})" if self.dmarc_policy else ""
        parts.append(f"dmarc={self.dmarc}{policy} header.from={self.from_domain}")
        return "; ".join(parts)


class _SpfQuery(spf.query):  # type: ignore[misc]
    """pyspf with its look-ups turned to the simulated zones."""

    def __init__(self, zones: ZoneStore, ip: str, sender: str, helo: str) -> None:
        super().__init__(i=ip, s=sender, h=helo, strict=False)
        self._zones = zones

    def dns(
        self, name: Any, qtype: str, cnames: Any = None, ignore_void: bool = False
    ) -> list[Any]:
        found = self._zones.lookup(str(name), qtype)
        if found.status in (Status.FAILURE, Status.TIMEOUT, Status.REFUSED):
            raise spf.TempError(f"DNS {found.status.value} for {name}")
        values = [_spf_value(r.type, r.rdata) for r in found.records if r.type == qtype]
        if not values and not ignore_void and qtype != "TXT":
            # RFC 7208 4.6.4: at most two look-ups may come back empty.
            self.void_lookups += 1
            if self.void_lookups > 2:
                raise spf.PermError("Void lookup limit of 2 exceeded")
        return values


def _spf_value(type_: str, rdata: Any) -> Any:
    if type_ == "MX":
        return rdata.preference, normal_name(rdata.exchange.to_text())
    if type_ == "TXT":
        return rdata.strings
    if type_ in ("A", "AAAA"):
        return rdata.address
    return normal_name(rdata.to_text())


class _Ed25519Check:
    """Stands in for PyNaCl's key, which dkimpy would want: same call, other library.

    dkimpy asks PyNaCl for the name of the exception, so a bad signature is kept, not raised.
    """

    def __init__(self, key: bytes) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(key)
        self.holds = False

    def verify(self, digest: bytes, signature: bytes) -> None:
        try:
            self._key.verify(signature, digest)
        except InvalidSignature:
            return
        self.holds = True


class _DkimCheck(dkim.DKIM):  # type: ignore[misc]
    """dkimpy, able to check Ed25519 signatures (RFC 8463) without PyNaCl."""

    def verify_sig(
        self, sig: dict[bytes, bytes], include_headers: Any, sig_header: Any, dnsfunc: Any
    ) -> bool:
        if sig[b"a"] != b"ed25519-sha256":
            return bool(super().verify_sig(sig, include_headers, sig_header, dnsfunc))
        text = dnsfunc(sig[b"s"] + b"._domainkey." + sig[b"d"] + b".")
        tags = _tags((text or b"").decode("ascii", "replace"))
        try:
            check = _Ed25519Check(base64.b64decode(re.sub(r"\s", "", tags.get("p", ""))))
        except (binascii.Error, ValueError):
            return False
        if tags.get("k") != "ed25519":
            return False
        self.pk, self.keysize, self.ktag, self.seqtlsrpt = check, 256, b"ed25519", False
        self.verify_sig_process(sig, include_headers, sig_header, dnsfunc)
        return check.holds


def _tags(text: str) -> dict[str, str]:
    return {name.lower(): value for name, value in _TAG.findall(text)}


class Authenticator:
    """Verifies messages against the zones; plain functions of their input, safe in threads."""

    def __init__(self, zones: ZoneStore) -> None:
        self._zones = zones

    def verify(self, *, ip: str, helo: str, mail_from: str, raw: bytes) -> AuthVerdict:
        """Verify one message. `mail_from` is bare (empty for the null sender), `raw` has CRLF."""
        spf_result, spf_domain = self._spf(ip, helo, mail_from)
        signatures = self._dkim(raw)
        from_domain = _from_domain(raw)
        passed = [v.domain for v in signatures if v.result == "pass"]
        return self._dmarc(spf_result, spf_domain, signatures, passed, from_domain)

    def _spf(self, ip: str, helo: str, mail_from: str) -> tuple[str, str]:
        domain = mail_from.rpartition("@")[2] or helo
        try:
            result = _SpfQuery(self._zones, ip, mail_from, helo).check()[0]
        except spf.TempError:
            result = "temperror"
        except Exception:
            # PermError, or what pyspf's parsing meets in a malformed address or record.
            result = "permerror"
        return str(result).lower(), normal_name(domain)

    def _dkim(self, raw: bytes) -> tuple[DkimVerdict, ...]:
        try:
            check = _DkimCheck(raw)
        except (dkim.DKIMException, IndexError):
            return ()  # not a message at all, so nobody signed it
        headers = [value for name, value in check.headers if name.lower() == b"dkim-signature"]
        return tuple(
            self._signature(check, index, value)
            for index, value in enumerate(headers[:MAX_SIGNATURES])
        )

    def _signature(self, check: _DkimCheck, index: int, value: bytes) -> DkimVerdict:
        tags = _tags(re.sub(r"\r\n\s+", " ", value.decode("utf-8", "replace")))
        about = (normal_name(tags.get("d", "")), tags.get("s", ""), tags.get("a", ""))
        try:
            holds = check.verify(index, dnsfunc=self._key_text)
        except Exception as error:
            # dkimpy raises what its parsing meets (KeyError, ValueError, ...) for malformed tags.
            return DkimVerdict(*about, "permerror", f"{type(error).__name__}: {error}")
        return DkimVerdict(*about, "pass" if holds else "fail")

    def _key_text(self, name: bytes, timeout: float = 5) -> bytes | None:
        texts = self._zones.texts(name.decode("ascii", "replace"))
        return texts[0] if texts else None

    def _dmarc(
        self,
        spf_result: str,
        spf_domain: str,
        signatures: tuple[DkimVerdict, ...],
        passed: list[str],
        from_domain: str,
    ) -> AuthVerdict:
        record = self._dmarc_record(from_domain)
        spf_holds = spf_result == "pass" and _is_aligned(
            spf_domain, from_domain, strict=record.get("aspf") == "s"
        )
        dkim_holds = any(
            _is_aligned(domain, from_domain, strict=record.get("adkim") == "s") for domain in passed
        )
        aligned = bool(from_domain) and (spf_holds or dkim_holds)
        result = "none" if not record else "pass" if aligned else "fail"
        return AuthVerdict(
            spf=spf_result,
            spf_domain=spf_domain,
            dkim=signatures,
            dmarc=result,
            dmarc_policy=record.get("p", ""),
            from_domain=from_domain,
            aligned=aligned,
        )

    def _dmarc_record(self, domain: str) -> dict[str, str]:
        for owner in dict.fromkeys((domain, org_domain(domain))):
            texts = [t.decode("utf-8", "replace") for t in self._zones.texts(f"_dmarc.{owner}")]
            records = [text for text in texts if text.replace(" ", "").startswith("v=DMARC1")]
            if len(records) == 1:
                return _tags(records[0])
        return {}


def _is_aligned(domain: str, from_domain: str, *, strict: bool) -> bool:
    if strict:
        return domain == from_domain
    return org_domain(domain) == org_domain(from_domain)


def _from_domain(raw: bytes) -> str:
    # More than one author domain cannot be aligned with one identity: treated as none.
    head = raw.split(b"\r\n\r\n", 1)[0]
    headers = BytesHeaderParser(policy=compat32).parsebytes(head + b"\r\n\r\n")
    addresses = getaddresses([str(value) for value in headers.get_all("From", [])])
    domains = {normal_name(address.rpartition("@")[2]) for _, address in addresses}
    return domains.pop() if len(domains) == 1 else ""
