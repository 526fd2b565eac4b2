"""Real servers for the tests: how each is had, started and stopped.

Usage: real_servers.py NAME...    makes them in .servers/ and says what could not be made, and why.

What runs as a server is pinned: Go modules by go.sum, jars by checksums.sha256.
Standard library only.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCES: Final = ROOT / "tests" / "servers"
MADE: Final = ROOT / ".servers"

START_SECONDS: Final = 60
STOP_SECONDS: Final = 10
BUILD_SECONDS: Final = 900
OLDEST_JAVA: Final = 17


class CannotBeHad(Exception):
    """A tool is not here, or cannot fetch: its own answer, as far as it says something."""


class DoesNotWork(Exception):
    """Everything is here, and our part of it is broken: never to be taken for CannotBeHad."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """``command`` takes the port and an empty directory; ``survives_kill``: what it acknowledged
    is still there after it was killed and started again on the same directory.
    """

    name: str
    make: Callable[[], None]
    command: Callable[[int, Path], list[str]]
    survives_kill: bool = False


@dataclasses.dataclass
class Server:
    """A running server, on this machine only."""

    kind: Kind
    port: int
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def mongodb_url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def last_words(self) -> str:
        """The end of what it printed."""
        return _last_words(self.directory)

    def kill(self) -> None:
        """At once, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)

    def start_again(self) -> None:
        self.process = _start(self.kind.command(self.port, self.directory), self.directory)
        _wait_until_it_listens(self.process, self.port, self.directory)


def stop_what_was_started_when_told_to_stop() -> None:
    """For programs: SIGTERM leaves by the same way as Ctrl+C, through every ``finally``."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


@contextlib.contextmanager
def running(kind: Kind) -> Iterator[Server]:
    """Starts a server with a directory of its own; stops it and removes the directory."""
    kind.make()
    with tempfile.TemporaryDirectory(prefix="test-server-") as name:
        directory = Path(name)
        port = _free_port()
        process = _start(kind.command(port, directory), directory)
        server = Server(kind, port, directory, process)
        try:
            _wait_until_it_listens(process, port, directory)
            yield server
        finally:
            _stop(server.process)


def _start(command: list[str], directory: Path) -> subprocess.Popen[bytes]:
    with (directory / "server.log").open("ab") as log:
        try:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        except FileNotFoundError:
            raise CannotBeHad(f"{command[0]} is not installed") from None


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, directory: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise DoesNotWork(f"it did not start: {_last_words(directory)}")


def _last_words(directory: Path) -> str:
    return (directory / "server.log").read_text(errors="replace")[-2000:]


# How each is made ------------------------------------------------------------------------------


def _run(*command: str, cwd: Path, failure: type[Exception] = CannotBeHad, **variables: str) -> str:
    """What the tool said; raises ``failure`` with the last lines of it, CannotBeHad without the
    tool or when it hangs.
    """
    if shutil.which(command[0]) is None:
        raise CannotBeHad(f"{command[0]} is not installed")
    named = f"`{' '.join(command[:3])}`"
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise CannotBeHad(f"{named} took more than {BUILD_SECONDS} s") from None
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines()[-6:]
        raise failure(f"{named} failed:\n    " + "\n    ".join(lines))
    return done.stdout + done.stderr


@contextlib.contextmanager
def _made_once(name: str) -> Iterator[Path | None]:
    """The folder to make it in, or None when it was made from these sources before.

    Two makes at once wait for each other. The stamp is written last: what is half-made is made
    again.
    """
    folder = MADE / name
    folder.mkdir(parents=True, exist_ok=True)
    source = SOURCES / name
    digest = hashlib.sha256()
    for path in sorted(source.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    stamp = folder / "stamp"
    with (MADE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            yield None
            return
        stamp.unlink(missing_ok=True)
        yield folder
        stamp.write_text(digest.hexdigest())


def _make_with_go(name: str, package: str) -> None:
    with _made_once(name) as folder:
        if folder is not None:
            source = SOURCES / name
            # The Go that is here, not one fetched for the module.
            _run("go", "mod", "download", cwd=source, GOTOOLCHAIN="local")
            _run(
                "go",
                "build",
                "-trimpath",
                "-o",
                str(folder / name),
                package,
                cwd=source,
                failure=DoesNotWork,
                GOTOOLCHAIN="local",
                # go.sum must already fit.
                GOFLAGS="-mod=readonly -buildvcs=false",
            )


def _make_mongo_java_server() -> None:
    name = "mongo_java_server"
    with _made_once(name) as folder:
        if folder is None:
            return
        jars, source = folder / "jars", SOURCES / name
        version = re.search(r"(\d+)", _run("javac", "-version", cwd=source))
        if version is None or int(version[1]) < OLDEST_JAVA:
            raise CannotBeHad(f"Java {OLDEST_JAVA} is needed, here is {version and version[1]}")
        shutil.rmtree(jars, ignore_errors=True)
        _run(
            "mvn",
            "--quiet",
            "--batch-mode",
            "dependency:copy-dependencies",
            f"-DoutputDirectory={jars}",
            "-DincludeScope=runtime",
            cwd=source,
        )
        expected = (source / "checksums.sha256").read_text().splitlines()
        found = [
            f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}"
            for jar in sorted(jars.glob("*.jar"))
        ]
        if found != sorted(expected, key=lambda line: line.split()[1]):
            raise DoesNotWork("the jars are not those of checksums.sha256")
        _run(
            "javac",
            "-cp",
            str(jars / "*"),
            "-d",
            str(folder / "classes"),
            str(source / "Launcher.java"),
            cwd=source,
            failure=DoesNotWork,
        )


def _java(port: int, _directory: Path) -> list[str]:
    folder = MADE / "mongo_java_server"
    # Compiling at one level: a test run is over before the second would pay.
    return [
        "java",
        "-Xmx1g",
        "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
        "-cp",
        f"{folder / 'classes'}:{folder / 'jars' / '*'}",
        "Launcher",
        str(port),
    ]


MONGO_JAVA_SERVER: Final = Kind("mongo-java-server", _make_mongo_java_server, _java)
FERRETDB: Final = Kind(
    "ferretdb",
    lambda: _make_with_go("ferretdb", "."),
    lambda port, directory: [str(MADE / "ferretdb" / "ferretdb"), str(port), str(directory)],
    survives_kill=True,
)
STRIPE_MOCK: Final = Kind(
    "stripe-mock",
    lambda: _make_with_go("stripe_mock", "github.com/stripe/stripe-mock"),
    lambda port, _directory: [
        str(MADE / "stripe_mock" / "stripe_mock"),
        "-http-addr",
        f"127.0.0.1:{port}",
    ],
)
KINDS: Final = {kind.name: kind for kind in (MONGO_JAVA_SERVER, FERRETDB, STRIPE_MOCK)}


def main(names: list[str]) -> int:
    failed = False
    for name in names or list(KINDS):
        try:
            KINDS[name].make()
            print(f"{name}: made")
        except CannotBeHad as error:
            failed = True
            print(f"{name}: cannot be had: {error}")
        except DoesNotWork as error:
            failed = True
            print(f"{name}: does not work: {error}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
