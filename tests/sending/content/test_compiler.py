"""Compiling: Liquid survives the parsers, links are marked, the footer is there."""

from __future__ import annotations

import re

import pytest

from sending.content.compiler import compile_content
from sending.content.errors import ContentError
from sending.content.render import Renderer, missing_fields, render, without_tracking
from sending.content.types import CompiledContent, ContentSource, RenderContext

CONTEXT = RenderContext(
    {"first_name": "Alice", "id": 7, "url": "https://shop.example/p"},
    unsubscribe_url="https://u.example/u?a=1&b=2",
    preferences_url="https://u.example/p",
    postal_address="Acme\n1 Street",
    link_url=lambda index: f"https://t.example/{index}?x=1&y=2",
    pixel_url="https://t.example/o.gif",
)


def html(body: str, **kwargs: str) -> ContentSource:
    return ContentSource("html", body, kwargs.pop("subject", "Hello"), **kwargs)


def mjml(inner: str, head: str = "") -> ContentSource:
    body = (
        f"<mjml><mj-head>{head}</mj-head><mj-body><mj-section><mj-column>{inner}"
        "</mj-column></mj-section></mj-body></mjml>"
    )
    return ContentSource("mjml", body, "Hello")


def filled(source: ContentSource, *, footer: bool = False, **values: object) -> str:
    compiled = compile_content(source, footer=footer)
    context = RenderContext({**CONTEXT.variables, **values}, link_url=CONTEXT.link_url)
    return Renderer(compiled).render(context).html or ""


def test_quotes_of_liquid_in_attributes_survive() -> None:
    page = filled(html('<img src="a.png" alt="{{ nick | default: "a friend" }}">'))
    assert 'alt="a friend"' in page


def test_a_loop_between_table_rows_stays_in_its_table() -> None:
    source = (
        "<table>{% for p in items %}<tr><td>{{ p }}</td></tr>{% endfor %}</table>"
        "<table><thead><tr><th>h</th></tr></thead>{% if no %}<tr><td>x</td></tr>{% endif %}</table>"
    )
    page = filled(html(source), items=["Tea", "Cup"])
    assert "<table><tbody><tr><td>Tea</td></tr><tr><td>Cup</td></tr></tbody></table>" in page
    assert "</thead><tbody></tbody></table>" in page


def test_an_output_between_table_rows_stays_in_its_table() -> None:
    compiled = compile_content(html("<table><tr><td>a</td></tr>{{ rows }}</table>"), footer=False)
    assert compiled.html is not None
    assert compiled.html.index("{{ rows }}") < compiled.html.index("</table>")


@pytest.mark.parametrize(
    ("style", "wanted"),
    [
        ("{{ css }}", "color:red"),
        ("width:1px;{{ css }}", "color:red"),
        ("color:{{ colour }}", "color:blue"),
        ("{% if first_name %}color:green;{% endif %}width:1px", "color:green"),
    ],
)
def test_liquid_in_a_style_attribute_survives_inlining(style: str, wanted: str) -> None:
    source = f'<style>p {{ margin: 0 }}</style><p style="{style}">x</p>'
    page = filled(html(source), css="color:red", colour="blue").replace(": ", ":")
    assert wanted in page
    assert "margin:0" in page


def test_css_is_inlined_and_media_queries_stay() -> None:
    css = "@media (max-width:600px){.a{color:red}} .a{color:blue} a:hover{color:green}"
    page = filled(html(f'<style>{css}</style><p class="a">x</p>'))
    assert re.search(r'<p class="a" style="color: ?blue', page)
    assert "@media (max-width:600px)" in page
    assert ":hover" in page


def test_a_remote_stylesheet_is_not_fetched() -> None:
    page = filled(html('<link rel="stylesheet" href="http://127.0.0.1:1/x.css"><p>x</p>'))
    assert "<p>x</p>" in page


def test_mjml_with_liquid_between_and_inside_components() -> None:
    source = mjml(
        "{% if vip %}<mj-text>VIP {{ first_name }}</mj-text>{% endif %}"
        '<mj-button href="https://x.example/{{ id }}">Go</mj-button>'
        "<mj-table>{% for p in items %}<tr><td>{{ p }}</td></tr>{% endfor %}</mj-table>",
        head='<mj-preview>Look</mj-preview><mj-style inline="inline">.q{color:red}</mj-style>',
    )
    page = filled(source, vip=True, items=["Tea", "Cup"])
    assert "VIP Alice" in page
    assert page.count("<td>Tea</td>") == 1 or "Tea" in page
    assert "https://t.example/0?x=1&amp;y=2" in page
    assert "VIP" not in filled(source, items=[])
    assert "googleapis" not in page


def test_mjml_errors_name_the_line() -> None:
    with pytest.raises(ContentError) as caught:
        compile_content(
            ContentSource("mjml", "<mjml>\n<mj-body>\n<mj-text>x</mj-tex>\n", "s"), footer=False
        )
    assert caught.value.code == "mjml"
    assert caught.value.field == "body"


def test_mjml_cannot_include_files() -> None:
    with pytest.raises(ContentError, match="mj-include"):
        compile_content(mjml('<mj-include path="/etc/passwd" />'), footer=False)


def test_social_icons_come_from_our_own_origin() -> None:
    compiled = compile_content(
        mjml(
            '<mj-social><mj-social-element name="x" href="https://a.example">X'
            "</mj-social-element></mj-social>"
        ),
        footer=False,
        social_icon_origin="https://media.example/icons/",
    )
    assert "https://media.example/icons/" in (compiled.html or "")
    assert "mailjet" not in (compiled.html or "")


def test_the_footer_comes_where_it_is_missing() -> None:
    compiled = compile_content(html("<p>Hi</p>"), footer=True)
    page = render(compiled, CONTEXT)
    assert compiled.has_unsubscribe
    assert compiled.has_postal_address
    assert 'href="https://u.example/u?a=1&amp;b=2"' in (page.html or "")
    assert "Acme<br />\n1 Street" in (page.html or "")
    assert "Unsubscribe: https://u.example/u?a=1&b=2" in page.text
    assert "Acme\n1 Street" in page.text


def test_the_footer_does_not_double_what_the_author_wrote() -> None:
    source = '<p>{{ postal_address }} <a href="{{ unsubscribe_url }}">Leave</a></p>'
    compiled = compile_content(html(source), footer=True)
    assert (compiled.html or "").count("unsubscribe_url") == 1
    assert compiled.text.count("unsubscribe_url") == 1
    assert compiled.has_unsubscribe


def test_without_footer_the_flags_tell_the_truth() -> None:
    compiled = compile_content(html("<p>Hi</p>"), footer=False)
    assert not compiled.has_unsubscribe
    assert not compiled.has_postal_address


def test_an_own_text_part_gets_the_footer_too() -> None:
    source = html('<a href="{{ unsubscribe_url }}">x</a>{{ postal_address }}', text_body="Hi")
    assert "{{ unsubscribe_url }}" in compile_content(source, footer=True).text


def test_plain_text_content_has_no_html() -> None:
    source = ContentSource("text", "Hi {{ first_name }} <3", "Hello")
    out = render(compile_content(source, footer=True), CONTEXT)
    assert out.html is None
    assert out.text.startswith("Hi Alice <3")


def test_the_preview_text_is_hidden_and_filled() -> None:
    source = html("<p>Body</p>", preview_text="Tea & cups for {{ first_name }}")
    out = render(compile_content(source, footer=False), CONTEXT)
    assert "Tea &amp; cups for Alice" in (out.html or "")
    assert "Tea" not in out.text


def test_the_subject_is_one_line_whatever_the_values_hold() -> None:
    source = html("<p>x</p>", subject="Hi {{ name }}")
    context = RenderContext({"name": "A\r\nBcc: charlie@globex.example\x00"})
    assert render(compile_content(source, footer=False), context).subject == (
        "Hi A Bcc: charlie@globex.example"
    )


def test_values_cannot_close_the_body_or_add_elements() -> None:
    source = html("<p>{{ name }}</p>")
    context = RenderContext({"name": "</body><script>"}, pixel_url="https://t.example/p")
    page = render(compile_content(source, footer=False), context).html or ""
    assert "<script>" not in page
    assert page.index("&lt;/body&gt;") < page.index("https://t.example/p") < page.index("</body>")


def test_braces_from_entities_do_not_become_liquid() -> None:
    source = html("<p>&#123;{ first_name }} &#123;% if x %&#125; &#123;{{ first_name }}</p>")
    out = render(compile_content(source, footer=False), CONTEXT)
    assert "&#123;{ first_name }} &#123;% if x %} &#123;Alice" in (out.html or "")
    assert "Alice" in out.text


def test_links_are_marked_and_filled() -> None:
    source = html(
        '<a href="https://x.example/?a=1&amp;b={{ id }}">one</a>'
        '<a href="{{ url }}">two</a><a href="mailto:a@b.example">m</a><a href="#top">t</a>'
        '<a href="tel:+49">p</a><a href="{{ view_url }}">v</a>'
    )
    compiled = compile_content(source, footer=False)
    assert [link.url for link in compiled.links] == [
        "https://x.example/?a=1&b={{ id }}",
        "{{ url }}",
    ]
    renderer = Renderer(compiled)
    page = renderer.render(CONTEXT)
    assert 'href="https://t.example/0?x=1&amp;y=2">one' in (page.html or "")
    assert 'href="https://t.example/1?x=1&amp;y=2">two' in (page.html or "")
    assert "one (https://t.example/0?x=1&y=2)" in page.text
    assert 'href="mailto:a@b.example"' in (page.html or "")
    assert renderer.link_target(0, CONTEXT) == "https://x.example/?a=1&b=7"
    plain = renderer.render(without_tracking(CONTEXT)).html or ""
    assert 'href="https://x.example/?a=1&amp;b=7"' in plain
    assert "o.gif" not in plain


def test_a_link_of_a_loop_variable_is_left_untracked_with_a_warning() -> None:
    source = html('{% for p in items %}<a href="{{ p.url }}">x</a>{% endfor %}')
    compiled = compile_content(source, footer=False)
    assert compiled.links == ()
    assert "not counted" in compiled.warnings[0]


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)",
        " JaVaScRiPt:x",
        "java\tscript:x",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "{{ x }}javascript:x",
    ],
)
def test_it_refuses_dangerous_links(href: str) -> None:
    with pytest.raises(ContentError, match="link"):
        compile_content(html(f'<a href="{href}">x</a>'), footer=False)


def test_a_value_cannot_turn_a_link_into_script() -> None:
    renderer = Renderer(compile_content(html('<a href="{{ url }}">x</a>'), footer=False))
    context = RenderContext({"url": "javascript:alert(1)"})
    with pytest.raises(ContentError):
        renderer.link_target(0, context)
    assert "javascript" not in (renderer.render(context).html or "")


def test_liquid_between_attributes_is_refused_with_its_line() -> None:
    with pytest.raises(ContentError) as caught:
        compile_content(html('<p>\n<b {% if x %}class="a"{% endif %}>x</b>'), footer=False)
    assert caught.value.line == 2


def test_it_knows_the_fields_without_default() -> None:
    source = html("<p>{{ city }} {{ nick | default: 'x' }}</p>", subject="{{ contact.plan }}")
    compiled = compile_content(source, footer=True)
    assert compiled.fields == ("city", "plan")
    assert missing_fields(compiled, {"city": "Oslo", "plan": " "}) == ("plan",)


def test_the_compiled_form_survives_json() -> None:
    compiled = compile_content(
        html('<p>ü {{ a }} <a href="https://x.example">l</a></p>'), footer=True
    )
    assert CompiledContent.from_json(compiled.to_json()) == compiled
    with pytest.raises(ValueError, match="compile it again"):
        CompiledContent.from_json('{"format": 0}')


def test_compiling_is_deterministic() -> None:
    source = html('<p>{{ a }}<a href="https://x.example">l</a></p>')
    assert compile_content(source, footer=True) == compile_content(source, footer=True)


def test_the_text_part_reads_well() -> None:
    source = html(
        "<style>p{}</style><div style='display:none'>hidden</div><h1>News</h1>"
        "<p>Dear&nbsp;{{ first_name }},<br>hello</p><ul><li>a</li><li>b</li></ul>"
        "<ol><li>x</li></ol><table><tr><td>Tea</td><td>4</td></tr><tr><td>Cup</td><td>9</td></tr>"
        "</table><img src='i' alt='Our shop'><!-- no --><hr>"
        "{% if vip %}<p>VIP</p>{% endif %}"
    )
    text = render(compile_content(source, footer=False), CONTEXT).text
    assert text == (
        "News\n\nDear Alice,\nhello\n\n* a\n* b\n\n1. x\n\nTea 4\nCup 9\n\nOur shop\n\n---\n"
    )


def test_an_assignment_before_the_document_reaches_every_part() -> None:
    for body in (
        "{}<!DOCTYPE html><html><body><p>{{{{ x }}}}</p></body></html>",
        "{}<p>{{{{ x }}}}</p>",
    ):
        source = html(body.format("{% assign x = first_name | upcase %}"))
        out = render(compile_content(source, footer=False), CONTEXT)
        assert "<p>ALICE</p>" in (out.html or "")
        assert (out.html or "").count("<!DOCTYPE html>") == 1
        assert out.text == "ALICE\n"
