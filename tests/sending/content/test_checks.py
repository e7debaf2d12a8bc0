"""The review's checks."""

from __future__ import annotations

import dataclasses

import pytest

from sending.content.checks import Check, blocking, check_content
from sending.content.compiler import compile_content
from sending.content.links import link_problem, parse_check
from sending.content.types import CompiledContent, ContentSource, Link


def compiled(
    body: str = "<p>x</p>", subject: str = "Hello", *, footer: bool = True
) -> CompiledContent:
    return compile_content(ContentSource("html", body, subject), footer=footer)


def found(content: CompiledContent, code: str, **kwargs: object) -> Check:
    checks = check_content(content, broadcast=True, **kwargs)  # type: ignore[arg-type]
    return next(check for check in checks if check.code == code)


def test_good_content_passes_every_check() -> None:
    content = compiled(
        '<img src="https://x.example/a.png" alt="a"><a href="https://x.example">x</a>'
    )
    assert [check for check in check_content(content, broadcast=True) if not check.ok] == []


def test_an_empty_subject_blocks() -> None:
    assert not found(compiled(subject="  "), "subject").ok


def test_a_broken_link_blocks_and_is_named() -> None:
    check = found(compiled('<a href="https://exa mple">x</a>'), "links")
    assert not check.ok
    assert check.level == "block"
    assert "https://exa mple" in check.sentence


def test_merge_fields_without_default_block_with_their_counts() -> None:
    content = compiled("<p>{{ city }} {{ plan }}</p>")
    assert not found(content, "merge-fields").ok
    check = found(content, "merge-fields", missing={"city": 1200, "plan": 0})
    assert not check.ok
    assert "'city' (1,200 lack it)" in check.sentence
    assert "plan" not in check.sentence
    assert found(content, "merge-fields", missing={"city": 0, "plan": 0}).ok


def test_broadcast_needs_unsubscribe_and_address() -> None:
    content = compiled(footer=False)
    codes = {check.code for check in blocking(check_content(content, broadcast=True))}
    assert codes == {"unsubscribe", "postal-address"}
    assert blocking(check_content(content, broadcast=False)) == []


def test_warnings() -> None:
    content = compiled(
        '<img src="a"><img src="b" alt=""><a href="http://x.example">x</a>'
        + "<p>words</p>" * 10_000
    )
    assert "1 image has" in found(content, "alt-text").sentence
    assert not found(content, "https").ok
    assert not found(content, "size").ok
    assert blocking(check_content(content, broadcast=True)) == []
    empty = dataclasses.replace(content, text=" \n")
    assert not found(empty, "text-part").ok


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://example.com", True),
        ("https://example.com:8080/a?b=c#d", True),
        ("https://bücher.example/ä", True),
        ("https://x.example/{{ id }}?{% if a %}b{% endif %}", True),
        ("https://{{ host }}/x", True),
        ("{{ url }}", True),
        ("https://[::1]/x", True),
        ("mailto:a@b.example", True),
        ("https://", False),
        ("https:///x", False),
        ("https://exa mple.com", False),
        ("https://a..b", False),
        ("https://x:99999/", False),
        ("https://[::1/x", False),
        ("ftp://x.example", False),
        ("www.example.com", False),
        ("https://x.example/" + "x" * 3_000, False),
        ("https://x.example/\x00", False),
        ("", False),
    ],
)
def test_it_says_which_links_parse(url: str, good: bool) -> None:
    assert (link_problem(url) is None) == good
    assert [p.link.index for p in parse_check([Link(4, url)])] == ([] if good else [4])
