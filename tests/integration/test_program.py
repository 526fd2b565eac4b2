"""Starting and stopping: `python main.py`, with and without `--sandbox`, as a process."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from app.routers import BASE_PATH
from main import main
from tests.support.programs import (
    ROOT,
    Program,
    environment,
    free_ports,
    is_listening,
    run,
    started,
)

pytestmark = pytest.mark.slow

MAIN: Final = str(ROOT / "main.py")
WELCOME: Final = "Pay with credits:"


def only_line(result: "subprocess.CompletedProcess[str]") -> str:
    """What a start that failed said: one line that a person can act on, and nothing else."""
    assert result.returncode == 1, result
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def line_of(
    program: Callable[[list[str]], int],
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cwd: Path,
    settings: dict[str, str],
) -> str:
    """``only_line``, of a program that is run in this process."""
    for name in os.environ.keys() - environment({}).keys():
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(cwd)
    code = program(arguments)
    said = capsys.readouterr()
    return only_line(subprocess.CompletedProcess(arguments, code, said.out, said.err))


# Starts that fail


def test_without_mongodb_it_says_so_and_how_to_do_without(tmp_path: Path) -> None:
    settings = {
        "PORT": "0",
        "MONGODB_URL": "mongodb://joe:hunter22@127.0.0.1:1/?authSource=admin",
        "DATABASE_TIMEOUT_SECONDS": "0.3",
    }
    line = only_line(run(settings=settings, cwd=tmp_path))
    assert "mongodb://127.0.0.1:1" in line
    assert "MONGODB_URL" in line
    assert "--sandbox" in line
    assert "hunter22" not in line
    assert "joe" not in line


def test_without_mongodb_it_does_not_wait_for_long(tmp_path: Path) -> None:
    settings = {"PORT": "0", "MONGODB_URL": "mongodb://127.0.0.1:1"}
    only_line(run(settings=settings, cwd=tmp_path, seconds=15))


SECRET_PART: Final = "51HunterTwentyTwo"
LIVE: Final = {
    "STRIPE_SECRET_KEY": f"sk_live_{SECRET_PART}",
    "STRIPE_PUBLISHABLE_KEY": "pk_live_x",
    "STRIPE_WEBHOOK_SECRET": f"whsec_{SECRET_PART}",
    "INTERNAL_SERVICE_KEY": f"internal-{SECRET_PART}",
}
PRODUCTION: Final = {**LIVE, "ENVIRONMENT": "production"}


def without(settings: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in settings.items() if name not in names}


UNSAFE: Final = {
    "live key in development": (LIVE, "ENVIRONMENT"),
    "restricted live key in development": (
        {**LIVE, "STRIPE_SECRET_KEY": f"rk_live_{SECRET_PART}"},
        "ENVIRONMENT",
    ),
    "two modes": ({**PRODUCTION, "STRIPE_PUBLISHABLE_KEY": "pk_test_x"}, "STRIPE_PUBLISHABLE_KEY"),
    "no webhook secret in production": (
        without(PRODUCTION, "STRIPE_WEBHOOK_SECRET"),
        "STRIPE_WEBHOOK_SECRET",
    ),
    "no credential check in production": (
        without(PRODUCTION, "INTERNAL_SERVICE_KEY"),
        "AUTH_JWT_SECRET",
    ),
    "no credential check in staging": ({"ENVIRONMENT": "staging"}, "AUTH_JWT_SECRET"),
    "embedded store in production": (
        {**PRODUCTION, "MONGODB_URL": "mongomock://"},
        "MONGODB_URL",
    ),
    "database URL of another kind": (
        {"MONGODB_URL": f"postgres://joe:{SECRET_PART}@db/x"},
        "MONGODB_URL",
    ),
    "unreadable auth database URL": (
        {"AUTH_MONGODB_URL": f"mongodb://joe:{SECRET_PART}@[::1/"},
        "AUTH_MONGODB_URL",
    ),
    "unreadable page": ({"PAYMENT_SUCCESS_URL": "localhost:5173/done"}, "PAYMENT_SUCCESS_URL"),
    "no Stripe key at all": ({"STRIPE_SECRET_KEY": SECRET_PART}, "STRIPE_SECRET_KEY"),
    "no webhook secret at all": ({"STRIPE_WEBHOOK_SECRET": SECRET_PART}, "STRIPE_WEBHOOK_SECRET"),
    "sample key": ({"STRIPE_SECRET_KEY": "sk_test_..."}, "STRIPE_SECRET_KEY"),
    "short secret": ({"AUTH_JWT_SECRET": SECRET_PART}, "AUTH_JWT_SECRET"),
    "port": ({"PORT": "eight"}, "PORT"),
}


@pytest.mark.parametrize(("settings", "named"), UNSAFE.values(), ids=UNSAFE.keys())
def test_unsafe_settings_stop_the_start_and_name_themselves_and_no_secret(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    settings: dict[str, str],
    named: str,
) -> None:
    """In this process: the start ends before it has touched anything."""
    line = line_of(main, [], monkeypatch, capsys, tmp_path, settings)
    assert named in line
    assert SECRET_PART not in line


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        UNSAFE["live key in development"],
        ({"MONGODB_URL": f"mongodb://joe:{SECRET_PART}@db@db:x/"}, "MONGODB_URL"),
        ({"AUTH_JWT_PUBLIC_KEY": SECRET_PART}, "AUTH_JWT_PUBLIC_KEY"),
    ],
    ids=["by the settings", "by the driver", "by the verifier"],
)
def test_program_that_may_not_start_ends_with_the_line_alone(
    tmp_path: Path, settings: dict[str, str], named: str
) -> None:
    base = {"PORT": "0", "MONGODB_URL": "mongomock://", "AUTH_MONGODB_URL": "mongomock://"}
    line = only_line(run(settings={**base, **settings}, cwd=tmp_path))
    assert named in line
    assert SECRET_PART not in line


def test_dot_env_is_read_from_where_it_is_started(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=loud\n", encoding="utf-8")
    line = only_line(run(settings={"MONGODB_URL": "mongomock://", "PORT": "0"}, cwd=tmp_path))
    assert "LOG_LEVEL" in line


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_port_that_is_taken_is_named(tmp_path: Path, taken: int) -> None:
    settings = {
        "PORT": str(taken),
        "HOST": "127.0.0.1",
        "MONGODB_URL": "mongomock://",
        "AUTH_MONGODB_URL": "mongomock://",
    }
    line = only_line(run(settings=settings, cwd=tmp_path))
    assert f"port {taken}" in line
    assert "PORT" in line


@pytest.mark.parametrize("which", ["PORT", "STRIPE_SANDBOX_PORT"])
def test_port_that_is_taken_stops_the_sandbox_too(tmp_path: Path, taken: int, which: str) -> None:
    [free] = free_ports(1)
    settings = {"HOST": "127.0.0.1", "PORT": str(free), "STRIPE_SANDBOX_PORT": str(free)}
    settings[which] = str(taken)
    line = only_line(run("--sandbox", settings=settings, cwd=tmp_path))
    assert f"port {taken}" in line
    assert which in line
    assert not is_listening(free), "the sandbox was left behind"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"STRIPE_SECRET_KEY": f"sk_live_{SECRET_PART}"}, "STRIPE_SECRET_KEY"),
        ({"STRIPE_SECRET_KEY": f"rk_live_{SECRET_PART}"}, "STRIPE_SECRET_KEY"),
        ({"STRIPE_PUBLISHABLE_KEY": f"pk_live_{SECRET_PART}"}, "STRIPE_PUBLISHABLE_KEY"),
        ({"ENVIRONMENT": "production"}, "ENVIRONMENT"),
        ({"ENVIRONMENT": "Production"}, "ENVIRONMENT"),
        ({"PORT": "eight"}, "PORT"),
        ({"STRIPE_SANDBOX_PORT": "70000"}, "STRIPE_SANDBOX_PORT"),
        ({"PORT": "8004", "STRIPE_SANDBOX_PORT": "8004"}, "STRIPE_SANDBOX_PORT"),
    ],
)
def test_sandbox_mode_refuses_what_is_not_for_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    settings: dict[str, str],
    named: str,
) -> None:
    line = line_of(main, ["--sandbox"], monkeypatch, capsys, tmp_path, settings)
    assert named in line
    assert SECRET_PART not in line


def test_sandbox_mode_is_not_in_the_image_and_it_says_so(tmp_path: Path) -> None:
    """The image holds main.py and app/ and nothing else."""
    shutil.copy(ROOT / "main.py", tmp_path)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=ignored)
    image = tmp_path / "main.py"
    line = only_line(run("--sandbox", settings={}, cwd=tmp_path, program=image))
    assert "--sandbox" in line
    assert "sandbox_mode" in line


# The service


def test_service_stops_in_good_order_when_told_to(tmp_path: Path) -> None:
    for by in (signal.SIGTERM, signal.SIGINT):
        [port] = free_ports(1)
        settings = {
            "PORT": str(port),
            "MONGODB_URL": "mongomock://",
            "AUTH_MONGODB_URL": "mongomock://",
        }
        with started([MAIN], settings=settings, cwd=tmp_path) as program:
            program.wait_until_it_serves(port)
            health = httpx.get(f"http://127.0.0.1:{port}{BASE_PATH}/health/ready")
            assert health.json()["status"] == "ready"
            assert program.stop(by) == 0
        assert "service.stopped" in program.text
        assert "Traceback" not in program.text
        assert not is_listening(port)


def test_uvicorn_can_serve_it_too(tmp_path: Path) -> None:
    """`main:app` is what a server of somebody else's choice imports."""
    [port] = free_ports(1)
    settings = {
        "MONGODB_URL": "mongomock://",
        "AUTH_MONGODB_URL": "mongomock://",
        "PYTHONPATH": str(ROOT),
    }
    command = ["-m", "uvicorn", "main:app", "--port", str(port)]
    with started(command, settings=settings, cwd=tmp_path) as program:
        program.wait_until_it_serves(port)
        assert httpx.get(f"http://127.0.0.1:{port}{BASE_PATH}/health/ready").status_code == 200


def test_reconciler_as_a_deployment_of_its_own_stops_in_good_order(tmp_path: Path) -> None:
    settings = {
        "MONGODB_URL": "mongomock://",
        "AUTH_MONGODB_URL": "mongomock://",
        "RECONCILE_INTERVAL_SECONDS": "0.05",
        "STRIPE_SECRET_KEY": "sk_test_x",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "PYTHONPATH": str(ROOT),
    }
    command = ["-m", "app", "reconcile"]
    with started(command, settings=settings, cwd=tmp_path) as program:
        # Stripe is away: a run that fails must not end the timer.
        program.wait_for("stripe.request_failed")
        assert program.stop() == 0
    assert "Traceback" not in program.text


# The service with its sandbox


@dataclass
class Running:
    program: Program
    port: int
    sandbox_port: int

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}{BASE_PATH}"

    @property
    def sandbox(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}/_sandbox"

    def pasted(self, title: str) -> str:
        """The command that is printed below ``title``."""
        lines = self.program.text.splitlines()
        [position] = [number for number, line in enumerate(lines) if title in line]
        return lines[position + 1].strip()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    port, sandbox_port = free_ports(2)
    settings = {"PORT": str(port), "STRIPE_SANDBOX_PORT": str(sandbox_port)}
    cwd = tmp_path_factory.mktemp("elsewhere")
    with started([MAIN, "--sandbox"], settings=settings, cwd=cwd) as program:
        program.wait_for(WELCOME)
        yield Running(program, port, sandbox_port)


def paste(command: str, cwd: Path) -> Any:
    """What a person sees who pastes the line into a shell; it is JSON."""
    result = subprocess.run(
        ["sh", "-c", command],
        cwd=cwd,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 0, result
    return json.loads(result.stdout)


def eventually(url: str, **expected: Any) -> Any:
    """Asks until the answer has these fields: for what a webhook brings about."""
    deadline = time.monotonic() + 15
    while True:
        body = httpx.get(url).json()
        if expected.items() <= body.items():
            return body
        assert time.monotonic() < deadline, body
        time.sleep(0.02)


def test_pasted_line_pays_a_payment_intent(running: Running, tmp_path: Path) -> None:
    paid = paste(running.pasted("Pay a PaymentIntent"), tmp_path)
    assert paid["status"] == "succeeded"
    assert paid["order_id"]
    payment = httpx.get(f"{running.api}/payment/{paid['payment_id']}").json()
    assert (payment["status"], payment["amount_cents"]) == ("succeeded", 1299)


def test_pasted_line_leads_to_a_checkout_page_and_its_payment_comes_by_webhook(
    running: Running, tmp_path: Path
) -> None:
    created = paste(running.pasted("Get a hosted checkout page"), tmp_path)
    page = httpx.get(created["checkout_url"])
    assert page.status_code == 200
    assert "Dune" in page.text

    done = httpx.post(f"{running.sandbox}/checkout/sessions/{created['session_id']}/complete")
    assert done.status_code == 200
    # Our own record, which only the webhook changes: Stripe is not asked for it.
    payment = eventually(f"{running.api}/payment/{created['payment_id']}", status="succeeded")
    assert payment["order_id"]
    deadline = time.monotonic() + 15  # the payment is saved before the webhook is answered
    while True:
        deliveries = httpx.get(f"{running.sandbox}/webhooks/deliveries").json()
        if any(
            attempt["succeeded"] and attempt["type"] == "checkout.session.completed"
            for attempt in deliveries["data"]
        ):
            break
        assert time.monotonic() < deadline, deliveries
        time.sleep(0.02)


def test_shopper_comes_back_to_a_page_that_is_there_and_knows_the_session(
    running: Running, tmp_path: Path
) -> None:
    created = paste(running.pasted("Get a hosted checkout page"), tmp_path)
    session_id = created["session_id"]
    httpx.post(f"{running.sandbox}/checkout/sessions/{session_id}/complete").raise_for_status()
    session = httpx.get(
        f"http://127.0.0.1:{running.sandbox_port}/v1/checkout/sessions/{session_id}",
        headers={"Authorization": "Bearer sk_test_sandbox"},
    ).json()
    back = session["success_url"].replace("{CHECKOUT_SESSION_ID}", session_id)
    assert back.count(session_id) == 1
    assert httpx.get(back).status_code == 200
    shown = httpx.get(f"{running.api}/checkout-session/{session_id}").json()
    assert (shown["status"], shown["payment_status"]) == ("complete", "paid")
    assert shown["order_id"]


def test_pasted_line_pays_with_the_credits_of_a_demo_user(running: Running, tmp_path: Path) -> None:
    paid = paste(running.pasted("Pay with credits"), tmp_path)
    assert (paid["status"], paid["credits_deducted"]) == ("succeeded", 2)


def test_demo_users_are_there_also_the_one_with_an_object_id(running: Running) -> None:
    answers = {}
    for user_id in ("user_456", "64b7f8c2e4b0a1d2c3e4f506", "nobody"):
        assert user_id in running.program.text or user_id == "nobody"
        body = {"user_id": user_id, "items": [{"book_id": "x", "price_cents": 1, "credits": 99}]}
        answers[user_id] = httpx.post(f"{running.api}/pay-with-credits", json=body).json()
    assert answers["user_456"]["available"] == 0
    assert answers["64b7f8c2e4b0a1d2c3e4f506"]["available"] == 25
    assert answers["nobody"]["code"] == "user_not_found"


def test_pages_are_where_it_says(running: Running) -> None:
    printed = re.findall(r"^  \w.* http://localhost:(\S+)$", running.program.text, re.MULTILINE)
    assert {address.partition("/")[0] for address in printed} == {
        str(running.port),
        str(running.sandbox_port),
    }
    for address in printed:
        assert httpx.get(f"http://127.0.0.1:{address}").status_code == 200, address


def test_the_link_to_the_demo_shop_is_the_first_thing_that_is_printed(running: Running) -> None:
    shop = f"http://localhost:{running.port}/demo/"
    assert running.program.text.split()[:3] == ["Demo", "shop", shop]
    assert httpx.get(shop).status_code == 200


def test_nothing_secret_is_printed(running: Running) -> None:
    assert "whsec_" not in running.program.text
    assert "sk_test_" not in running.program.text


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl+C"])
def test_stop_finishes_the_request_in_flight_and_then_stops_both_processes(
    tmp_path: Path, by: signal.Signals
) -> None:
    port, sandbox_port = free_ports(2)
    settings = {"PORT": str(port), "STRIPE_SANDBOX_PORT": str(sandbox_port)}
    with started([MAIN, "--sandbox"], settings=settings, cwd=tmp_path) as program:
        program.wait_for(WELCOME)
        running = Running(program, port, sandbox_port)
        fault = {"kind": "latency", "path": "payment_intents", "seconds": 1.0}
        assert httpx.post(f"{running.sandbox}/faults", json=fault).status_code == 200
        answers: list[httpx.Response] = []

        def buy() -> None:
            body = {"user_id": "user_123", "amount": 999}
            answers.append(httpx.post(f"{running.api}/create-payment-intent", json=body))

        buyer = threading.Thread(target=buy)
        buyer.start()
        while not httpx.get(f"{running.sandbox}/requests").json()["data"]:
            time.sleep(0.02)
        assert program.stop(by) == 0
        buyer.join(10)

    assert [answer.status_code for answer in answers] == [200]
    assert "Traceback" not in program.text
    assert "service.stopped" in program.text
    assert not is_listening(port)
    assert not is_listening(sandbox_port), "the sandbox was left behind"


def test_a_service_that_is_killed_takes_its_sandbox_with_it(tmp_path: Path) -> None:
    port, sandbox_port = free_ports(2)
    settings = {"PORT": str(port), "STRIPE_SANDBOX_PORT": str(sandbox_port)}
    with started([MAIN, "--sandbox"], settings=settings, cwd=tmp_path) as program:
        program.wait_for(WELCOME)
        # The dashboard's stream is an answer that would never end by itself.
        with httpx.stream("GET", f"http://127.0.0.1:{sandbox_port}/dashboard/live") as stream:
            assert b"changed" in next(stream.iter_bytes())
            program.process.kill()
            deadline = time.monotonic() + 10
            while is_listening(sandbox_port):
                assert time.monotonic() < deadline, "the sandbox was left behind"
                time.sleep(0.02)


def test_stop_while_it_still_starts_leaves_no_sandbox_behind(tmp_path: Path) -> None:
    port, sandbox_port = free_ports(2)
    settings = {"PORT": str(port), "STRIPE_SANDBOX_PORT": str(sandbox_port)}
    with started([MAIN, "--sandbox"], settings=settings, cwd=tmp_path) as program:
        while not is_listening(sandbox_port):
            assert program.process.poll() is None, program.text
            time.sleep(0.005)
        assert program.stop() == 0
    assert "Traceback" not in program.text
    assert not is_listening(sandbox_port)
