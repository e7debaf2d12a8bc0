"""Liquid for hostile authors: a hardened environment, rendering with limits, static analysis.

python-liquid with its own limits, a fixed list of tags and bounded filters; every loop turn, filter
and assignment looks at a deadline of CPU time. There is no include, no render, no file and no
attribute access: values are plain data.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from liquid import Environment
from liquid.ast import Node
from liquid.builtin import content, illegal, output
from liquid.builtin.expressions import (
    FilteredExpression,
    Path,
    PositionalArgument,
    StringLiteral,
)
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
from liquid.context import RenderContext as LibraryContext
from liquid.exceptions import LiquidError, ResourceLimitError
from liquid.expression import Expression
from liquid.stream import TokenStream
from liquid.tag import Tag
from liquid.template import BoundTemplate
from liquid.token import TOKEN_EXPRESSION, TOKEN_TAG
from markupsafe import escape

from sending.content.errors import ContentError
from sending.content.filters import FILTERS, check_value
from sending.content.guard import line_at, scan_liquid

DEADLINE = 0.25  # seconds of CPU for one part of one message
MAX_OUTPUT = 512 * 1024
MAX_LOOP_TURNS = 2_000
MAX_LOCALS = 1024 * 1024
MAX_BLOCK_NESTING = 30

_TAGS: tuple[type[Tag], ...] = (
    content.Literal,
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
LinkWriter = Callable[[int], str]


class Buffer:
    """The output of a template or capture; raises when the limit is reached."""

    __slots__ = ("limit", "parts", "size")

    def __init__(self, limit: int) -> None:
        self.parts: list[str] = []
        self.size = 0
        self.limit = limit

    def write(self, text: str) -> int:
        # characters, not bytes: counting bytes costs a third of the rendering
        self.size += len(text)
        if self.size > self.limit:
            raise ResourceLimitError("the text grew beyond 512 KB", token=None)
        self.parts.append(text)
        return 0

    def getvalue(self) -> str:
        return "".join(self.parts)


class BoundedContext(LibraryContext):
    """A render context that counts loop turns, weighs local values and keeps a deadline."""

    __slots__ = ("deadline", "link_writer", "locals_size", "now", "sizes", "turns")

    def __init__(self, template: BoundTemplate, **kwargs: Any) -> None:
        super().__init__(template, **kwargs)
        self.deadline = time.thread_time() + DEADLINE
        self.turns = 0
        self.locals_size = 0
        self.sizes: dict[str, int] = {}
        self.now = dt.datetime.now(dt.UTC)
        self.link_writer: LinkWriter | None = None

    def tick(self) -> None:
        """Raise when the time for this part is used up."""
        if time.thread_time() > self.deadline:
            raise ResourceLimitError("the template takes too long", token=None)

    def assign(self, key: str, val: Any) -> None:
        self.tick()
        size = sys.getsizeof(check_value(val), 64)
        if isinstance(val, (list, tuple)):
            size += sum(sys.getsizeof(item, 64) for item in val)
        self.locals_size += size - self.sizes.get(key, 0)
        self.sizes[key] = size
        if self.locals_size > MAX_LOCALS:
            raise ResourceLimitError("the template's own variables grew too large", token=None)
        self.locals[key] = val

    @contextmanager
    def loop(self, namespace: Mapping[str, object], forloop: Any) -> Iterator[LibraryContext]:
        forloop.it = self._turning(forloop.it)
        with super().loop(namespace, forloop) as context:
            yield context

    def _turning(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.turns += 1
            if self.turns > MAX_LOOP_TURNS:
                raise ResourceLimitError(f"loops may turn {MAX_LOOP_TURNS:,} times", token=None)
            self.tick()
            yield item

    def get_buffer(self, buf: Any = None) -> Any:
        return Buffer(MAX_OUTPUT - (buf.size if isinstance(buf, Buffer) else 0))


class _CheckedIterable(Expression):
    """The thing that a loop goes through, refused when it is too long to step over."""

    __slots__ = ("inner",)

    def __init__(self, inner: Expression) -> None:
        super().__init__(inner.token)
        self.inner = inner

    def __str__(self) -> str:
        return str(self.inner)

    def evaluate(self, context: LibraryContext) -> object:
        return check_value(self.inner.evaluate(context))

    def children(self) -> list[Expression]:
        return [self.inner]


class _ForTag(for_tag.ForTag):
    def parse(self, stream: TokenStream) -> Node:
        node = super().parse(stream)
        assert isinstance(node, for_tag.ForNode)
        node.expression.iterable = _CheckedIterable(node.expression.iterable)
        return node


class _OutputNode(output.OutputNode):
    """An output with a short way for `{{ a.b }}` and `{{ a.b | default: "c" }}`.

    Nearly every output of a newsletter is one of these two; the short way takes a third of the
    time and gives the same text.
    """

    __slots__ = ("fallback", "path")

    def __init__(self, token: Any, expression: Expression) -> None:
        super().__init__(token, expression)
        self.path, self.fallback = _short_way(expression)

    def render_to_output(self, context: LibraryContext, buffer: Any) -> int:
        if self.path is None:
            return super().render_to_output(context, buffer)
        value: Any
        try:
            name = self.path[0]
            if context.loops:
                value = context.scope[name]
            else:  # outside loops there are two places to look, not a chain of maps
                value = context.locals[name] if name in context.locals else context.globals[name]
            for segment in self.path[1:]:
                value = value[segment]
        except (KeyError, TypeError, IndexError):
            return super().render_to_output(context, buffer)
        if type(value) is not str:
            return super().render_to_output(context, buffer)
        if self.fallback is not None and not value.strip():
            return int(buffer.write(self.fallback))  # the author's own text: not escaped
        written: int = buffer.write(escape(value) if context.autoescape else value)
        return written


def _short_way(expression: Expression) -> tuple[tuple[str, ...] | None, str | None]:
    """Return (path, fallback) where `expression` has one of the two simple forms."""
    if not isinstance(expression, FilteredExpression) or not isinstance(expression.left, Path):
        return None, None
    path = tuple(part for part in expression.left.path if isinstance(part, str))
    if len(path) != len(expression.left.path) or {"size", "first", "last"} & set(path[1:]):
        return None, None
    filters = expression.filters or []
    if not filters:
        return path, None
    if len(filters) != 1 or filters[0].name != "default" or len(filters[0].args) != 1:
        return None, None
    argument = filters[0].args[0]
    if not isinstance(argument, PositionalArgument):
        return None, None
    if not isinstance(argument.value, StringLiteral):
        return None, None
    return path, str(argument.value.value)


class _OutputTag(output.Output):
    node_class = _OutputNode


class _LinkNode(Node):
    """Writes the URL of a link; the compiler puts it where an author's link stood."""

    __slots__ = ("index",)

    def __init__(self, token: Any, index: int) -> None:
        super().__init__(token)
        self.index = index
        self.blank = False

    def __str__(self) -> str:
        return f"{{% tracked_link {self.index} %}}"

    def render_to_output(self, context: LibraryContext, buffer: Any) -> int:
        writer = context.link_writer if isinstance(context, BoundedContext) else None
        written: int = buffer.write(writer(self.index) if writer else "")
        return written


class _LinkTag(Tag):
    name = "tracked_link"
    block = False

    def parse(self, stream: TokenStream) -> Node:
        token = stream.eat(TOKEN_TAG)
        return _LinkNode(token, int(stream.expect(TOKEN_EXPRESSION).value))


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
        self.add_tag(_ForTag)
        self.add_tag(_OutputTag)
        if self._compiled:
            self.add_tag(_LinkTag)
        for name, function in FILTERS.items():
            self.add_filter(name, function)


_AUTHOR = HardenedEnvironment(autoescape=False)
_HTML = HardenedEnvironment(autoescape=True, compiled=True)
_TEXT = HardenedEnvironment(autoescape=False, compiled=True)


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed Liquid source, ready to be filled many times (also by several threads)."""

    bound: BoundTemplate
    literal: str | None
    """The whole text where there is no Liquid in it."""
    steps: tuple[str | Node, ...] = ()
    """The top-level nodes, with literals as plain strings."""

    def render(
        self,
        variables: Mapping[str, object],
        *,
        link_writer: LinkWriter | None = None,
        now: dt.datetime | None = None,
    ) -> str:
        """Return the text for `variables`; raises ContentError at any limit or Liquid error."""
        if self.literal is not None:
            return self.literal
        context = BoundedContext(self.bound, globals=variables)
        context.link_writer = link_writer
        if now is not None:
            context.now = now
        buffer = Buffer(MAX_OUTPUT)
        try:
            parts = buffer.parts
            for step in self.steps:
                if type(step) is str:  # the compiler bounds the literals' size
                    parts.append(step)
                else:
                    step.render_to_output(context, buffer)  # type: ignore[union-attr,arg-type]
        except ContentError:
            raise
        except Exception as error:  # the library raises its own errors and Python's alike
            raise _render_error(error) from error
        return buffer.getvalue()


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


def compile_template(source: str, *, html: bool) -> Template:
    """Return a Template for a compiled source; values are HTML-escaped when `html`."""
    if "{{" not in source and "{%" not in source:
        return Template(_parse(_TEXT, ""), source)
    bound = _parse(_HTML if html else _TEXT, source)
    steps = (node.text if type(node) is content.ContentNode else node for node in bound.nodes)
    return Template(bound, None, tuple(steps))


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
