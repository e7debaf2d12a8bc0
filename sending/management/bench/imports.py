"""`manage.py bench import`: a CSV file into contacts by the real importer, counted exactly."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from sending.audience.models import Contact
from sending.management.bench.people import write_people
from sending.management.bench.proc import describe_machine, peak_rss_mb
from sending.management.bench.reads import measure_as_web
from sending.management.bench.workspace import import_file, make_workspace

_DOMAINS = 20


def bench_import(*, rows: int) -> dict[str, Any]:
    """Import a file of `rows` people and return the figures.

    `lost` are rows that became neither a contact nor a row in the file of bad rows.
    """
    workspace = make_workspace()
    with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
        path = Path(folder) / "people.csv"
        people = write_people(path, rows=rows, domains=_DOMAINS, flawed=True)
        file_mb = path.stat().st_size / 2**20
        imported = import_file(workspace, path)
    totals = imported.job.counts["totals"]
    contacts = Contact.unscoped.filter(tenant=workspace.tenant).count()
    found_bad = totals["bad"] + totals["duplicates"]
    peak = peak_rss_mb(os.getpid())
    return {
        "bench": "import",
        "rows": people.rows,
        "seconds": round(imported.run_seconds, 2),
        "rows_per_second": round(people.rows / imported.run_seconds),
        "dry_run_rows_per_second": round(people.rows / imported.check_seconds),
        "upload_seconds": round(imported.upload_seconds, 2),
        "file_mb": round(file_mb, 1),
        "peak_rss_mb": round(peak, 1),
        "contacts": contacts,
        "lost": people.rows - contacts - found_bad,
        "bad_rows_found": found_bad,
        "bad_rows_in_file": people.bad + people.repeats,
        "reads": measure_as_web(workspace.tenant.pk, workspace.contact_list.pk),
        "machine": describe_machine(),
    }
