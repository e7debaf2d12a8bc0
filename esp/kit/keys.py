"""Keys for tokens and addresses, derived from SECRET_KEY, one for each purpose."""

from __future__ import annotations

from functools import lru_cache

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


@lru_cache(maxsize=64)
def _derive(secret: str, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=f"mailwright {purpose}".encode()).derive(
        secret.encode()
    )


def signing_key(purpose: str) -> bytes:
    """Return the 32-byte key that `purpose` signs with."""
    return _derive(settings.SECRET_KEY, purpose)


def accepted_keys(purpose: str) -> list[bytes]:
    """Return every key that may have signed for `purpose`, the present one first.

    Keys of SECRET_KEY_FALLBACKS are accepted still: links and return paths live for weeks.
    """
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [_derive(secret, purpose) for secret in secrets]
