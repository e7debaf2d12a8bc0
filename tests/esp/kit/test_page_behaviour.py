"""What the shared script does, in a real browser: the frame of a page, served from memory.

Nothing is fetched from a network: the pages and static files are handed to Chromium by the test,
under the same content security policy as in production.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from typing import Any

import pytest
from csp.constants import NONCE
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.contrib.staticfiles import finders
from django.template import Context, Template
from django.test import RequestFactory
from playwright.sync_api import Browser, Page, Route, sync_playwright

pytestmark = [pytest.mark.browser, pytest.mark.urls("tests.esp.kit.nav_urls")]

_POLICY = "; ".join(
    f"{name} {' '.join(source for source in sources if source != NONCE)}"
    for name, sources in settings.CONTENT_SECURITY_POLICY["DIRECTIVES"].items()
)
_PAGE = """{% extends "base.html" %}
{% block title %}Workshop{% endblock %}
{% block heading %}Workshop{% endblock %}
{% block content %}
  <form method="post" action="/gone" data-confirm="Remove it?" data-confirm-danger>
    <button id="remove">Remove</button>
  </form>
  <input type="search" id="find" aria-label="Find">
  <c-copy value="v=DKIM1; p=abc" />
  <time id="when" datetime="2020-01-02T03:04:05+00:00">2 Jan 2020, 03:04 UTC</time>
  <button id="poke" hx-get="/broken" hx-target="#out">Poke</button><div id="out">kept</div>
{% endblock %}"""


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium_path, args=["--no-sandbox"], timeout=20_000
        )
        yield started
        started.close()


@pytest.fixture
def text() -> str:
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    request.actor = None  # type: ignore[attr-defined]
    from_cotton = Template(_PAGE.replace('<c-copy value="v=DKIM1; p=abc" />', _COPY))
    return from_cotton.render(Context({"request": request, "csrf_token": "t"}))


_COPY = '{% cotton copy value="v=DKIM1; p=abc" / %}'


def opened(browser: Browser, text: str, **options: Any) -> Page:
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(5_000)
    page.route("**/*", lambda route: answer(route, text))
    page.goto("http://workshop.test/")
    return page


def answer(route: Route, text: str) -> None:
    path = route.request.url.removeprefix("http://workshop.test")
    if path == "/":
        headers = {"Content-Security-Policy": _POLICY}
        route.fulfill(body=text, content_type="text/html", headers=headers)
    elif path.startswith("/static/"):
        found = finders.find(path.removeprefix("/static/").partition("?")[0])
        kind = mimetypes.guess_type(path)[0]
        route.fulfill(path=str(found), content_type=kind) if found else route.fulfill(status=404)
    elif path == "/gone":
        route.fulfill(body="<title>Gone</title>", content_type="text/html")
    else:
        route.fulfill(status=500, body="<h1>Traceback</h1>", content_type="text/html")


def test_the_theme_follows_the_system_and_a_choice_outlives_the_page(
    browser: Browser, text: str
) -> None:
    page = opened(browser, text, color_scheme="light")
    page.get_by_role("button", name="Change to the dark theme").click()
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "mailwright-dark"
    assert page.get_by_role("button", name="Change to the light theme").is_visible()


def test_a_dangerous_form_is_sent_only_after_agreement(browser: Browser, text: str) -> None:
    page = opened(browser, text)
    page.click("#remove")
    page.get_by_role("button", name="Cancel").click()
    assert page.title().startswith("Workshop")
    page.click("#remove")
    assert page.get_by_role("dialog").get_by_text("Remove it?").is_visible()
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/gone")


def test_a_broken_answer_is_said_and_does_not_replace_what_is_there(
    browser: Browser, text: str
) -> None:
    page = opened(browser, text)
    page.click("#poke")
    page.get_by_role("alert").get_by_text("Something broke on our side").wait_for()
    assert page.inner_text("#out") == "kept"


def test_a_slash_leads_to_the_search(browser: Browser, text: str) -> None:
    page = opened(browser, text)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"


def test_the_menu_of_a_phone_opens_and_closes_by_keyboard(browser: Browser, text: str) -> None:
    page = opened(browser, text, viewport={"width": 390, "height": 800})
    menu = page.locator("#sidebar")
    assert not menu.is_visible()
    page.get_by_role("button", name="Open the menu").press("Enter")
    menu.wait_for(state="visible")
    page.keyboard.press("Escape")
    menu.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.hasAttribute('data-sidebar-open')")


def test_copying_puts_the_whole_value_on_the_clipboard(browser: Browser, text: str) -> None:
    page = opened(browser, text)
    page.evaluate(
        "document.addEventListener('copy', () => (window.copied = String(getSelection())))"
    )
    page.locator("[data-copy]").click()
    page.locator("[data-copy-done]").wait_for(state="visible")
    assert page.evaluate("window.copied") == "v=DKIM1; p=abc"


def test_times_are_shown_in_the_readers_zone(browser: Browser, text: str) -> None:
    page = opened(browser, text, timezone_id="Asia/Tokyo", locale="en-GB")
    page.locator("#when", has_text="12:04").wait_for()


def test_the_page_breaks_no_rule_of_its_content_policy(browser: Browser, text: str) -> None:
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.route("**/*", lambda route: answer(route, text))
    page.goto("http://workshop.test/")
    page.wait_for_load_state("networkidle")
    assert complaints == []
