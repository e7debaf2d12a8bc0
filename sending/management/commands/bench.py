"""`manage.py bench import|delivery|bytes`: measure this machine; one line of JSON at the end.

Starts servers of its own (`esp.stack.benchmark`) and leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sending.management.bench import reads, worker
from sending.management.bench.crash import CrashOptions, bench_crash
from sending.management.bench.delivery import Options, bench_delivery
from sending.management.bench.imports import bench_import
from sending.management.bench.latency import bench_latency, pump
from sending.management.bench.message_bytes import bench_bytes
from sending.management.bench.scale import bench_scale, run_child
from sending.management.bench.signing import cores

_MARK = "MAILWRIGHT_BENCH"  # set by `esp.stack.benchmark`, which starts the servers


class Command(BaseCommand):
    help = "Measure imports and delivery on servers of its own; prints one line of JSON."
    requires_system_checks = ()  # three processes of one run would each walk every URL

    def add_arguments(self, parser: CommandParser) -> None:
        kinds = parser.add_subparsers(dest="kind", required=True)
        imports = kinds.add_parser("import", help="a CSV file into contacts")
        imports.add_argument("--rows", type=int, default=1_000_000)
        delivery = kinds.add_parser("delivery", help="a campaign to sinks on loopback")
        delivery.add_argument("--recipients", type=int, default=20_000)
        delivery.add_argument("--sign", choices=["rsa", "both", "none"], default="rsa")
        delivery.add_argument("--workers", type=int, default=cores())
        delivery.add_argument("--profile", action="store_true", help="top functions on stderr")
        making = kinds.add_parser("bytes", help="the bytes of a message: CPU time of each part")
        making.add_argument("--messages", type=int, default=5000)
        scale = kinds.add_parser("scale", help="what a long queue costs, and the tables' sizes")
        scale.add_argument("--rows", type=int, default=1_000_000)
        scale.add_argument("--preparers", type=int, default=cores(), help="at work at once")
        latency = kinds.add_parser("latency", help="single messages beside a campaign")
        latency.add_argument("--recipients", type=int, default=20_000)
        latency.add_argument("--requests", type=int, default=200)
        latency.add_argument("--rate", type=float, default=20.0, help="requests a second")
        latency.add_argument("--workers", type=int, default=cores())
        crash = kinds.add_parser("crash", help="campaigns and API traffic while all is killed")
        crash.add_argument("--recipients", type=int, default=6000)
        crash.add_argument("--seconds", type=float, default=90.0, help="of chaos")
        crash.add_argument("--seed", type=int, default=1)
        crash.add_argument("--settle-seconds", type=float, default=90.0)
        crash.add_argument("--cut-share", type=float, default=0.01)
        crash.add_argument("--api-rate", type=float, default=8.0, help="messages a second")
        for bench in (scale, latency, crash, imports, delivery, making):
            bench.add_argument("--json", action="store_true", help="nothing but the line of JSON")
        # Processes that the two start themselves.
        reading = kinds.add_parser("reads")
        reading.add_argument("tenant", type=uuid.UUID)
        reading.add_argument("list", type=uuid.UUID)
        kinds.add_parser("pump")
        for kind in ("scale-prepare", "scale-clear"):
            kinds.add_parser(kind).add_argument("campaign", type=uuid.UUID)
        working = kinds.add_parser("worker")
        working.add_argument("batch", type=uuid.UUID)
        working.add_argument("--profile", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure and print; raises CommandError on servers that are not the benchmark's own."""
        if _MARK not in os.environ:
            raise CommandError("Benchmarks run on servers of their own: `manage.py bench …`.")
        match options["kind"]:
            case "pump":
                pump()
            case "reads":
                self.stdout.write(json.dumps(reads.measure(options["tenant"], options["list"])))
            case "worker":
                worker.work(options["batch"], profile=options["profile"])
            case "scale-prepare" | "scale-clear" as kind:
                run_child(kind, options["campaign"])
            case kind:
                self.stdout.write(json.dumps(self._measure(kind, options)))

    def _measure(self, kind: str, options: dict[str, Any]) -> dict[str, Any]:
        def asked(*names: str) -> dict[str, Any]:
            return {name: options[name] for name in names}

        say = self.stderr.write
        match kind:
            case "import":
                return bench_import(rows=options["rows"])
            case "delivery":
                return bench_delivery(
                    Options(**asked("recipients", "workers", "sign", "profile")), say
                )
            case "bytes":
                return bench_bytes(messages=options["messages"])
            case "scale":
                return bench_scale(**asked("rows", "preparers"), say=say)
            case "latency":
                chosen = asked("recipients", "requests", "workers")
                return bench_latency(**chosen, per_second=options["rate"], say=say)
            case _:
                chosen = asked(
                    "recipients", "seconds", "seed", "settle_seconds", "cut_share", "api_rate"
                )
                return bench_crash(CrashOptions(**chosen), say)
