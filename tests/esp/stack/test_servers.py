"""The embedded servers: they start, keep their data, know the roles, and survive being killed."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from esp.stack.errors import StackError
from esp.stack.machine import unprivileged_identity
from esp.stack.postgres import APP, OWNER, WORKER, PostgresServer, find_programs, stop_leftover
from esp.stack.servers import embedded_servers
from esp.stack.valkey import ValkeyServer, stop_leftover_valkey


@pytest.fixture(scope="module")
def durable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server as the demo runs it, fsync and all."""
    server = PostgresServer(tmp_path_factory.mktemp("durable"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _wait_for_death(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} lives on")


def test_the_app_role_is_held_by_row_security_and_the_worker_role_is_not(
    durable: PostgresServer,
) -> None:
    with psycopg.connect(durable.url(OWNER)) as connection:
        rows = connection.execute(
            "SELECT rolname, rolsuper, rolbypassrls, rolcreatedb, rolcreaterole FROM pg_roles"
            " WHERE rolname LIKE 'mailwright%' ORDER BY rolname"
        ).fetchall()
    assert rows == [
        (APP, False, False, False, False),
        (OWNER, False, False, False, False),
        (WORKER, False, True, False, False),
    ]


def test_row_security_hides_a_row_from_the_app_and_not_from_the_worker(
    durable: PostgresServer,
) -> None:
    with psycopg.connect(durable.url(OWNER)) as connection:
        connection.execute("CREATE TABLE secret (tenant text)")
        connection.execute("ALTER TABLE secret ENABLE ROW LEVEL SECURITY")
        connection.execute("INSERT INTO secret VALUES ('acme')")
    with psycopg.connect(durable.url(APP)) as connection:
        assert connection.execute("SELECT count(*) FROM secret").fetchone() == (0,)
    with psycopg.connect(durable.url(WORKER)) as connection:
        assert connection.execute("SELECT count(*) FROM secret").fetchone() == (1,)


def test_what_the_owner_makes_the_others_may_use_but_not_alter(durable: PostgresServer) -> None:
    with psycopg.connect(durable.url(OWNER)) as connection:
        connection.execute("CREATE TABLE thing (id bigserial PRIMARY KEY, name text)")
    for role in (APP, WORKER):
        with psycopg.connect(durable.url(role), autocommit=True) as connection:
            connection.execute("INSERT INTO thing (name) VALUES (%s)", (role,))
            connection.execute("UPDATE thing SET name = name || '!' WHERE name = %s", (role,))
            for forbidden in ("DROP TABLE thing", "TRUNCATE thing", "CREATE TABLE mine (id int)"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(forbidden)


@pytest.mark.parametrize("role", ["mailwright_worker", "mailwright_owner"])
def test_the_app_cannot_become_another_role(durable: PostgresServer, role: str) -> None:
    with (
        psycopg.connect(durable.url(APP)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"SET ROLE {role}")


def test_a_wrong_password_is_refused(durable: PostgresServer) -> None:
    url = f"postgresql://{APP}:guess@127.0.0.1:{durable.port}/mailwright"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_the_demo_flushes_every_commit_and_tests_do_not(
    durable: PostgresServer, tmp_path: Path
) -> None:
    def settings(server: PostgresServer) -> list[tuple[str, str]]:
        with psycopg.connect(server.url(OWNER)) as connection:
            return connection.execute(
                "SELECT name, setting FROM pg_settings"
                " WHERE name IN ('fsync', 'synchronous_commit') ORDER BY name"
            ).fetchall()

    assert settings(durable) == [("fsync", "on"), ("synchronous_commit", "on")]
    with embedded_servers(tmp_path, fast=True) as servers:
        assert settings(servers.postgres) == [("fsync", "off"), ("synchronous_commit", "off")]


def test_the_database_speaks_utf8_with_a_locale_of_its_own(durable: PostgresServer) -> None:
    with psycopg.connect(durable.url(APP)) as connection:
        row = connection.execute(
            "SELECT pg_encoding_to_char(encoding), upper('straße-é') FROM pg_database"
            " WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    assert row[0] == "UTF8"
    assert row[1].endswith("-É")


def test_it_finds_its_data_again_after_a_restart(tmp_path: Path) -> None:
    with embedded_servers(tmp_path, fast=True) as servers:
        first = servers.environment()
        with psycopg.connect(servers.owner_database_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with embedded_servers(tmp_path, fast=True) as servers:
        assert servers.environment().keys() == first.keys()
        with psycopg.connect(servers.database_url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_killed_server_is_recovered_at_the_next_start(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path)
    server.start()
    with psycopg.connect(server.url(OWNER)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    _wait_for_death(pid)
    assert not server.is_running()
    again = PostgresServer(tmp_path)
    again.start()
    try:
        with psycopg.connect(again.url(APP)) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    finally:
        again.stop()
        server.stop()


def test_servers_left_over_by_a_killed_starter_are_stopped_first(tmp_path: Path) -> None:
    forgotten, forgotten_valkey = PostgresServer(tmp_path, fast=True), ValkeyServer(tmp_path)
    forgotten.start()
    forgotten_valkey.start()
    left = [forgotten.pid, forgotten_valkey.pid]
    with embedded_servers(tmp_path, fast=True) as servers:
        for pid in left:
            assert pid is not None
            _wait_for_death(pid)
        assert servers.postgres.pid not in left
        assert servers.valkey.pid not in left
    forgotten.stop()
    forgotten_valkey.stop()


def test_a_stale_pid_file_never_ends_someone_elses_process(tmp_path: Path) -> None:
    data = tmp_path / "postgres"
    (tmp_path / "valkey").mkdir()
    data.mkdir()
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n")
    (tmp_path / "valkey" / "valkey.pid").write_text(f"{os.getpid()}\n")
    assert stop_leftover(data) is False
    assert stop_leftover_valkey(tmp_path) is False


def test_an_initdb_cut_short_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "postgres.new" / "base").mkdir(parents=True)
    with embedded_servers(tmp_path, fast=True) as servers:
        assert servers.postgres.is_running()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become someone else")
def test_root_without_user_namespaces_runs_it_as_nobody_and_goes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", "/nonexistent")  # no `unshare` there
    unprivileged_identity.cache_clear()
    try:
        identity = unprivileged_identity(find_programs()["postgres"])
    except StackError as error:
        pytest.skip(str(error))  # a checkout under a closed /root
    # pytest's own folders are closed to other accounts, so this stands beside them.
    with tempfile.TemporaryDirectory(prefix="mailwright-nobody-") as folder:
        with embedded_servers(Path(folder), fast=True) as servers:
            assert servers.postgres.data.stat().st_uid == identity.uid != 0
            with psycopg.connect(servers.owner_database_url) as connection:
                connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        monkeypatch.setenv("PATH", path)
        unprivileged_identity.cache_clear()
        with (
            embedded_servers(Path(folder), fast=True) as servers,
            psycopg.connect(servers.database_url) as connection,
        ):
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_a_taken_port_is_one_sentence_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for server in (PostgresServer(tmp_path, port=port), ValkeyServer(tmp_path, port=port)):
            with pytest.raises(StackError) as caught:
                server.start()
            assert "did not start" in str(caught.value)
            assert str(port) in str(caught.value)
            assert "\n" not in str(caught.value)
            assert not server.is_running()


def test_data_of_another_major_version_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with embedded_servers(tmp_path, fast=True):
        pass
    (tmp_path / "postgres" / "PG_VERSION").write_text("11\n")
    with pytest.raises(StackError, match=r"PostgreSQL 11 .*make clean-demo"):
        PostgresServer(tmp_path, fast=True).start()


def test_a_wrong_program_folder_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MAILWRIGHT_PG_BIN", str(tmp_path))
    with pytest.raises(StackError, match="MAILWRIGHT_PG_BIN"):
        find_programs()


def test_valkey_asks_for_its_password(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)
    server.start()
    try:
        assert server.port is not None
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(b"GET anything\r\n")
            assert connection.recv(100).startswith(b"-NOAUTH")
    finally:
        server.stop()
    assert not server.is_running()


def test_secrets_are_readable_by_their_owner_alone(durable: PostgresServer) -> None:
    mode = (durable.directory / "secrets.json").stat().st_mode
    assert mode & 0o077 == 0
