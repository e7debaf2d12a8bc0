"""One running product for all browser tests, and a browser for each file of them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.visitor import Visitor, visitor
from tests.browser.world import ALICE, CHARLIE, World


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """The product with all its processes; stopped at the end, also after a failure."""
    var = Path(tempfile.mkdtemp(prefix="mailwright-browser-"))
    running = World(var)
    try:
        running.start()
        # Who reads within a second of the hand-over is taken for a machine, and rightly so.
        running.simulator.set_readers(open_rate=0.6, click_rate=0.5, delay_seconds=(2.5, 3.5))
        yield running
    finally:
        try:
            running.stop()
        finally:
            shutil.rmtree(var, ignore_errors=True)


@pytest.fixture(scope="session")
def rehearsed(world: World) -> dict[str, Any]:
    """Acme after a campaign to 60 people: lists, contacts, messages, events, a report."""
    said = world.manage("rehearse", "--contacts", "60", "--json")
    figures: dict[str, Any] = json.loads(said.strip().splitlines()[-1])
    assert figures["lost"] == figures["duplicates"] == 0, figures
    return figures


# For a module, not for the session: while Playwright's loop runs in this thread, neither Django's
# database nor tests of asyncio would work in it.
@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium_path, args=["--no-sandbox"], timeout=30_000
        )
        yield started
        started.close()


@pytest.fixture
def stranger(world: World, browser: Browser) -> Iterator[Visitor]:
    """A browser in which nobody is signed in."""
    with visitor(browser, world) as person:
        yield person


@pytest.fixture
def alice(world: World, browser: Browser) -> Iterator[Visitor]:
    """A browser in which Acme's owner has signed in."""
    with visitor(browser, world) as person:
        person.sign_in(ALICE)
        yield person


@pytest.fixture
def charlie(world: World, browser: Browser) -> Iterator[Visitor]:
    """A browser in which Globex' owner has signed in."""
    with visitor(browser, world) as person:
        person.sign_in(CHARLIE)
        yield person
