"""What this machine offers: ports, disk, and a user that a database server agrees to run as."""

from __future__ import annotations

import errno
import functools
import os
import pwd
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esp.stack.errors import StackError

LOOPBACK = "127.0.0.1"
_NOBODY = 65534
_MEGABYTE = 1024 * 1024


def free_port(host: str = LOOPBACK) -> int:
    """Return a TCP port on `host` that nobody listened on a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_free_port(
    port: int, *, purpose: str, advice: str, host: str = LOOPBACK, udp: bool = False
) -> None:
    """Raise `StackError` when `host:port` cannot be bound.

    `purpose` names what wants the port ("the web site"), `advice` says how to choose another.
    """
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if not udp:
            # As servers do: a port in TIME_WAIT after the last run is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StackError(_port_sentence(error, host, port, purpose, advice)) from error


def _port_sentence(error: OSError, host: str, port: int, purpose: str, advice: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host}, which {purpose} needs, is taken by another program: "
            f"end that program, or {advice}."
        )
    if error.errno == errno.EACCES:
        return (
            f"This user may not open port {port} on {host}, which {purpose} needs: "
            f"ports below 1024 belong to root, so {advice}."
        )
    reason = error.strerror or str(error)
    return f"Port {port} on {host}, which {purpose} needs, cannot be opened ({reason}): {advice}."


def require_space(directory: Path, *, megabytes: int) -> None:
    """Raise `StackError` when the file system of `directory` has less than `megabytes` free."""
    free = shutil.disk_usage(directory).free // _MEGABYTE
    if free < megabytes:
        raise StackError(
            f"Only {free} MB are free on the disk of {directory} and {megabytes} MB are needed: "
            "free some space there and start again."
        )


def process_in_folder(pid_file: Path, folder: Path) -> int | None:
    """Return the process that `pid_file` names (first line) if it is alive and works in `folder`.

    Only a process with this very working folder counts: the number in a stale file may belong to
    anyone by now.
    """
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        works_in = os.readlink(f"/proc/{pid}/cwd")
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, ValueError, IndexError):
        return None
    return pid if works_in == str(folder.resolve()) and state != "Z" else None


@dataclass(frozen=True, slots=True)
class Identity:
    """How to start a program that refuses to run as root.

    `prefix` goes in front of its command, `popen` into `subprocess`, and its files must belong
    to `uid` and `gid`.
    """

    prefix: tuple[str, ...]
    popen: dict[str, Any]
    uid: int
    gid: int

    def own(self, path: Path) -> None:
        """Give `path`, and everything in it, to the identity (nothing to do for an own user)."""
        if os.geteuid() != 0 or not path.exists() or path.stat().st_uid == self.uid:
            return
        os.chown(path, self.uid, self.gid)
        for folder, names, files in os.walk(path):
            for name in (*names, *files):
                os.chown(os.path.join(folder, name), self.uid, self.gid, follow_symlinks=False)


@functools.lru_cache(maxsize=4)
def unprivileged_identity(program: Path) -> Identity:
    """Return how to start `program` (which answers `--version`) without being root.

    An ordinary user is fine as it is. For root (and for a number without a name, which
    containers give) a user namespace comes first: it works under a home of mode 0700 and changes
    no owner. Where namespaces are refused, the account `nobody` serves root, if it can reach the
    program.
    """
    user, group = os.geteuid(), os.getegid()
    if user != 0 and _has_name(user):
        return Identity((), {}, user, group)
    prefix = ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}")
    namespace = Identity(prefix, {}, user, group)
    if _can_start(program, namespace):
        return namespace
    if user != 0:
        raise StackError(
            f"PostgreSQL wants its user to have a name, and number {user} has none on this "
            "machine: start as a user that /etc/passwd knows."
        )
    try:
        account = pwd.getpwnam("nobody")
        uid, gid = account.pw_uid, account.pw_gid
    except KeyError:
        uid = gid = _NOBODY
    other = Identity((), {"user": uid, "group": gid, "extra_groups": []}, uid, gid)
    if _can_start(program, other):
        return other
    raise StackError(
        f"PostgreSQL refuses to run as root, and the account nobody cannot reach {program}: "
        "start as an ordinary user, or put the checkout where everyone may read it."
    )


def _has_name(user: int) -> bool:
    try:
        pwd.getpwuid(user)
    except KeyError:
        return False
    return True


def _can_start(program: Path, identity: Identity) -> bool:
    try:
        done = subprocess.run(
            [*identity.prefix, str(program), "--version"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
            **identity.popen,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
