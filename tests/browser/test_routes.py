"""An operator sets up ways out in a real browser; a message says by which one it left."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from playwright.sync_api import Browser, expect

from tests.browser.test_pages import wrong_with
from tests.browser.visitor import Visitor, visitor
from tests.browser.world import ALICE, OLGA, World

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# A process keeps what it knows of routes for 15 seconds (docs/rooms/routes.md).
_KEPT_MS = 16_000


class Smarthost:
    """A server that takes all mail; `taken` has who it was for."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.taken += envelope.rcpt_tos
        return "250 2.0.0 Taken by the smarthost"


@contextmanager
def smarthost() -> Iterator[tuple[Smarthost, int]]:
    """A smarthost on loopback, and its port."""
    handler, port = Smarthost(), closed_port()
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield handler, port
    finally:
        controller.stop()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def looked_at(person: Visitor, name: str) -> list[str]:
    """Look at the page that is open, on a phone by night and at a desk; return what is wrong."""
    person.look_by("dark", width=390)
    wrong = wrong_with(person, f"{name} at 390 in the dark")
    person.look_by("light", width=1440)
    return wrong + wrong_with(person, f"{name} at 1440")


def out_of_line(person: Visitor) -> list[str]:
    """Return which fields of the set's table do not begin and end where the first one does."""
    fields = person.page.locator("table input[type=number]")
    boxes = [fields.nth(number).bounding_box() for number in range(fields.count())]
    edges = [(round(box["x"]), round(box["width"])) for box in boxes if box is not None]
    assert edges
    return [f"{edge} beside {edges[0]}" for edge in edges if edge != edges[0]]


def choose_default(person: Visitor, stream: str, route_set: str) -> None:
    """Make a set the default of a stream; "" for none."""
    page = person.page
    person.open("/operator/routes/sets/")
    form = page.locator("form", has=page.locator(f'input[value="{stream}"]'))
    form.get_by_role("combobox").select_option(label=route_set or "None")
    form.get_by_role("button").click()
    expect(page.get_by_text("The default is saved.")).to_be_visible()


def test_an_operator_sets_up_routes_tries_them_and_shares_mail_among_them(
    browser: Browser, world: World
) -> None:
    with visitor(browser, world, color_scheme="light") as person:
        person.sign_in(OLGA)
        wrong = add_a_smarthost_that_fails(person) + add_a_provider(person)
        wrong += share_by_weight(person)
    assert not wrong, "\n".join(wrong)


def add_a_smarthost_that_fails(person: Visitor) -> list[str]:
    page, wrong = person.page, list[str]()
    person.open("/operator/routes/")
    wrong += looked_at(person, "routes")
    person.press("Add a route")
    wrong += looked_at(person, "choice")
    person.press("Add a smarthost")
    page.get_by_label("Name", exact=True).fill("Closed relay")
    page.get_by_label("Host").fill("127.0.0.1")
    page.get_by_label("Port").fill(str(closed_port()))
    page.get_by_label("Log-in").select_option("plain")
    page.get_by_label("User name").fill("acme")
    person.press("Add the route")
    expect(page.get_by_text("Give the password, API key or token.")).to_be_visible()
    secret = page.get_by_label("Password, API key or bearer token")
    expect(secret).to_be_focused()
    wrong += looked_at(person, "smarthost refused")
    page.get_by_label("It is in our own network").check()
    secret.fill("hunter22-wrong")
    person.press("Add the route")
    expect(page.get_by_text("The route Closed relay is added.")).to_be_visible()
    person.press("Test now")
    expect(page.get_by_text("The route cannot be used now.")).to_be_visible()
    expect(page.locator("#test-result").get_by_text("refused")).to_be_visible()
    expect(page.locator("#route-health").get_by_text("in a row")).to_be_visible()
    assert "hunter22" not in page.content()
    return wrong + looked_at(person, "smarthost tested")


def add_a_provider(person: Visitor) -> list[str]:
    page, wrong = person.page, list[str]()
    person.open("/operator/routes/new/sendgrid")
    page.get_by_label("Name", exact=True).fill("SendGrid")
    page.get_by_label("API key").fill("SG.very-secret")
    # Its check then asks nobody outside.
    page.get_by_role("textbox", name="Base URL").fill(f"http://127.0.0.1:{closed_port()}/v3/")
    page.get_by_label("It is in our own network").check()
    wrong += looked_at(person, "new provider")
    person.press("Add the route")
    expect(page.get_by_text("The route SendGrid is added.")).to_be_visible()
    expect(page.get_by_text("none yet")).to_be_visible()
    wrong += looked_at(person, "provider")
    person.press("How to set it up, and keys")
    address = page.locator("code", has_text="/hooks/").inner_text()
    page.get_by_label("Verification key").fill("no key at all")
    person.press("Save")
    expect(page.get_by_text("This is no verification key.")).to_be_visible()
    wrong += looked_at(person, "webhook")
    answer = page.request.post(address, data="[]")
    assert answer.status == 200, answer.text()
    assert page.request.post(f"{address}x", data="[]").status == 404
    person.open("/operator/routes/")
    person.press("SendGrid")
    expect(page.get_by_text("none yet")).to_have_count(0)
    return wrong


def share_by_weight(person: Visitor) -> list[str]:
    page, wrong = person.page, list[str]()
    person.open("/operator/routes/sets/new")
    page.get_by_label("Name", exact=True).fill("Campaigns")
    page.get_by_label("Strategy").select_option("weighted")
    for route in ("Closed relay", "SendGrid"):
        page.get_by_label(route, exact=True).check()
        page.get_by_label(f"Weight of {route}").fill("0")
    person.press("Create the set")
    expect(page.get_by_text("At least one route needs a weight above 0.")).to_be_visible()
    page.get_by_label("Weight of SendGrid").fill("-1")
    person.press("Create the set")
    expect(page.get_by_text("A number from 0 to 1000.")).to_be_visible()
    wrong += looked_at(person, "set refused")
    page.get_by_label("Weight of SendGrid").fill("3")
    page.set_viewport_size({"width": 390, "height": 844})
    wrong += [f"the set's fields at 390: {one}" for one in out_of_line(person)]
    page.set_viewport_size({"width": 1440, "height": 900})
    person.press("Create the set")
    expect(page.get_by_text("The set is made.")).to_be_visible()
    return wrong + looked_at(person, "sets")


def test_a_message_says_by_which_route_it_left(browser: Browser, world: World) -> None:
    recipient = "receipt@plainmail.test"
    with (
        smarthost() as (relay, port),
        visitor(browser, world, color_scheme="light") as olga,
        visitor(browser, world, color_scheme="light") as alice,
    ):
        olga.sign_in(OLGA)
        route_by(olga, port)
        choose_default(olga, "transactional", "Receipts")
        try:
            olga.page.wait_for_timeout(_KEPT_MS)
            alice.sign_in(ALICE)
            send_one(alice, recipient)
            alice.open(f"/developers/messages/?recipient={recipient}")
            alice.page.get_by_role("table").get_by_role("link", name=recipient).first.click()
            page = alice.page
            expect(page.locator("#state [data-status=delivered]")).to_be_visible(timeout=30_000)
            page.get_by_text("Attempt 1: how it went").click()
            facts = page.locator("#attempt-1")
            expect(facts.get_by_role("definition").filter(has_text="House relay")).to_be_visible()
            expect(page.get_by_text("Taken by the smarthost").first).to_be_visible()
            wrong = looked_at(alice, "message")
        finally:
            choose_default(olga, "transactional", "")
    assert relay.taken == [recipient]
    assert not world.simulator.messages(recipient), "it did not leave directly as well"
    assert not wrong, "\n".join(wrong)


def route_by(olga: Visitor, port: int) -> None:
    """Add a smarthost at `port`, find it working, and put it into a set of its own."""
    page = olga.page
    olga.open("/operator/routes/new/smarthost")
    page.get_by_label("Name", exact=True).fill("House relay")
    page.get_by_label("Host").fill("127.0.0.1")
    page.get_by_label("Port").fill(str(port))
    page.get_by_label("Encryption").select_option("never")
    page.get_by_label("It is in our own network").check()
    olga.press("Add the route")
    olga.press("Test now")
    expect(page.get_by_text("The route works.")).to_be_visible()
    olga.open("/operator/routes/sets/new")
    page.get_by_label("Name", exact=True).fill("Receipts")
    page.get_by_label("House relay", exact=True).check()
    olga.press("Create the set")
    expect(page.get_by_text("The set is made.")).to_be_visible()


def send_one(alice: Visitor, recipient: str) -> None:
    """Make a key on its page and send one message by the API."""
    page = alice.page
    alice.open("/developers/keys/")
    alice.press("Create a key")
    page.get_by_label("Name").fill("Shop")
    page.get_by_label("messages:send").check()
    alice.press("Create the key")
    key = page.locator("code", has_text="mw_").first.inner_text()
    message: dict[str, Any] = {
        "from": {"email": "news@acme.example"},
        "to": [{"email": recipient}],
        "subject": "Your receipt",
        "text": "Thank you.",
    }
    answer = page.request.post(
        f"{alice.site}/api/v1/messages", data=message, headers={"Authorization": f"Bearer {key}"}
    )
    assert answer.status == 202, answer.text()
