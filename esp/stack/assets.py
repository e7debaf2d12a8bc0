"""Front-end packages and the style sheet: installed by npm, built by Tailwind, not committed.

A Node 20 or newer on the machine is used; where there is none, the package of
requirements/node.txt brings one into the virtual environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from esp.stack.errors import StackError
from esp.stack.machine import require_space

ROOT = Path(__file__).resolve().parent.parent.parent
_OLDEST_NODE = 20
_SOURCES = ("static/css", "static/js", "templates", "tenants", "deliverability", "sending", "esp")
_SOURCE_ENDINGS = {".css", ".js", ".html", ".py", ".svg"}


def build_assets(root: Path = ROOT, *, quiet: bool = False) -> bool:
    """Install the front-end packages and build static/dist/app.css where anything changed.

    Returns whether something had to be done. Raises `StackError`.
    """
    output = root / "static" / "dist" / "app.css"
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output.parent / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _build(root, output, quiet=quiet)


def _build(root: Path, output: Path, *, quiet: bool) -> bool:
    packages = _hash_of([root / "package-lock.json", root / "package.json"], root)
    packages_stamp = root / "node_modules" / ".mailwright-installed"
    sources = packages + _hash_of(_source_files(root), root)
    output_stamp = output.with_name(".built-from")
    if _says(output_stamp, sources) and output.exists():
        return False
    require_space(root, megabytes=300)
    environment = _node_environment(root, quiet=quiet)
    if not _says(packages_stamp, packages):
        if not quiet:
            print("Installing the front-end packages ...", flush=True)  # noqa: T201
        _run(root, environment, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        packages_stamp.write_text(packages)
    if not quiet:
        print("Building the style sheet ...", flush=True)  # noqa: T201
    _run(root, environment, ["npm", "run", "--silent", "css"])
    output_stamp.write_text(sources)
    return True


def _source_files(root: Path) -> Iterable[Path]:
    for folder in _SOURCES:
        for path in (root / folder).rglob("*"):
            if path.suffix in _SOURCE_ENDINGS and "__pycache__" not in path.parts:
                yield path


def _hash_of(files: Iterable[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(root)}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _says(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def _node_environment(root: Path, *, quiet: bool) -> dict[str, str]:
    """Return an environment whose PATH has node and npm, installed here if need be."""
    scripts = str(Path(sys.executable).parent)
    own = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"}
    for environment in (dict(os.environ), own):
        if _has_node(environment):
            return environment
    if not quiet:
        print("No Node on this machine: installing one into .venv ...", flush=True)  # noqa: T201
    done = subprocess.run(
        [sys.executable, "-I", str(root / "esp" / "stack" / "bootstrap.py"), "node"], check=False
    )
    if done.returncode != 0 or not _has_node(own):
        raise StackError(
            f"The front end needs Node {_OLDEST_NODE} or newer with npm, and it could not be "
            "installed: install nodejs and npm by your system's packages and start again."
        )
    return own


def _has_node(environment: dict[str, str]) -> bool:
    path = environment.get("PATH")
    node, npm = shutil.which("node", path=path), shutil.which("npm", path=path)
    if not node or not npm:
        return False
    asked = subprocess.run(
        [node, "--version"], env=environment, capture_output=True, text=True, check=False
    )
    major = asked.stdout.strip().removeprefix("v").split(".", 1)[0]
    return asked.returncode == 0 and major.isdigit() and int(major) >= _OLDEST_NODE


def _run(root: Path, environment: dict[str, str], command: list[str]) -> None:
    done = subprocess.run(
        command,
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-15:]
        raise StackError(f"`{' '.join(command)}` failed: " + "\n".join(said))
