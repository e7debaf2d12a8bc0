"""What the machine lacks is said in one sentence that tells what to do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from esp.stack.errors import StackError
from esp.stack.machine import free_port, require_free_port, require_space
from esp.stack.world import Ports, write_embedded_env

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def test_a_taken_port_is_one_sentence_that_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackError) as caught:
            require_free_port(port, purpose="the web site", advice="choose another")
    sentence = str(caught.value)
    assert sentence == (
        f"Port {port} on 127.0.0.1, which the web site needs, is taken by another program: "
        "end that program, or choose another."
    )


def test_a_port_taken_for_udp_only_is_noticed() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match="taken by another program"):
            require_free_port(port, purpose="the DNS", advice="choose another", udp=True)


def test_free_ports_pass() -> None:
    require_free_port(free_port(), purpose="the web site", advice="choose another")


def test_the_demo_names_the_option_that_moves_the_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = Ports(web=taken.getsockname()[1])
        with pytest.raises(StackError, match=r"--port 8001"):
            ports.require_free()


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free // 2**20
    with pytest.raises(StackError, match=r"Only \d+ MB are free .* free some space"):
        require_space(tmp_path, megabytes=free + 1_000_000)


def test_a_python_that_is_too_old_gives_one_sentence(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    # Stands for Python 3.9: it answers every version question with "too old".
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["sh", str(ROOT / "esp/stack/setup.sh"), "embedded"],
        env={"PATH": f"{tmp_path}:/bin:/usr/bin", "PYTHON": str(old)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Python 3.11 or newer is needed")
    assert done.stderr.count("\n") == 1


def test_a_python_without_venv_gives_one_sentence(tmp_path: Path) -> None:
    stack = tmp_path / "esp" / "stack"
    stack.mkdir(parents=True)
    shutil.copy(ROOT / "esp/stack/bootstrap.py", stack)
    without = (
        "import sys, runpy; sys.modules['ensurepip'] = None; sys.argv = ['bootstrap', 'embedded'];"
        "import importlib.util as u; real = u.find_spec;"
        "u.find_spec = lambda name, *rest: None if name == 'ensurepip' else real(name, *rest);"
        f"runpy.run_path({str(stack / 'bootstrap.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", without],
        env={"PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "The venv module of Python 3." in done.stderr
    assert "apt-get install" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_line_turns_an_error_into_one_sentence_and_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, "-m", "esp.stack", "demo", "--port", str(taken.getsockname()[1])],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_addresses_for_other_terminals_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "embedded.env"
    write_embedded_env(path, {"DATABASE_URL": "postgresql://x:y@127.0.0.1:1/z", "DEMO": "1"})
    assert path.read_text() == "DATABASE_URL=postgresql://x:y@127.0.0.1:1/z\nDEMO=1\n"
    assert path.stat().st_mode & 0o077 == 0
    assert os.listdir(tmp_path) == ["embedded.env"]
