"""Mail of the product itself, from the page that asks for it to the page that its link opens."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.visitor import Visitor, visitor
from tests.browser.world import BOB, PASSWORD, World

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

NEW_PASSWORD = "eleven calm herons"


def test_a_forgotten_password_is_replaced_by_a_link_in_a_mail(
    stranger: Visitor, world: World
) -> None:
    page = stranger.page
    stranger.open("/sign-in")
    stranger.press("Forgot your password?")
    page.get_by_label("Email address").fill(BOB)
    stranger.press("Send the link")
    expect(page.get_by_role("heading", name="Check your mail")).to_be_visible()
    mail = world.mail_to(BOB, subject="password")
    assert mail.summary.authentication
    assert mail.summary.authentication["dmarc"] == "pass"
    link = world.link_in(mail, "/password-reset/")
    change_password(stranger, link, NEW_PASSWORD)
    stranger.sign_in(BOB, NEW_PASSWORD)
    assert stranger.open(link).status < 500
    expect(page.get_by_role("heading", name="This link no longer works")).to_be_visible()
    back_to_the_first(stranger)


def change_password(stranger: Visitor, link: str, password: str) -> None:
    stranger.open(link)
    stranger.page.get_by_label("New password").fill(password)
    stranger.page.get_by_label("The same once more").fill(password)
    stranger.press("Save the new password")
    expect(stranger.page.get_by_role("heading", name="Your password is changed")).to_be_visible()


def back_to_the_first(bob: Visitor) -> None:
    """Give Bob his old password back by the profile, for the tests that come after."""
    bob.open("/profile/")
    bob.page.get_by_label("Present password").fill(NEW_PASSWORD)
    bob.page.get_by_label("New password", exact=True).fill(PASSWORD)
    bob.page.get_by_label("The new password once more").fill(PASSWORD)
    bob.press("Change the password")
    bob.page.wait_for_load_state()
    bob.open("/")
    assert bob.heading() == "Hello, Bob"


def test_an_invited_person_joins_by_the_link_in_the_mail(
    alice: Visitor, browser: Browser, world: World
) -> None:
    page = alice.page
    alice.open("/settings/members/")
    page.get_by_label("Email address").fill("dora@plainmail.test")
    page.get_by_label("Role", exact=True).select_option("marketer")
    alice.press("Send the invitation")
    expect(page.get_by_role("region", name="Open invitations")).to_contain_text("dora@")
    link = world.link_in(world.mail_to("dora@plainmail.test", subject="Acme"), "/invitations/")
    with visitor(browser, world) as dora:
        dora.open(link)
        assert dora.heading() == "Join Acme"
        dora.page.get_by_label("Name").fill("Dora Dean")
        dora.page.get_by_label("Choose a password").fill(NEW_PASSWORD)
        dora.press("Join")
        expect(dora.page.get_by_role("heading", level=1)).to_have_text("Hello, Dora")
        dora.open("/campaigns/")
        assert dora.heading() == "Campaigns"
        assert dora.open("/settings/members/").status in {200, 403}
    alice.open("/settings/members/")
    expect(page.get_by_role("region", name="Members")).to_contain_text("Dora Dean")
