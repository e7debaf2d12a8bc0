"""`manage.py check_shaping`: an operator tries a rule before it goes live."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

OWN = """\
[site.acme]
title = "Acme"
suffixes = ["acme.example"]
mx = ["mx.acme.example"]
connections = 2
source = "our experience"

[[rule]]
id = "acme-is-full"
title = "Acme is full"
sites = ["acme"]
text = ['no room today']
reaction = "suspend"
seconds = 600
times = 3
within_seconds = 60
source = "our experience"
examples = ["451 4.7.1 No room today"]
"""


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("check_shaping", *arguments, stdout=out)
    return out.getvalue()


def test_the_shipped_rules_are_right() -> None:
    assert "sites and" in run()


def test_it_says_what_a_reply_calls_for() -> None:
    told = run("--site", "google", "--reply", "421-4.7.28 unusual rate of unsolicited mail")
    assert "Class: soft/throttled" in told
    assert "Rule: google-address-is-too-fast" in told
    assert "- slow_down to 50% for 1800 seconds" in told
    assert "- suspend for 3600 seconds, after 10 in 1800 seconds" in told
    assert "No rule decides." in run("--reply", "550 5.1.1 No such user")
    assert "calls for nothing" in run("--reply", "421 Too many messages for this session")
    assert "again in 300 seconds" in run("--reply", "451 4.7.1 Greylisted for 5 minutes")


def test_it_says_whose_the_mail_servers_are() -> None:
    told = run("--mx", "aspmx.l.google.com", "alt1.aspmx.l.google.com")
    assert "Site: google (Gmail and Google Workspace)" in told
    assert "connections=5" in told


def test_an_operators_own_file_is_tried_over_the_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    told = run(str(path), "--mx", "mx.acme.example", "--reply", "451 4.7.1 No room today")
    assert "Site: acme (Acme)" in told
    assert "- suspend for 600 seconds, after 3 in 60 seconds" in told


def test_a_wrong_file_is_refused_with_line_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN.replace("connections = 2", "connections = 0"))
    with pytest.raises(CommandError, match=r"line 5: connections must be above zero"):
        run(str(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CommandError, match="cannot be read"):
        run(str(path))
    with pytest.raises(CommandError, match="cannot be read"):
        run(str(tmp_path / "missing.toml"))
