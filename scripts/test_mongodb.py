"""The integration, api and fault tests on real database servers.

Usage: test_mongodb.py [--if-any] [PYTEST ARGUMENT...]

TEST_MONGODB_URL names the server. Without it: Docker (MongoDB as a one-node replica set); without
Docker, each server that can be had offline (scripts/real_servers.py). Fails when there is none, or
with --if-any says so and succeeds.
"""

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.real_servers import (  # noqa: E402 - after the path, as this is run as a file
    FERRETDB,
    MONGO_JAVA_SERVER,
    CannotBeHad,
    running,
    stop_what_was_started_when_told_to_stop,
)

IMAGE: Final = "mongo:8.0"
LABORATORY: Final = "tests/faults"
FOLDERS: Final = ("tests/api", LABORATORY, "tests/integration")
OFFLINE: Final = (MONGO_JAVA_SERVER, FERRETDB)
PRIMARY: Final = "try { rs.initiate() } catch (e) {}; quit(db.hello().isWritablePrimary ? 0 : 1)"


@contextlib.contextmanager
def mongodb_in_docker() -> Iterator[str]:
    """Raises CannotBeHad with Docker's own words."""
    name = f"test-mongodb-{uuid.uuid4().hex[:8]}"
    docker("info", "--format", "{{.ServerVersion}}", seconds=20)
    docker("run", "--detach", "--rm", "--name", name, "--publish", "127.0.0.1::27017", IMAGE,
           "--replSet", "rs0", "--bind_ip_all", seconds=600)  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                docker("exec", name, "mongosh", "--quiet", "--eval", PRIMARY, seconds=30)
                break
            except CannotBeHad:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)
        address = docker("port", name, "27017/tcp", seconds=20).split()[0]
        yield f"mongodb://{address}/?directConnection=true"
    finally:
        docker("rm", "--force", "--volumes", name, seconds=60)


def docker(*arguments: str, seconds: float) -> str:
    try:
        done = subprocess.run(
            ["docker", *arguments],  # noqa: S607 - as the PATH has it
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except FileNotFoundError:
        raise CannotBeHad("docker is not installed") from None
    except subprocess.TimeoutExpired:
        raise CannotBeHad(f"docker {arguments[0]} took more than {seconds:g} s") from None
    if done.returncode:
        raise CannotBeHad(f"docker {arguments[0]}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def run_tests(
    server: str, url: str, arguments: list[str], *, folders: Sequence[str] = FOLDERS
) -> int:
    print(f"== the tests on {server}", flush=True)
    started = time.monotonic()
    chosen: list[str] = []
    if not any(argument.startswith("tests/") for argument in arguments):
        chosen = [folder for folder in folders if any((ROOT / folder).glob("test_*.py"))]
    code = subprocess.run(
        [sys.executable, "-m", "pytest", *chosen, *arguments],
        cwd=ROOT,
        env={**os.environ, "TEST_MONGODB_URL": url, "TEST_MONGODB_SERVER": server},
        check=False,
    ).returncode
    print(f"== {server}: exit {code} after {time.monotonic() - started:.0f} s", flush=True)
    return code


def main(arguments: list[str]) -> int:
    if_any = "--if-any" in arguments
    arguments = [argument for argument in arguments if argument != "--if-any"]
    given = os.environ.get("TEST_MONGODB_URL")
    if given:
        return run_tests("the server of TEST_MONGODB_URL", given, arguments)
    try:
        with mongodb_in_docker() as url:
            return run_tests(IMAGE, url, arguments)
    except CannotBeHad as error:
        print(f"== {IMAGE} cannot be had: {error}", flush=True)
    codes: list[int] = []
    for kind in OFFLINE:
        try:
            with running(kind) as server:
                # The laboratory takes longer than all else: once is enough.
                folders = [folder for folder in FOLDERS if not codes or folder != LABORATORY]
                codes.append(run_tests(kind.name, server.mongodb_url, arguments, folders=folders))
        except CannotBeHad as error:
            print(f"== {kind.name} cannot be had: {error}", flush=True)
    if not codes:
        print("== No real database server: these tests were not run.", flush=True)
        return 0 if if_any else 1
    return max(codes)


if __name__ == "__main__":
    stop_what_was_started_when_told_to_stop()
    sys.exit(main(sys.argv[1:]))
