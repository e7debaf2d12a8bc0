"""The guard stands before native code: what crashed a parser is refused in linear time."""

from __future__ import annotations

import time

import pytest

from sending.content.compiler import compile_content
from sending.content.errors import ContentError
from sending.content.mjml import mjml_to_html
from sending.content.types import ContentSource

ATTACKS = {
    "deep divs": "<div>" * 20_000,
    "deep closed divs": "<div>" * 300 + "</div>" * 300,
    "divs with end tags that close nothing": "<div></x>" * 300,
    "end tags hidden in attributes": '<div title="</div>">' * 300,
    "quotes that hide tags": '<div "><b "><div "><i ">' * 300,
    "deep behind a misnested span": "<span><div></span>" * 300,
    "deep tables": "<table><tr><td>" * 300,
    "deep list": "<ul><li>" * 300,
    "foreign content": "<svg><style><div>" + "<div>" * 300,
    "a template element": "<template><div></template>",
    "an unclosed comment": "<!--" + "<div>" * 300,
    "an abrupt comment": "<!-->" + "<div>" * 10 + "-->",
    "a comment closed in a rare way": "<!-- --!><div> -->",
    "plain text": "<plaintext>",
    "a script": "<script>alert(1)</script>",
    "an unclosed style": "<style>p{}",
    "an unclosed attribute": '<p title="x',
    "an unclosed tag": "<p title",
    "too many elements": "<br>" * 21_000,
    "too many rules": "<style>" + "p{color:red}" * 501 + "</style>",
    "rules times elements": "<style>" + "p{color:red}" * 400 + "</style>" + "<p>x" * 9_000,
    "copies of a long rule": "<style>p{--a:" + "x" * 60_000 + "}</style>" + "<p>x" * 2_000,
    "too many attributes": "<p " + " ".join(f"a{n}=1" for n in range(50_000)) + ">",
    "too large": "x" * 600_000,
    "too large in bytes": "ü" * 300_000,
    "a NUL": "a\x00b",
    "a lone surrogate": "a\ud800b",
}


@pytest.mark.parametrize("kind", ["html", "mjml"])
@pytest.mark.parametrize("body", ATTACKS.values(), ids=ATTACKS.keys())
def test_it_refuses_in_linear_time(kind: str, body: str) -> None:
    if kind == "mjml":
        body = f"<mjml><mj-body><mj-raw>{body}</mj-raw></mj-body></mjml>"
    before = time.thread_time()
    with pytest.raises(ContentError):
        compile_content(ContentSource(kind, body, "s"), footer=True)  # type: ignore[arg-type]
    assert time.thread_time() - before < 2


@pytest.mark.parametrize("name", ["mj-wrapper", "mj-section", "mj-raw", "li", "p", "frame"])
def test_deep_mjml_is_refused(name: str) -> None:
    body = f"<mjml><mj-body>{f'<{name}>' * 5_000}{f'</{name}>' * 5_000}</mj-body></mjml>"
    with pytest.raises(ContentError, match="nested"):
        compile_content(ContentSource("mjml", body, "s"), footer=True)


def test_sloppy_but_common_html_passes() -> None:
    body = (
        "<table>" + "<tr><td>a<td>b" * 400 + "</table>"
        "<ul>" + "<li>x" * 400 + "</ul>" + "<p>y" * 400 + "<b><i>z</b></i>" * 20 + "</div></p>"
        "<!--[if mso]><table><tr><td><![endif]--><p>x</p>"
        "<!--[if mso]></td></tr></table><![endif]-->"
        "<!--[if !mso]><!--><p>y</p><!--<![endif]--> 1 < 2 & 3 <3"
    )
    compiled = compile_content(ContentSource("html", body, "s"), footer=False)
    assert (compiled.html or "").count("[if mso]") == 2


def test_200_nested_divs_pass() -> None:
    body = "<div>" * 200 + "x" + "</div>" * 200
    assert compile_content(ContentSource("html", body, "s"), footer=False).html


def test_an_error_names_the_line() -> None:
    with pytest.raises(ContentError) as caught:
        compile_content(ContentSource("html", "<p>\n<svg></svg>", "s"), footer=False)
    assert caught.value.line == 2
    assert "<svg>" in caught.value.message


def test_text_that_makes_mrml_panic_is_compiled() -> None:
    body = (
        "<mjml><mj-body><mj-section><mj-column><mj-text>é > 50 {{ x }}</mj-text></mj-column>"
        "</mj-section></mj-body></mjml>"
    )
    compiled = compile_content(ContentSource("mjml", body, "s"), footer=True)
    assert "é &gt; 50 {{ x }}" in (compiled.html or "")


def test_a_panic_of_the_native_library_becomes_an_error() -> None:
    source = "<mjml><mj-body><mj-raw>é > 50</mj-raw></mj-body></mjml>"
    with pytest.raises(ContentError) as caught:
        mjml_to_html(source)
    assert caught.value.code == "unreadable"
