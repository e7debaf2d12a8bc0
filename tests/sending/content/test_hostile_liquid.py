"""Tenants are hostile: every attack ends soon, in little memory, with a sentence."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest

from esp.lib.errors import DomainError
from sending.content.errors import ContentError
from sending.content.liquid import check_syntax, compile_template
from sending.content.types import RenderContext

VARIABLES = {
    "name": "Alice",
    "items": [{"n": i, "t": f"item {i}"} for i in range(200)],
    "text": "ab" * 5_000,
    "html": "<" * 60_000,
}

REFUSED = {
    "nested loops": "{% for a in (1..1000) %}{% for b in (1..1000) %}x{% endfor %}{% endfor %}",
    "loops one after the other": "{% for a in (1..900) %}x{% endfor %}" * 5,
    "a huge range": "{% for a in (1..99999999999) %}x{% endfor %}",
    "a range beyond the machine": "{% for a in (1..99999999999999999999999) %}x{% endfor %}",
    "stepping over a huge range": (
        "{% for a in (1..9999999999) offset: 9999999998 limit: 1 %}x{% endfor %}"
    ),
    "joining a huge range": "{{ (1..200000000) | join: 'x' }}",
    "sorting a huge range": "{{ (1..200000000) | sort }}",
    "reversing a huge range": "{{ (1..200000000) | reverse | size }}",
    "slicing a huge range": "{{ (1..200000000) | slice: 0, 100000000 }}",
    "doubling by append": "{% assign x = 'x' %}{% for i in (1..60) %}"
    "{% assign x = x | append: x %}{% endfor %}{{ x }}",
    "doubling by capture": "{% assign x = 'xxxxxxxx' %}{% for i in (1..60) %}"
    "{% capture x %}{{ x }}{{ x }}{% endcapture %}{% endfor %}{{ x }}",
    "doubling a list": "{% assign x = 'a,b' | split: ',' %}{% for i in (1..60) %}"
    "{% assign x = x | concat: x %}{% endfor %}{{ x | size }}",
    "doubling by replace": "{% assign x = 'xxxx' %}{% for i in (1..60) %}"
    "{% assign x = x | replace: 'x', 'xxxx' %}{% endfor %}",
    "replace by nothing": "{{ text | replace: '', text }}",
    "replace each letter": "{{ text | replace: 'a', text }}",
    "join with a long glue": "{{ text | split: 'a' | join: text }}",
    "split to letters": "{{ text | split: '' | size }}",
    "number doubling": "{% assign n = 9 %}{% for i in (1..100) %}"
    "{% assign n = n | times: n %}{% endfor %}{{ n }}",
    "a number of many digits": "{{ '9' | times: " + "9" * 50 + " }}",
    "round to many digits": "{{ 1.5 | round: 999999999 }}",
    "a wide date": "{{ 'now' | date: '%999999999Y' }}",
    "a long date format": "{{ 'now' | date: text }}",
    "many local variables": "{% for i in (1..2000) %}"
    + "".join(
        f"{{% capture a{n} %}}{{{{ text }}}}{{{{ i }}}}{{% endcapture %}}" for n in range(200)
    )
    + "{% endfor %}",
    "too much output": "{% for i in (1..1000) %}{{ text }}{% endfor %}",
    "heavy loops": "{% for i in (1..2000) %}"
    + "{% assign a = items | sort_natural: 't' | reverse | map: 't' %}" * 200
    + "{% endfor %}",
    "many sorts": "{% for i in (1..2000) %}"
    + "{{ items | sort: 'n' | size }}" * 50
    + "{% endfor %}",
    "uniq of a long list": "{{ text | split: 'a' | uniq | size }}",
    "deep blocks": "{% if name %}" * 200 + "x" + "{% endif %}" * 200,
    "nested paths": "{{ " + "name[" * 400 + "]" * 400 + " }}",
    "an include": "{% include 'x' %}",
    "a render": "{% render 'x' %}",
    "an extends": "{% extends 'x' %}",
    "a table row loop": "{% tablerow i in (1..10) %}{% endtablerow %}",
    "a liquid block": "{% liquid\nassign x = 1\necho x\n%}",
    "a raw block": "{% raw %}{{ x }}{% endraw %}",
    "our own link tag": "{% tracked_link 1 %}",
    "an unknown filter": "{{ name | system: 'id' }}",
    "the safe filter": "{{ name | safe }}",
    "an unclosed output": "Hello {{ name",
    "an unclosed block": "{% if name %}Hello",
    "openings in openings": "{{ " * 5_000,
    "tags in tags": "{% " * 5_000,
    "too many tags": "{{ name }}" * 2_001,
    "a long tag": "{{ name | append: '" + "x" * 3_000 + "' }}",
    "spaces only": "{{" + " " * 1_900 + "}}",
    "spaces in a tag": "{% if" + " " * 1_900 + "%}",
    "brackets": "{{ " + "(" * 1_900 + " }}",
    "too large": "{{ name }}" + "x" * 300_000,
    "division by zero": "{{ 1 | divided_by: 0 }}",
    "named arguments": "{{ name | append: other: 'x' }}",
}


def _run(source: str) -> str:
    check_syntax(source)
    return compile_template(source, html=True).render(VARIABLES)


@pytest.mark.parametrize("source", REFUSED.values(), ids=REFUSED.keys())
def test_it_refuses_the_attack_soon(source: str) -> None:
    before = time.thread_time()
    with pytest.raises(ContentError) as caught:
        _run(source)
    assert time.thread_time() - before < 1.5
    assert isinstance(caught.value, DomainError)
    assert len(caught.value.message) < 400


HARMLESS = {
    "class of a value": "{{ name.__class__.__mro__ }}",
    "globals of a filter": "{{ name.upper.__globals__ }}",
    "attributes by index": "{{ name['__class__'] }}{{ items['append'] }}",
    "the environment": "{{ template }}{{ environment }}{{ self }}{{ context }}",
    "a method": "{{ items.append }}{{ name.format }}",
    "a format string": "{{ '{0.__class__}' | append: name | size }}",
    "stripping many brackets": "{{ html | strip_html | size }}",
}


@pytest.mark.parametrize("source", HARMLESS.values(), ids=HARMLESS.keys())
def test_it_gives_nothing_away(source: str) -> None:
    before = time.thread_time()
    text = _run(source)
    assert time.thread_time() - before < 1
    assert "class" not in text
    assert "function" not in text
    assert "object" not in text


def test_it_stays_within_memory_under_every_attack() -> None:
    program = textwrap.dedent(
        """
        import resource
        from tests.sending.content.test_hostile_liquid import REFUSED, _run
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for source in REFUSED.values():
            try:
                _run(source)
            except Exception:
                pass
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print((after - before) // 1024)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=True
    )
    assert int(done.stdout) < 150, "megabytes"


def test_values_are_never_read_as_liquid() -> None:
    template = compile_template("Hi {{ name }}", html=True)
    assert template.render({"name": "{{ 7 | times: 6 }}"}) == "Hi {{ 7 | times: 6 }}"


def test_values_are_escaped_in_html_and_plain_in_text() -> None:
    source = '{{ name }}{{ name | upcase }}{{ none | default: "<b>" }}'
    values = {"name": "<i>"}
    assert compile_template(source, html=True).render(values) == "&lt;i&gt;&lt;I&gt;<b>"
    assert compile_template(source, html=False).render(values) == "<i><I><b>"


def test_an_error_names_the_line() -> None:
    with pytest.raises(ContentError) as caught:
        check_syntax("one\ntwo {{ a | }\nthree", field="body")
    assert caught.value.line == 2
    assert caught.value.field == "body"
    assert caught.value.message.startswith("Line 2:")


def test_a_render_context_needs_no_values() -> None:
    assert RenderContext().variables == {}
