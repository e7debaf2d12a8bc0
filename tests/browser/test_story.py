"""The whole story of the product, as a person lives it: from signing in to reading the report."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.visitor import Visitor
from tests.browser.world import World

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

READERS = [f"reader{number}@plainmail.test" for number in range(1, 9)]
READERS += [f"reader{number}@bigmail.test" for number in range(1, 7)]
READERS += ["reader1@strictmail.test", "reader2@strictmail.test", "reader1@greymail.test"]
REFUSED = ["bounce-7@plainmail.test", "bounce-8@bigmail.test"]
BODY = """<mjml><mj-body><mj-section><mj-column>
<mj-text>Dear {{ contact.first_name | default: 'friend' }}, the rockets are here.</mj-text>
<mj-button href="https://globex.example/rockets">See the rockets</mj-button>
</mj-column></mj-section></mj-body></mjml>"""


def csv_file() -> bytes:
    lines = ["Email,First name,City"]
    lines += [f"{address},Ruth,Oslo" for address in (*READERS, *REFUSED)]
    lines += [f"{READERS[0].upper()},Again,Oslo", "nobody at nowhere,Norm,Rome"]
    return "\n".join(lines).encode()


def test_a_campaign_goes_from_signing_in_to_its_report(charlie: Visitor, world: World) -> None:
    page = charlie.page
    expect(page.get_by_role("heading", name="Get ready to send")).to_be_visible()
    give_the_postal_address(charlie)
    add_and_verify_a_domain(charlie)
    add_a_sender(charlie)
    import_the_contacts(charlie)
    write_the_campaign(charlie)
    review_it(charlie)
    send_and_watch(charlie)
    read_the_report(charlie, world)
    read_the_mail(charlie, world)


def give_the_postal_address(charlie: Visitor) -> None:
    charlie.open("/settings/")
    charlie.page.get_by_label("Postal address").fill("Globex Inc, 2 Orbit Way, Springfield")
    charlie.press("Save")
    expect(charlie.page.get_by_label("Postal address")).to_have_value(re.compile("Orbit Way"))


def add_and_verify_a_domain(charlie: Visitor) -> None:
    page = charlie.page
    charlie.open("/deliverability/domains/")
    charlie.press("Add domain")
    page.get_by_label("Domain").fill("globex.example")
    charlie.press("Add domain")
    for kind in ("DKIM", "DMARC"):
        expect(page.get_by_role("heading", name=re.compile(kind)).first).to_be_visible()
    charlie.press("Check records")
    expect(page.get_by_text("Missing").first).to_be_visible()
    charlie.press("Publish in the simulated DNS")
    charlie.press("Check records")
    expect(page.get_by_text("globex.example may send")).to_be_visible()


def add_a_sender(charlie: Visitor) -> None:
    page = charlie.page
    charlie.open("/deliverability/senders/")
    charlie.press("Add sender")
    page.get_by_label("From name").fill("Globex Rockets")
    page.get_by_label("From address").fill("rockets@globex.example")
    charlie.press("Add sender")
    expect(page.get_by_text("rockets@globex.example").first).to_be_visible()


def import_the_contacts(charlie: Visitor) -> None:
    page = charlie.page
    charlie.open("/audience/lists/")
    charlie.press("New list")
    page.get_by_label("Name").fill("Rocket friends")
    charlie.press("Save")
    charlie.open("/audience/imports/")
    charlie.press("Import CSV")
    file = {"name": "friends.csv", "mimeType": "text/csv", "buffer": csv_file()}
    page.get_by_label("CSV file").set_input_files(file)
    charlie.press("Upload")
    expect(page.get_by_label("Column 1, Email")).to_have_value("email")
    page.get_by_label("Column 2, First name").select_option("first_name")
    page.get_by_label("Column 3, City").select_option("new:text")
    page.get_by_label("Subscribe them to").select_option("Rocket friends")
    page.get_by_label("How they agreed to get mail").fill("Signed up at the launch pad.")
    charlie.press("Check the file")
    expect(page.get_by_role("heading", name="This is what the import will do")).to_be_visible()
    people = len(READERS) + len(REFUSED)
    assert stat(page, "New contacts") == people
    assert stat(page, "Cannot be imported") == 2
    with page.expect_download() as bad_rows:
        charlie.press("Download bad rows with reasons")
    assert "nobody at nowhere" in bad_rows.value.path().read_text()
    charlie.press(f"Import {people} contacts")
    expect(page.get_by_role("heading", name="Imported", exact=True)).to_be_visible()
    charlie.press("Show contacts")
    expect(page.get_by_text(READERS[0])).to_be_visible()


def write_the_campaign(charlie: Visitor) -> None:
    page = charlie.page
    charlie.open("/campaigns/")
    charlie.press("Create campaign")
    page.get_by_label("Name").fill("Rocket news")
    charlie.press("Create campaign")
    page.locator("#card-to").get_by_label("Rocket friends").first.check()
    page.locator("#card-from").get_by_label("Sender").select_option(index=1)
    page.get_by_role("textbox", name="Subject").fill("The rockets are here")
    page.get_by_role("textbox", name="Preview text").fill("And they fly")
    page.locator("#card-content").get_by_label("MJML").check()
    page.get_by_role("textbox", name="Body").fill(BODY)
    expect(page.locator("#rail-checklist")).not_to_contain_text("(to do)")
    expect(page.locator("[data-autosave-state]")).to_have_text("Saved")
    page.reload()  # what was written is kept, without any button for it
    expect(page.get_by_role("textbox", name="Subject")).to_have_value("The rockets are here")
    expect(page.get_by_role("textbox", name="Body")).to_have_value(BODY)
    preview = page.frame_locator("[data-preview-frame]")
    expect(preview.get_by_text("the rockets are here")).to_be_visible()


def review_it(charlie: Visitor) -> None:
    page = charlie.page
    page.get_by_role("link", name="Review and send").first.click()
    expect(page.get_by_role("heading", name="Review and send")).to_be_visible()
    people = len(READERS) + len(REFUSED)
    funnel = page.get_by_role("heading", name="Who gets it").locator("xpath=ancestor::section")
    expect(funnel.get_by_role("row").last).to_contain_text(str(people))
    expect(page.get_by_role("button", name="Send now").first).to_be_enabled()
    expect(page.get_by_text("Forbids sending:")).to_have_count(0)


def send_and_watch(charlie: Visitor) -> None:
    page = charlie.page
    page.get_by_role("button", name="Send now").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Send now").click()
    page.wait_for_url(re.compile(r"/campaigns/cmp_\w+/$"))
    page.evaluate("window.untouched = true")
    live = page.locator("#live")
    expect(live.locator("[data-status=sent]")).to_be_visible(timeout=60_000)
    assert page.evaluate("window.untouched"), "the page updated itself, nobody reloaded it"
    assert stat(page, "Delivered") == len(READERS)
    assert stat(page, "Bounced") == len(REFUSED)


def read_the_report(charlie: Visitor, world: World) -> None:
    page = charlie.page
    everyone = {*READERS, *REFUSED}
    facts = [fact for fact in world.simulator.ledger() if fact.recipient in everyone]
    held = {fact.recipient for fact in facts if fact.kind == "delivered"}
    refused = {fact.recipient for fact in facts if fact.kind == "refused"}
    charlie.press("See the report")
    world.until("readers have read", lambda: not world.simulator.summary().pending_reactions)
    opened = {fact.recipient for fact in world.simulator.ledger(kinds=["open"])} & everyone
    clicks = [fact for fact in world.simulator.ledger(kinds=["click"]) if "/t/c/" in fact.text]
    clicked = {fact.recipient for fact in clicks} & everyone

    assert opened, "some readers open"
    page.reload()
    assert stat(page, "Opened") == len(opened)
    assert stat(page, "Clicked") == len(clicked)
    assert stat(page, "Recipients") == len(everyone)
    assert stat(page, "Delivered") == len(held) == len(READERS)
    assert stat(page, "Bounced") == len(refused) == len(REFUSED)
    with page.expect_download() as export:
        charlie.press("Export CSV")
    lines = export.value.path().read_text().splitlines()
    assert len(lines) == 1 + len(everyone)


def read_the_mail(charlie: Visitor, world: World) -> None:
    page = charlie.page
    charlie.open("/rehearsal/")
    page.get_by_label("Part of the address").fill(READERS[-3])
    charlie.press("Search")
    page.get_by_role("link", name=READERS[-3]).click()
    page.get_by_role("link", name="The rockets are here").click()
    expect(page.get_by_text("DMARC pass").first).to_be_visible()
    mail = page.frame_locator("iframe[title='The message']")
    expect(mail.get_by_text("Dear Ruth, the rockets are here.")).to_be_visible()


def stat(page: Page, label: str) -> int:
    """Return the number of a tile."""
    tile = page.locator("dl", has=page.get_by_text(label, exact=True))
    return int(tile.locator(".stat-number").first.inner_text().replace(",", ""))
