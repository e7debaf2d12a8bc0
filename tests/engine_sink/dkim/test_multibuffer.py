"""Several signatures at once: the same bytes as OpenSSL's, whoever they are for."""

from __future__ import annotations

import hashlib
import struct

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sending.engine.dkim import loading, multibuffer
from sending.engine.dkim.loading import release
from sending.engine.dkim.multibuffer import LANES, Key, MultiBuffer

KEYS = {
    bits: [rsa.generate_private_key(public_exponent=65537, key_size=bits) for _ in range(3)]
    for bits in (1024, 2048)
}


def by_openssl(key: rsa.RSAPrivateKey, data: bytes) -> bytes:
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


@pytest.fixture
def library() -> MultiBuffer:
    found = multibuffer.available()
    if found is None:
        pytest.skip("this processor has no AVX-512 IFMA")
    return found


@pytest.mark.parametrize("count", range(1, LANES + 1))
@pytest.mark.parametrize("bits", [1024, 2048])
def test_openssl_makes_the_same(library: MultiBuffer, bits: int, count: int) -> None:
    keys = [KEYS[bits][number % 3] for number in range(count)]
    texts = [hashlib.sha256(b"%d" % number).digest() * number for number in range(count)]
    found = library.signatures([(Key(key), text) for key, text in zip(keys, texts, strict=True)])
    assert found == [by_openssl(key, text) for key, text in zip(keys, texts, strict=True)]


def test_keys_of_both_sizes_take_turns(library: MultiBuffer) -> None:
    for bits in (2048, 1024, 2048):
        key = KEYS[bits][0]
        assert library.signatures([(Key(key), b"x")] * 4) == [by_openssl(key, b"x")] * 4


def test_a_signature_that_its_public_key_does_not_prove_is_none(library: MultiBuffer) -> None:
    broken = Key(KEYS[2048][0])
    broken.modulus = Key(KEYS[2048][1]).modulus  # as a fault in the computation would show
    other = KEYS[2048][2]
    found = library.signatures([(broken, b"x"), (Key(other), b"x")])
    assert found == [None, by_openssl(other, b"x")]


@pytest.mark.parametrize(("exponent", "bits"), [(3, 2048), (65537, 3072)])
def test_other_kinds_of_keys_are_refused(exponent: int, bits: int) -> None:
    with pytest.raises(ValueError, match="several signatures"):
        Key(rsa.generate_private_key(public_exponent=exponent, key_size=bits))


@pytest.mark.parametrize(
    ("wheel", "words"), [("no-such-wheel", "not installed"), ("dkimpy", "has no libcrypto_mb.so")]
)
def test_a_library_that_is_missing_is_not_available(
    monkeypatch: pytest.MonkeyPatch, wheel: str, words: str
) -> None:
    monkeypatch.setattr(loading, "WHEEL", wheel)
    with pytest.raises(loading.Unavailable, match=words):
        loading.load()
    multibuffer.available.cache_clear()
    try:
        assert multibuffer.available() is None
    finally:
        multibuffer.available.cache_clear()


def elf(*names: bytes) -> bytearray:
    """Return a file that needs the libraries `names` and has nothing else."""
    strings = b"\0" + b"".join(name + b"\0" for name in names)
    places, start = [], 1
    for name in names:
        places.append(start)
        start += len(name) + 1
    dynamic_at = 64 + 2 * 56
    size = 16 * (len(names) + 2)
    base = 0x10000
    strings_at = dynamic_at + size
    entries = [(1, place) for place in places] + [(5, base + strings_at), (0, 0)]
    header = struct.pack(
        "<16s2HI3QI6H", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    end = strings_at + len(strings)
    loaded = struct.pack("<2I6Q", 1, 4, 0, base, base, end, end, 4096)
    dynamic = struct.pack("<2I6Q", 2, 4, dynamic_at, base + dynamic_at, 0, size, size, 8)
    body = b"".join(struct.pack("<2Q", *entry) for entry in entries)
    return bytearray(header + loaded + dynamic + body + strings)


def needed(image: bytearray, count: int) -> list[int]:
    return [
        struct.unpack_from("<2Q", image, 64 + 2 * 56 + 16 * number)[0] for number in range(count)
    ]


def test_a_library_does_not_ask_for_what_it_does_not_use() -> None:
    image = elf(b"libc.so.6", b"libsvml.so", b"libm.so.6")
    release(image, (b"libsvml.so",))
    assert needed(image, 3) == [1, 0x60000FF0, 1]


@pytest.mark.parametrize("image", [b"", b"#!/bin/sh\n" * 20, bytes(elf(b"libc.so.6"))[:100]])
def test_what_is_no_library_is_refused(image: bytes) -> None:
    with pytest.raises((ValueError, struct.error, StopIteration)):
        release(bytearray(image), (b"libsvml.so",))
