"""Sets up the checkout with nothing but a bare Python: virtual environment and locked packages.

Run by `setup.sh` before anything is installed, so only the standard library may be used here.
Every step leaves a stamp with the hash of its lock file and is skipped while that is unchanged.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
# A set that contains another: whoever has dev.txt needs no embedded.txt.
CONTAINED_IN = {"base": ("embedded", "dev"), "embedded": ("dev",)}
MEGABYTES_NEEDED = {"embedded": 600, "dev": 1200, "node": 400}


class SetupError(Exception):
    """The set-up cannot go on; the message is one sentence that says what to do."""


def main(names: list[str]) -> int:
    """Install the requirement sets `names` ("embedded", "dev", "node"); return the exit code."""
    try:
        (ROOT / "var").mkdir(exist_ok=True)
        with open(ROOT / "var" / ".setup.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two terminals at once must not mix
            for name in names:
                ensure(name)
    except SetupError as error:
        print(error, file=sys.stderr)  # noqa: T201 (there is no logging before the packages)
        return 1
    except OSError as error:
        print(f"The set-up failed: {error}.", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def ensure(name: str) -> None:
    """Make the virtual environment hold the locked set `name`."""
    ensure_venv()
    if any(is_installed(other) for other in (name, *CONTAINED_IN.get(name, ()))):
        return
    free = shutil.disk_usage(ROOT).free // 2**20
    if free < MEGABYTES_NEEDED.get(name, 300):
        raise SetupError(
            f"Only {free} MB are free on the disk of {ROOT} and the packages of "
            f"requirements/{name}.txt need {MEGABYTES_NEEDED.get(name, 300)} MB: free some space."
        )
    say(f"Installing the packages of requirements/{name}.txt ...")
    install(ROOT / "requirements" / f"{name}.txt")
    stamp(name).write_text(wanted_stamp(name))


def ensure_venv() -> None:
    """Make `.venv` (again, when its Python is gone)."""
    if VENV_PYTHON.exists() and succeeds([str(VENV_PYTHON), "-c", "import sys"]):
        let_checkout_be_imported()
        return
    shutil.rmtree(VENV, ignore_errors=True)
    uv = working_uv()
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        say("Making the virtual environment .venv ...")
        command = [sys.executable, "-m", "venv", str(VENV)]
    elif uv:
        command = [uv, "venv", "-q", "--seed", "--python", sys.executable, str(VENV)]
    else:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupError(
            f"The venv module of Python {version} is missing: install it (Debian, Ubuntu: "
            f"apt-get install python{version}-venv) and start again."
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        raise SetupError(f"The virtual environment could not be made: {reason[-1]}")
    let_checkout_be_imported()


def let_checkout_be_imported() -> None:
    """Put the checkout on the environment's path, as an editable install would."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for folder in [VENV / "lib" / version / "site-packages", *VENV.glob("lib/*/site-packages")]:
        note = folder / "mailwright-checkout.pth"
        if folder.is_dir() and not (note.exists() and note.read_text() == f"{ROOT}\n"):
            note.write_text(f"{ROOT}\n")


def install(lock_file: Path) -> None:
    """Install `lock_file` with every hash checked: by uv where it works, else by pip."""
    uv = working_uv()
    if uv:
        done = subprocess.run(
            [uv, "pip", "install", "-q", "--python", str(VENV_PYTHON), "--require-hashes",
             "-r", str(lock_file)],
            check=False,
            capture_output=True,
        )  # fmt: skip
        if done.returncode == 0:
            return
    command = [
        str(VENV_PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check",
        "--require-hashes", "--no-warn-script-location", "--no-compile", "-r", str(lock_file),
    ]  # fmt: skip
    # pip's remarks about packages' build methods help nobody here: they are shown on failure only.
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    done = subprocess.run(command, check=False, env=environment, capture_output=True)
    if done.returncode != 0:
        sys.stderr.write(done.stderr.decode(errors="replace"))
        raise SetupError(
            f"The packages of requirements/{lock_file.name} could not be installed (pip says why "
            "above): check the network and start again."
        )


def is_installed(name: str) -> bool:
    """Say whether set `name`, as its lock file stands now, is in the environment."""
    return stamp(name).exists() and stamp(name).read_text() == wanted_stamp(name)


def stamp(name: str) -> Path:
    """Return the stamp file of set `name`."""
    return VENV / f".installed-{name}"


def wanted_stamp(name: str) -> str:
    """Return what the stamp of set `name` must say now."""
    return hashlib.sha256((ROOT / "requirements" / f"{name}.txt").read_bytes()).hexdigest()


def working_uv() -> str | None:
    """Return uv if it is on the PATH and answers (a version manager's shim may not)."""
    uv = shutil.which("uv")
    return uv if uv and succeeds([uv, "--version"]) else None


def succeeds(command: list[str]) -> bool:
    """Run `command` silently and say whether it ended with 0."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def say(line: str) -> None:
    """Tell the person at the terminal what takes time now."""
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["embedded"]))
