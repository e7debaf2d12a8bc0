"""A CSV file of people, written row by row: any size in the same memory, the same every time."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("email", "first_name", "last_name", "city", "company", "plan", "points", "interests",
           "renews_on", "coupon")  # fmt: skip
# What each column becomes in the import.
TARGETS = ("email", "first_name", "last_name", "new:text", "new:text", "new:text", "new:number",
           "new:text", "new:date", "new:text")  # fmt: skip

_FIRST = (
    "Ada", "Ben", "Clara", "David", "Elif", "Farid", "Greta", "Hugo", "Inès", "Jonas", "Kira",
    "Liam", "Mara", "Noah", "Olivia", "Pavel", "Quinn", "Rosa", "Samir", "Zoë",
)  # fmt: skip
_LAST = (
    "Adler", "Bauer", "Costa", "Dupont", "Eriksen", "Fischer", "Garcia", "Hansen", "Ito", "Jansen",
    "Kowalski", "Lindberg", "Moreau", "Novák", "Okafor", "Petrov", "Rossi",
)  # fmt: skip
_CITIES = ["Berlin", "Lisbon", "Lagos", "Osaka", "Lyon", "Oslo", "Toronto", "Quito", "Köln"]
_COMPANIES = ["Northwind", "Initech", "Umbrella Foods", "Stark & Sons", "Wayne Gardens"]
_INTERESTS = ["roses", "compost", "herbs", "trees", "ponds", "tools", "seeds", "bees"]
_BAD_EVERY, _REPEAT_EVERY = 1000, 2000


@dataclass(frozen=True)
class People:
    """What was written: `rows` in all, among them `bad` without address and `repeats`."""

    rows: int
    bad: int
    repeats: int

    @property
    def good(self) -> int:
        """How many contacts an import must make of the file."""
        return self.rows - self.bad - self.repeats


def domain_of(number: int, domains: int) -> str:
    """Return one of `domains` mailbox providers of the benchmark."""
    return f"inbox{number % domains + 1:02d}.test"


def write_people(path: Path, *, rows: int, domains: int, flawed: bool, seed: int = 1) -> People:
    """Write `rows` people; with `flawed`, every 1,000th is no address, every 2,000th a repeat."""
    chance = random.Random(seed)  # noqa: S311 (test data)
    bad = repeats = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(rows):
            first, last = chance.choice(_FIRST), chance.choice(_LAST)
            address = f"reader{number}@{domain_of(number, domains)}"
            if flawed and number % _BAD_EVERY == _BAD_EVERY - 2:
                address, bad = f"reader{number}.at.nowhere", bad + 1
            elif flawed and number % _REPEAT_EVERY == _REPEAT_EVERY - 1:
                address, repeats = (
                    f"Reader{number - 1000}@{domain_of(number - 1000, domains)}",
                    repeats + 1,
                )
            writer.writerow((address, first, last, *_facts(chance)))
    return People(rows, bad, repeats)


def _facts(chance: random.Random) -> tuple[str | int, ...]:
    """Return the columns after the names."""
    return (
        chance.choice(_CITIES), chance.choice(_COMPANIES),
        chance.choice(("gold", "silver", "free")), chance.randrange(5000),
        ",".join(chance.sample(_INTERESTS, 3)), f"2027-{chance.randrange(1, 13):02d}-15",
        f"SPRING{chance.randrange(10_000):04d}",
    )  # fmt: skip


def people(rows: int, *, seed: int = 1) -> Iterator[dict[str, str | int]]:
    """Yield the attributes of `rows` people as messages carry them."""
    chance = random.Random(seed)  # noqa: S311 (test data)
    for number in range(rows):
        address = f"reader{number}@{domain_of(number, 20)}"
        names = chance.choice(_FIRST), chance.choice(_LAST)
        yield dict(zip(COLUMNS, (address, *names, *_facts(chance)), strict=True))
