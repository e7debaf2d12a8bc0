"""Which column of a file becomes which field of a contact.

A target is "" (ignored), "email", "first_name", "last_name", or "attributes.<key>".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from esp.lib.errors import InvalidInput

FIELDS: Final = ("email", "first_name", "last_name")
IGNORE: Final = ""
_PREFIX: Final = "attributes."

_NAMES: Final[dict[str, str]] = {
    name: target
    for target, names in {
        "email": "email e_mail mail email_address e_mail_address mail_address address "
        "emailadresse e_mail_adresse adresse_email correo correo_electronico subscriber_email",
        "first_name": "first_name firstname first given_name forename fname vorname prenom nombre",
        "last_name": "last_name lastname last surname family_name lname nachname familienname "
        "nom apellido apellidos",
    }.items()
    for name in names.split()
}


def key_of(text: str) -> str:
    """Return the attribute key that a column's header suggests ("Sign-up date" → sign_up_date)."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    key = re.sub(r"[^a-z0-9]+", "_", plain.strip().lower()).strip("_")[:40].strip("_")
    return f"a_{key}"[:40] if key[:1].isdigit() else key


def guess(
    header: Sequence[str], sample: Sequence[Sequence[str]], known_keys: Sequence[str]
) -> list[str]:
    """Return a target for each column, by its name, else (for the address) by what it holds."""
    targets: list[str] = []
    for name in header:
        key = key_of(name)
        target = _NAMES.get(key, IGNORE)
        if not target and key in known_keys:
            target = _PREFIX + key
        targets.append(target if target not in targets else IGNORE)
    if "email" not in targets:
        for index in range(len(targets)):
            cells = [row[index] for row in sample if index < len(row) and row[index].strip()]
            if cells and sum("@" in cell for cell in cells) * 2 > len(cells):
                targets[index] = "email"
                break
    return targets


@dataclass(frozen=True)
class Mapping:
    """The targets by kind: index of the address, of the names, and of each attribute."""

    email: int
    first_name: int | None
    last_name: int | None
    attributes: tuple[tuple[int, str], ...]  # column index, key


def resolve(targets: Sequence[str]) -> Mapping:
    """Return the mapping in `targets`; raises InvalidInput when it cannot be used."""
    places: dict[str, int] = {}
    for index, target in enumerate(targets):
        if target == IGNORE:
            continue
        if target in places:
            raise InvalidInput(
                f"Two columns ({places[target] + 1} and {index + 1}) go into "
                f"“{target.removeprefix(_PREFIX)}”. Ignore one of them.",
                code="import-column-twice",
                field="mapping",
            )
        if target not in FIELDS and not target.startswith(_PREFIX):
            raise InvalidInput("A column goes into a field that does not exist.", field="mapping")
        places[target] = index
    if "email" not in places:
        raise InvalidInput(
            "Choose the column that holds the e-mail address.",
            code="import-no-email",
            field="mapping",
        )
    return Mapping(
        email=places["email"],
        first_name=places.get("first_name"),
        last_name=places.get("last_name"),
        attributes=tuple(
            (index, target.removeprefix(_PREFIX))
            for target, index in places.items()
            if target.startswith(_PREFIX)
        ),
    )
