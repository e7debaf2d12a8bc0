"""The pictures of the README, taken from a running demo: `make demo`, then `make screenshots`.

Run as `python -m tests.browser.screenshots [address of the site]`; they land in docs/images.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from playwright.sync_api import Browser, Page, sync_playwright

from esp.stack.assets import ROOT
from esp.stack.chromium import find_chromium
from tests.browser.world import ALICE, PASSWORD

FOLDER = ROOT / "docs" / "images"
LARGEST = 300_000  # bytes: a README must open quickly
WIDE, PHONE = {"width": 1440, "height": 960}, {"width": 390, "height": 844}


def follow(page: Page, site: str, listing: str, pattern: str) -> None:
    """Open the first link of a page that matches."""
    page.goto(site + listing)
    links = page.eval_on_selector_all("main a[href]", "all => all.map((one) => one.href)")
    page.goto(next(link for link in links if re.search(pattern, link)))


def first(listing: str, pattern: str) -> Callable[[Page, str], None]:
    return lambda page, site: follow(page, site, listing, pattern)


def editor(page: Page, site: str) -> None:
    """Show a copy of the latest campaign in the editor."""
    follow(page, site, "/campaigns/?show=sent", r"/cmp_")
    page.get_by_role("button", name="Duplicate").click()
    page.wait_for_url(re.compile("/edit/"))
    page.get_by_label("More").click()
    page.get_by_role("button", name="Rename").click()
    page.locator("#rename-dialog [name=name]").fill("November letter")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    page.locator("#campaign-title").get_by_text("November letter").wait_for()
    page.get_by_text("people get").wait_for()


def review(page: Page, site: str) -> None:
    """Go on from the editor."""
    page.get_by_role("link", name="Review and send").first.click()
    page.get_by_role("button", name="Send now").first.wait_for()
    page.wait_for_timeout(2000)


def live(page: Page, site: str) -> None:
    """Go on from the review: send, and catch it in the middle."""
    page.get_by_role("button", name="Send now").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Send now").click()
    page.wait_for_url(re.compile(r"/cmp_\w+/$"))
    page.wait_for_timeout(4500)


def rehearsed_mail(page: Page, site: str) -> None:
    follow(page, site, "/rehearsal/?q=-r1@", "-r1@")
    page.locator("main table a").first.click()
    page.get_by_text("As people see it").scroll_into_view_if_needed()


PICTURES: dict[str, Callable[[Page, str], None]] = {
    "dashboard": lambda page, site: page.goto(site + "/") and None,
    "report": first("/reports/", r"/reports/cmp_"),
    "domain": first("/deliverability/domains/", r"/dom_"),
    "mailbox": rehearsed_mail,
    "api": lambda page, site: page.goto(site + "/developers/api/") and None,
    "editor": editor,
    "review": review,
    "live": live,
}


def signed_in(browser: Browser, site: str) -> Page:
    """Return a page in which Alice has signed in."""
    page = browser.new_context(viewport=WIDE).new_page()
    page.goto(f"{site}/sign-in")
    page.get_by_label("Email address").fill(ALICE)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{site}/")
    return page


def take(page: Page, site: str, name: str, *, suffix: str = "") -> None:
    """Take one picture. Raises AssertionError when it is too large."""
    PICTURES[name](page, site)
    page.locator("[data-toast-close]").evaluate_all("all => all.forEach((one) => one.click())")
    page.wait_for_timeout(1500)
    path = FOLDER / f"{name}{suffix}.png"
    path.write_bytes(page.screenshot())
    assert path.stat().st_size < LARGEST, f"{path} is too large"


def main(site: str) -> None:
    """Take all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox"], timeout=30_000
        )
        page = signed_in(browser, site)
        page.emulate_media(color_scheme="dark")
        take(page, site, "report", suffix="-dark")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(PHONE)
        take(page, site, "report", suffix="-mobile")
        page.set_viewport_size(WIDE)
        for name in PICTURES:
            take(page, site, name)
        browser.close()
    print(f"{len(list(FOLDER.glob('*.png')))} pictures are in {FOLDER}.")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
