"""Quoted-printable in pieces: each decodes to its text, wherever it stands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sending.content.quoted import (
    Quoted,
    closed,
    is_clean,
    one_newline,
    quote_constant,
    quote_value,
    wrap,
)
from tests.sending.content.test_steps import assert_lawful, decoded

TEXT = st.one_of(
    st.text("ab =.\n\té<&\U0001f600", max_size=200),
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=300),
    st.text("x", min_size=70, max_size=80),
)


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_a_constant_reads_back(text: str) -> None:
    code = closed(*quote_constant(text))
    assert decoded(code) == one_newline(text)
    assert_lawful(code)


@settings(max_examples=300, deadline=None)
@given(TEXT, TEXT, TEXT)
def test_constant_value_constant_read_back_together(before: str, value: str, after: str) -> None:
    constant, column = quote_constant(before)
    form = Quoted(html=False)
    for _ in range(2):
        code = constant + form.place(value, column) + closed(*quote_constant(after))
        wanted = "".join(one_newline(text) for text in (before, value, after))
        assert decoded(code) == wanted
        assert_lawful(code)


@given(st.integers(0, 40), st.text("é=x", max_size=200))
def test_an_escape_is_never_torn(column: int, text: str) -> None:
    code = quote_value(text, column)
    for line in code.split("\r\n"):
        body = line.removesuffix("=")
        assert body[-1:] != "="
        assert body[-2:-1] != "="
    assert len(code.split("\r\n")[0]) + column <= 76


def test_a_line_of_exactly_the_width_is_not_broken() -> None:
    assert wrap("x" * 75) == "x" * 75
    assert wrap("x" * 76) == "x" * 75 + "=\r\nx"


def test_what_is_remembered_stays_little() -> None:
    form = Quoted(html=True)
    for number in range(10_000):
        form.place(f"name {number}", 0)
    form.place("x" * 5_000, 0)
    assert 0 < len(form.memo) <= 4096
    assert max(map(len, form.memo)) <= 75


@given(st.integers(0, 40), st.text("aZ09-._~:/", min_size=1, max_size=200))
def test_clean_text_is_written_as_any_other(column: int, text: str) -> None:
    assert is_clean(text)
    for html in (False, True):
        form = Quoted(html=html)
        assert form.place_clean(text, column) == form.place(text, column)
        assert form.place_clean(text, column) == quote_value(text, column)


@pytest.mark.parametrize("value", ["<script>", "a&b", '"', "'", "Ünï <b>"])
def test_values_in_html_are_escaped(value: str) -> None:
    form = Quoted(html=True)
    for _ in range(2):
        assert not set("<>\"'") & set(decoded(form.place(value, 0)))
