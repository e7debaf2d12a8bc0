"""E-mail addresses: checked without DNS, in the form that is sent to and the form that is compared.

The common shape passes one regular expression (imports check a million of them); everything else
goes to email-validator, which knows RFC 5322, 6531 and IDNA 2008 with UTS 46.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import email_validator
import idna

from esp.lib.errors import InvalidInput

MAX_ADDRESS = 254  # RFC 5321 section 4.5.3.1.3, erratum 1690
MAX_LOCAL = 64
MAX_DISPLAY = 200

_FAST = re.compile(
    r"(?=[^@]{1,64}@[^@]{4,189}\Z)"
    r"([a-zA-Z0-9_+\-]+(?:\.[a-zA-Z0-9_+\-]+)*)@"
    r"((?:[a-zA-Z0-9](?:[a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,63})\Z"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NAMED = re.compile(r'\A(?P<display>"(?:[^"\\]|\\.)*"|[^<>"]*?)\s*<(?P<address>[^<>]*)>\Z', re.S)


@dataclass(slots=True, unsafe_hash=True)
class Address:
    """One mailbox. `local` is as written; `domain_ascii` is lower-case A-labels.

    `normalised` is what two spellings of one mailbox share; `display` is the name, or "". Never
    changed once made; not frozen, because one is made for every message and that makes it dearer.
    """

    local: str
    domain_ascii: str
    normalised: str
    display: str = ""

    @property
    def addr_spec(self) -> str:
        """The address to send to."""
        return f"{self.local}@{self.domain_ascii}"

    @property
    def needs_smtputf8(self) -> bool:
        return not self.local.isascii()

    @property
    def domain_unicode(self) -> str:
        """The domain as people read it."""
        try:
            return idna.decode(self.domain_ascii)
        except idna.IDNAError:
            return self.domain_ascii


def parse_address(
    text: str, *, allow_display: bool = True, allow_smtputf8: bool = False
) -> Address:
    """Return the Address in `text`: `a@b.example`, or with `allow_display` `Name <a@b.example>`.

    A local part outside ASCII needs SMTPUTF8 (RFC 6531) at every server on the way; it is refused
    unless `allow_smtputf8`. Raises InvalidInput with a plain sentence.
    """
    match = _FAST.match(text)
    if match is not None:
        local, domain = match.groups()
        if "--" not in domain:
            domain = domain.lower()
            return Address(local, domain, f"{local.lower()}@{domain}")
    return _parse_slowly(text, allow_display=allow_display, allow_smtputf8=allow_smtputf8)


def _parse_slowly(text: str, *, allow_display: bool, allow_smtputf8: bool) -> Address:
    text = text.strip(" \t")
    if not text:
        raise InvalidInput("The e-mail address is empty.", code="address-empty")
    if _CONTROL.search(text):
        raise InvalidInput(
            "The e-mail address holds a control character or line break.", code="address-invalid"
        )
    if len(text) > MAX_ADDRESS + MAX_DISPLAY:
        raise InvalidInput("The e-mail address is too long.", code="address-invalid")
    display, bare = _split_display(text) if allow_display else ("", text)
    return _validated(bare, display, allow_smtputf8=allow_smtputf8)


def _split_display(text: str) -> tuple[str, str]:
    match = _NAMED.match(text)
    if match is None:
        return "", text
    display = match.group("display").strip()
    if display.startswith('"'):
        display = re.sub(r"\\(.)", r"\1", display[1:-1])
    return display, match.group("address").strip()


def _validated(bare: str, display: str, *, allow_smtputf8: bool) -> Address:
    try:
        result = email_validator.validate_email(
            bare,
            check_deliverability=False,
            allow_smtputf8=True,
            allow_quoted_local=False,
            allow_domain_literal=False,
            globally_deliverable=False,
            test_environment=True,  # .test is an ordinary domain here, as it is for the fast path
        )
    except email_validator.EmailNotValidError as error:
        raise InvalidInput(
            f"'{_shown(bare)}' is not a valid e-mail address: {_sentence(str(error))}",
            code="address-invalid",
        ) from error
    domain = (result.ascii_domain or "").lower()
    if "." not in domain:
        raise InvalidInput(
            f"'{_shown(bare)}' is not a valid e-mail address: its domain has no dot.",
            code="address-invalid",
        )
    if domain.rpartition(".")[2].isdigit():
        raise InvalidInput(
            f"'{_shown(bare)}' is not a valid e-mail address: its domain ends in a number.",
            code="address-invalid",
        )
    local = result.local_part
    if not local.isascii() and not allow_smtputf8:
        raise InvalidInput(
            f"'{_shown(bare)}' has letters before the @ that only servers with SMTPUTF8 accept.",
            code="address-smtputf8",
        )
    if len(local.encode()) > MAX_LOCAL or len(f"{local}@{domain}".encode()) > MAX_ADDRESS:
        raise InvalidInput("The e-mail address is too long.", code="address-invalid")
    return Address(local, domain, f"{local.lower()}@{domain}", display)


def _shown(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "…"


def _sentence(text: str) -> str:
    text = text[:1].lower() + text[1:]
    return text if text.endswith(".") else f"{text}."
