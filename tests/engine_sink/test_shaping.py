"""Sites, limits and reactions as shipped: what domains roll up to, what replies call for."""

from __future__ import annotations

import datetime as dt
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sending.engine.classify import classify, kind_for
from sending.engine.ports import MxAnswer, MxHost, Outcome
from sending.engine.replies import parse_reply
from sending.engine.shaping.adaptive import is_complaint
from sending.engine.shaping.limits import Limits
from sending.engine.shaping.policy import load_shaping

SHAPING = load_shaping()
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)


def answer(*hosts: str, domain: str = "example.com", preference: int = 10) -> MxAnswer:
    return MxAnswer(domain, tuple(MxHost(host, preference) for host in hosts))


def refused(line: str, *, mx_host: str | None = None, phase: str = "rcpt") -> Outcome:
    reply = parse_reply(line)
    name = classify(code=reply.code, enhanced=reply.enhanced, text=reply.text)
    return Outcome(
        kind_for(reply.code, name),
        phase,
        name,
        reply.text,
        NOW,
        smtp_code=reply.code,
        enhanced_code=reply.enhanced,
        mx_host=mx_host,
    )


def kinds(line: str, site: str = "mx.example.com") -> list[str]:
    return [reaction.kind for reaction in SHAPING.reactions_to(refused(line), site)]


# --- Sites ---


@pytest.mark.parametrize(
    ("hosts", "site"),
    [
        (("aspmx.l.google.com", "alt1.aspmx.l.google.com", "aspmx2.googlemail.com"), "google"),
        (("SMTP.GOOGLE.COM.",), "google"),
        (("mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net"), "yahoo"),
        (("mx-aol.mail.gm0.yahoodns.net",), "yahoo"),
        (("hotmail-com.olc.protection.outlook.com",), "microsoft-consumer"),
        (("acme-example.mail.protection.outlook.com",), "microsoft-365"),
        (("acme-example.o-v1.mx.microsoft",), "microsoft-365"),
        (("mx01.mail.icloud.com", "mx02.mail.icloud.com"), "apple"),
        (("eu-smtp-inbound-2.mimecast.com",), "mimecast"),
        (("mx0b-00ab1234.pphosted.com",), "proofpoint"),
        (("d999999b.ess.barracudanetworks.com",), "barracuda"),
    ],
)
def test_domains_roll_up_to_whoever_runs_their_mail_servers(
    hosts: tuple[str, ...], site: str
) -> None:
    assert SHAPING.site_of(answer(*hosts)) == site


def test_every_recorded_mx_belongs_to_its_site_and_to_no_other() -> None:
    for site in SHAPING.sites.values():
        for host in site.mx:
            owners = [
                other.id
                for other in SHAPING.sites.values()
                if any(host == s or host.endswith(f".{s}") for s in other.suffixes)
            ]
            assert owners == [site.id]
            assert SHAPING.site_of(answer(host)) == site.id


def test_a_suffix_only_counts_at_a_labels_border() -> None:
    assert SHAPING.site_of(answer("mx.notgoogle.com")) == "mx.notgoogle.com"
    assert SHAPING.site_of(answer("google.com.example.net")) == "google.com.example.net"


@pytest.mark.parametrize(
    "host",
    [
        "ec2-192-0-2-1.compute-1.amazonaws.com",
        "c-192-0-2-1.hsd1.ma.comcast.net",
        "vps-0a1b2c3d.vps.ovh.net",
        "1.2.0.192.host.secureserver.net",
        "host1-2-0-192.serverdedicati.aruba.it",
        "ps12345.dreamhost.com",
        "1.2.0.192.dynamic.dsl.bluewin.ch",
    ],
)
def test_a_customers_own_server_does_not_count_as_its_provider(host: str) -> None:
    assert SHAPING.site_of(answer(host)) == host


def test_two_domains_with_the_same_mail_servers_are_one_site() -> None:
    one = SHAPING.site_of(answer("mx2.host.example", "mx1.host.example", domain="a.example"))
    other = SHAPING.site_of(answer("mx1.host.example", "MX2.host.example.", domain="b.example"))
    assert one == other == "mx1.host.example,mx2.host.example"
    assert SHAPING.site_title(one) == "mx1.host.example, mx2.host.example"


def test_a_spare_server_elsewhere_does_not_change_the_site() -> None:
    hosts = (MxHost("aspmx.l.google.com", 1), MxHost("backup.example.net", 20))
    assert SHAPING.site_of(MxAnswer("acme.example", hosts)) == "google"
    equals = (MxHost("aspmx.l.google.com", 1), MxHost("mx.example.net", 1))
    assert SHAPING.site_of(MxAnswer("acme.example", equals)) == "aspmx.l.google.com,mx.example.net"


def test_a_long_set_of_hosts_gets_a_short_name_that_tells_it_from_others() -> None:
    many = [f"mx{n}.a-rather-long-provider-name.example" for n in range(5)]
    name = SHAPING.site_of(answer(*many))
    assert len(name) <= 60
    assert name == SHAPING.site_of(answer(*reversed(many)))
    assert name != SHAPING.site_of(answer(*many[:4]))
    assert SHAPING.site_title(name).startswith("mx0.a-rather-long")
    assert SHAPING.site_title(name).endswith("and 4 more")


def test_nobodys_mx_record_can_pass_for_a_providers_id() -> None:
    assert SHAPING.site_of(answer("google")) not in SHAPING.sites
    assert SHAPING.site_of(answer("google.")) not in SHAPING.sites


def test_a_domain_without_mail_servers_is_its_own_site() -> None:
    assert SHAPING.site_of(MxAnswer("gone.example", kind="bounced")) == "gone.example"


@given(st.lists(st.text("abc-.", min_size=1, max_size=70), min_size=1, max_size=8))
def test_a_sites_name_always_fits_its_column(hosts: list[str]) -> None:
    name = SHAPING.site_of(answer(*hosts))
    assert 0 < len(name) <= 60
    assert SHAPING.site_title(name)


# --- Limits ---


def test_a_known_site_has_its_own_limits_and_others_the_default() -> None:
    google = SHAPING.limits_for("google")
    assert (google.connections, google.messages_per_connection) == (5, 50)
    assert SHAPING.limits_for("apple").messages_per_connection == 5
    assert SHAPING.limits_for("mx.example.com") == SHAPING.default


def test_limits_have_one_rate_that_is_the_tightest() -> None:
    assert Limits(1, 1).rate_per_second is None
    assert Limits(1, 1, per_second=5, per_hour=3600, per_day=1_000_000).rate_per_second == 1.0
    with pytest.raises(ValueError, match="connections must be above zero"):
        Limits(0, 1)


# --- Reactions ---


def test_every_rule_fires_on_its_recorded_replies_as_loaded() -> None:
    for rule in SHAPING.rules:
        for example in rule.examples:
            for site in rule.sites or ("mx.example.com",):
                assert SHAPING.reactions_to(refused(example), site) == rule.reactions, rule.id


# Each of these is in a well-known shaping file as a rule that cannot match what receivers say: a
# provider's name misspelt, a doubled backslash, a suffix with a trailing dot.
def test_it_has_no_dead_rule_where_others_had_one() -> None:
    gmail = (
        "421-4.7.28 [192.0.2.1] Our system has detected an unusual rate of unsolicited mail "
        "originating from your IP address. To protect our users from spam, mail sent from your "
        "IP address has been temporarily rate limited. Please visit\r\n"
        "421 4.7.28 https://support.google.com/mail/?p=UnsolicitedRateLimitError - gsmtp"
    )
    assert kinds(gmail, "google") == ["slow_down", "suspend"]
    suspicious = (
        "550-5.7.1 [192.0.2.1] Our system has detected that this message is likely unsolicited "
        "mail. To reduce the amount of spam sent to Gmail, this message has been blocked."
    )
    assert kinds(suspicious, "google") == ["slow_down", "hold_batch"]
    assert kinds("421 [HCM1] Your mail from 203.0.113.77 was deferred.", "apple") == [
        "slow_down",
        "suspend",
    ]
    assert kinds("550 5.7.1 [HM08] Message rejected due to local policy.", "apple")
    for host, site in [
        ("d1.ess.barracudanetworks.com", "barracuda"),
        ("d1.ess.barracudanetworks.com.", "barracuda"),
        ("mx.kpnmail.nl.", "kpn"),
    ]:
        assert SHAPING.site_of(answer(host)) == site


@pytest.mark.parametrize(
    ("reply", "site", "expected"),
    [
        ("421 4.7.0 [TSS04] Messages from 203.0.113.9 temporarily deferred", "yahoo",
         ["one_connection", "suspend"]),
        ("550 5.7.606 Access denied, banned sending IP [203.0.113.9].", "microsoft-365",
         ["other_source"]),
        ("550 5.7.26 Unauthenticated email from acme.example is not accepted", "google",
         ["hold_batch"]),
        ("421 4.7.0 Error: too many connections from 203.0.113.9", "mx.example.com",
         ["one_connection"]),
        ("451 4.7.1 Rate limit exceeded", "mx.example.com", ["slow_down", "suspend"]),
        ("554 5.7.1 Client host [203.0.113.9] blocked using zen.spamhaus.org", "mx.example.com",
         ["slow_down", "other_source"]),
        ("552 5.7.0 Message blocked: malware found in attachment", "mx.example.com",
         ["hold_batch", "hold_tenant"]),
        ("550 5.1.1 No such user", "google", []),
        ("452 4.2.2 The recipient's inbox is out of storage space.", "google", []),
        ("451 4.7.1 Greylisted, try again in 300 seconds", "mx.example.com", []),
    ],
)  # fmt: skip
def test_replies_call_for_what_people_would_do(reply: str, site: str, expected: list[str]) -> None:
    assert kinds(reply, site) == expected


def test_a_busy_mailbox_does_not_slow_down_everybody_elses_mail() -> None:
    reply = "450-4.2.1 The user you are trying to contact is receiving mail at a rate that prevents"
    assert kinds(reply, "google") == []
    assert kinds("450 User is receiving mail too quickly", "yahoo") == []
    assert (
        kinds("451 4.7.0 Temporary server error. PRX4 NextHop: mx.acme.example", "microsoft-365")
        == []
    )


def test_what_calls_for_nothing_is_no_complaint_for_adaptive_concurrency_either() -> None:
    rules = [rule for rule in SHAPING.rules if not rule.reactions]
    assert len(rules) >= 7
    for rule in rules:
        for example in rule.examples:
            assert not is_complaint(refused(example)), example


@given(
    text=st.text(max_size=400),
    code=st.one_of(st.none(), st.integers(-1, 1000)),
    enhanced=st.one_of(st.none(), st.text("4567.*x", max_size=8)),
    site=st.sampled_from([*SHAPING.sites, "mx.example.com", "", "route:ses"]),
    mx_host=st.one_of(st.none(), st.text(max_size=40)),
)
def test_whatever_a_server_says_there_is_an_answer(
    *, text: str, code: int | None, enhanced: str | None, site: str, mx_host: str | None
) -> None:
    outcome = Outcome(
        "deferred",
        "rcpt",
        "soft/throttled",
        text,
        NOW,
        smtp_code=code,
        enhanced_code=enhanced,
        mx_host=mx_host,
    )
    for reaction in SHAPING.reactions_to(outcome, site):
        assert reaction.rule in SHAPING.rules_by_id
        assert 0 < reaction.factor <= 1
    assert is_complaint(outcome) in (True, False)


def test_nothing_reacts_to_our_own_words_or_to_success() -> None:
    text = "421 4.7.28 unusual rate of unsolicited mail"
    held = refused(text, phase="throttle")
    unanswered = Outcome("deferred", "connect", "soft/network-error", "rate limit exceeded", NOW)
    done = Outcome("delivered", "body", "none/delivered", "rate limited", NOW, smtp_code=250)
    assert SHAPING.reactions_to(held, "google") == ()
    assert SHAPING.reactions_to(unanswered, "google") == ()
    assert SHAPING.reactions_to(done, "google") == ()


def test_a_strangers_server_cannot_slow_down_mail_to_a_provider() -> None:
    # A domain may name Google's host first and answer from its own, second, host.
    text = "421-4.7.28 Our system has detected an unusual rate of unsolicited mail"
    assert SHAPING.reactions_to(refused(text, mx_host="mx.evil.example"), "google") == ()
    assert SHAPING.reactions_to(refused(text, mx_host="alt1.aspmx.l.google.com"), "google")


def test_a_reaction_says_which_rule_and_what_in_plain_words() -> None:
    first, *_ = SHAPING.reactions_to(
        refused("421-4.7.28 unusual rate of unsolicited mail originating from your IP"), "google"
    )
    assert first.rule == "google-address-is-too-fast"
    assert first.title == "Google sees an unusual rate of unsolicited mail of this address"
    assert (first.kind, first.factor, first.seconds) == ("slow_down", 0.5, 1800)
    assert SHAPING.rules_by_id[first.rule].source.startswith("Google")


def test_every_rule_names_its_source_and_has_words_for_people() -> None:
    for rule in SHAPING.rules:
        assert rule.source
        assert rule.title[0].isupper()
        assert not rule.title.endswith(".")
    for site in SHAPING.sites.values():
        assert site.source


def test_hours_can_be_seconds_for_a_simulated_internet() -> None:
    quick = load_shaping(seconds_scale=0.001)
    slow, stop = quick.reactions_to(refused("451 4.7.1 Rate limit exceeded"), "mx.example.com")
    assert (slow.seconds, stop.seconds, stop.within_seconds) == (0.6, 1.8, 1.2)
    assert slow.factor == 0.5


@pytest.mark.parametrize(
    "unit", ["a", " ", "too many ", "user ", "exceeded ", "client host ", "ofr", "recipient has "]
)
def test_hostile_text_cannot_make_the_rules_slow(unit: str) -> None:
    outcome = refused("450 " + unit * (4000 // len(unit)))
    start = time.process_time()
    for _ in range(20):
        SHAPING.reactions_to(outcome, "orange")
    assert time.process_time() - start < 0.5
