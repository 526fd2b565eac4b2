"""Makes the virtual environment and installs a lock file; an unfinished one never looks finished.

Usage: make_venv.py ENVIRONMENT LOCK. Standard library only: it runs before anything is installed.
"""

import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

NO_VENV = """\
This Python ({python}) cannot make virtual environments: its `ensurepip` module is missing.
On Debian and Ubuntu it is a package of its own:   apt install python3-venv
Or use another Python:                             make install PYTHON=/path/to/python3.12"""


def creation_command(environment: Path) -> list[str]:
    """`venv` where it is whole, else `virtualenv`, which brings its own pip; else advice."""
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return [sys.executable, "-m", "venv", "--clear", str(environment)]
    if importlib.util.find_spec("virtualenv"):
        return [sys.executable, "-m", "virtualenv", "--quiet", "--clear", str(environment)]
    raise SystemExit(NO_VENV.format(python=sys.executable))


def runs(python: Path) -> bool:
    """False for an environment whose base interpreter was moved or removed."""
    try:
        return subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def install(environment: Path, lock: Path) -> None:
    """Installs `lock` into `environment`; returns at once when that was done before.

    The stamp holds the digest of what was installed. It is taken away before the first change and
    written after the last, so an environment without one is half made, and is made anew: pip takes
    a package whose unpacking was cut short for an installed one.
    """
    stamp = environment / ".installed"
    python = environment / "bin" / "python"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamped = stamp.read_text().strip() if stamp.exists() else None

    usable = stamped is not None and runs(python)
    if usable and stamped == digest:
        stamp.touch()  # make compares times; the lock may be younger and yet the same
        return
    stamp.unlink(missing_ok=True)
    if usable:
        print(f"Updating {environment} to {lock} ...", flush=True)
    else:
        print(f"Making {environment} (Python {sys.version.split()[0]}) ...", flush=True)
        subprocess.run(creation_command(environment), check=True, close_fds=False)

    print(f"Installing {lock} ...", flush=True)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    # --no-deps: the lock is complete, and nothing outside it may come in.
    command = [*pip, "install", "--no-deps", "--require-hashes", "-r", str(lock)]
    subprocess.run(command, check=True, close_fds=False)
    unfinished = stamp.with_suffix(".new")
    unfinished.write_text(digest + "\n")
    unfinished.replace(stamp)


def main() -> int:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    environment, lock = Path(sys.argv[1]), Path(sys.argv[2])
    # Two makes in one clone take turns. The system drops the lock when its holders have died: this
    # process and, if it was killed alone, the pip that it left behind.
    guard = environment.with_name(environment.name + ".guard")
    with guard.open("w") as held:
        os.set_inheritable(held.fileno(), True)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Waiting for another install into {environment} ...", flush=True)
            fcntl.flock(held, fcntl.LOCK_EX)
        try:
            install(environment, lock)
        except subprocess.CalledProcessError as error:
            print(f"Could not make {environment}; the lines above say why.", file=sys.stderr)
            return error.returncode if error.returncode > 0 else 1
    return 0


if __name__ == "__main__":
    os.environ.pop("PYTHONHOME", None)  # would send the environment's Python to another library
    raise SystemExit(main())
