"""A Liquid tree as a list of steps: constants ready to write, and closures for the rest.

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
from liquid.stringify import to_liquid_string

from sending.content.bounds import MAX_OUTPUT, BoundedContext, Buffer
from sending.content.expressions import (
    MISSING,
    Evaluate,
    Names,
    condition,
    evaluator,
    global_name,
    look_up,
)
from sending.content.filters import check_value
from sending.content.nodes import LinkNode, PixelNode
from sending.content.quoted import Form

Write = Callable[[str], None]
Step = Callable[[BoundedContext, Write], None]
Steps = tuple[str | Step, ...]

_BIG = 10**18  # a number below it fits behind every constant
_LONG = 256  # characters of a value that are counted at once, not at the end
_SILENT = (comment_tag.CommentNode, inline_comment_tag.InlineCommentNode)
_VALUES = (output.OutputNode, LinkNode, PixelNode)  # what goes on the line of a constant


def run(steps: Steps, context: BoundedContext, write: Write) -> None:
    """Run `steps`; raises what Liquid raises at a limit."""
    for step in steps:
        if type(step) is str:
            write(step)
        else:
            step(context, write)  # type: ignore[operator]


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

    def steps(self, nodes: Sequence[Node]) -> Steps:
        """Return the steps of a whole template."""
        return self._block(nodes, self.names)

    def _block(self, nodes: Sequence[Node], names: Names) -> Steps:
        """Return the steps of `nodes`; a constant leaves its line open for a value after it."""
        steps: list[str | Step] = []
        column = 0
        heard = [node for node in nodes if not isinstance(node, _SILENT)]
        for number, node in enumerate(heard):
            if isinstance(node, content.ContentNode):
                written, column = self._form.constant(node.text)
                follower = heard[number + 1] if number + 1 < len(heard) else None
                if not isinstance(follower, _VALUES):
                    written, column = self._form.close(written, column), 0
                steps.append(written)
            else:
                steps.append(self._step(node, names, column))
                column = 0
        return tuple(steps)

    def _step(self, node: Node, names: Names, column: int) -> Step:
        if isinstance(node, LinkNode):
            return _link(node, self._form, column)
        if isinstance(node, PixelNode):
            return _pixel(self._form, column)
        if isinstance(node, output.OutputNode):  # `echo` is one as well
            return self._output(node.expression, names, column)
        make = self._makers.get(type(node))
        return make(node, names) if make else _library(node, self._form)

    def _output(self, expression: Expression, names: Names, column: int) -> Step:
        simple, fallback = _simple_output(expression)
        look = look_up(simple, names) if simple is not None else None
        whole = evaluator(expression, names, html=self._form.html)
        if look is None:
            return _computed(whole, self._form, column)
        otherwise = _computed(whole, self._form, column)
        step = _value(look, fallback, otherwise, self._form, column)
        name = global_name(simple, names)
        return _known(name, step, self._form) if name else step

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
        default = self._block(node.default.nodes, names) if node.default else ()

        def choose(context: BoundedContext, write: Write) -> None:
            for asked, steps in choices:
                if asked(context):
                    run(steps, context, write)
                    return
            run(default, context, write)

        return choose

    def _case(self, node: case_tag.CaseNode, names: Names) -> Step:
        """Return a step that runs every block that matches, as often as it matches."""
        blocks: list[tuple[Expression | None, Steps]] = []
        for block in node.blocks:
            if isinstance(block, case_tag.MultiExpressionBlockNode):
                blocks.append((block.expression, self._block(block.block.nodes, names)))
            else:
                blocks.append((None, self._block(block.nodes, names)))

        def choose(context: BoundedContext, write: Write) -> None:
            is_default = True
            for asked, steps in blocks:
                if asked is None:
                    times = int(is_default)
                else:
                    matches: Any = asked.evaluate(context)
                    times = matches.count(True) if any(matches) else 0
                    is_default = is_default and not any(matches)
                for _ in range(times):
                    run(steps, context, write)

        return choose

    def _assign(self, node: assign_tag.AssignNode, names: Names) -> Step:
        name = str(node.name)  # the library's own kind of text hashes in Python
        value = evaluator(node.expression, names, html=self._form.html)
        return lambda context, write: context.assign(name, value(context))

    def _for(self, node: for_tag.ForNode, names: Names) -> Step:
        variable = str(node.expression.identifier)
        loop_name = f"{variable}-{node.expression.iterable}"
        items = _items(node.expression, names, loop_name, html=self._form.html)
        body = self._block(node.block.nodes, names.inside(variable))
        default = self._block(node.default.nodes, names) if node.default else ()
        asks_parent = "parentloop" in str(node.block)

        def turn(context: BoundedContext, write: Write) -> None:
            found, length = items(context)
            if not length:
                run(default, context, write)
                return
            parent = context.parentloop() if asks_parent else None
            forloop = for_tag.ForLoop(loop_name, iter(()), length, parent)
            frame: dict[str, Any] = {"forloop": forloop, variable: None}
            context.enter(forloop, frame)
            for item in found:
                forloop.step()
                context.turn()
                frame[variable] = item
                try:
                    run(body, context, write)
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
        check_value(found)
        context.stopindex(loop_name, len(found))  # for a loop that goes on with `offset: continue`
        return found, len(found)

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


def _value(look: Evaluate, fallback: str | None, otherwise: Step, form: Form, column: int) -> Step:
    """Return the step of a plain value: nearly every output of a newsletter."""
    known, place, tail = form.memo.get, form.place, form.tail
    blank = None if fallback is None else form.finished(fallback, column)  # not escaped

    def step(context: BoundedContext, write: Write) -> None:
        try:
            value = look(context)
        except MISSING:
            return otherwise(context, write)
        if type(value) is not str:
            if type(value) is int and -_BIG < value < _BIG:
                return write(f"{value}{tail}")
            return otherwise(context, write)
        written = known(value)  # never a blank value
        if written is not None:
            return write(written)
        if blank is not None and not value.strip():
            return write(blank)
        write(place(value, column))
        if len(value) > _LONG:
            context.count()
        return None

    return step


def _known(name: str, unknown: Step, form: Form) -> Step:
    """Return the step of a variable, with a short way for a value that was written before."""
    known = form.memo.get

    def step(context: BoundedContext, write: Write) -> None:
        value = context.globals.get(name)
        if type(value) is str:
            written = known(value)
            if written is not None:
                write(written)
                return
        unknown(context, write)

    return step


def _computed(value: Evaluate, form: Form, column: int) -> Step:
    """Return the step of any other output."""
    html = form.html

    def step(context: BoundedContext, write: Write) -> None:
        text = str(to_liquid_string(value(context), html))
        write(form.finished(text, column))
        if len(text) > _LONG:
            context.count()

    return step


def _link(node: LinkNode, form: Form, column: int) -> Step:
    index, place, empty = node.index, form.place, form.finished("", column)

    def step(context: BoundedContext, write: Write) -> None:
        link = context.link_writer
        write(place(link(index), column) if link else empty)

    return step


def _pixel(form: Form, column: int) -> Step:
    return lambda context, write: write(form.place(context.pixel_url, column))


def _library(node: Node, form: Form) -> Step:
    """Return the step that lets the library render `node`."""

    def step(context: BoundedContext, write: Write) -> None:
        context.count()
        buffer = Buffer(MAX_OUTPUT - min(context.size, MAX_OUTPUT))
        try:
            node.render_to_output(context, buffer)  # type: ignore[arg-type]
        finally:  # a break leaves a node after some of its text
            write(form.finished(buffer.getvalue(), 0))

    return step


def _break(context: BoundedContext, write: Write) -> None:
    raise BreakLoop("break")


def _continue(context: BoundedContext, write: Write) -> None:
    raise ContinueLoop("continue")
