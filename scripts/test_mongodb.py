"""The integration, api and fault tests on real database servers.

Usage: test_mongodb.py [--if-any] [PYTEST ARGUMENT...]

TEST_MONGODB_URL names the server. Without it: Docker (MongoDB as a one-node replica set); without
Docker, each server that can be had offline (scripts/real_servers.py). Fails when there is none, or
with --if-any says so and succeeds.
"""

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.real_servers import (  # noqa: E402 - after the path, as this is run as a file
    FERRETDB,
    MONGO_JAVA_SERVER,
    CannotBeHad,
    DoesNotWork,
    Server,
    running,
    stop_what_was_started_when_told_to_stop,
)

IMAGE: Final = "mongo:8.0"
LABORATORY: Final = "tests/faults"
NO_TESTS: Final = 5
"""Pytest's exit code when it was left with none."""
AT_ONCE: Final = min(2, os.cpu_count() or 1)
FOLDERS: Final = ("tests/api", LABORATORY, "tests/integration")
"""The longest first: they are run two at a time."""
NO_SERVER: Final = "tests/integration/test_program.py"
"""Starts programs with the embedded store, or with none: the same on every server."""
THIS_MACHINE: Final = ("127.0.0.0/8", "::1", "localhost")
PREFIX: Final = f"test_{uuid.uuid4().hex[:8]}_"
"""Begins the name of each database of this run."""
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
        # What the tests said counts, not whether Docker tidies up after them.
        with contextlib.suppress(CannotBeHad):
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


@dataclasses.dataclass(frozen=True)
class Run:
    """One pytest. Its tests have databases of their own, so several share a server."""

    server: str
    url: str
    folder: str | None
    """None: what the arguments name."""

    def command(self, arguments: list[str]) -> list[str]:
        chosen = [] if self.folder is None else [self.folder, f"--ignore={NO_SERVER}"]
        # The tests reach this machine and the server's, no other.
        hosts = ",".join([*THIS_MACHINE, *hosts_of(self.url)])
        return [sys.executable, "-m", "pytest", f"--allow-hosts={hosts}", *chosen, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "TEST_MONGODB_URL": self.url,
            "TEST_MONGODB_SERVER": self.server,
            "TEST_MONGODB_PREFIX": PREFIX,
        }

    def __str__(self) -> str:
        return self.server if self.folder is None else f"{self.folder} on {self.server}"


def hosts_of(url: str) -> list[str]:
    """The machines that a database URL names; behind mongodb+srv:// DNS knows them."""
    return sorted({host for host, _ in parse_uri(url)["nodelist"] if not host.startswith("/")})


def remove_databases(url: str) -> None:
    """Those of this run that are still there: a test that is killed cannot remove its own."""
    client: MongoClient[dict[str, object]] = MongoClient(url, serverSelectionTimeoutMS=1000)
    try:
        for name in client.list_database_names():
            if name.startswith(PREFIX):
                client.drop_database(name)
    except PyMongoError as error:
        print(f"== databases that begin with {PREFIX} may be left: {type(error).__name__}")
    finally:
        client.close()


def runs_on(server: str, url: str, arguments: list[str], *, skipped: str = "") -> list[Run]:
    if any(argument.startswith("tests/") for argument in arguments):
        return [Run(server, url, None)]
    folders = [folder for folder in FOLDERS if any((ROOT / folder).glob("test_*.py"))]
    return [Run(server, url, folder) for folder in folders if folder != skipped]


def run_all(runs: Sequence[Run], arguments: list[str]) -> int:
    """Several at once, each shown when it is over; a single one as it goes."""
    started = time.monotonic()
    if len(runs) == 1:
        (run,) = runs
        command = run.command(arguments)
        done = subprocess.run(command, cwd=ROOT, env=run.environment, check=False)
        codes = {run: done.returncode}
    else:
        with tempfile.TemporaryDirectory(prefix="test-mongodb-") as logs:
            codes = dict(_side_by_side(runs, arguments, Path(logs)))
    for run, code in codes.items():
        print(f"== {run}: exit {code}", flush=True)
    print(f"== {time.monotonic() - started:.0f} s", flush=True)
    # A selection (-k) may leave one of them without a test, but not all.
    some = [code for code in codes.values() if code != NO_TESTS]
    return next((code for code in some if code), 0) if some else NO_TESTS


def _side_by_side(
    runs: Sequence[Run], arguments: list[str], logs: Path
) -> Iterator[tuple[Run, int]]:
    waiting = list(enumerate(runs))
    under_way: dict[subprocess.Popen[bytes], tuple[Run, Path]] = {}
    try:
        while waiting or under_way:
            while waiting and len(under_way) < AT_ONCE:
                number, run = waiting.pop(0)
                path = logs / f"{number}.log"
                with path.open("wb") as log:
                    process = subprocess.Popen(
                        run.command(arguments),
                        cwd=ROOT,
                        env=run.environment,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                under_way[process] = run, path
            time.sleep(0.1)
            for process in [process for process in under_way if process.poll() is not None]:
                run, path = under_way.pop(process)
                print(f"== {run}\n{path.read_text(errors='replace')}", flush=True)
                yield run, process.returncode
    finally:
        for process in under_way:
            process.terminate()
        for process in under_way:
            process.wait()


def main(arguments: list[str]) -> int:
    if_any = "--if-any" in arguments
    arguments = [argument for argument in arguments if argument != "--if-any"]
    given = os.environ.get("TEST_MONGODB_URL")
    if given:
        try:
            return run_all(runs_on("the server of TEST_MONGODB_URL", given, arguments), arguments)
        finally:
            remove_databases(given)
    try:
        with mongodb_in_docker() as url:
            return run_all(runs_on(IMAGE, url, arguments), arguments)
    except CannotBeHad as error:
        print(f"== {IMAGE} cannot be had: {error}", flush=True)
    runs: list[Run] = []
    servers: list[Server] = []
    with contextlib.ExitStack() as stack:
        for kind in OFFLINE:
            try:
                server = stack.enter_context(running(kind))
            except CannotBeHad as error:
                print(f"== {kind.name} cannot be had: {error}", flush=True)
                continue
            except DoesNotWork as error:
                print(f"== {kind.name} does not work: {error}", flush=True)
                return 1
            servers.append(server)
            # The laboratory asks for more of the server than all else: once is enough.
            skipped = LABORATORY if runs else ""
            runs += runs_on(kind.name, server.mongodb_url, arguments, skipped=skipped)
        if runs:
            code = run_all(runs, arguments)
            if code not in (0, NO_TESTS):
                # Whose fault was it? A connection that the server closed looks like any other.
                for server in servers:
                    print(f"== {server.kind.name} said last:\n{server.last_words()}", flush=True)
            return code
    print("== No real database server: these tests were not run.", flush=True)
    return 0 if if_any else 1


if __name__ == "__main__":
    stop_what_was_started_when_told_to_stop()
    sys.exit(main(sys.argv[1:]))
