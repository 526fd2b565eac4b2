"""The service and its reconciler as programs of their own, on a real database server."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from app.repositories.database import Client
from app.repositories.indexes import ORDERS, PAYMENTS
from app.routers import BASE_PATH
from stripe_sandbox import Sandbox, SandboxConfig, serve
from tests.support.programs import ROOT, free_ports, run, started
from tests.support.store import SERVER_URL, not_on, own_store, removed_afterwards

pytestmark = [pytest.mark.mongodb, pytest.mark.slow]

MAIN: Final = str(ROOT / "main.py")
NOBODY: Final = "http://127.0.0.1:1"


@pytest.fixture
async def store() -> AsyncIterator[dict[str, str]]:
    """Settings of a program whose databases are its own."""
    fields = own_store()
    async with removed_afterwards(fields):
        yield {name.upper(): value for name, value in fields.items()}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """The test's own way into the databases."""
    client = Client(SERVER_URL)
    yield client
    client.close()


@pytest.fixture
async def stripe_base() -> AsyncIterator[str]:
    async with serve(Sandbox(SandboxConfig())) as base:
        yield base


def serving(store: Mapping[str, str], *, port: int, stripe: str) -> dict[str, str]:
    return {
        **store,
        "PORT": str(port),
        "STRIPE_SECRET_KEY": "sk_test_suite",
        "STRIPE_PUBLISHABLE_KEY": "pk_test_suite",
        "STRIPE_API_BASE": stripe,
        "RECONCILE_INTERVAL_SECONDS": "0",
        "RECONCILE_AFTER_SECONDS": "0",
    }


async def ask(port: int, method: str, path: str, **kwargs: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}{BASE_PATH}") as http:
        return await http.request(method, path, timeout=30, **kwargs)


async def test_service_keeps_what_it_sold_from_one_start_to_the_next(
    store: dict[str, str], client: Client, tmp_path: Path
) -> None:
    users = client[store["AUTH_MONGODB_DB_NAME"]]["users"]
    await users.insert_one({"_id": "user_123", "credits": 10})
    [port] = free_ports(1)
    settings = serving(store, port=port, stripe=NOBODY)
    purchase = {"user_id": "user_123", "items": [{"book_id": "dune", "price_cents": 999}]}
    key = {"Idempotency-Key": "a-purchase"}

    with started([MAIN], settings=settings, cwd=tmp_path) as program:
        await asyncio.to_thread(program.wait_until_it_serves, port)
        assert (await ask(port, "GET", "/health/ready")).json()["status"] == "ready"
        paid = await ask(port, "POST", "/pay-with-credits", json=purchase, headers=key)
        assert paid.json()["remaining_credits"] == 9, paid.text
        assert await asyncio.to_thread(program.stop) == 0
    with started([MAIN], settings=settings, cwd=tmp_path) as program:
        await asyncio.to_thread(program.wait_until_it_serves, port)
        again = await ask(port, "POST", "/pay-with-credits", json=purchase, headers=key)
        assert again.json() == paid.json()
        assert again.headers["idempotent-replayed"] == "true"
        orders = (await ask(port, "GET", "/user/user_123/orders")).json()["orders"]
        assert [order["order_id"] for order in orders] == [paid.json()["order_id"]]
        assert await asyncio.to_thread(program.stop) == 0
        assert "Traceback" not in program.text


async def test_reconciler_of_its_own_finishes_what_a_service_left_undone(
    store: dict[str, str], stripe_base: str, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    settings = serving(store, port=port, stripe=NOBODY)
    with started([MAIN], settings=settings, cwd=tmp_path) as program:
        await asyncio.to_thread(program.wait_until_it_serves, port)
        body = {"user_id": "user_123", "amount": 999}
        failed = await ask(port, "POST", "/create-payment-intent", json=body)
        assert failed.status_code == 502
        [payment] = (await ask(port, "GET", "/user/user_123/payments")).json()["payments"]
        assert payment["stripe_payment_intent_id"] is None

        done = await asyncio.to_thread(
            run,
            "reconcile",
            "--once",
            settings=serving(store, port=port, stripe=stripe_base) | {"PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            program=ROOT / "app",
        )

        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["moved"] == {"payment": 1}
        payment = (await ask(port, "GET", f"/payment/{payment['payment_id']}")).json()
        assert payment["stripe_payment_intent_id"].startswith("pi_")


# An index that cannot be made


async def refusals(store: dict[str, str], cwd: Path) -> set[str]:
    """What the two programs say of why they do not start: one line each, no trace."""
    [port] = free_ports(1)
    settings = serving(store, port=port, stripe=NOBODY) | {"PYTHONPATH": str(ROOT)}
    lines = set()
    for program, arguments in ((ROOT / "main.py", ()), (ROOT / "app", ("reconcile", "--once"))):
        done = await asyncio.to_thread(run, *arguments, settings=settings, cwd=cwd, program=program)
        assert done.returncode == 1
        assert done.stdout == ""
        [line] = done.stderr.splitlines()
        lines.add(line)
    return lines


async def test_index_that_is_there_with_other_keys_stops_the_start_and_is_named(
    store: dict[str, str], client: Client, tmp_path: Path
) -> None:
    payments = client[store["MONGODB_DB_NAME"]][PAYMENTS]
    name = "stripe_payment_intent_id"
    await payments.create_index("somebody_elses", name=name, unique=True)

    [line] = await refusals(store, tmp_path)

    assert line.startswith(f"error: the index {name} of {PAYMENTS} cannot be made: another")


@not_on("ferretdb", "says of it only that SQLite refused")
async def test_documents_that_contradict_an_index_stop_the_start_and_are_not_shown(
    store: dict[str, str], client: Client, tmp_path: Path
) -> None:
    orders = client[store["MONGODB_DB_NAME"]][ORDERS]
    await orders.insert_many([{"payment_id": "pay_twice"}, {"payment_id": "pay_twice"}])

    [line] = await refusals(store, tmp_path)

    assert line.startswith(f"error: the index payment_id of {ORDERS} cannot be made: there are")
    assert "pay_twice" not in line
