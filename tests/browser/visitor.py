"""A person at a browser: a page that keeps what went wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from playwright.sync_api import Browser, Page, Response

from tests.browser.world import PASSWORD, World

TIMEOUT_MS = 15_000

# Two frames begin what a change starts. What has an end is put there, again and again: the end of
# one change of colour begins those of the elements that inherit it. What turns for ever turns on.
_SETTLED = """async () => {
    const ending = (one) =>
        one.playState === "running" && one.effect.getComputedTiming().endTime !== Infinity;
    for (let turn = 0; turn < 50; turn++) {
        for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
        const running = document.getAnimations().filter(ending);
        if (!running.length) return;
        running.forEach((one) => one.finish());
    }
    throw new Error("The page does not come to rest.");
}"""


class Visitor:
    """One page of one browser context. `complaints` collects what the browser complains about:
    errors in scripts, violations of the content security policy, answers of 500 and above."""

    def __init__(self, page: Page, site: str) -> None:
        self.page = page
        self.site = site
        self.complaints: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("response", self._answered)

    def open(self, path: str) -> Response:
        """Go to a path of the site (or a whole address) and return the answer."""
        answer = self.page.goto(path if path.startswith("http") else f"{self.site}{path}")
        assert answer is not None
        return answer

    def sign_in(self, email: str, password: str = PASSWORD) -> None:
        """Sign in by the page."""
        self.open("/sign-in")
        self.page.get_by_label("Email address").fill(email)
        self.page.get_by_label("Password").fill(password)
        self.press("Sign in")
        self.page.wait_for_url(f"{self.site}/")

    def press(self, name: str) -> None:
        """Press the button (or link that looks like one) with exactly this name."""
        button = self.page.get_by_role("button", name=name, exact=True)
        button.or_(self.page.get_by_role("link", name=name, exact=True)).first.click()

    def look_by(self, scheme: Literal["light", "dark"], *, width: int | None = None) -> None:
        """Turn to the light or dark theme (and another width); let colours have changed."""
        if width is not None:
            self.page.set_viewport_size({"width": width, "height": 900 if width > 500 else 844})
        self.page.emulate_media(color_scheme=scheme)
        self.page.evaluate(_SETTLED)

    def heading(self) -> str:
        """Return the page's one heading."""
        return self.page.get_by_role("heading", level=1).inner_text()

    def _heard(self, message: Any) -> None:
        # Chromium repeats every answer of 400 and above here; these are looked at by their codes.
        # The page of a simulated mail keeps its pictures out on purpose: its frame says so.
        kept_out = "Failed to load resource" in message.text or '"img-src data:"' in message.text
        if message.type == "error" and not kept_out:
            self.complaints.append(f"{self.page.url}: {message.text}")

    def _answered(self, answer: Response) -> None:
        if answer.status >= 500:
            self.complaints.append(f"{answer.url}: {answer.status}")


@contextmanager
def visitor(browser: Browser, world: World, **options: Any) -> Iterator[Visitor]:
    """Open a browser context of its own; at the end nothing may have gone wrong in it."""
    options.setdefault("viewport", {"width": 1440, "height": 900})
    context = browser.new_context(**options)
    try:
        person = Visitor(context.new_page(), world.site)
        yield person
        assert not person.complaints, "\n".join(person.complaints)
    finally:
        context.close()
