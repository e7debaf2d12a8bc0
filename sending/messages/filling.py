"""What a message's content is filled with, from what its row keeps.

A campaign's row has the contact's attributes as they are, and beside them the two names: writing
one object of all three for every row took as long as all else of the select.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def filling(
    kept: Mapping[str, Any], *, is_spanned: bool, recipient: str, first_name: str, last_name: str
) -> dict[str, Any]:
    """Return the variables of a message whose row has `kept`; what is there already stays.

    So does the address as the contact wrote it, where that is not the normalised one.
    """
    if not is_spanned:
        return dict(kept)
    return {"email": recipient, "first_name": first_name, "last_name": last_name, **kept}


def addressee(recipient_name: str, first_name: str, last_name: str) -> str:
    """Return the name that stands beside the address, or nothing."""
    return recipient_name or f"{first_name} {last_name}".strip()
