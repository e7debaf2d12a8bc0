"""Liquid as marketers use it."""

from __future__ import annotations

import datetime as dt

import pytest

from sending.content.liquid import check_syntax, compile_template
from sending.content.merge_fields import fields_used, names_used

NOW = dt.datetime(2026, 3, 7, 9, 5, tzinfo=dt.UTC)
VALUES = {
    "first_name": "Alice",
    "spaces": "  ",
    "vip": True,
    "no": False,
    "points": 1200,
    "city": None,
    "born": "1990-04-02",
    "items": [{"name": "Tea", "price": 4}, {"name": "Cup", "price": 9}],
    "contact": {"first_name": "Alice"},
}


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("Hi {{ first_name }}", "Hi Alice"),
        ("Hi {{ contact.first_name }}", "Hi Alice"),
        ("Hi {{ nobody | default: 'friend' }}", "Hi friend"),
        ("Hi {{ spaces | default: 'friend' }}", "Hi friend"),
        ("{{ no | default: 'x' }}{{ no | default: 'x', allow_false: true }}", "xfalse"),
        ("Hi {{ nobody }}!", "Hi !"),
        ("Hi {{ city }}!", "Hi !"),
        ("{% if vip %}VIP{% else %}new{% endif %}", "VIP"),
        ("{% unless vip %}a{% else %}b{% endunless %}", "b"),
        ("{% case first_name %}{% when 'Bob' %}1{% when 'Alice' %}2{% endcase %}", "2"),
        ("{% for i in items %}{{ forloop.index }}.{{ i.name }} {% endfor %}", "1.Tea 2.Cup "),
        ("{% for i in items limit: 1 %}{{ i.price }}{% endfor %}", "4"),
        ("{{ items | map: 'name' | join: ', ' }}", "Tea, Cup"),
        ("{{ items | sort: 'price' | size }}", "2"),
        ("{{ points | plus: 1 }} {{ points | divided_by: 7 }}", "1201 171"),
        ("{{ born | date: '%d %B %Y' }}", "02 April 1990"),
        ("{{ born | date: '%-d/%-m' }}", "2/4"),
        ("{{ 'now' | date: '%H:%M' }}", "09:05"),
        ("{{ 'not a date' | date: '%Y' }}", "not a date"),
        ("{{ 'a b' | url_encode }}", "a+b"),
        ("{{ 'a-b-c' | split: '-' | reverse | join: '+' }}", "c+b+a"),
        ("{{ 'one two three' | truncatewords: 2 }}", "one two..."),
        ("{% assign x = first_name | upcase %}{{ x }}", "ALICE"),
        ("{% comment %}{{ hidden }}{% endcomment %}shown", "shown"),
        ("{% cycle 'a', 'b' %}{% cycle 'a', 'b' %}", "ab"),
    ],
)
def test_it_renders(source: str, wanted: str) -> None:
    check_syntax(source)
    assert compile_template(source, html=False).render(VALUES, now=NOW) == wanted


def test_it_says_which_fields_have_a_default() -> None:
    source = (
        "{{ contact.city }} {{ first_name | default: 'x' }} {% if a %}{{ a }}{% endif %}"
        "{% for i in items %}{{ i.name }}{{ other }}{% endfor %}"
        "{% assign n = nick | default: 'q' %}{{ n }}{{ unsubscribe_url }}{{ 'now' | date: '%Y' }}"
    )
    assert fields_used(source) == {
        "city": False,
        "first_name": True,
        "a": True,
        "items": True,
        "other": False,
        "nick": True,
    }


def test_one_bare_use_is_enough_to_need_a_value() -> None:
    assert fields_used("{{ a | default: 'x' }}{{ a }}") == {"a": False}


def test_names_used_holds_the_products_own() -> None:
    assert names_used('<a href="{{ unsubscribe_url }}">') == {"unsubscribe_url"}
