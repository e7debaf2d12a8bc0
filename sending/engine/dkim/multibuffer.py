"""Eight RSA signatures in the time of three, on processors that have AVX-512 IFMA.

Intel's Cryptography Primitives Library (Apache-2.0, the wheel `ipp-crypto`) computes eight private
operations side by side in one vector unit, each with a key of its own. Here is the little of it
that DKIM needs: PKCS#1 v1.5 with SHA-256 (RFC 8017 section 8.2), by the Chinese remainder theorem.
`available` gives None where the processor or the wheel is missing, and OpenSSL signs alone.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import threading
from collections.abc import Sequence
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import rsa

from sending.engine.dkim.loading import Unavailable, load

log = logging.getLogger(__name__)

LANES = 8
WORTH = 4  # fewer are as fast one by one
# With 3,072 bits it is slower than OpenSSL, with 4,096 faster from five on; the product's keys have
# 2,048 bits.
_METHODS = {1024: "RSA1K", 2048: "RSA2K"}
_EXPONENT = 65537
# RFC 8017 section 9.2, note 1: what stands before a SHA-256 in an encoded message.
_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")
_LaneAddresses = ctypes.c_void_p * LANES


class Key:
    """An RSA private key as the library takes it: its numbers in words, and their addresses."""

    __slots__ = ("_words", "bits", "modulus", "parts", "start")

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        """Raises ValueError for a key of another size, exponent or shape than the library's."""
        numbers = key.private_numbers()
        half = key.key_size // 2
        if (
            key.key_size not in _METHODS
            or numbers.public_numbers.e != _EXPONENT
            or not numbers.p.bit_length() == numbers.q.bit_length() == half
        ):
            raise ValueError("not a key for several signatures at once")
        self.bits = key.key_size
        parts = (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
        self._words = [_words(part, half) for part in parts]
        self._words.append(_words(numbers.public_numbers.n, self.bits))
        *self.parts, self.modulus = map(ctypes.addressof, self._words)
        padding = self.bits // 8 - 3 - len(_SHA256) - hashlib.sha256().digest_size
        self.start = b"\0\1" + b"\xff" * padding + b"\0" + _SHA256


class _Size:
    """What the library wants for keys of one size: methods, room to work, places for numbers."""

    def __init__(self, library: ctypes.CDLL, bits: int) -> None:
        name = _METHODS[bits]
        self.bits, self.octets = bits, bits // 8
        self.private: int = getattr(library, f"mbx_{name}_private_crt_Method")()
        self.public: int = getattr(library, f"mbx_{name}_pub65537_Method")()
        octets = max(library.mbx_RSA_Method_BufSize(each) for each in (self.private, self.public))
        self.room = ctypes.create_string_buffer(octets)
        self.wanted, self.made, self.proved = (
            ctypes.create_string_buffer(LANES * self.octets) for _ in range(3)
        )


class MultiBuffer:
    """The library, loaded. Safe to use from several threads: one of them works at a time."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Raises Unavailable for a processor that lacks what it needs."""
        library.mbx_is_crypto_mb_applicable.argtypes = [ctypes.c_uint64]
        if not library.mbx_is_crypto_mb_applicable(0):
            raise Unavailable("the processor has no AVX-512 IFMA")
        for name in _METHODS.values():
            for kind in ("private_crt", "pub65537"):
                getattr(library, f"mbx_{name}_{kind}_Method").restype = ctypes.c_void_p
        library.mbx_RSA_Method_BufSize.argtypes = [ctypes.c_void_p]
        self._private = library.mbx_rsa_private_crt_mb8
        self._public = library.mbx_rsa_public_mb8
        for function, numbers in ((self._private, 7), (self._public, 3)):
            function.argtypes = [
                *[_LaneAddresses] * numbers, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
            ]  # fmt: skip
            function.restype = ctypes.c_uint32
        self._library = library
        self._sizes: dict[int, _Size] = {}
        self._lock = threading.Lock()

    def signatures(self, wanted: Sequence[tuple[Key, bytes]]) -> list[bytes | None]:
        """Return the signatures of up to LANES messages, by keys of one size.

        Each is proved by its public key, as a fault in the middle of the operation would give the
        private key away. None stands where that failed: ask OpenSSL.
        """
        encoded = b"".join([key.start + hashlib.sha256(data).digest() for key, data in wanted])
        keys = [key for key, _ in wanted]
        with self._lock:
            size = self._size(keys[0].bits)
            octets = size.octets
            sources, made, proved = (
                _addresses(ctypes.addressof(place), octets, len(keys))
                for place in (size.wanted, size.made, size.proved)
            )
            ctypes.memmove(size.wanted, encoded, len(encoded))
            parts = [
                _LaneAddresses(*lane) for lane in zip(*(key.parts for key in keys), strict=True)
            ]
            moduli = _LaneAddresses(*(key.modulus for key in keys))
            room = ctypes.addressof(size.room)
            states = self._private(sources, made, *parts, size.bits, size.private, room)
            states |= self._public(made, proved, moduli, size.bits, size.public, room)
            values, proofs = size.made.raw, size.proved.raw
        found: list[bytes | None] = []
        for lane in range(len(keys)):
            place = slice(lane * octets, (lane + 1) * octets)
            is_right = not states >> 4 * lane & 15 and proofs[place] == encoded[place]
            found.append(values[place] if is_right else None)
        return found

    def _size(self, bits: int) -> _Size:
        size = self._sizes.get(bits)
        if size is None:
            size = self._sizes[bits] = _Size(self._library, bits)
        return size


@lru_cache(maxsize=1)
def available() -> MultiBuffer | None:
    """Return the library, loaded once a process, or None where it cannot be used."""
    try:
        return MultiBuffer(load())
    except (Unavailable, OSError, AttributeError) as error:
        log.info("RSA signatures are made one by one: %s", error)
        return None


def _words(number: int, bits: int) -> ctypes.Array[ctypes.c_uint64]:
    return (ctypes.c_uint64 * (bits // 64)).from_buffer_copy(number.to_bytes(bits // 8, "little"))


def _addresses(start: int, octets: int, count: int) -> ctypes.Array[ctypes.c_void_p]:
    """Return where the numbers of `count` lanes stand; the others have none."""
    return _LaneAddresses(*range(start, start + octets * count, octets))
