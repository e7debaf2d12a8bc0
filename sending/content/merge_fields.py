"""Which merge fields a Liquid source reads, found without rendering it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from liquid.builtin import output
from liquid.builtin.expressions import FilteredExpression, Path
from liquid.builtin.tags import assign_tag, echo_tag
from liquid.expression import Expression

from sending.content.guard import scan_liquid
from sending.content.liquid import parse_author, parts, walk
from sending.content.types import PRODUCT_VARIABLES


@dataclass(slots=True)
class _Uses:
    local: set[str]
    found: dict[str, bool] = field(default_factory=dict)

    def note(self, path: Path, *, has_default: bool) -> None:
        name = _field_name(path)
        if name and name not in self.local and name not in PRODUCT_VARIABLES:
            self.found[name] = self.found.get(name, True) and has_default


def _field_name(path: Path) -> str | None:
    first, rest = path.path[0], path.path[1:]
    if not isinstance(first, str):
        return None
    if first != "contact":
        return first
    return rest[0] if rest and isinstance(rest[0], str) else None


def _local_names(nodes: Any) -> set[str]:
    names = {"forloop"}
    for node in walk(nodes):
        names.update(str(name) for name in node.template_scope())
        names.update(str(name) for name in node.block_scope())
    return names


def _roots(expression: Expression) -> set[str]:
    names = (_field_name(part) for part in parts(expression) if isinstance(part, Path))
    return {name for name in names if name}


def _collect(nodes: Any, uses: _Uses, guarded: frozenset[str]) -> None:
    """Note every field that is written out; one that a surrounding condition asks about is safe."""
    for node in nodes:
        expressions = list(node.expressions())
        if isinstance(node, (output.OutputNode, echo_tag.EchoNode, assign_tag.AssignNode)):
            for expression in expressions:
                _note_output(expression, uses, guarded)
            continue
        asked = set().union(*(_roots(expression) for expression in expressions))
        for expression in expressions:
            for part in parts(expression):
                if isinstance(part, Path):
                    uses.note(part, has_default=True)
        _collect(node.children(None), uses, guarded | asked)


def _note_output(expression: Expression, uses: _Uses, guarded: frozenset[str]) -> None:
    has_default = isinstance(expression, FilteredExpression) and any(
        one.name == "default" for one in expression.filters or ()
    )
    for part in parts(expression):
        if isinstance(part, Path):
            safe = has_default or _field_name(part) in guarded
            uses.note(part, has_default=safe)


def fields_used(source: str) -> dict[str, bool]:
    """Return the merge fields of a Liquid source: name → whether every use has a default.

    A use inside a condition about the same field counts as having one. `contact.city` and `city`
    are the same field; the product's own variables are left out. Raises ContentError.
    """
    if not scan_liquid(source):
        return {}
    template = parse_author(source)
    uses = _Uses(_local_names(template.nodes))
    _collect(template.nodes, uses, frozenset())
    return uses.found


def names_used(source: str) -> set[str]:
    """Return every name that a Liquid source reads, the product's variables among them."""
    if not scan_liquid(source):
        return set()
    nodes = parse_author(source).nodes
    return set().union(
        *(_roots(expression) for node in walk(nodes) for expression in node.expressions())
    )


def local_names(source: str) -> set[str]:
    """Return the names that a source sets itself (assign, capture, loops)."""
    return _local_names(parse_author(source).nodes) if scan_liquid(source) else set()
