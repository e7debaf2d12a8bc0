"""The API's reference, made from its OpenAPI document for people to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson
from drf_spectacular.generators import SchemaGenerator

_DEPTH: Final = 3
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_FIRST: Final = ("Messages",)  # what people come for
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class FieldLine:
    """One field of a request or answer; a dotted name where it lies deeper."""

    name: str
    kind: str
    is_required: bool
    help: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One status that an operation answers with."""

    status: str
    help: str
    fields: list[FieldLine]
    example: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address."""

    id: str
    method: str
    path: str
    summary: str
    help: str
    parameters: list[FieldLine]
    body: list[FieldLine]
    example: str
    answers: list[Answer]
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Group:
    """Operations on one kind of thing."""

    name: str
    operations: list[Operation]


@lru_cache(maxsize=1)
def reference() -> list[Group]:
    """Return the operations by group."""
    generator: Any = SchemaGenerator()  # type: ignore[no-untyped-call]
    document: dict[str, Any] = generator.get_schema(request=None, public=True)
    reader = _Reader(document.get("components", {}).get("schemas", {}))
    groups: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                name = (operation.get("tags") or ["Other"])[0]
                groups.setdefault(name, []).append(reader.operation(path, method, operation))
    order = sorted(groups, key=lambda name: (name not in _FIRST, name.lower()))
    return [Group(name, groups[name]) for name in order]


class _Reader:
    def __init__(self, schemas: dict[str, Any]) -> None:
        self._schemas = schemas

    def operation(self, path: str, method: str, raw: dict[str, Any]) -> Operation:
        body = raw.get("requestBody", {}).get("content", {}).get(_JSON, {})
        answers, problems = [], []
        for status, answer in raw.get("responses", {}).items():
            if status.startswith("2"):
                answers.append(self._answer(status, answer))
            else:
                problems.append(status)
        return Operation(
            id=raw["operationId"],
            method=method.upper(),
            path=path,
            summary=raw.get("summary") or raw["operationId"].replace("_", " ").capitalize(),
            help=raw.get("description", ""),
            parameters=[self._parameter(one) for one in raw.get("parameters", [])],
            body=list(self._fields(body.get("schema", {}))),
            example=_example(body),
            answers=answers,
            problems=problems,
        )

    def _answer(self, status: str, raw: dict[str, Any]) -> Answer:
        content = raw.get("content", {}).get(_JSON, {})
        schema = self._resolved(content.get("schema", {}))
        return Answer(
            status=status,
            help=schema.get("description", ""),
            fields=list(self._fields(schema)),
            example=_example(content),
        )

    def _parameter(self, raw: dict[str, Any]) -> FieldLine:
        where = {"header": "header", "path": "in the address"}.get(raw["in"], "query")
        return FieldLine(
            name=raw["name"],
            kind=f"{self._kind(raw.get('schema', {}))}, {where}",
            is_required=raw.get("required", False),
            help=_without_values(raw.get("description", "")),
        )

    def _fields(
        self, schema: dict[str, Any], prefix: str = "", depth: int = 0
    ) -> Iterator[FieldLine]:
        schema = self._resolved(schema)
        if schema.get("type") == "array":
            yield from self._fields(schema.get("items", {}), f"{prefix}[]", depth)
            return
        required = schema.get("required", [])
        for name, raw in schema.get("properties", {}).items():
            path = f"{prefix}.{name}" if prefix else name
            resolved = self._resolved(raw)
            yield FieldLine(path, self._kind(raw), name in required, _help(raw, resolved))
            if depth < _DEPTH:
                yield from self._fields(resolved, path, depth + 1)

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Follow references; of alternatives the first that is not null."""
        for _ in range(10):
            if "$ref" in schema:
                schema = self._schemas[schema["$ref"].rpartition("/")[2]]
            elif "allOf" in schema or "oneOf" in schema:
                schema = (schema.get("allOf") or schema["oneOf"])[0]
            else:
                break
        return schema

    def _kind(self, schema: dict[str, Any]) -> str:
        resolved = self._resolved(schema)
        if "enum" in resolved:
            return "one of " + ", ".join(str(value) for value in resolved["enum"] if value)
        if resolved.get("type") == "array":
            return f"list of {self._kind(resolved.get('items', {}))}"
        names = {"date-time": "date and time", "email": "address", "uri": "URL"}
        plain = str(resolved.get("type", "any value"))
        return names.get(resolved.get("format", ""), plain)


def _help(raw: dict[str, Any], resolved: dict[str, Any]) -> str:
    """Return the field's own help; lists of an enum's values are in the kind already."""
    text = str(raw.get("description") or "")
    if not text and "enum" not in resolved and resolved.get("type") == "object":
        text = str(resolved.get("description") or "")
    return _without_values(text)


def _without_values(text: str) -> str:
    """Cut off the list of an enum's values that the generator appends."""
    return text.split("* `", maxsplit=1)[0].strip()


def _example(content: dict[str, Any]) -> str:
    examples = list(content.get("examples", {}).values())
    if not examples:
        return ""
    text: bytes = orjson.dumps(examples[0]["value"], option=orjson.OPT_INDENT_2)
    return text.decode()
