"""The real driver on a real server, and the wire between them failing: the pool runs dry, answers
are lost, the server hangs, dies and comes back. The promises hold afterwards, and nobody waits for
ever.

What is tried again is tried with the same Idempotency-Key, as a client would.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import httpx
import pytest

from scripts.real_servers import FERRETDB, CannotBeHad, Server, running
from tests.support.proxy import Proxy, proxied
from tests.support.shop import Shop, ShopOptions, book, ok, open_shop
from tests.support.store import SERVER_URL

pytestmark = [pytest.mark.mongodb, pytest.mark.slow]

TIMEOUT: Final = 0.5
"""DATABASE_TIMEOUT_SECONDS here: an answer may take several of them, not a minute."""
AGAIN: Final = frozenset({409, 503, 504})


@pytest.fixture
async def wired(shop_options: ShopOptions) -> AsyncIterator[tuple[Shop, Proxy]]:
    """A shop with a proxy before its server; ``@pytest.mark.shop(settings=...)`` as elsewhere."""
    assert SERVER_URL is not None
    async with proxied(SERVER_URL) as (url, proxy):
        shop_options.settings = _by(url) | shop_options.settings
        async with open_shop(shop_options) as shop:
            yield shop, proxy


def _by(url: str) -> dict[str, Any]:
    return {
        "mongodb_url": url,
        "auth_mongodb_url": url,
        "database_timeout_seconds": TIMEOUT,
    }


class Unanswered(Exception):
    """The service could not do it now; the client comes again later."""


async def ask(shop: Shop, path: str, body: Mapping[str, Any], key: str) -> Any:
    response = await shop.post(path, body, key=key)
    if response.status_code in AGAIN:
        raise Unanswered
    return ok(response)


async def buy(shop: Shop, number: int) -> str:
    """A card payment from the start to its confirmation; the payment id."""
    created = await ask(
        shop, "/create-payment-intent", {"user_id": "user_123", "amount": 999}, f"buy-{number}"
    )
    confirmation = {
        "payment_intent_id": created["payment_intent_id"],
        "payment_method_id": "pm_card_visa",
    }
    await ask(shop, "/confirm-payment", confirmation, f"confirm-{number}")
    return str(created["payment_id"])


async def spend(shop: Shop, number: int) -> str:
    body = {"user_id": "user_123", "items": [book(credits=1)]}
    paid = await ask(shop, "/pay-with-credits", body, f"spend-{number}")
    return str(paid["payment_id"])


async def all_try(shop: Shop, buyers: int) -> list[str]:
    """So many card payments and as many credits payments at once; the ids of those that got
    through.
    """
    flows = [buy(shop, number) for number in range(buyers)]
    flows += [spend(shop, number) for number in range(buyers)]
    results = await asyncio.gather(*flows, return_exceptions=True)
    unforeseen = [
        result
        for result in results
        if isinstance(result, BaseException) and not isinstance(result, Unanswered)
    ]
    assert not unforeseen, unforeseen
    return [result for result in results if isinstance(result, str)]


async def calm(shop: Shop, buyers: int) -> list[str]:
    """A minute later, the wire is whole: whoever tried before comes again and gets through."""
    await until_ready(shop)
    shop.clock.advance(minutes=1)
    paid = await all_try(shop, buyers)
    assert len(paid) == 2 * buyers
    return paid


async def check_promises(shop: Shop, paid: list[str], *, credits: int) -> None:
    """After the storm: what was paid has its order, once, and nothing else was charged or taken."""
    await shop.stripe.webhooks.drain()
    for _ in range(3):
        await shop.reconcile(minutes=20)
        await shop.stripe.webhooks.drain()
    assert len(set(paid)) == len(paid)
    payments = {payment["_id"]: payment for payment in await shop.stored("payments")}
    assert {payments[payment_id]["status"] for payment_id in paid} == {"succeeded"}
    orders = Counter(order["payment_id"] for order in await shop.stored("orders"))
    succeeded = [key for key, payment in payments.items() if payment["status"] == "succeeded"]
    assert orders == Counter(succeeded), "one order for each that is paid, none for others"
    intents = {
        payments[key]["stripe_payment_intent_id"]
        for key in succeeded
        if payments[key]["flow"] != "credits"
    }
    charged = [
        event["data"]["object"]["payment_intent"] for event in shop.events("charge.succeeded")
    ]
    assert Counter(charged) == Counter(intents), "each paid payment was charged once, no other was"
    spent = sum(payments[key]["credits"] for key in succeeded if payments[key]["flow"] == "credits")
    assert await shop.credits() == credits - spent
    assert await readiness(shop) == 200


async def readiness(shop: Shop) -> int:
    return (await shop.get("/health/ready")).status_code


async def timed(request: Any) -> tuple[httpx.Response, float]:
    started = time.perf_counter()
    return await request, time.perf_counter() - started


@pytest.mark.shop(users=[{"_id": "user_123", "credits": 100}])
async def test_pool_that_runs_dry_turns_away_and_loses_nothing(
    shop_options: ShopOptions,
) -> None:
    assert SERVER_URL is not None
    async with proxied(SERVER_URL) as (url, proxy):
        shop_options.settings = _by(f"{url}&maxPoolSize=2")
        async with open_shop(shop_options) as shop:
            proxy.delay = 0.06
            first = await asyncio.gather(*(shop.get("/user/user_123/payments") for _ in range(60)))
            statuses = Counter(response.status_code for response in first)
            assert set(statuses) == {200, 503}, statuses
            assert proxy.connections <= 2 * 2 + 6, "two for each database, and those that watch"
            proxy.delay = 0.005
            await all_try(shop, 10)
            proxy.delay = 0.0
            await check_promises(shop, await calm(shop, 10), credits=100)


@pytest.mark.shop(users=[{"_id": "user_123", "credits": 100}])
async def test_connections_cut_again_and_again_in_mid_flow_lose_and_double_nothing(
    wired: tuple[Shop, Proxy],
) -> None:
    shop, proxy = wired

    async def cut_now_and_then() -> None:
        while True:
            # No two cuts alike, and all of them in the middle of something.
            await asyncio.sleep(random.uniform(0.02, 0.3))
            proxy.hang_up()

    for _ in range(4):
        cutting = asyncio.create_task(cut_now_and_then())
        await all_try(shop, 6)
        cutting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cutting
        shop.clock.advance(minutes=1)
    assert proxy.connections > 10, "it was cut, and the driver came back"
    await check_promises(shop, await calm(shop, 6), credits=100)


@pytest.mark.parametrize("lost", range(1, 25))
@pytest.mark.shop(users=[{"_id": "user_123", "credits": 100}])
async def test_answer_lost_after_the_server_did_it_is_not_done_twice(
    wired: tuple[Shop, Proxy], lost: int
) -> None:
    shop, proxy = wired
    proxy.lose_answer = lost
    await all_try(shop, 1)
    assert proxy.lose_answer == 0, "it was lost"
    await check_promises(shop, await calm(shop, 1), credits=100)


async def test_silent_server_is_told_by_readiness_and_answered_in_time(
    wired: tuple[Shop, Proxy],
) -> None:
    shop, proxy = wired
    created = await shop.create_intent()
    proxy.fall_silent()
    asked = await asyncio.gather(
        timed(shop.get("/health/ready")),
        timed(shop.get("/health/live")),
        timed(shop.get(f"/payment/{created['payment_id']}")),
        timed(shop.confirm(created, "pm_card_visa")),
        timed(shop.post("/pay-with-credits", {"user_id": "user_123", "items": [book()]})),
    )
    assert [response.status_code for response, _ in asked] == [503, 200, 503, 503, 503]
    assert max(seconds for _, seconds in asked) < 8 * TIMEOUT
    proxy.mend()
    await until_ready(shop)
    await check_promises(shop, [await buy(shop, 0), await spend(shop, 0)], credits=10)


async def test_server_that_is_gone_is_told_by_readiness_and_found_again(
    wired: tuple[Shop, Proxy],
) -> None:
    shop, proxy = wired
    proxy.cut()
    response, seconds = await timed(shop.get("/health/ready"))
    assert response.status_code == 503
    assert "payments_database" in response.text
    assert "auth_database" in response.text
    assert seconds < 8 * TIMEOUT
    body = {"user_id": "user_123", "amount": 999}
    refusal, seconds = await timed(shop.post("/create-payment-intent", body))
    assert refusal.status_code == 503
    assert refusal.headers["retry-after"]
    assert seconds < 8 * TIMEOUT
    assert shop.events("payment_intent.created") == []
    proxy.mend()
    await until_ready(shop)
    await check_promises(shop, [await buy(shop, 0)], credits=10)


async def test_slow_answers_are_waited_for(wired: tuple[Shop, Proxy]) -> None:
    shop, proxy = wired
    proxy.delay = TIMEOUT / 5
    assert await readiness(shop) == 200
    paid = [await buy(shop, 0), await spend(shop, 0)]
    proxy.delay = 0.0
    await check_promises(shop, paid, credits=10)


async def test_silent_auth_database_does_not_hold_up_the_sale_of_cards(
    shop_options: ShopOptions,
) -> None:
    """The driver has one pool of threads for both databases."""
    assert SERVER_URL is not None
    async with proxied(SERVER_URL) as (url, proxy):
        shop_options.settings = {"auth_mongodb_url": url, "database_timeout_seconds": 2.0}
        async with open_shop(shop_options) as shop:
            await shop.create_intent()
            proxy.fall_silent()
            body = {"user_id": "user_123", "items": [book()]}
            waiting = [asyncio.create_task(shop.post("/pay-with-credits", body)) for _ in range(80)]
            await asyncio.sleep(0.1)
            started = time.perf_counter()
            paid = (await shop.pay_by_card())["payment_id"]
            assert time.perf_counter() - started < 1.5
            assert not any(task.done() for task in waiting), "they still waited meanwhile"
            assert {response.status_code for response in await asyncio.gather(*waiting)} == {503}
            assert "auth_database" in (await shop.get("/health/ready")).text
            proxy.mend()
            await until_ready(shop)
            payments = {payment["_id"]: payment for payment in await shop.stored("payments")}
            assert payments[paid]["status"] == "succeeded"
            assert await shop.credits() == 10


@pytest.fixture
def mortal_server() -> Any:
    """A server of the test's own, that keeps what it acknowledged."""
    try:
        with running(FERRETDB) as server:
            yield server
    except CannotBeHad as error:
        pytest.skip(f"no server that may be killed: {error}")


@pytest.mark.parametrize("after", [0.02, 0.05, 0.1, 0.2])
@pytest.mark.shop(users=[{"_id": "user_123", "credits": 100}])
async def test_server_killed_in_mid_flow_and_started_again_keeps_the_promises(
    shop_options: ShopOptions, mortal_server: Server, after: float
) -> None:
    shop_options.settings = _by(mortal_server.mongodb_url)
    async with open_shop(shop_options) as shop:
        trying = asyncio.create_task(all_try(shop, 6))
        await asyncio.sleep(after)
        assert not trying.done(), "killed in mid-flow"
        mortal_server.kill()
        assert await readiness(shop) == 503
        await asyncio.to_thread(mortal_server.start_again)
        await trying
        await check_promises(shop, await calm(shop, 6), credits=100)


async def until_ready(shop: Shop) -> None:
    async with asyncio.timeout(10):
        while await readiness(shop) != 200:  # noqa: ASYNC110 - the server does not tell
            await asyncio.sleep(0.05)
