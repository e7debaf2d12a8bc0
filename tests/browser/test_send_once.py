"""An impatient person: pressing Send twice sends once."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.visitor import Visitor
from tests.browser.world import World

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_a_double_click_on_send_has_one_effect(
    alice: Visitor, world: World, rehearsed: dict[str, Any]
) -> None:
    page = alice.page
    alice.open("/campaigns/")
    page.get_by_role("link", name=re.compile("Spring letter")).first.click()
    alice.press("Duplicate")
    page.get_by_role("link", name="Review and send").first.click()
    send = page.get_by_role("button", name="Send now").first
    expect(send).to_be_enabled(timeout=30_000)
    after = max(fact.id for fact in world.simulator.ledger())
    address, token = page.url, page.locator("[name=csrfmiddlewaretoken]").last.input_value()
    version = page.locator("#findings [name=version]").first.input_value()
    send.click()
    page.get_by_role("dialog").get_by_role("button", name="Send now").dblclick(no_wait_after=True)
    page.wait_for_url(re.compile(r"/campaigns/cmp_\w+/$"))
    # And once more by a second tab that still shows the review.
    again = page.request.post(
        address.replace("/review/", "/send/"),
        form={"csrfmiddlewaretoken": token, "version": version},
        headers={"Referer": address},
    )
    assert again.status < 500
    expect(page.locator("#live [data-status=sent]")).to_be_visible(timeout=60_000)
    facts = [fact for fact in world.simulator.ledger(after_id=after) if "-r1@" in fact.recipient]
    copies = Counter(fact.recipient for fact in facts if fact.kind == "delivered")
    assert copies
    assert set(copies.values()) == {1}, "nobody got it twice"
    assert world.simulator.summary().duplicates == 0
