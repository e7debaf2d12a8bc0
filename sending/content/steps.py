"""A Liquid tree as steps: closures that append what they write to the parts of an output.

The steps write what the library's nodes would write (a property test compares both), in any Form.
What is rare stays the library's: its node runs on the same context and its text is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from liquid.ast import Node
from liquid.builtin import content, output
from liquid.builtin.expressions import FilteredExpression, PositionalArgument, StringLiteral
from liquid.builtin.expressions.primitive import IntegerLiteral
from liquid.builtin.tags import (
    assign_tag,
    case_tag,
    comment_tag,
    for_tag,
    if_tag,
    inline_comment_tag,
    unless_tag,
)
from liquid.exceptions import BreakLoop, ContinueLoop
from liquid.expression import Expression

from sending.content.bounds import MAX_OUTPUT, BoundedContext, Buffer
from sending.content.expressions import (
    Evaluate,
    Names,
    condition,
    evaluator,
    look_up,
    place_of,
)
from sending.content.filters import MAX_ITEMS, check_value
from sending.content.nodes import LinkNode, PixelNode
from sending.content.quoted import Form
from sending.content.rows import (
    Block,
    Linked,
    Named,
    Other,
    Parts,
    Step,
    Value,
    computed_value,
    looked_up,
    own_url,
    plain_value,
)

_SILENT = (comment_tag.CommentNode, inline_comment_tag.InlineCommentNode)
_URLS = frozenset({"unsubscribe_url", "preferences_url", "view_url"})  # of the product
_VALUES = (output.OutputNode, LinkNode, PixelNode)  # what goes on the line of a constant


class StepMaker:
    """Makes the steps of one template in one form."""

    def __init__(self, form: Form, assigned: Iterable[str]) -> None:
        self._form = form
        self.names = Names(frozenset(assigned))
        self._makers: dict[type[Node], Callable[[Any, Names], Step]] = {
            if_tag.IfNode: self._if,
            unless_tag.UnlessNode: self._unless,
            case_tag.CaseNode: self._case,
            for_tag.ForNode: self._for,
            assign_tag.AssignNode: self._assign,
            for_tag.BreakNode: lambda node, names: _break,
            for_tag.ContinueNode: lambda node, names: _continue,
        }

    def step(self, nodes: Sequence[Node]) -> tuple[Step, int]:
        """Return the step of a whole template, and the size of its constants outside of blocks."""
        block = self._gathered(nodes, self.names)
        return block.step(), block.constants

    def _block(self, nodes: Sequence[Node], names: Names) -> Step:
        return self._gathered(nodes, names).step()

    def _gathered(self, nodes: Sequence[Node], names: Names) -> Block:
        """Return `nodes` as a block; a constant leaves its line open for a value after it."""
        block = Block(self._form)
        column = 0
        heard = [node for node in nodes if not isinstance(node, _SILENT)]
        for number, node in enumerate(heard):
            if isinstance(node, content.ContentNode):
                written, column = self._form.constant(node.text)
                follower = heard[number + 1] if number + 1 < len(heard) else None
                if not isinstance(follower, _VALUES):
                    written, column = self._form.close(written, column), 0
                block.add_constant(written)
                continue
            if isinstance(node, _VALUES):
                block.add_value(self._value(node, names, column))
            else:
                block.add_step(self._step(node, names))
            column = 0
        return block

    def _value(self, node: Node, names: Names, column: int) -> Value:
        if isinstance(node, LinkNode):
            return Linked(node.index, column)
        if isinstance(node, PixelNode):
            return Other(_pixel(self._form, column))
        assert isinstance(node, output.OutputNode)  # `echo` is one as well
        return self._output(node.expression, names, column)

    def _output(self, expression: Expression, names: Names, column: int) -> Value:
        form = self._form
        otherwise = computed_value(evaluator(expression, names, html=form.html), form, column)
        simple, fallback = _simple_output(expression)
        look = look_up(simple, names) if simple is not None else None
        if simple is None or look is None:
            return Other(otherwise)
        write = plain_value(fallback, otherwise, form, column)
        place = place_of(simple, names)
        if place is None:
            return Other(looked_up(look, write, otherwise, form))
        frame, name = place
        if frame == 0 and name in _URLS:
            return Other(own_url(name, write, form, column))
        return Named(frame, name, write)

    def _step(self, node: Node, names: Names) -> Step:
        make = self._makers.get(type(node))
        return make(node, names) if make else _library(node, self._form)

    def _if(self, node: if_tag.IfNode, names: Names) -> Step:
        first = condition(node.condition, names)
        return self._choice(first, node, names)

    def _unless(self, node: unless_tag.UnlessNode, names: Names) -> Step:
        asked = condition(node.condition, names)
        return self._choice(lambda context: not asked(context), node, names)

    def _choice(self, first: Evaluate, node: Any, names: Names) -> Step:
        choices = [(first, self._block(node.consequence.nodes, names))]
        choices += [
            (condition(one.expression, names), self._block(one.block.nodes, names))
            for one in node.alternatives
        ]
        default = self._block(node.default.nodes, names) if node.default else _nothing

        def choose(context: BoundedContext, parts: Parts) -> None:
            for asked, step in choices:
                if asked(context):
                    step(context, parts)
                    return
            default(context, parts)

        return choose

    def _case(self, node: case_tag.CaseNode, names: Names) -> Step:
        """Return a step that runs every block that matches, as often as it matches."""
        blocks: list[tuple[Expression | None, Step]] = []
        for block in node.blocks:
            if isinstance(block, case_tag.MultiExpressionBlockNode):
                blocks.append((block.expression, self._block(block.block.nodes, names)))
            else:
                blocks.append((None, self._block(block.nodes, names)))

        def choose(context: BoundedContext, parts: Parts) -> None:
            is_default = True
            for asked, step in blocks:
                if asked is None:
                    times = int(is_default)
                else:
                    matches: Any = asked.evaluate(context)
                    times = matches.count(True) if any(matches) else 0
                    is_default = is_default and not any(matches)
                for _ in range(times):
                    step(context, parts)

        return choose

    def _assign(self, node: assign_tag.AssignNode, names: Names) -> Step:
        name = str(node.name)  # the library's own kind of text hashes in Python
        value = evaluator(node.expression, names, html=self._form.html)
        return lambda context, parts: context.assign(name, value(context))

    def _for(self, node: for_tag.ForNode, names: Names) -> Step:
        variable = str(node.expression.identifier)
        loop_name = f"{variable}-{node.expression.iterable}"
        items = _items(node.expression, names, loop_name, html=self._form.html)
        body = self._block(node.block.nodes, names.inside(variable))
        default = self._block(node.default.nodes, names) if node.default else _nothing
        inside = str(node.block)
        asks_parent = "parentloop" in inside
        asks_turn = "forloop" in inside or "[" in inside  # a name may be computed in brackets

        def turn(context: BoundedContext, parts: Parts) -> None:
            found, length = items(context)
            if not length:
                default(context, parts)
                return
            parent = context.parentloop() if asks_parent else None
            forloop = for_tag.ForLoop(loop_name, iter(()), length, parent)
            frame: dict[str, Any] = {"forloop": forloop, variable: None}
            context.enter(forloop, frame)
            for item in found:
                if asks_turn:
                    forloop.step()
                context.turn()
                frame[variable] = item
                try:
                    body(context, parts)
                except ContinueLoop:
                    continue
                except BreakLoop:
                    break
            context.leave()  # after an error nobody asks the context for anything

        return turn


def _items(
    expression: Any, names: Names, loop_name: str, *, html: bool
) -> Callable[[BoundedContext], tuple[Any, int]]:
    """Return a function with what a loop goes through and how long that is."""
    if expression.limit or expression.offset or expression.reversed:
        return expression.evaluate  # type: ignore[no-any-return]
    value = evaluator(expression.iterable.inner, names, html=html)

    def items(context: BoundedContext) -> tuple[Any, int]:
        found = value(context)
        if type(found) is not list:
            iterator, length = expression.evaluate(context)
            return iterator, length
        length = len(found)
        if length > MAX_ITEMS:
            check_value(found)
        # for a loop that goes on with `offset: continue`
        context.tag_namespace["stopindex"][loop_name] = length
        return found, length

    return items


def _simple_output(expression: Expression) -> tuple[Expression | None, str | None]:
    """Return (path, fallback) of `{{ path }}` and `{{ path | default: "fallback" }}`."""
    if not isinstance(expression, FilteredExpression):
        return None, None
    filters = expression.filters or []
    if not filters:
        return expression.left, None
    if len(filters) != 1 or filters[0].name != "default" or len(filters[0].args) != 1:
        return None, None
    argument = filters[0].args[0]
    if not isinstance(argument, PositionalArgument):
        return None, None
    if not isinstance(argument.value, (StringLiteral, IntegerLiteral)):
        return None, None
    return expression.left, str(argument.value.value)


def _pixel(form: Form, column: int) -> Step:
    def step(context: BoundedContext, parts: Parts) -> None:
        url = context.pixel_url
        place = form.place_clean if context.has_clean_urls and url else form.place
        parts.append(place(url, column))

    return step


def _library(node: Node, form: Form) -> Step:
    """Return the step that lets the library render `node`."""

    def step(context: BoundedContext, parts: Parts) -> None:
        context.count()
        buffer = Buffer(MAX_OUTPUT - min(context.size, MAX_OUTPUT))
        try:
            node.render_to_output(context, buffer)  # type: ignore[arg-type]
        finally:  # a break leaves a node after some of its text
            parts.append(form.finished(buffer.getvalue(), 0))

    return step


def _nothing(context: BoundedContext, parts: Parts) -> None:
    pass


def _break(context: BoundedContext, parts: Parts) -> None:
    raise BreakLoop("break")


def _continue(context: BoundedContext, parts: Parts) -> None:
    raise ContinueLoop("continue")
