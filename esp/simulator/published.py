"""The records published at run time, kept in a file so that a restart knows them again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from esp.simulator.zones import Record, ZoneStore, is_within, make_record, normal_name


class PublishedRecords:
    """Publishes into the zones and remembers; the file is replaced whole with every change."""

    def __init__(self, path: Path, zones: ZoneStore) -> None:
        self._path, self._zones = path, zones
        self._records: dict[tuple[str, str], list[Record]] = {}

    def load(self) -> None:
        """Publish again what the file holds. Raises ValueError or OSError when it is damaged."""
        if not self._path.exists():
            return
        entries = json.loads(self._path.read_text(encoding="utf-8"))
        self._publish(make_record(**entry) for entry in entries)

    def publish(self, records: Iterable[Record]) -> None:
        """Publish records; they replace the record sets of the same name and type."""
        self._publish(records)
        self._save()

    def _publish(self, records: Iterable[Record]) -> None:
        fresh: dict[tuple[str, str], list[Record]] = {}
        for record in records:
            fresh.setdefault((record.name, record.type), []).append(record)
        self._records.update(fresh)
        self._zones.publish(record for rrset in fresh.values() for record in rrset)

    def delete(self, domain: str) -> int:
        """Remove every record at and below the domain; returns how many."""
        gone = normal_name(domain)
        self._records = {k: v for k, v in self._records.items() if not is_within(k[0], gone)}
        self._save()
        return self._zones.delete(domain)

    def _save(self) -> None:
        entries = [
            {"name": r.name, "type_": r.type, "value": r.rdata.to_text(), "ttl": r.ttl}
            for rrset in self._records.values()
            for r in rrset
        ]
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        draft.replace(self._path)
