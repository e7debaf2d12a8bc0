"""What recipients meet: the sign-up form, its confirmation, and the ways to leave."""

from __future__ import annotations

import re
import urllib.request
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from esp.simulator.client import StoredMessage
from tests.browser.visitor import Visitor, visitor
from tests.browser.world import World

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def some_mails(world: World, count: int) -> list[StoredMessage]:
    """Return campaign mails of readers who have not left yet."""
    left = {fact.recipient for fact in world.simulator.ledger(kinds=["unsubscribe"])}
    delivered = [
        fact
        for fact in world.simulator.ledger(kinds=["delivered"])
        if fact.stored_id and "-r1@" in fact.recipient and fact.recipient not in left
    ]
    plain = [fact for fact in delivered if not re.match(r"complaint|latebounce", fact.recipient)]
    return [world.simulator.message(int(fact.stored_id or 0)) for fact in plain[:count]]


def header(mail: StoredMessage, name: str) -> str:
    return next(value for key, value in mail.headers if key.lower() == name)


def status_on_list(alice: Visitor, address: str) -> str:
    """Return how the address stands on the list, as Alice sees it."""
    alice.open(f"/audience/?q={address}")
    alice.page.get_by_role("link", name=address).click()
    section = alice.page.get_by_role("heading", name="Subscriptions")
    card = section.locator("xpath=ancestor::section")
    return str(card.locator("[data-status]").first.get_attribute("data-status"))


def test_a_reader_leaves_by_the_page_that_the_mail_links_to(
    alice: Visitor, browser: Browser, world: World, rehearsed: dict[str, Any]
) -> None:
    mail = some_mails(world, 1)[0]
    recipient = mail.summary.recipient
    link = world.here(world.link_in(mail, "/t/u/"))
    with visitor(browser, world) as reader:
        reader.open(link)
        assert reader.heading() == "Unsubscribe"
        assert status_on_list(alice, recipient) == "subscribed", "looking changes nothing"
        reader.press("Unsubscribe from this list")
        expect(reader.page.get_by_role("heading", name="You are unsubscribed")).to_be_visible()
    assert status_on_list(alice, recipient) == "unsubscribed"


def test_one_click_in_the_mail_program_is_enough(
    alice: Visitor, world: World, rehearsed: dict[str, Any]
) -> None:
    mail = some_mails(world, 2)[1]
    assert header(mail, "list-unsubscribe-post") == "List-Unsubscribe=One-Click"
    found = re.search(r"<(https?://[^>]+)>", header(mail, "list-unsubscribe"))
    assert found, "RFC 8058 wants an address for the POST"
    request = urllib.request.Request(
        world.here(found.group(1)), data=b"List-Unsubscribe=One-Click", method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    assert status_on_list(alice, mail.summary.recipient) == "unsubscribed"


def test_who_signs_up_is_subscribed_only_after_the_link_in_the_mail(
    alice: Visitor, browser: Browser, world: World
) -> None:
    page, address = alice.page, "emil@plainmail.test"
    alice.open("/audience/lists/add")
    page.get_by_label("Name").fill("Garden letter")
    page.get_by_label(re.compile("Double opt-in")).check()
    alice.press("Save")
    alice.open("/audience/forms/add")
    page.get_by_label("Title").fill("Get the garden letter")
    page.get_by_label("List").select_option("Garden letter")
    page.get_by_label("Confirmation mail comes from").select_option(index=1)
    page.get_by_label("What people agree to").fill("I want the garden letter once a month.")
    alice.press("Save")
    card = page.get_by_role("heading", name="Get the garden letter").locator(
        "xpath=ancestor::section"
    )
    form = str(card.get_by_role("link", name="Open").get_attribute("href"))
    with visitor(browser, world) as emil:
        emil.open(form)
        emil.page.get_by_label("E-mail address").fill(address)
        emil.press("Sign up")
        expect(emil.page.get_by_text("Tick the box to agree.")).to_be_visible()
        assert emil.page.get_by_label("E-mail address").input_value() == address
        emil.page.get_by_label("I want the garden letter").check()
        emil.press("Sign up")
        expect(emil.page.get_by_role("heading", name="Check your inbox")).to_be_visible()
        link = world.link_in(world.mail_to(address, subject=""), "/f/confirm/")
        assert status_on_list(alice, address) == "unconfirmed"
        emil.open(world.here(link))
        emil.press("Yes, subscribe me")
        expect(emil.page.get_by_role("heading", name="You are subscribed")).to_be_visible()
    assert status_on_list(alice, address) == "subscribed"
