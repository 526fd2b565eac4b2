"""The service as a program of its own, as a person or a container starts it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from app.settings import Settings

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 20.0


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The tests' own, without any setting of the service but these."""
    ours = {name.upper() for name in Settings.model_fields} | {"STRIPE_SANDBOX_PORT"}
    kept = {name: value for name, value in os.environ.items() if name.upper() not in ours}
    return {**kept, "PYTHONUNBUFFERED": "1", **settings}


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(
    *arguments: str,
    settings: Mapping[str, str],
    cwd: Path,
    program: Path = ROOT / "main.py",
    seconds: float = START_SECONDS,
) -> subprocess.CompletedProcess[str]:
    """A program that is expected to end by itself. In ``cwd`` lies no ``.env``."""
    return subprocess.run(
        [sys.executable, str(program), *arguments],
        cwd=cwd,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@dataclass
class Program:
    """A running one. ``output`` is what it has written to both streams so far."""

    process: subprocess.Popen[str]
    output: list[str] = field(default_factory=list)
    _said: threading.Condition = field(default_factory=threading.Condition)

    def read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._said:
                self.output.append(line)
                self._said.notify_all()
        with self._said:
            self.output.append("")
            self._said.notify_all()

    def wait_for(self, text: str) -> None:
        """Until a line with ``text`` was written; fails with the output when it ends before."""
        with self._said:
            found = self._said.wait_for(
                lambda: any(text in line or line == "" for line in self.output), START_SECONDS
            )
        assert found, f"nothing said of {text!r}: {self.text}"
        assert any(text in line for line in self.output), self.text

    def wait_until_it_serves(self, port: int) -> None:
        """uvicorn listens a moment after it has said that it is up."""
        self.wait_for("Application startup complete")
        until = time.monotonic() + START_SECONDS
        while not is_listening(port):
            assert time.monotonic() < until, self.text
            time.sleep(0.02)

    @property
    def text(self) -> str:
        return "".join(self.output)

    def stop(self, by: int = signal.SIGTERM) -> int:
        """Sends the signal and returns the exit code."""
        self.process.send_signal(by)
        return self.process.wait(STOP_SECONDS)


@contextlib.contextmanager
def started(command: Sequence[str], *, settings: Mapping[str, str], cwd: Path) -> Iterator[Program]:
    """Ends it by force at last, if the test has not, and everything that it started."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A group of its own, so that a Ctrl+C of the person at the tests is not for it.
        process_group=0,
    )
    program = Program(process)
    assert process.stdout is not None
    reader = threading.Thread(target=program.read, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield program
    finally:
        if process.poll() is None:
            # SIGTERM first: killed at once it could not stop what it started itself.
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join(STOP_SECONDS)
        # Closing would wait for any process that still holds the other end.
        assert not reader.is_alive(), "something that it started is still running"
        process.stdout.close()
