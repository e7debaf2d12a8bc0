"""How many RSA-2048 signatures this machine's OpenSSL makes in a second, on all cores at once.

`python -m sending.management.bench.signing START SECONDS` is one core's share: it waits for the
Unix time START, signs for SECONDS and prints how many it made.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_DATA = bytes(range(256)) * 4  # about as long as the canonical headers of a message


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def signing_limit(*, seconds: float = 2.0) -> float:
    """Return the signatures a second of one process on each core, all at the same time."""
    start = time.time() + 1.5  # time enough to start Python and to make a key
    command = [sys.executable, "-m", __name__, repr(start), repr(seconds)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(cores())]
    counts = [int(worker.communicate()[0]) for worker in workers]
    return sum(counts) / seconds


def _sign_until_end(start: float, seconds: float) -> int:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    scheme, digest = padding.PKCS1v15(), hashes.SHA256()
    for _ in range(50):
        key.sign(_DATA, scheme, digest)
    time.sleep(max(0.0, start - time.time()))
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        key.sign(_DATA, scheme, digest)
        count += 1
    return count


if __name__ == "__main__":
    print(_sign_until_end(float(sys.argv[1]), float(sys.argv[2])))  # noqa: T201 (the result)
