"""Each starter is a mail that could be sent as it is."""

from __future__ import annotations

import pytest

from sending.content.checks import check_content
from sending.content.compiler import compile_content
from sending.content.render import render
from sending.content.starters import BLANK, STARTERS, Starter
from sending.content.types import CompiledContent, ContentSource, RenderContext


def _compiled(starter: Starter) -> CompiledContent:
    source = ContentSource(
        starter.kind, starter.body, starter.subject or "Hello", None, starter.preview_text
    )
    return compile_content(source, footer=True)


@pytest.mark.parametrize("starter", [BLANK, *STARTERS], ids=lambda starter: starter.key or "blank")
def test_a_starter_passes_every_check(starter: Starter) -> None:
    compiled = _compiled(starter)
    faults = [check.sentence for check in check_content(compiled, broadcast=True) if not check.ok]
    assert faults == []
    assert compiled.warnings == ()


@pytest.mark.parametrize("starter", [BLANK, *STARTERS], ids=lambda starter: starter.key or "blank")
def test_a_starter_greets_people_with_and_without_a_name(starter: Starter) -> None:
    compiled = _compiled(starter)
    assert "there" in render(compiled, RenderContext()).text
    assert "Bea" in render(compiled, RenderContext(variables={"first_name": "Bea"})).text


@pytest.mark.parametrize("starter", [s for s in STARTERS if s.kind != "text"], ids=lambda s: s.key)
def test_a_starter_has_dark_styles_and_asks_nobody_for_pictures(starter: Starter) -> None:
    html = _compiled(starter).html or ""
    assert "prefers-color-scheme: dark" in html.replace(":dark", ": dark")
    assert 'name="color-scheme"' in html
    assert "<img" not in html
