"""docs/bad-input.md names a test for every promise; the tests are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[str]:
    text = (ROOT / "docs" / "bad-input.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [line for line in lines if not line.startswith(("| Case", "| ---", "|---"))]


def test_every_row_names_a_test_that_exists() -> None:
    assert len(rows()) > 30
    for row in rows():
        named = _NAMED.findall(row)
        assert named, row
        for path, name in named:
            file = ROOT / path
            assert file.exists(), row
            tree = ast.parse(file.read_text())
            names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            names |= {n.name for n in ast.walk(tree) if isinstance(n, ast.AsyncFunctionDef)}
            assert name in names, row
