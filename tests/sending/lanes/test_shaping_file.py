"""An operator's own shaping file: laid over the shipped ones, or refused at the start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from sending.lanes.shaping import shaping_in_force


def test_it_changes_a_limit(settings: Any, tmp_path: Path) -> None:
    before = shaping_in_force().limits_for("google")
    settings.SHAPING_FILE = str(tmp_path / "own.toml")
    Path(settings.SHAPING_FILE).write_text("[site.google]\nconnections = 1\n")
    after = shaping_in_force().limits_for("google")
    assert before.connections > 1
    assert after.connections == 1
    assert after.messages_per_connection == before.messages_per_connection


def test_a_wrong_file_names_line_and_reason(settings: Any, tmp_path: Path) -> None:
    settings.SHAPING_FILE = str(tmp_path / "wrong.toml")
    Path(settings.SHAPING_FILE).write_text("[site.google]\nconnections = 2\nconnectoins = 2\n")
    with pytest.raises(ImproperlyConfigured, match=r"(?s)wrong\.toml.*3.*connectoins"):
        shaping_in_force()


def test_a_missing_file_says_so(settings: Any, tmp_path: Path) -> None:
    settings.SHAPING_FILE = str(tmp_path / "gone.toml")
    with pytest.raises(ImproperlyConfigured, match="cannot be read"):
        shaping_in_force()


def test_the_product_does_not_start_with_a_wrong_file(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text("[site.nowhere\n")
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        env=os.environ | {"SHAPING_FILE": str(file), "SECRET_KEY": "x" * 50},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "wrong.toml" in done.stderr
    assert "line 1" in done.stderr


def test_a_file_in_another_encoding_says_so(settings: Any, tmp_path: Path) -> None:
    settings.SHAPING_FILE = str(tmp_path / "utf16.toml")
    Path(settings.SHAPING_FILE).write_text("[site.google]\n", "utf-16")
    with pytest.raises(ImproperlyConfigured, match=r"utf16\.toml.*not UTF-8"):
        shaping_in_force()


def test_a_worker_does_not_start_with_a_wrong_file(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text("# ours\n[site.google]\nconnections = 0\n")
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "esp.celery", "worker", "--pool", "solo"],
        env=os.environ | {"SHAPING_FILE": str(file), "SECRET_KEY": "x" * 50},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode != 0
    assert "line 3: connections must be above zero" in done.stderr
    assert "celery@" not in done.stdout + done.stderr
