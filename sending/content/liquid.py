"""Liquid for hostile authors: a hardened environment, rendering with limits, static analysis.

python-liquid with its own limits, a fixed list of tags and bounded filters; every loop turn, filter
and assignment looks at a deadline of CPU time. There is no include, no render, no file and no
attribute access: values are plain data.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from liquid import Environment
from liquid.ast import Node
from liquid.builtin import content, illegal, output
from liquid.builtin.tags import (
    assign_tag,
    capture_tag,
    case_tag,
    comment_tag,
    cycle_tag,
    echo_tag,
    for_tag,
    if_tag,
    inline_comment_tag,
    unless_tag,
)
from liquid.exceptions import LiquidError
from liquid.expression import Expression
from liquid.tag import Tag
from liquid.template import BoundTemplate

from sending.content.bounds import MAX_LOOP_TURNS, MAX_OUTPUT, BoundedContext, LinkWriter
from sending.content.errors import ContentError
from sending.content.filters import FILTERS
from sending.content.guard import line_at, scan_liquid
from sending.content.nodes import CheckedForTag, LinkTag, with_pixel
from sending.content.quoted import Form
from sending.content.rows import Step
from sending.content.steps import StepMaker

MAX_BLOCK_NESTING = 30

_TAGS: tuple[type[Tag], ...] = (
    content.Literal,
    output.Output,
    illegal.Illegal,
    if_tag.IfTag,
    comment_tag.CommentTag,
    unless_tag.UnlessTag,
    case_tag.CaseTag,
    for_tag.ForTag,
    for_tag.BreakTag,
    for_tag.ContinueTag,
    capture_tag.CaptureTag,
    cycle_tag.CycleTag,
    assign_tag.AssignTag,
    echo_tag.EchoTag,
    inline_comment_tag.InlineCommentTag,
)


class HardenedEnvironment(Environment):
    """The tags and filters above and nothing else; `compiled` also knows `tracked_link`."""

    block_nesting_limit = MAX_BLOCK_NESTING
    context_depth_limit = 40
    loop_iteration_limit = MAX_LOOP_TURNS
    output_stream_limit = MAX_OUTPUT
    suppress_blank_control_flow_blocks = False

    def __init__(self, *, autoescape: bool, compiled: bool = False) -> None:
        self._compiled = compiled
        super().__init__(autoescape=autoescape)

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        for tag in _TAGS:
            self.add_tag(tag)
        self.add_tag(CheckedForTag)
        if self._compiled:
            self.add_tag(LinkTag)
        for name, function in FILTERS.items():
            self.add_filter(name, function)


_AUTHOR = HardenedEnvironment(autoescape=False)
_HTML = HardenedEnvironment(autoescape=True, compiled=True)
_TEXT = HardenedEnvironment(autoescape=False, compiled=True)
_PLAIN = {html: Form(html=html) for html in (False, True)}


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed Liquid source, ready to be filled many times (also by several threads)."""

    bound: BoundTemplate
    step: Step
    limit: int
    """Of what the step writes; the constants outside blocks are extra."""

    def render(
        self,
        variables: Mapping[str, object],
        *,
        link_writer: LinkWriter | None = None,
        has_clean_urls: bool = False,
        pixel_url: str = "",
        now: dt.datetime | None = None,
    ) -> str:
        """Return the text for `variables`; raises ContentError at any limit or Liquid error.

        `has_clean_urls` says that `quoted.is_clean` holds for all that `link_writer` returns, for
        `pixel_url` and for the product's own URLs among the variables.
        """
        context = BoundedContext(self.bound, variables)
        context.limit = self.limit
        context.link_writer = link_writer
        context.has_clean_urls = has_clean_urls
        context.pixel_url = pixel_url
        context.now = now or dt.datetime.now(dt.UTC)
        parts = context.parts
        try:
            self.step(context, parts)
            text = "".join(parts)
            context.check_size(len(text))
        except ContentError:
            raise
        except Exception as error:  # the library raises its own errors and Python's alike
            raise _render_error(error) from error
        return text


def _render_error(error: Exception) -> ContentError:
    message = error.args[0] if isinstance(error, LiquidError) and error.args else None
    if isinstance(error, RecursionError):
        message = "it is nested too deep"
    return ContentError(
        f"The personalisation failed: {message or 'a value does not fit its filter'}.",
        code="render",
        line=_error_line(error),
    )


def _error_line(error: Exception) -> int | None:
    token = getattr(error, "token", None)
    if token is None or token.start_index < 0:
        return None
    return line_at(token.source, token.start_index)


def _parse(environment: Environment, source: str) -> BoundTemplate:
    try:
        return environment.from_string(source)
    except RecursionError as error:
        raise ContentError("The Liquid is nested too deep.") from error
    except LiquidError as error:
        detail = error.args[0] if error.args else "it cannot be read"
        if isinstance(error.__cause__, RecursionError):
            detail = "it is nested too deep"
        raise ContentError(f"Liquid: {detail}.", line=_error_line(error)) from error


def check_syntax(source: str, *, field: str | None = None) -> None:
    """Raise ContentError (with line) when `source`, as an author wrote it, is not good Liquid."""
    try:
        if scan_liquid(source):
            template = _parse(_AUTHOR, source)
            _check_filters(template)
    except ContentError as error:
        error.field = field
        raise


def _check_filters(template: BoundTemplate) -> None:
    for node in walk(template.nodes):
        for expression in node.expressions():
            for part in parts(expression):
                for one in getattr(part, "filters", None) or ():
                    if one.name not in FILTERS:
                        raise ContentError(
                            f"The Liquid filter '{one.name}' is not available here.",
                            line=line_at(one.token.source, one.token.start_index),
                        )


def compile_template(
    source: str, *, html: bool, form: Form | None = None, pixel: bool = False
) -> Template:
    """Return a Template for a compiled source; values are HTML-escaped when `html`.

    With `pixel`, an image whose address `render` is told stands at the end of the body.
    """
    bound = _parse(_HTML if html else _TEXT, source)
    form = form or _PLAIN[html]
    nodes = with_pixel(bound.nodes) if pixel else bound.nodes
    names = (str(name) for node in walk(nodes) for name in node.template_scope())
    step, constants = StepMaker(form, names).step(nodes)
    return Template(bound, step, MAX_OUTPUT * form.limit_factor + constants)


def parse_author(source: str) -> BoundTemplate:
    """Return the tree of an author's source that `scan_liquid` let pass; raises ContentError."""
    return _parse(_AUTHOR, source)


def walk(nodes: Any) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from walk(node.children(None))


def parts(expression: Expression) -> Iterator[Expression]:
    yield expression
    for child in expression.children():
        yield from parts(child)
