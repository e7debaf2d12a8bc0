"""What replies mean: the rules hold together, and agree with examples from the field."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from sending.engine import classify as module
from sending.engine.classify import (
    CATEGORIES,
    RULES,
    classify,
    classify_text,
    explain,
    kind_for,
    read_rules,
    suppresses,
    title,
    validate_rules,
)
from sending.engine.replies import find_enhanced, parse_reply

# Replies with the labels of other projects, where their folder stands beside the checkout.
REPLIES = Path(__file__).resolve().parents[3] / "shared" / "corpora" / "smtp-replies/expected.jsonl"


def test_every_rule_and_every_pattern_has_an_example_that_it_decides() -> None:
    assert validate_rules() == []


def test_a_rule_that_never_decides_is_found() -> None:
    data = {
        "rule": [
            {"name": "all", "class": "block/policy", "text": ["no"], "examples": ["550 no"]},
            {
                "name": "late",
                "class": "block/spam",
                "text": ["no spam", "never"],
                "examples": ["550 no spam"],
            },
            {"name": "odd", "class": "soft/odd", "code": ["499"], "examples": ["499 x"]},
        ]
    }
    assert validate_rules(read_rules(data)) == [
        "late: '550 no spam' is decided by all.",
        "late: no example for the pattern 'never'.",
        "odd: the class soft/odd does not exist.",
    ]


# Written after the wording of the big providers' own pages, 2025-2026.
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (("550-5.1.1 The email account that you tried to reach does not exist. Please try "
         "double-checking the recipient's email address"), "hard/invalid-recipient"),
        ("552-5.2.2 The recipient's inbox is out of storage space.", "soft/mailbox-full"),
        ("550 5.2.1 The email account that you tried to reach is disabled.",
         "hard/inactive-recipient"),
        ("550-5.7.26 Your email has been blocked because the sender is unauthenticated.",
         "block/auth-failure"),
        ("550-5.7.1 Our system has detected that this message is likely unsolicited mail.",
         "block/spam"),
        (("421-4.7.28 Our system has detected an unusual rate of unsolicited mail originating from "
         "your IP address."), "soft/throttled"),
        (("450-4.2.1 The user you are trying to contact is receiving mail at a rate that prevents "
         "additional messages from being delivered."), "soft/throttled"),
        ("554 delivery error: dd This user doesn't have a yahoo.com account",
         "hard/invalid-recipient"),
        ("550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).",
         "hard/invalid-recipient"),
        ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281)",
         "hard/invalid-recipient"),
        ("451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77714)",
         "soft/server-error"),
        ("554 5.7.1 <bob@example.com>: Relay access denied", "block/relay-denied"),
        ("450 4.7.1 <bob@example.com>: Recipient address rejected: Greylisted for 60 seconds",
         "soft/greylisted"),
        ("450 4.1.1 <bob@example.com>: Recipient address rejected: User unknown here",
         "hard/invalid-recipient"),
        ("552 5.3.4 Message size exceeds fixed limit", "block/content"),
        ("452 4.5.3 Too many recipients", "soft/throttled"),
        ("550 5.7.509 Access denied, sending domain example.com does not pass DMARC verification",
         "block/auth-failure"),
        (("552-5.7.0 This message was blocked because its content presents a potential security "
         "issue."), "block/virus"),
        (("550 5.0.0 host mx.example.com[192.0.2.1] said: 550 5.1.1 User unknown (in reply to end "
         "of DATA command)"), "hard/invalid-recipient"),
        ("550 SMTP error from remote mail server after MAIL FROM:<a@b.example>: 550 No such user",
         "block/sender-rejected"),
        ("421 4.7.0 Try again later, closing connection.", "soft/server-error"),
        ("421 4.7.1 Messages to bob@icloud.com deferred due to excessive volume.",
         "soft/throttled"),
        (("554 5.2.122 The recipient has exceeded their limit for the number of messages they can "
          "receive per hour."), "soft/throttled"),
        ("421 Max message per connection reached, closing transmission channel", "soft/throttled"),
        ("421 4.1.0 192.0.2.1 Throttled - try again later.", "soft/throttled"),
        ("550 Ip frequency limited [x IP: 192.0.2.1]", "soft/throttled"),
        ("451 4.7.1 Try again later", "soft/greylisted"),
        ("421 4.1.1 Recipient address rejected: Address verification in progress",
         "soft/greylisted"),
        ("450 4.2.0 <bob@comcast.net> - Recipient temporarily unavailable", "soft/server-error"),
        ("552 5.1.1 <bob@comcast.net> recipient rejected - extended quota violation",
         "soft/mailbox-full"),
        ("552 5.1.1 Boite du destinataire pleine. Recipient overquota. OFR_417 [417]",
         "soft/mailbox-full"),
        ("550 5.1.1 Not our Customer", "hard/invalid-recipient"),
        ("554 delivery error: dd bob@yahoo.com is no longer valid. [-20]",
         "hard/invalid-recipient"),
        ("550 User account not activated", "hard/inactive-recipient"),
        ("550 JunkMail rejected", "block/spam"),
        ("550 message has been rejected due to spam or virus classification", "block/spam"),
        ("553 Message filtered. Refer to the Troubleshooting page (#5.7.1)", "block/spam"),
        ("550 Rejected by header based manually Blocked Senders: alice@acme.example",
         "block/recipient-filtered"),
        ("550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required",
         "block/recipient-filtered"),
        (("503 This mail server requires authentication when attempting to send to a non-local "
          "e-mail address"), "block/relay-denied"),
        ("550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP.",
         "block/reputation"),
        ("554 IP=192.0.2.1 - A problem occurred. (contact tosa@rx.t-online.de to clarify.)",
         "block/reputation"),
        ("550 5.7.60 SMTP; Client does not have permissions to send as this sender",
         "block/sender-rejected"),
        ("550 5.4.316 Message expired, connection refused(Socket error code 10061)",
         "soft/expired"),
        ("450 4.4.312 DNS query failed", "soft/network-error"),
        ("451 4.4.397 Error communicating with target host.", "soft/network-error"),
        ("", "unknown/unknown"),
        ("The parrot is resting.", "unknown/unknown"),
    ],
)  # fmt: skip
def test_it_knows_replies_of_the_field(reply: str, expected: str) -> None:
    assert classify_text(reply) == expected


@pytest.mark.skipif(not REPLIES.is_file(), reason="no corpora beside the checkout")
def test_it_agrees_with_other_projects_about_real_replies() -> None:
    rows = [json.loads(line) for line in REPLIES.read_text("utf-8").splitlines()]
    said = [classify_text(row["text"]) for row in rows]
    wanted = [{row["unified"], *(row.get("unified_accepted") or ())} for row in rows]
    categories = sum(name in names for name, names in zip(said, wanted, strict=True))
    classes = sum(
        name.split("/")[0] in {other.split("/")[0] for other in names}
        for name, names in zip(said, wanted, strict=True)
    )
    assert classes / len(rows) >= 0.95
    assert categories / len(rows) >= 0.90


def test_the_first_digit_decides_whether_to_try_again() -> None:
    assert kind_for(450, "hard/invalid-recipient") == "deferred"
    assert kind_for(552, "soft/mailbox-full") == "bounced"
    assert kind_for(None, "soft/network-error") == "deferred"


def test_limits_and_greylisting_are_temporary_even_at_5xx() -> None:
    assert kind_for(552, "soft/throttled") == "deferred"
    assert kind_for(550, "soft/greylisted") == "deferred"


def test_only_what_is_hard_suppresses_at_once() -> None:
    assert {name for name in CATEGORIES if suppresses(name)} == {
        "hard/invalid-recipient",
        "hard/inactive-recipient",
        "hard/invalid-domain",
        "hard/recipient-moved",
        "none/complaint",
    }
    assert not suppresses("no/such-class")


def test_a_policy_code_never_suppresses() -> None:
    assert suppresses("hard/inactive-recipient", enhanced="5.2.1")
    assert suppresses("hard/inactive-recipient", enhanced="5.7.13")
    assert not suppresses("hard/inactive-recipient", enhanced="5.7.1")


def test_every_class_is_explained_in_whole_sentences() -> None:
    for name in CATEGORIES:
        assert explain(name).endswith(".")
        assert title(name)
    assert explain("no/such-class") == explain("unknown/unknown")
    assert {rule.category for rule in RULES} <= set(CATEGORIES)


def test_codes_decide_when_words_say_nothing() -> None:
    assert classify(code=550, enhanced="5.1.1", text="") == "hard/invalid-recipient"
    assert classify(code=550, enhanced=None, text="") == "block/policy"
    assert classify(code=451, enhanced=None, text="") == "soft/server-error"
    assert classify(code=552, enhanced=None, text="") == "soft/mailbox-full"


def test_an_enhanced_code_is_not_taken_from_an_address() -> None:
    assert find_enhanced("blocked using 192.0.2.1.example") is None
    assert find_enhanced("host 5.5.5.5 refused") is None
    assert find_enhanced("sorry (#5.1.1)") == "5.1.1"
    assert find_enhanced("4.2.2 full", 552) == "4.2.2"
    assert find_enhanced("5.1.1 what", 250) is None


def test_replies_of_several_lines_are_read_as_one() -> None:
    reply = parse_reply("550-5.1.1 No such\r\n550-5.1.1 user\r\n550 5.1.1 here")
    assert (reply.code, reply.enhanced) == (550, "5.1.1")
    assert reply.text == "5.1.1 No such 5.1.1 user 5.1.1 here"


@pytest.mark.parametrize("unit", ["a", " ", "said: ", "user ", "not ", "5.1.1 ", "<@> ", "spf "])
def test_hostile_text_cannot_make_the_rules_slow(unit: str) -> None:
    module._classify.cache_clear()
    start = time.process_time()
    classify(code=550, enhanced=None, text=unit * (4000 // len(unit)))
    assert time.process_time() - start < 0.5
