"""What the Dockerfile and .dockerignore promise: small, reproducible, without rights to spare."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.check_image_steps import (
    CheckFailed,
    Instruction,
    ignore_rules,
    is_ignored,
    read_dockerfile,
)

ROOT = Path(__file__).resolve().parents[2]
LIVE = "/api/v1/payment/health/live"


@pytest.fixture(scope="module")
def stages() -> list[list[Instruction]]:
    found: list[list[Instruction]] = []
    for instruction in read_dockerfile((ROOT / "Dockerfile").read_text()):
        if instruction.name == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def only(stage: list[Instruction], name: str) -> Instruction:
    (found,) = [instruction for instruction in stage if instruction.name == name]
    return found


def environment(stage: list[Instruction]) -> dict[str, str]:
    words = [word for step in stage if step.name == "ENV" for word in step.words()]
    return dict(word.split("=", 1) for word in words)


def test_both_stages_have_the_same_python(stages: list[list[Instruction]]) -> None:
    """A virtual environment links to the interpreter that made it."""
    assert [stage[0].words()[0] for stage in stages] == ["python:3.13-slim"] * 2
    places = [only(stage, "WORKDIR").arguments for stage in stages]
    assert len(set(places)) == 1, "compiled files would name sources that are not there"


def test_nothing_runs_in_the_final_stage(stages: list[list[Instruction]]) -> None:
    assert [step.arguments for step in stages[-1] if step.name == "RUN"] == []


def test_packages_come_from_the_lock_with_hashes_and_without_a_compiler(
    stages: list[list[Instruction]],
) -> None:
    runs = [step.arguments for step in stages[0] if step.name == "RUN"]
    (install,) = [command for command in runs if re.search(r"pip\b.* install", command)]
    for flag in ("--require-hashes", "--no-deps", "--only-binary :all:", "-r requirements.lock"):
        assert flag in install
    assert not [command for command in runs if re.search(r"apt|gcc|apk", command)]


def test_packages_are_installed_before_the_code_is_copied(stages: list[list[Instruction]]) -> None:
    """Else every change of the code installs everything again."""
    steps = [f"{step.name} {step.arguments}" for step in stages[0]]
    install = next(number for number, step in enumerate(steps) if "-r requirements.lock" in step)
    copied_before = [step for step in steps[:install] if step.startswith("COPY")]
    assert copied_before == ["COPY requirements.lock ./"]


def test_only_the_service_is_copied(stages: list[list[Instruction]]) -> None:
    from_context = {
        source
        for stage in stages
        for step in stage
        if step.name in {"COPY", "ADD"} and "from" not in step.flags
        for source in step.words()[:-1]
    }
    assert from_context == {"requirements.lock", "main.py", "app"}
    shipped = [step.words()[0] for step in stages[-1] if step.name == "COPY"]
    assert shipped == ["/opt/venv", "/srv/payment/main.py", "/srv/payment/app"]
    assert all(step.flags == {"from": "build"} for step in stages[-1] if step.name == "COPY")


def test_the_user_is_a_number_and_not_root(stages: list[list[Instruction]]) -> None:
    user = only(stages[-1], "USER").arguments
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert "--chown" not in (ROOT / "Dockerfile").read_text(), "the service must not own its code"


def test_nothing_has_to_be_written_at_run_time(stages: list[list[Instruction]]) -> None:
    assert environment(stages[-1])["PYTHONDONTWRITEBYTECODE"] == "1"
    compiled = [step.arguments for step in stages[0] if "compileall" in step.arguments]
    assert len(compiled) == 1
    assert {"/opt/venv/lib", "app"} <= set(compiled[0].split())
    assert not any(step.name == "VOLUME" for step in stages[-1])


def test_the_service_is_process_one_and_is_asked_to_stop(stages: list[list[Instruction]]) -> None:
    command = only(stages[-1], "CMD")
    assert command.arguments.startswith("["), "the shell form would keep SIGTERM to itself"
    assert command.words() == ["python", "main.py"]
    assert not any(step.name == "ENTRYPOINT" for step in stages[-1])
    assert only(stages[-1], "STOPSIGNAL").arguments == "SIGTERM"


def test_the_port_is_the_same_everywhere(stages: list[list[Instruction]]) -> None:
    assert only(stages[-1], "EXPOSE").arguments == environment(stages[-1])["PORT"] == "8004"


def test_no_secret_is_built_in(stages: list[list[Instruction]]) -> None:
    named = [step.arguments for stage in stages for step in stage if step.name in {"ARG", "ENV"}]
    assert not [text for text in named if re.search(r"SECRET|PASSWORD|TOKEN|_KEY|MONGODB", text)]


# The health check: the very command, against a server of our own -------------------------------


@contextmanager
def health_server(status: int) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield str(server.server_address[1]), asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def probe(stages: list[list[Instruction]]) -> list[str]:
    name, _, command = only(stages[-1], "HEALTHCHECK").arguments.partition(" ")
    assert name == "CMD"
    program, *arguments = json.loads(command)
    assert program == "python"
    return [sys.executable, *arguments]


def ask(probe: list[str], port: str, **extra: str) -> int:
    environment = {**os.environ, "PORT": port, **extra}
    done = subprocess.run(probe, env=environment, capture_output=True, check=False, timeout=30)
    return done.returncode


def test_healthy_when_the_service_answers(probe: list[str]) -> None:
    with health_server(200) as (port, asked):
        assert ask(probe, port) == 0
    assert asked == [LIVE]


def test_unhealthy_when_the_service_answers_with_an_error(probe: list[str]) -> None:
    with health_server(503) as (port, _):
        assert ask(probe, port) == 1


def test_unhealthy_when_nothing_listens(probe: list[str]) -> None:
    with health_server(200) as (port, _):
        pass
    assert ask(probe, port) != 0


def test_health_is_not_asked_through_a_proxy(probe: list[str]) -> None:
    with health_server(200) as (port, asked):
        nowhere = "http://127.0.0.1:1"
        assert ask(probe, port, http_proxy=nowhere, HTTP_PROXY=nowhere) == 0
    assert asked == [LIVE]


# .dockerignore ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["main.py", "requirements.lock", "app/a.py", "app/domain/a.py"])
def test_dockerignore_lets_through(path: str) -> None:
    assert not is_ignored(path, ignore_rules((ROOT / ".dockerignore").read_text()))


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".env.production",
        ".env.example",
        "app/.env",
        "app/routers/.env.local",
        "app/__pycache__/settings.cpython-313.pyc",
        "app/domain/__pycache__/money.cpython-313.pyc",
        ".git/config",
        ".venv/bin/python",
        "requirements-dev.lock",
        "stripe_sandbox/core/store.py",
        "tests/unit/test_money.py",
        "secrets.json",
        "application.log",
    ],
)
def test_dockerignore_keeps_out(path: str) -> None:
    assert is_ignored(path, ignore_rules((ROOT / ".dockerignore").read_text()))


# Reading the two files -------------------------------------------------------------------------


def test_continued_lines_are_one_instruction_and_comments_none() -> None:
    text = "# x\nFROM a AS b\nRUN one && \\\n    # why\n    two\nCOPY --from=b --chmod=1 /x ./\n"
    assert read_dockerfile(text) == [
        Instruction("FROM", {}, "a AS b", 2),
        Instruction("RUN", {}, "one && two", 3),
        Instruction("COPY", {"from": "b", "chmod": "1"}, "/x ./", 6),
    ]


@pytest.mark.parametrize("text", ["RUN <<EOF\nls\nEOF\n", "RUN one \\\n"])
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(CheckFailed, match="Dockerfile:1"):
        read_dockerfile(text)


@pytest.mark.parametrize(
    ("rules", "path", "ignored"),
    [
        ("a", "a/b/c", True),
        ("a", "b/a", False),
        ("*/a", "b/a", True),
        ("**/a", "a", True),
        ("**/a", "b/c/a/d", True),
        ("*.py[co]", "a.pyc", True),
        ("*.py[co]", "a.py", False),
        ("*\n!a", "a/b", False),
        ("*\n!a\na/b", "a/b/c", True),
        ("!a\n*", "a", True),
        ("# a", "a", False),
    ],
)
def test_the_last_rule_that_matches_decides(rules: str, path: str, ignored: bool) -> None:
    assert is_ignored(path, ignore_rules(rules)) is ignored
