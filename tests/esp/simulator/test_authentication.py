"""The simulated receivers really verify: SPF, DKIM with both algorithms, DMARC alignment."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import dkim
import pytest

from esp.simulator.authentication import Authenticator, AuthVerdict
from esp.simulator.server import Simulator
from esp.simulator.zones import ZoneStore, make_record
from tests.esp.simulator.world import RETURN_PATH, Signer, config, deliver, mail

TO = "dana@plainmail.test"


@pytest.fixture
async def verifying(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator(config(tmp_path, verify_authentication=True)) as simulator:
        yield simulator


@pytest.fixture
def signer(verifying: Simulator) -> Signer:
    signer = Signer()
    signer.publish(verifying)
    return signer


def verify(
    simulator: Simulator, raw: bytes, *, ip: str = "127.0.2.1", mail_from: str = RETURN_PATH
) -> AuthVerdict:
    return Authenticator(simulator.zones).verify(
        ip=ip, helo="out1.mailwright.test", mail_from=mail_from, raw=raw
    )


async def test_signed_aligned_mail_passes_everything(verifying: Simulator, signer: Signer):
    raw = signer.sign_ed25519(signer.sign(mail(to=TO)))
    assert (await deliver(verifying, TO, raw))[0] == 250
    stored, octets = await verifying.store.read(
        lambda db: tuple(db.execute("SELECT authentication, raw FROM message").fetchone())
    )
    verdict = json.loads(stored)
    assert (verdict["spf"], verdict["dmarc"], verdict["aligned"]) == ("pass", "pass", True)
    assert [(v["algorithm"], v["result"]) for v in verdict["dkim"]] == [
        ("ed25519-sha256", "pass"),
        ("rsa-sha256", "pass"),
    ]
    assert verdict["header"] == (
        "plainmail.test; spf=pass smtp.mailfrom=bounces.acme.example;"
        " dkim=pass header.d=acme.example header.s=e1 header.a=ed25519-sha256;"
        " dkim=pass header.d=acme.example header.s=r1 header.a=rsa-sha256;"
        " dmarc=pass (p=quarantine) header.from=acme.example"
    )
    # The stored octets verify outside of the simulator too.
    keys = {r.name: b"".join(r.rdata.strings) for r in verifying.zones.records("acme.example")}
    outside = dkim.DKIM(octets)
    assert outside.verify(1, dnsfunc=lambda n, timeout=5: keys.get(n.decode().rstrip(".")))


@pytest.mark.parametrize("how", ["sign", "sign_ed25519"])
async def test_a_changed_message_fails_dkim(verifying: Simulator, signer: Signer, how: str):
    signed = getattr(signer, how)(mail(to=TO))
    assert verify(verifying, signed).dkim[0].result == "pass"
    assert verify(verifying, signed.replace(b"Good day", b"Bad day")).dkim[0].result != "pass"
    assert verify(verifying, signed.replace(b"Subject: H", b"Subject: J")).dkim[0].result == "fail"


async def test_a_signature_without_its_key_fails(verifying: Simulator, signer: Signer):
    signed = signer.sign(mail(to=TO))
    verifying.zones.delete("r1._domainkey.acme.example")
    assert verify(verifying, signed).dkim[0].result in ("fail", "permerror")


async def test_spf_judges_the_source_and_knows_the_null_sender(
    verifying: Simulator, signer: Signer
):
    assert verify(verifying, mail()).spf == "pass"
    assert verify(verifying, mail(), ip="127.0.9.9").spf == "fail"
    assert verify(verifying, mail(), mail_from="b@nowhere.example").spf == "none"
    assert verify(verifying, mail(), mail_from="b@servfail.test").spf == "temperror"
    null = verify(verifying, mail(), mail_from="")
    assert (null.spf, null.spf_domain) == ("none", "out1.mailwright.test")


async def test_spf_follows_includes_aliases_and_mx(verifying: Simulator):
    verifying.zones.publish(
        [
            make_record("acme.example", "TXT", "v=spf1 include:_spf.globex.example mx -all"),
            make_record("_spf.globex.example", "CNAME", "bounces.mailwright.test."),
            make_record("acme.example", "MX", "10 mx.acme.example."),
            make_record("mx.acme.example", "A", "127.0.3.1"),
        ]
    )
    for ip in ("127.0.2.7", "127.0.3.1", "127.0.4.1"):
        verdict = verify(verifying, mail(), ip=ip, mail_from="b@acme.example")
        assert verdict.spf == ("fail" if ip == "127.0.4.1" else "pass"), ip


async def test_dmarc_asks_for_alignment(verifying: Simulator, signer: Signer):
    other = verify(verifying, mail(), mail_from="b@bounces.mailwright.test")
    assert (other.spf, other.dmarc, other.aligned) == ("pass", "fail", False)
    assert other.is_authenticated
    strict = make_record("_dmarc.acme.example", "TXT", "v=DMARC1; p=reject; aspf=s; adkim=s")
    verifying.zones.publish([strict])
    assert not verify(verifying, mail()).aligned, "a subdomain does not satisfy aspf=s"
    assert verify(verifying, signer.sign(mail())).aligned


async def test_a_domain_without_a_record_has_no_dmarc_result(verifying: Simulator):
    verdict = verify(verifying, mail())
    assert (verdict.dmarc, verdict.dmarc_policy) == ("none", "")


def test_two_authors_of_different_domains_align_with_nobody():
    raw = mail().replace(b"From: Acme", b"From: x@globex.example, Acme")
    verdict = Authenticator(ZoneStore()).verify(ip="127.0.2.1", helo="x", mail_from="", raw=raw)
    assert (verdict.from_domain, verdict.aligned) == ("", False)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"no header at all",
        b"DKIM-Signature: v=1\r\n\r\n",
        b"DKIM-Signature: v=1; a=ed25519-sha256; d=x; s=y; h=from; bh=!; b=!\r\nFrom: a@b\r\n\r\n",
        b"From: \xff\xfe\r\nDKIM-Signature: \xff\r\n\r\n",
    ],
)
def test_malformed_mail_gets_a_verdict(raw: bytes):
    verdict = Authenticator(ZoneStore()).verify(
        ip="127.0.2.1", helo="", mail_from="a@b.example", raw=raw
    )
    assert not verdict.is_authenticated
