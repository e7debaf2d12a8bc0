"""Every verb that a person or a key may use leaves an entry in the audit log."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Verbs that take an actor and change nothing that an audit log is for, each with its reason.
_SILENT = {
    "accept_messages": "each message is its own entry in the message log",
    "is_owner": "reads",
}


def _modules() -> list[Path]:
    found = []
    for floor in ("tenants", "deliverability", "sending"):
        found += (ROOT / floor).glob("*/services.py")
        found += (ROOT / floor).glob("*/services/*.py")
        found += (ROOT / floor).glob("*/library.py")
    return sorted(found)


def _functions() -> dict[str, ast.FunctionDef]:
    """Return every function of the services by its name."""
    functions = {}
    for module in _modules():
        for node in ast.parse(module.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                functions[f"{module.relative_to(ROOT)}:{node.name}"] = node
    return functions


def _called(function: ast.FunctionDef) -> set[str]:
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            callee = node.func
            names.add(callee.id if isinstance(callee, ast.Name) else getattr(callee, "attr", ""))
    return names


def _takes_actor(function: ast.FunctionDef) -> bool:
    arguments = [*function.args.args, *function.args.kwonlyargs]
    return any(argument.arg in {"actor", "operator"} for argument in arguments)


def test_every_service_that_acts_for_someone_writes_the_audit_log() -> None:
    functions = _functions()
    assert len(functions) > 60
    audited = {"record"}
    while True:  # a service that calls an audited one is audited as well
        more = {
            name.rpartition(":")[2]
            for name, function in functions.items()
            if _called(function) & audited
        }
        if more <= audited:
            break
        audited |= more
    verbs = {
        name: function
        for name, function in functions.items()
        if _takes_actor(function) and not function.name.startswith("_")
    }
    assert len(verbs) > 25
    silent = {
        name
        for name, function in verbs.items()
        if function.name not in audited and function.name not in _SILENT
    }
    assert silent == set()
    assert set(_SILENT) <= {function.name for function in verbs.values()}, "an exception is stale"
