"""Compiled steps write what the library writes, in every form, whatever template and values."""

from __future__ import annotations

import binascii
import datetime as dt
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sending.content.bounds import MAX_OUTPUT, BoundedContext, Buffer
from sending.content.errors import ContentError
from sending.content.liquid import Template, compile_template
from sending.content.quoted import Form, Quoted, one_newline
from sending.content.steps import StepMaker

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
URLS = ["https://t.acme.example/t/c/" + "Ab-_9" * 14, "#", "https://x.example/?a=1&b='ü'"]


def link(index: int) -> str:
    return URLS[index]


def by_the_library(template: Template, variables: dict[str, Any]) -> str | None:
    """Return what the library's own nodes write, or None for an error."""
    context = BoundedContext(template.bound, variables)
    context.now, context.link_writer = NOW, link
    buffer = Buffer(MAX_OUTPUT)
    try:
        for node in template.bound.nodes:
            node.render_to_output(context, buffer)  # type: ignore[arg-type]
    except Exception:  # any: what matters is that both refuse
        return None
    return buffer.getvalue()


def by_steps(template: Template, variables: dict[str, Any]) -> str | None:
    try:
        return template.render(variables, link_writer=link, now=NOW)
    except ContentError:
        return None


def assert_equal(source: str, variables: dict[str, Any]) -> None:
    for html in (False, True):
        plain = compile_template(source, html=html)
        wanted = by_the_library(plain, variables)
        assert by_steps(plain, variables) == wanted
        quoted = compile_template(source, html=html, form=Quoted(html=html))
        for _ in range(2):  # the second time from memory
            code = by_steps(quoted, variables)
            if wanted is None:
                assert code is None
                continue
            assert code is not None
            assert decoded(code) == one_newline(wanted).encode("utf-8", "replace").decode()
            assert_lawful(code)


def decoded(code: str) -> str:
    return binascii.a2b_qp(code.encode("ascii")).replace(b"\r\n", b"\n").decode()


def assert_lawful(code: str) -> None:
    """Check RFC 2045's rules, and that DKIM's relaxed canonicalization changes nothing."""
    lines = code.split("\r\n")
    assert lines[-1] == ""  # every piece ends at the start of a line
    assert max(map(len, lines)) <= 76
    assert not re.search("[^ -~]", code.replace("\r\n", ""))
    assert not any(line.endswith(" ") or "  " in line for line in lines)
    assert "=" not in lines  # no soft break on a line of its own


NAMES = ["first_name", "city", "points", "plan", "tags", "nothing", "contact.city", "tags[0]",
         "tags.size", "plan.x", "deep.er.name", "item", "forloop.index", "mine"]  # fmt: skip
FILTERS = ["", "", "", ' | default: "you & <b>"', " | default: 0", ' | default: ""', " | upcase",
           ' | append: "!" | capitalize', " | escape", " | size", " | plus: 1", " | url_encode",
           ' | split: ","', ' | split: "," | join: " / "', ' | date: "%d.%m.%Y"', " | first",
           " | truncate: 5", ' | replace: "a", city', " | newline_to_br",
           " | default: false, allow_false: true", " | times: plan", ' | join: " "']  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "\n",
            "\n\n",
            "  a ",
            "a=b",
            ".",
            "x" * 90,
            "é",
            "\t",
            "= ",
            "-- \n",
            "\n\n\n\n",
            "Köln & <b>'x'</b>",
            "word " * 20,
            "a\n b \n",
        ]
    ),
    st.text("ab =.\n\té<\U0001f600", max_size=40),
)
EXPRESSIONS = st.builds(
    lambda left, rest: left + rest,
    st.sampled_from([*NAMES, '"literal <i>"', "7", "nil", "true", "1.5", "(1..3)"]),
    st.sampled_from(FILTERS),
)
CONDITIONS = st.sampled_from(
    [
        'plan == "gold"',
        'plan != "gold"',
        "city",
        "nothing",
        'nothing != ""',
        "points > 10",
        'plan == "gold" and city',
        'nothing or plan == "free"',
        'tags contains "roses"',
        "points",
        "tags == empty",
        "city == blank",
        "forloop.first",
        'item == "roses"',
        "true",
        "false",
        "city == plan",
        '"a" == "a"',
        "points == 0",
        "nothing == nil",
        "mine",
    ]
)


def _blocks(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    body = st.lists(inner, max_size=3).map("".join)
    return st.one_of(
        st.builds("{{% if {} %}}{}{{% else %}}{}{{% endif %}}".format, CONDITIONS, body, body),
        st.builds("{{% if {} %}}{}{{% elsif {} %}}{}{{% endif %}}".format,
                  CONDITIONS, body, CONDITIONS, body),
        st.builds("{{% unless {} %}}{}{{% endunless %}}".format, CONDITIONS, body),
        st.builds("{{% for item in {} %}}{}{{% endfor %}}".format,
                  st.sampled_from(["tags", "tags limit: 1", "tags reversed", "(1..3)", "city",
                                   "nothing", "contact", "tags offset: continue", "mine"]), body),
        st.builds("{{% for city in tags %}}{}{{% if city == \"compost\" %}}x{{% break %}}"
                  "{{% endif %}}{}{{% else %}}none{{% endfor %}}".format, body, body),
        st.builds("{{% case plan %}}{{% when \"gold\", \"silver\" %}}{}{{% else %}}{}"
                  "{{% endcase %}}".format, body, body),
        st.builds("{{% capture mine %}}{}{{% endcapture %}}".format, body),
        st.builds("{{% assign mine = {} %}}".format, EXPRESSIONS),
    )  # fmt: skip


LEAVES = st.one_of(
    TEXTS,
    st.builds("{{{{ {} }}}}".format, EXPRESSIONS),
    st.builds("{{{{- {} -}}}}".format, EXPRESSIONS),
    st.sampled_from(
        [
            "{% tracked_link 0 %}",
            "{% tracked_link 1 %}",
            "{% tracked_link 2 %}",
            "{% cycle 'a', 'b' %}",
            "{% echo city %}",
            "{% continue %}",
            "{% break %}",
            "{% comment %}x{% endcomment %}",
        ]
    ),
)
TEMPLATES = st.lists(st.recursive(LEAVES, _blocks, max_leaves=12), max_size=6).map("".join)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2000), st.floats(0, 10),
    st.sampled_from(["gold", "free", "2027-04-15", "roses,compost", " lead", "trail ", "a  b"]),
    TEXTS, st.lists(st.sampled_from(["roses", "compost", "a & b", "ü"]), max_size=4),
    st.dictionaries(st.sampled_from(["city", "x", "er"]), st.text("ab<", max_size=5), max_size=2),
)  # fmt: skip
VARIABLES = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("first_name", "city", "points", "plan", "tags", "deep"), VALUES),
).map(lambda found: {**found, "contact": found})


@settings(max_examples=600, deadline=None)
@given(TEMPLATES, VARIABLES)
def test_steps_write_what_the_library_writes(source: str, variables: dict[str, Any]) -> None:
    try:
        assert_equal(source, variables)
    except ContentError:  # not every random template is good Liquid
        with pytest.raises(ContentError):
            compile_template(source, html=False)


@pytest.mark.parametrize(
    "source",
    [
        "Dear {{ first_name | default: 'friend' }},\n\n{{ city }}\n{{ points | default: 0 }}.\n",
        (
            "{% for item in tags %}{{ forloop.index }}/{{ forloop.length }} {{ item }} {{ city }}\n"
            "{% for item in tags %}{{ forloop.parentloop.index }}{{ item }}{% endfor %}{% endfor %}"
        ),
        (
            "{% for a in tags limit: 1 %}{{ a }}{% endfor %}{% for a in tags offset: continue %}"
            "{{ a }}{% endfor %}"
        ),
        "{% for a in tags %}{% assign a = 1 %}{{ a }}{% endfor %}{{ a }}",
        "{% for a in tags %}{% capture x %}{{ x }}{{ a }}{% endcapture %}{% endfor %}{{ x }}",
        "{% for a in tags %}{% case a %}{% when 'roses' %}text{% break %}{% endcase %}{% endfor %}",
        "{{ city | upcase | append: ' & ' }}{{ tags | join: ', ' }}{{ nothing | default: '<b>' }}",
        "{{ contact.city }}{{ contact['city'] }}{{ tags[1] }}{{ tags.first }}{{ tags.size }}",
        "{{ 'now' | date: '%Y' }}{% if tags contains 'roses' and city %}yes{% endif %}",
    ],
)
def test_the_common_forms_are_equal(source: str) -> None:
    variables: dict[str, Any] = {
        "first_name": "Zoë & Co",
        "city": "Köln",
        "points": 1234,
        "tags": ["roses", "a < b", "ü"],
    }
    assert_equal(source, {**variables, "contact": variables})
    assert_equal(source, {"contact": {}})


def test_an_unknown_filter_in_a_branch_is_found_when_it_is_reached() -> None:
    template = compile_template("{% if city %}{{ city | shout }}{% endif %}", html=False)
    assert template.render({}) == ""
    with pytest.raises(ContentError, match="shout"):
        template.render({"city": "Köln"})


@pytest.mark.parametrize("html", [False, True])
@pytest.mark.parametrize(
    "source",
    [
        "{% for a in (1..2000) %}{% for b in (1..2) %}x{% endfor %}{% endfor %}",
        "{% for a in (1..2000) %}" + "x" * 2000 + "{% endfor %}",
        "{% for a in (1..2000) %}{{ long }}{% endfor %}",
        "{{ long }}" * 100,
        "{{ long | append: long }}",
        "{% for a in (1..3) %}{% capture c %}{{ c }}{{ long }}{% endcapture %}{% endfor %}",
    ],
)
def test_the_limits_hold_in_every_form(source: str, html: bool) -> None:
    for form in (None, Quoted(html=html)):
        with pytest.raises(ContentError, match=r"grew|turn|loop"):
            compile_template(source, html=html, form=form).render({"long": "é<" * 20_000})


def test_what_filters_made_is_remembered_within_bounds_and_never_shared_as_a_list() -> None:
    maker = StepMaker(Form(html=False), ["tags"])
    bound = compile_template(
        '{% assign tags = city | split: "," %}{{ tags | join: "+" }}{{ city | upcase }}', html=False
    ).bound
    step, _ = maker.step(bound.nodes)
    for city in ["a,b", "c", "a,b", *map(str, range(2000))]:
        context = BoundedContext(bound, {"city": city})
        step(context, context.parts)
        assert "".join(context.parts) == city.replace(",", "+") + city.upper()
        if isinstance(context.locals["tags"], list):
            context.locals["tags"].append("spoiled")
    assert 0 < len(maker.names.memo) <= 512


def test_an_error_names_its_line_and_cause() -> None:
    template = compile_template("a\nb\n{{ points | times: city }}\n", html=False)
    with pytest.raises(ContentError, match=r"Line 3: .*failed"):
        template.render({"points": 10**30, "city": 10**30})
