"""The shared parts of pages: they render as promised, escape, and name icons that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.template import Context, Template
from django.template.loader import render_to_string
from django.test import RequestFactory
from lucide import _load_icon

from esp.kit.paging import Page
from esp.kit.templatetags.kit import badge_kind, icon, status_label
from sending.campaigns.models import Campaign
from sending.messages.models import Message

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
_ICON = re.compile(r"""(?:\{%\s*icon\s+["']|<c-icon\s+name="|<c-empty[^>]*?\sicon=")([a-z0-9-]+)""")


def render(text: str, **context: object) -> str:
    request = RequestFactory().get("/audience/?q=a&after=x")
    request.user = AnonymousUser()
    return Template(text).render(Context({"request": request, **context}))


def test_every_icon_that_a_template_names_exists() -> None:
    named = {name for path in TEMPLATES for name in _ICON.findall(path.read_text(encoding="utf-8"))}
    assert "send" in named or len(named) > 10
    for name in sorted(named):
        _load_icon(name)


def test_no_template_carries_script_that_the_policy_forbids() -> None:
    handler = re.compile(r"""\son[a-z]+\s*=\s*["']""")
    inline = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>", re.I)
    for path in TEMPLATES:
        text = path.read_text(encoding="utf-8")
        assert not handler.search(text), path
        assert not inline.search(text.replace('type="application/json"', "src=")), path


def test_an_unknown_icon_is_a_circle_and_not_an_error() -> None:
    assert "<circle" in icon("no-such-icon")


def test_an_icon_is_hidden_from_screen_readers() -> None:
    assert 'aria-hidden="true"' in icon("mail")


@pytest.mark.parametrize("status", [*Campaign.Status.values, *Message.Status.values])
def test_every_status_has_a_shade_or_is_neutral_on_purpose(status: str) -> None:
    assert badge_kind(status) or status in {"draft", "cancelled", "queued", "dropped"}


def test_a_badge_takes_its_words_from_the_status() -> None:
    assert status_label("bounced_late") == "Bounced late"
    assert "Bounced late" in render('{% cotton badge status="bounced_late" / %}')


def test_a_badge_escapes_its_label() -> None:
    assert "<b>" not in render('{% cotton badge :label="label" status="sent" / %}', label="<b>x")


def test_a_pager_keeps_the_search_and_drops_the_other_cursor() -> None:
    page: Page[models.Model] = Page(rows=[], next_cursor="n", previous_cursor="p")
    drawn = render("{% cotton pager :page=page / %}", page=page)
    assert 'href="?q=a&amp;after=n"' in drawn
    assert 'href="?q=a&amp;before=p"' in drawn


def test_a_pager_of_one_page_is_not_there() -> None:
    page: Page[models.Model] = Page(rows=[], next_cursor=None, previous_cursor=None)
    assert "<nav" not in render("{% cotton pager :page=page / %}", page=page)


def test_a_copy_button_holds_the_whole_value() -> None:
    value = 'v=DKIM1; p="' + "A" * 300
    assert "A" * 300 in render("{% cotton copy :value=value / %}", value=value)


def test_a_domain_error_for_htmx_is_a_toast_that_escapes() -> None:
    class Refusal:
        message = "No <b>such</b> list."

    drawn = render_to_string("components/toast.html", {"error": Refusal()})
    assert "No &lt;b&gt;such&lt;/b&gt; list." in drawn
    assert 'role="alert"' in drawn


@pytest.mark.parametrize("name", ["404.html", "403.html", "403_csrf.html", "500.html"])
def test_error_pages_render_without_request_or_database(name: str) -> None:
    drawn = render_to_string(name)
    assert "· Mailwright</title>" in drawn
    assert "<h1" in drawn
