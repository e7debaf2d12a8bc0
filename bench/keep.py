"""Keep lines of JSON that benchmarks printed: `python bench/keep.py FILE …` writes results/."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
_LEFT_OUT = {"machine", "bench"}


def flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Return (dotted name, value) of everything in a figure."""
    if isinstance(value, dict):
        return [
            pair for key, inner in value.items() for pair in flat(inner, f"{name}.{key}".strip("."))
        ]
    return [(name, value)]


def table(run: dict[str, Any]) -> list[str]:
    """Return one run as lines of Markdown."""
    machine = ", ".join(f"{name} {value}" for name, value in run.get("machine", {}).items())
    title = f"{run['bench']}, signed: {run['sign']}" if "sign" in run else run["bench"]
    lines = [f"## {title}", "", machine, "", "| Figure | Value |", "|---|---|"]
    figures = {name: value for name, value in run.items() if name not in _LEFT_OUT}
    return lines + [f"| {name} | {value} |" for name, value in flat(figures)] + [""]


def main(paths: list[str]) -> None:
    runs = [json.loads(line) for path in paths for line in Path(path).read_text().splitlines()]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "latest.json").write_text("".join(json.dumps(run) + "\n" for run in runs))
    lines = ["# Latest results", "", *(line for run in runs for line in table(run))]
    (RESULTS / "latest.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
