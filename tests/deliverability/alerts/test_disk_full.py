"""PostgreSQL on a disk without room: the alert, the API's answer, and going on afterwards."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from deliverability.alerts.health import Watch
from sending.messages.models import QueueEntry
from tests import make
from tests.cast import Cast

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk"),
]


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of two megabytes that belongs to the server's system user."""
    cluster = Path(os.environ["MAILWRIGHT_TEST_SERVERS"]) / "postgres"
    folder = cluster.parent / "small-disk"
    folder.mkdir(exist_ok=True)
    owner = (cluster / "PG_VERSION").stat() if (cluster / "PG_VERSION").exists() else cluster.stat()
    size = f"size=2m,uid={owner.st_uid},gid={owner.st_gid},mode=700"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def crowded(small_disk: Path) -> Iterator[Path]:
    """The queue and temporary tables live on the small disk; the path of the ballast."""
    passwords = next(Path(os.environ["MAILWRIGHT_TEST_SERVERS"]).glob("**/*.json"))
    settings = connection.settings_dict
    superuser = psycopg.connect(
        host=settings["HOST"], port=settings["PORT"], dbname=settings["NAME"], user="postgres",
        password=json.loads(passwords.read_text())["postgres"], autocommit=True,
    )  # fmt: skip
    name = f"small_{os.getpid()}"
    with superuser:
        superuser.execute(f"CREATE TABLESPACE {name} LOCATION '{small_disk}'")
        superuser.execute(f"GRANT CREATE ON TABLESPACE {name} TO PUBLIC")
        superuser.execute(f"ALTER TABLE sending_queueentry SET TABLESPACE {name}")
        superuser.execute(f"ALTER DATABASE {settings['NAME']} SET temp_tablespaces = {name}")
        connection.close()  # for the new setting
        yield small_disk / "ballast"
        (small_disk / "ballast").unlink(missing_ok=True)
        superuser.execute(f"ALTER DATABASE {settings['NAME']} RESET temp_tablespaces")
        connection.close()
        superuser.execute("ALTER TABLE sending_queueentry SET TABLESPACE pg_default")
        superuser.execute(f"DROP TABLESPACE {name}")


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


def test_nothing_is_promised_while_there_is_no_room(crowded: Path, cast: Cast) -> None:
    make.domain(cast.acme, "news.acme.example")
    api = make.api(cast.acme)
    body = {
        "from": {"email": "hello@news.acme.example"},
        "to": [{"email": f"p{n}@bigmail.test"} for n in range(500)],
        "subject": "Hello",
        "text": "Hello",
    }
    fill(crowded)
    answer = api.post("/api/v1/messages", body)
    assert answer.status_code == 503
    assert answer["Retry-After"]
    assert answer.json()["code"] == "database-away"
    assert QueueEntry.objects.count() == 0
    watch = Watch()
    assert "postgres-full" in watch.look()

    crowded.unlink()
    assert "postgres-full" not in watch.look()
    assert api.post("/api/v1/messages", body).status_code == 202
    assert QueueEntry.objects.count() == 500
