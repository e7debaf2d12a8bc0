"""Questions to the store: mailboxes, messages, counts and the ledger, as plain JSON values.

The statements are put together from fixed parts of this file; values go in as parameters.
"""

# ruff: noqa: S608

from __future__ import annotations

import base64
import email
import json
import sqlite3
from email.message import EmailMessage
from email.policy import default as modern
from typing import Any

PAGE_SIZE = 50
MAX_LEDGER = 5000
# What is final about a recipient; the rest of the ledger tells how it came to it.
FINAL_KINDS = ("delivered", "unknown_fate", "refused")

_SUMMARY_COLUMNS = (
    "id, provider, recipient, mail_from, message_id, subject, sender, length(raw) AS size,"
    " authentication, received_at, source_ip, tls, copy"
)


def mailboxes(
    db: sqlite3.Connection, *, provider: str = "", query: str = "", page: int = 1
) -> dict[str, Any]:
    """Return one page of mailboxes that hold mail, the latest first."""
    where, values = ["1"], []
    if provider:
        where.append("provider = ?")
        values.append(provider)
    if query:
        where.append("recipient LIKE ? ESCAPE '\\'")
        values.append(f"%{_like(query)}%")
    rows = db.execute(
        "SELECT recipient AS address, provider, count(*) AS messages, max(received_at) AS last_at"
        f" FROM message WHERE {' AND '.join(where)} GROUP BY recipient"
        " ORDER BY max(id) DESC LIMIT ? OFFSET ?",
        (*values, PAGE_SIZE + 1, (max(page, 1) - 1) * PAGE_SIZE),
    ).fetchall()
    return {
        "mailboxes": [dict(row) for row in rows[:PAGE_SIZE]],
        "page": max(page, 1),
        "has_more": len(rows) > PAGE_SIZE,
    }


def messages(db: sqlite3.Connection, *, address: str) -> dict[str, Any]:
    """Return the latest messages of one mailbox, newest first."""
    rows = db.execute(
        f"SELECT {_SUMMARY_COLUMNS} FROM message WHERE recipient = ? ORDER BY id DESC LIMIT 200",
        (address,),
    ).fetchall()
    return {"messages": [_message(row) for row in rows]}


def message(db: sqlite3.Connection, *, id_: int) -> dict[str, Any] | None:
    """Return one message with headers, raw octets (base64), parts and verdict; None if absent."""
    row = db.execute(
        f"SELECT {_SUMMARY_COLUMNS}, raw FROM message WHERE id = ?",
        (id_,),
    ).fetchone()
    if row is None:
        return None
    parsed = email.message_from_bytes(row["raw"], policy=modern)
    return {
        **_message(row),
        "headers": [[name, str(value)] for name, value in parsed.items()],
        "raw_base64": base64.b64encode(row["raw"]).decode(),
        "html": part_text(parsed, "html"),
        "text": part_text(parsed, "plain"),
    }


def part_text(parsed: EmailMessage, subtype: str) -> str | None:
    """Return the first body part of the subtype as text, or None. Never raises for bad mail."""
    part = parsed.get_body(preferencelist=(subtype,))
    if part is None:
        return None
    try:
        return str(part.get_content())
    except (LookupError, ValueError, KeyError):
        payload = part.get_payload(decode=True)
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else None


def _message(row: sqlite3.Row) -> dict[str, Any]:
    values = {key: row[key] for key in row.keys() if key != "raw"}  # noqa: SIM118 (sqlite3.Row)
    values["authentication"] = json.loads(row["authentication"] or "null")
    return values


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def summary(db: sqlite3.Connection, *, domain: str = "", since: float = 0.0) -> dict[str, int]:
    """Count what happened, for one sender's domain (of Message-ID and return path) or for all.

    `delivered` counts pairs of Message-ID and recipient, `duplicates` further copies that no lost
    reply explains, `unknown_fate` copies that were stored while the reply was withheld.
    """
    where, values = ["at >= ?"], [since]
    if domain:
        where.append("domain = ?")
        values.append(domain.lower())  # type: ignore[arg-type]
    condition = " AND ".join(where)
    counted = db.execute(
        # A mail with three pictures is opened once.
        "SELECT kind, CASE WHEN kind LIKE '%open' THEN count(DISTINCT stored_id) ELSE count(*) END"
        f" FROM fact WHERE {condition} GROUP BY kind",
        values,
    )
    kinds = {row[0]: row[1] for row in counted}
    copies = db.execute(
        "SELECT count(*), coalesce(sum(max(copies - 1 - unknown, 0)), 0) FROM ("
        " SELECT count(*) AS copies, sum(kind = 'unknown_fate') AS unknown FROM fact"
        f" WHERE kind IN ('delivered', 'unknown_fate') AND {condition}"
        " GROUP BY message_id, recipient)",
        values,
    ).fetchone()
    return {
        "delivered": copies[0],
        "duplicates": copies[1],
        "unknown_fate": kinds.get("unknown_fate", 0),
        "refused": kinds.get("refused", 0),
        "deferred_replies": kinds.get("deferred", 0),
        "complaints_sent": kinds.get("complaint_sent", 0),
        "late_bounces_sent": kinds.get("late_bounce_sent", 0),
        "autoreplies_sent": kinds.get("autoreply_sent", 0),
        "outgoing_failed": kinds.get("outgoing_failed", 0),
        "opens": kinds.get("open", 0),
        "clicks": kinds.get("click", 0),
        "machine_opens": kinds.get("machine_open", 0),
        "machine_clicks": kinds.get("machine_click", 0),
        "unsubscribes": kinds.get("unsubscribe", 0),
        "fetches_failed": kinds.get("fetch_failed", 0),
    }


def ledger(
    db: sqlite3.Connection,
    *,
    after_id: int = 0,
    limit: int = 1000,
    kinds: tuple[str, ...] = FINAL_KINDS,
    domain: str = "",
) -> dict[str, Any]:
    """Return facts in the order in which they happened; `next_after_id` is None at the end."""
    limit = min(max(limit, 1), MAX_LEDGER)
    marks = ", ".join("?" for _ in kinds)
    where = f"id > ? AND kind IN ({marks})" + (" AND domain = ?" if domain else "")
    rows = db.execute(
        "SELECT id, at, kind, provider, recipient, mail_from, message_id, code, text, stored_id"
        f" FROM fact WHERE {where} ORDER BY id LIMIT ?",
        (after_id, *kinds, *([domain.lower()] if domain else []), limit),
    ).fetchall()
    more = len(rows) == limit
    return {
        "facts": [dict(row) for row in rows],
        "next_after_id": rows[-1]["id"] if more else None,
    }
