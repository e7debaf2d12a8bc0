"""Our own nodes of the Liquid tree: tracked link and open pixel, and a loop that checks its list.

Authors cannot write the first two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from liquid.ast import Node
from liquid.builtin.content import ContentNode
from liquid.builtin.tags import for_tag
from liquid.context import RenderContext as LibraryContext
from liquid.expression import Expression
from liquid.stream import TokenStream
from liquid.tag import Tag
from liquid.token import TOKEN_EXPRESSION, TOKEN_TAG
from markupsafe import escape

from sending.content.bounds import BoundedContext
from sending.content.filters import check_value

_PIXEL = (
    '<img src="',
    '" width="1" height="1" alt="" border="0" style="display:block;width:1px;height:1px;border:0">',
)


class LinkNode(Node):
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
        url = writer(self.index) if writer else ""
        written: int = buffer.write(str(escape(url)) if context.autoescape else url)
        return written


class LinkTag(Tag):
    name = "tracked_link"
    block = False

    def parse(self, stream: TokenStream) -> Node:
        token = stream.eat(TOKEN_TAG)
        return LinkNode(token, int(stream.expect(TOKEN_EXPRESSION).value))


class PixelNode(Node):
    """Writes the address of the open pixel; stands at the end of an HTML body."""

    __slots__ = ()

    def render_to_output(self, context: LibraryContext, buffer: Any) -> int:
        written: int = buffer.write(
            context.pixel_url if isinstance(context, BoundedContext) else ""
        )
        return written


def with_pixel(nodes: Sequence[Node]) -> list[Node]:
    """Return `nodes` with the pixel's image at the end of the body, or else at the very end."""
    before = list(nodes)
    for place in range(len(before) - 1, -1, -1):
        node = before[place]
        if isinstance(node, ContentNode) and "</body>" in node.text:
            head, end, tail = node.text.rpartition("</body>")
            return [*before[:place], *_pixel(node.token, head, end + tail), *before[place + 1 :]]
    return [*before, *_pixel(before[-1].token, "", "")] if before else before


def _pixel(token: Any, head: str, tail: str) -> list[Node]:
    return [
        ContentNode(token, head + _PIXEL[0]),
        PixelNode(token),
        ContentNode(token, _PIXEL[1] + tail),
    ]


class CheckedIterable(Expression):
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


class CheckedForTag(for_tag.ForTag):
    def parse(self, stream: TokenStream) -> Node:
        node = super().parse(stream)
        assert isinstance(node, for_tag.ForNode)
        node.expression.iterable = CheckedIterable(node.expression.iterable)
        return node
