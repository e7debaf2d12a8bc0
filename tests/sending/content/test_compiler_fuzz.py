"""Whatever is thrown at the compiler, it compiles and renders or says why not."""

from __future__ import annotations

from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from sending.content.compiler import compile_content
from sending.content.errors import ContentError
from sending.content.render import Renderer
from sending.content.types import CompiledContent, ContentSource, RenderContext

PIECES = [
    "<p>", "</p>", "<table>", "<tr>", "<td>", "</td>", "</tr>", "</table>", "<div style='", "'>",
    "<a href=\"", "\">", "</a>", "<style>", "</style>", "p{color:red}", "@media x{", "}", "<!--",
    "-->", "<!doctype html>", "<html>", "<head>", "</head>", "<body>", "</body>", "</html>",
    "<title>", "</title>", "<textarea>", "{{ name }}", "{{ x | default: \"q'\" }}",
    "{% if name %}", "{% else %}", "{% endif %}", "{% for i in items %}", "{{ i }}",
    "{% endfor %}", "{", "%}", "&#123;", "&lt;", "&amp;", "https://x.example/", "mailto:",
    "text ", "ü", "\n", "<", ">", "\"", "'", "=", "/", "<br>", "<img src=a>", "<mj-text>",
    "</mj-text>", "{% assign z = name %}", "{{ z }}", "--", "z",
]  # fmt: skip
bodies = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


@settings(max_examples=400, deadline=None)
@given(bodies, st.sampled_from(["html", "mjml", "text"]), st.booleans())
def test_it_compiles_or_says_why_not(
    body: str, kind: Literal["html", "mjml", "text"], footer: bool
) -> None:
    if kind == "mjml":
        body = (
            "<mjml><mj-body><mj-section><mj-column><mj-text>"
            f"{body}</mj-text></mj-column></mj-section></mj-body></mjml>"
        )
    reason = None
    try:
        compiled = compile_content(ContentSource(kind, body, "s"), footer=footer)
    except ContentError as error:
        reason = error.message
    if reason is not None:
        assert reason.endswith(".")
        return
    assert CompiledContent.from_json(compiled.to_json()) == compiled
    context = RenderContext(
        {"name": "<Alice>", "items": [1, 2]},
        unsubscribe_url="https://u.example/1",
        link_url=lambda index: f"https://t.example/{index}",
        pixel_url="https://t.example/p",
    )
    out = Renderer(compiled).render(context)
    assert "<Alice>" not in (out.html or "")
    assert "tracked_link" not in (out.html or "") + out.text
    if footer:
        assert "https://u.example/1" in out.text
