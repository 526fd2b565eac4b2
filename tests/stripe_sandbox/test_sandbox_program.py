"""The sandbox as a program, and as a neighbour in somebody's event loop."""

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from stripe_sandbox import Sandbox, SandboxConfig, serve
from stripe_sandbox.__main__ import main

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def program(*arguments: str, **options: Any) -> Iterator[tuple["subprocess.Popen[bytes]", Any]]:
    """The program once it answers, and a client that talks to it."""
    port = free_port()
    command = [sys.executable, "-m", "stripe_sandbox", "--port", str(port), "--log-level", "error"]
    with (
        subprocess.Popen([*command, *arguments], cwd=ROOT, **options) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=("sk_test_1", "")) as http,
    ):
        try:
            for _ in range(400):
                try:
                    http.get("/v1/balance")
                    break
                except httpx.ConnectError:
                    time.sleep(0.05)
            yield process, http
        finally:
            process.terminate()


def test_the_program_serves_drops_connections_and_stops_when_asked() -> None:
    with program() as (process, http):
        assert http.get("/v1/balance").json()["object"] == "balance"
        http.post("/_sandbox/faults", json={"kind": "drop_after"})
        with pytest.raises(httpx.TransportError):
            http.post("/v1/payment_intents", data={"amount": "100", "currency": "usd"})
        [made] = http.get("/v1/payment_intents").json()["data"]
        assert made["amount"] == 100
        process.terminate()
        assert process.wait(10) in (0, -15)


def test_it_stops_when_whoever_started_it_is_gone() -> None:
    with program("--stop-with-stdin", stdin=subprocess.PIPE) as (process, http):
        assert process.stdin is not None
        process.stdin.write(b"what is written means nothing")
        process.stdin.flush()
        assert http.get("/v1/balance").status_code == 200
        process.stdin.close()
        assert process.wait(10) == 0


def test_without_being_told_so_it_does_not_care_for_its_standard_input() -> None:
    with program(stdin=subprocess.DEVNULL) as (process, http):
        assert http.get("/v1/balance").status_code == 200
        assert process.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is nobody's address")
def test_only_this_machine_is_served_unless_told_otherwise() -> None:
    # What listens everywhere answers on every address of the loopback network.
    for arguments, everywhere in (((), False), (("--host", "0.0.0.0"), True)):  # noqa: S104
        with program(*arguments) as (_, http), closing(socket.socket()) as other:
            reached = other.connect_ex(("127.0.0.2", http.base_url.port)) == 0
            assert reached == everywhere


def test_webhooks_can_be_paused_from_the_start() -> None:
    hook = ("--webhook-url", "http://127.0.0.1:9/", "--webhook-secret", "whsec_1")
    with program("--webhooks-paused", *hook) as (_, http):
        http.post("/v1/payment_intents", data={"amount": "100", "currency": "usd"})
        held = http.get("/_sandbox/webhooks/deliveries").json()
    assert (held["paused"], held["data"]) == (True, [])
    assert [delivery["type"] for delivery in held["pending"]] == ["payment_intent.created"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--webhook-url", "http://localhost:1/hook"],
        ["--webhook-url", "http://localhost:1/hook", "--webhook-secret", "secret"],
        ["--webhook-url", "localhost", "--webhook-secret", "whsec_1"],
    ],
)
def test_wrong_arguments_stop_the_program_with_a_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "webhook" in capsys.readouterr().err


async def test_serving_starts_and_stops_at_once_even_with_open_connections() -> None:
    started = time.perf_counter()
    async with httpx.AsyncClient() as http:
        for _ in range(5):
            async with serve(Sandbox()) as url:
                assert (await http.get(f"{url}/v1/balance")).status_code == 401
    assert time.perf_counter() - started < 2


async def test_a_sandbox_served_again_remembers() -> None:
    sandbox, port = Sandbox(), free_port()
    auth = ("sk_test_1", "")
    async with httpx.AsyncClient(auth=auth, base_url=f"http://127.0.0.1:{port}") as http:
        async with serve(sandbox, port=port):
            made = await http.post("/v1/payment_intents", data={"amount": "100", "currency": "usd"})
        with pytest.raises(httpx.ConnectError):
            await http.get("/v1/balance")
        async with serve(sandbox, port=port):
            found = await http.get(f"/v1/payment_intents/{made.json()['id']}")
    assert found.json() == made.json()


async def test_a_request_that_never_became_whole_is_not_executed() -> None:
    sandbox = Sandbox()
    async with serve(sandbox) as url:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        body = b"amount=100&currency=usd"
        writer.write(
            b"POST /v1/payment_intents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_1\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body) + 12, body)
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.05)
    assert sandbox.events.all() == []


async def test_a_timer_that_fails_is_logged_and_the_others_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox = Sandbox()
    ran: list[float] = []
    sandbox.clock.call_later(10, lambda: ran.append(1 / 0))
    sandbox.clock.call_later(20, lambda: ran.append(sandbox.clock.now()))
    sandbox.clock.advance(30)
    assert len(ran) == 1
    assert "clock.timer_failed" in caplog.text


def test_cancelled_timers_give_their_memory_back() -> None:
    clock = Sandbox().clock
    timers = [clock.call_later(1_000 + n, lambda: None) for n in range(5_000)]
    for timer in timers:
        clock.cancel(timer)
        clock.cancel(timer)
    assert len(clock) < 200


async def test_sandboxes_share_nothing() -> None:
    one, two = Sandbox(), Sandbox()
    async with serve(one) as first, serve(two) as second, httpx.AsyncClient() as http:
        assert first != second
        await http.post(
            f"{first}/v1/payment_intents",
            data={"amount": "100", "currency": "usd"},
            auth=("sk_test_1", ""),
        )
    assert (len(one.events.all()), len(two.events.all())) == (1, 0)


async def test_a_seed_makes_ids_reproducible() -> None:
    def make() -> Any:
        sandbox = Sandbox(SandboxConfig(seed=7))
        return sandbox.payment_intents.open({"amount": 100, "currency": "usd"}).id

    assert make() == make()
    assert make() != Sandbox().payment_intents.open({"amount": 100, "currency": "usd"}).id


async def test_nothing_is_left_running_after_closing() -> None:
    before = asyncio.all_tasks()
    async with serve(Sandbox()):
        assert asyncio.all_tasks() > before
    assert asyncio.all_tasks() == before


def test_the_package_knows_nothing_of_the_service() -> None:
    for path in (ROOT / "stripe_sandbox").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) app\b", path.read_text(), re.M), path
