"""The people of a rehearsal: a CSV file of contacts at the simulated providers, from a seed.

Most mailboxes take their mail; some local parts do what they say (`bounce-12-r1@…`), as the magic
addresses of the simulator do.
"""

from __future__ import annotations

import csv
import io
import random

_FIRST = [
    "Ada", "Ben", "Clara", "David", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kira",
    "Liam", "Mara", "Noah", "Olivia", "Pavel", "Quinn", "Rosa", "Samir", "Tessa", "Uma", "Viktor",
    "Wanda", "Xenia", "Yusuf", "Zoe",
]  # fmt: skip
_LAST = [
    "Adler", "Bauer", "Costa", "Dupont", "Eriksen", "Fischer", "Garcia", "Hansen", "Ito", "Jansen",
    "Kowalski", "Lindberg", "Moreau", "Novak", "Okafor", "Petrov", "Rossi", "Silva", "Tanaka",
    "Urban", "Vega", "Weber", "Yilmaz", "Zhang",
]  # fmt: skip
_CITIES = ["Berlin", "Lisbon", "Lagos", "Osaka", "Lyon", "Oslo", "Toronto", "Quito", ""]
# Roughly how a consumer list is spread, with the difficult ones kept few.
_PROVIDERS = {
    "bigmail.test": 46,
    "strictmail.test": 22,
    "plainmail.test": 18,
    "greymail.test": 8,
    "brokenmail.test": 4,
    "slowmail.test": 2,
}
# Shares of mailboxes that do something else than take the mail, in thousandths.
_MAGIC = {
    "bounce": 15,
    "full": 5,
    "block": 3,
    "complaint": 4,
    "latebounce": 4,
    "ooo": 5,
    "defer": 8,
}


def people_csv(*, count: int, seed: int, run: int) -> bytes:
    """Return a CSV file (UTF-8, header line) of `count` people, all addresses new in `run`."""
    rng = random.Random(seed)  # noqa: S311 (a rehearsal must be repeatable)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["Email", "First name", "Last name", "City"])
    for number in range(count):
        first, last = rng.choice(_FIRST), rng.choice(_LAST)
        provider = rng.choices(list(_PROVIDERS), weights=list(_PROVIDERS.values()))[0]
        local = _local_part(rng, first, last)
        address = f"{local}-{number}-r{run}@{provider}"
        writer.writerow([address, first, last, rng.choice(_CITIES)])
    return out.getvalue().encode()


def _local_part(rng: random.Random, first: str, last: str) -> str:
    dice = rng.randrange(1000)
    for name, share in _MAGIC.items():
        if dice < share:
            return name
        dice -= share
    return f"{first}.{last}".lower()
