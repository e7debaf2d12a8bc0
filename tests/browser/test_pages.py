"""Every main page with data in it: no dead link, nothing the browser complains of, accessible."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urldefrag, urlparse

import pytest
from playwright.sync_api import Browser

from esp.stack.assets import ROOT
from tests.browser.visitor import Visitor, visitor
from tests.browser.world import ALICE, OLGA, World

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

START = ["/", "/audience/", "/deliverability/domains/", "/developers/messages/", "/settings/"]
# One page of each kind is enough: contacts, messages, mailboxes, providers look alike among each.
KIND = re.compile(r"(?<=_)[0-9a-z]{26}|[^/]+@[^/]+|(?<=/mail/)\d+|(?<=/routes/new/)[a-z_]+")
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Only what is read is worked out: no selectors, and no lists of the nodes that are right.
_AXE_RUN = """(rules) => axe.run(document, {
  iframes: false,
  selectors: false,
  resultTypes: ["violations"],
  runOnly: rules,
}).then((found) => found.violations
  .filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => one.id + ": " + one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)
    + " | " + (node.any[0]?.message ?? "")).join(" … ")))"""


def links_of(person: Visitor) -> list[str]:
    """Return the paths of this site that the page links to."""
    found = person.page.eval_on_selector_all("a[href]", "all => all.map((one) => one.href)")
    ours = [urldefrag(link).url for link in found if link.startswith(person.site)]
    return [link.removeprefix(person.site) or "/" for link in ours]


def kind_of(path: str) -> str:
    return KIND.sub("*", urlparse(path).path)


def is_file(path: str) -> bool:
    return path.endswith(".csv") or path.startswith(("/api/", "/t/", "/f/"))


def crawled(
    person: Visitor, start: Sequence[str] = START, *, within: str = "/"
) -> tuple[dict[str, str], list[str]]:
    """Walk from page to page, one of each kind; return their paths and what is wrong with them."""
    waiting, seen, pages, wrong = list(start), set[str](), dict[str, str](), list[str]()
    while waiting:
        path = waiting.pop(0)
        if path in seen or kind_of(path) in pages or not path.startswith(within):
            continue
        seen.add(path)
        if is_file(path):
            assert person.page.request.get(f"{person.site}{path}").status < 400, path
            continue
        person.page.set_viewport_size({"width": 1440, "height": 900})
        answer = person.open(path)
        assert answer.status < 400, f"{path}: {answer.status}"
        pages[kind_of(path)] = path
        waiting += links_of(person)
        wrong += wrong_with(person, f"{path} at 1440")
        person.look_by("dark")
        wrong += [f"{path} in the dark: {one}" for one in violations(person, "wcag2aa")]
        person.look_by("light", width=390)
        wrong += wrong_with(person, f"{path} at 390")
    return pages, wrong


def wrong_with(person: Visitor, path: str) -> list[str]:
    """Return what is wrong with the page that is open."""
    page, wrong = person.page, []
    if not re.match(r"\S.* · \S+", page.title()):
        wrong.append(f"{path}: its title is “{page.title()}”")
    headings = page.locator("h1").count()
    if headings != 1:
        wrong.append(f"{path}: {headings} first headings")
    too_wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    if too_wide > 0:
        wrong.append(f"{path}: {too_wide} px too wide")
    return wrong + [f"{path}: {one}" for one in violations(person, *_RULES)]


def violations(person: Visitor, *rules: str) -> list[str]:
    """Return what axe finds serious or critical on the page that is open."""
    # By the browser's own hand: the page's policy lets no foreign script in.
    if person.page.evaluate("typeof axe") == "undefined":
        person.page.evaluate(AXE.read_text())
    found: list[str] = person.page.evaluate(_AXE_RUN, list(rules))
    return found


def test_every_page_is_whole_and_usable_by_everyone(
    browser: Browser, world: World, rehearsed: dict[str, Any]
) -> None:
    with visitor(browser, world, color_scheme="light") as alice:
        alice.sign_in(ALICE)
        pages, wrong = crawled(alice)
    assert not wrong, "\n".join(wrong)
    assert len(pages) > 25, pages


def test_every_operators_page_is_whole_and_usable_by_everyone(
    browser: Browser, world: World, rehearsed: dict[str, Any]
) -> None:
    with visitor(browser, world, color_scheme="light") as olga:
        olga.sign_in(OLGA)
        pages, wrong = crawled(olga, ["/operator/"], within="/operator/")
    assert not wrong, "\n".join(wrong)
    for part in (
        "lanes/lane_*",
        "limits",
        "holds",
        "ips/ip_*",
        "ips/nodes",
        "tls",
        "routes",
        "alerts",
    ):
        assert any(f"/operator/{part}/" in kind for kind in pages), f"{part} in {sorted(pages)}"
