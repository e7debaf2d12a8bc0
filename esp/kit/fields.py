"""A text column that is encrypted at rest."""

from __future__ import annotations

import base64
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import models

if TYPE_CHECKING:
    _TextField = models.TextField[str, str]
else:
    _TextField = models.TextField


@lru_cache(maxsize=4)
def _cipher(secrets: tuple[str, ...]) -> MultiFernet:
    keys = []
    for secret in secrets:
        derived = HKDF(SHA256(), 32, salt=None, info=b"mailwright encrypted fields").derive(
            secret.encode()
        )
        keys.append(Fernet(base64.urlsafe_b64encode(derived)))
    return MultiFernet(keys)


def cipher() -> MultiFernet:
    """Return the cipher of SECRET_KEY; SECRET_KEY_FALLBACKS still decrypt (rotation)."""
    return _cipher((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


class EncryptedTextField(_TextField):
    """Text that stands encrypted (Fernet: AES-128-CBC with HMAC) in the database."""

    def get_prep_value(self, value: Any) -> Any:
        if value is None:
            return None
        return cipher().encrypt(str(value).encode()).decode()

    def from_db_value(self, value: str | None, *_: object) -> str | None:
        """Decrypt; raises RuntimeError when SECRET_KEY is not the one that encrypted it."""
        if value is None:
            return None
        try:
            return cipher().decrypt(value.encode()).decode()
        except InvalidToken as error:
            raise RuntimeError(
                "a stored secret cannot be read: SECRET_KEY has changed; "
                "put the old one into SECRET_KEY_FALLBACKS"
            ) from error
