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
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import httpx
import pytest

from scripts.real_servers import FERRETDB, CannotBeHad, Server, running
from tests.faults.checker import PAID, check_at_rest
from tests.faults.laboratory import EVENT_TYPES
from tests.faults.world import Reply, Request, World
from tests.support.proxy import Proxy, proxied
from tests.support.shop import Shop, ShopOptions, book, ok, open_shop, refused, until
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


@dataclass
class SeenWorld(World):
    """A shop on a server, as the fault laboratory's checker looks at a world."""

    shop: Shop = field(kw_only=True)

    def __post_init__(self) -> None:
        self.stripe = self.shop.stripe
        self.databases = self.shop.databases
        self.events = {event["id"]: event for event in self.stripe.events.all()}

    def clock(self, machine: int = 0) -> datetime:
        return self.shop.clock()


class Callers:
    """Who pays, each request with a key of its own; what they were told is kept for the checker."""

    def __init__(self, shop: Shop, balances: Mapping[str, int]) -> None:
        self.shop = shop
        self._balances = balances
        self._requests: dict[str, Request] = {}

    async def ask(self, path: str, body: Mapping[str, Any], key: str) -> Any:
        """Again with the same ``key``: the same request."""
        request = self._requests.setdefault(
            key, Request("POST", path, dict(body), key, self.shop.clock().timestamp())
        )
        request.tries += 1
        response = await self.shop.post(path, body, key=key)
        if not request.is_answered:
            request.reply = Reply(response.status_code, response.json())
        if response.json().get("payment_status") in PAID:
            # An earlier try got through, and a payment that is paid is not handed out again.
            return response.json()
        if response.status_code in AGAIN:
            raise Unanswered
        return ok(response)

    async def buy(self, number: int) -> str:
        """A card payment from the start to its confirmation; the payment id."""
        body = {"user_id": "user_123", "amount": 999, **tagged(f"buy-{number}")}
        created = await self.ask("/create-payment-intent", body, f"buy-{number}")
        if "payment_intent_id" not in created:
            return str(created["payment_id"])
        confirmation = {
            "payment_intent_id": created["payment_intent_id"],
            "payment_method_id": "pm_card_visa",
        }
        await self.ask("/confirm-payment", confirmation, f"confirm-{number}")
        return str(created["payment_id"])

    async def spend(self, number: int) -> str:
        body = {"user_id": "user_123", "items": [book(credits=1)], **tagged(f"spend-{number}")}
        return str((await self.ask("/pay-with-credits", body, f"spend-{number}"))["payment_id"])

    async def all_try(self, buyers: int) -> list[str]:
        """So many card payments and as many credits payments at once; the ids of those that got
        through.
        """
        flows = [self.buy(number) for number in range(buyers)]
        flows += [self.spend(number) for number in range(buyers)]
        results = await asyncio.gather(*flows, return_exceptions=True)
        unforeseen = [
            result
            for result in results
            if isinstance(result, BaseException) and not isinstance(result, Unanswered)
        ]
        assert not unforeseen, unforeseen
        return [result for result in results if isinstance(result, str)]

    async def calm(self, buyers: int) -> None:
        """A minute later, the connection works: the callers who tried before try again and get
        through, and the promises hold.
        """
        await until_ready(self.shop)
        self.shop.clock.advance(minutes=1)
        paid = await self.all_try(buyers)
        assert len(paid) == 2 * buyers
        await self.check(paid)

    async def check(self, paid: Sequence[str]) -> None:
        """What was paid has its order, once, and nothing else was charged or taken: judged by the
        laboratory's checker, once all that takes its time is over.
        """
        shop = self.shop
        await shop.stripe.webhooks.drain()
        for passed in (1 / 3, 1 / 3, 25, 1 / 3):
            await shop.reconcile(hours=passed)
            await shop.stripe.webhooks.drain()
        assert len(set(paid)) == len(paid)
        statuses = {payment["_id"]: payment["status"] for payment in await shop.stored("payments")}
        assert {statuses[payment_id] for payment_id in paid} == {"succeeded"}
        world = SeenWorld(
            first_balances=self._balances, requests=list(self._requests.values()), shop=shop
        )
        subscribed = {id for id, event in world.events.items() if event["type"] in EVENT_TYPES}
        # In a thread: the checker's own way to the server may lead by the proxy, which runs here.
        broken = await asyncio.to_thread(check_at_rest, world, retried=True, subscribed=subscribed)
        assert not broken, "\n".join(map(str, broken))
        charged = [
            event["data"]["object"]["payment_intent"] for event in shop.events("charge.succeeded")
        ]
        assert len(set(charged)) == len(charged), "no payment was charged twice"
        assert await readiness(shop) == 200


def tagged(request: str) -> dict[str, Any]:
    """By its metadata the checker knows whose payment it is."""
    return {"metadata": {"request": request}}


async def callers_of(shop: Shop) -> Callers:
    users = await shop.databases.auth["users"].find({}).to_list(None)
    return Callers(shop, {user["_id"]: user["credits"] for user in users})


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
            async with asyncio.timeout(10 * TIMEOUT):
                first = await asyncio.gather(
                    *(shop.get("/user/user_123/payments") for _ in range(60))
                )
            statuses = Counter(response.status_code for response in first)
            assert set(statuses) == {200, 503}, statuses
            assert proxy.connections <= 2 * 2 + 6, "two for each database, and those that watch"
            proxy.delay = 0.005
            callers = await callers_of(shop)
            await callers.all_try(10)
            proxy.delay = 0.0
            await callers.calm(10)


@pytest.mark.shop(users=[{"_id": "user_123", "credits": 100}])
async def test_connections_cut_again_and_again_in_mid_flow_lose_and_double_nothing(
    wired: tuple[Shop, Proxy],
) -> None:
    shop, proxy = wired
    callers = await callers_of(shop)

    chance = random.Random(20261128)

    async def cut_now_and_then() -> None:
        while True:
            # No two cuts alike, and all of them in the middle of something.
            await asyncio.sleep(chance.uniform(0.02, 0.3))
            proxy.hang_up()

    for _ in range(4):
        cutting = asyncio.create_task(cut_now_and_then())
        await callers.all_try(6)
        cutting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cutting
        shop.clock.advance(minutes=1)
    assert proxy.connections > 10, "it was cut, and the driver came back"
    await callers.calm(6)


@pytest.mark.parametrize("lost", range(1, 25))
@pytest.mark.shop(users=[{"_id": "user_123", "credits": 100}])
async def test_answer_lost_after_the_server_did_it_is_not_done_twice(
    wired: tuple[Shop, Proxy], lost: int
) -> None:
    shop, proxy = wired
    callers = await callers_of(shop)
    proxy.lose_answer = lost
    await callers.all_try(1)
    assert proxy.lose_answer == 0, "it was lost"
    await callers.calm(1)


async def test_silent_server_is_told_by_readiness_and_answered_in_time(
    wired: tuple[Shop, Proxy],
) -> None:
    shop, proxy = wired
    callers = await callers_of(shop)
    created = await callers.ask(
        "/create-payment-intent", {"user_id": "user_123", "amount": 999, **tagged("one")}, "one"
    )
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
    proxy.repair()
    await until_ready(shop)
    await callers.check([await callers.buy(0), await callers.spend(0)])


async def test_server_that_is_gone_is_told_by_readiness_and_found_again(
    wired: tuple[Shop, Proxy],
) -> None:
    shop, proxy = wired
    callers = await callers_of(shop)
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
    proxy.repair()
    await until_ready(shop)
    await callers.check([await callers.buy(0)])


async def test_slow_answers_are_waited_for(wired: tuple[Shop, Proxy]) -> None:
    shop, proxy = wired
    callers = await callers_of(shop)
    proxy.delay = TIMEOUT / 5
    assert await readiness(shop) == 200
    paid = [await callers.buy(0), await callers.spend(0)]
    proxy.delay = 0.0
    await callers.check(paid)


async def test_silent_auth_database_does_not_hold_up_the_sale_of_cards(
    shop_options: ShopOptions,
) -> None:
    """The driver has one pool of threads for both databases. Probes come all the while."""
    assert SERVER_URL is not None
    async with proxied(SERVER_URL) as (url, proxy):
        shop_options.settings = {"auth_mongodb_url": url, "database_timeout_seconds": 4.0}
        async with open_shop(shop_options) as shop:
            callers = await callers_of(shop)
            proxy.fall_silent()
            started = time.perf_counter()
            waiting = [asyncio.create_task(readiness(shop)) for _ in range(80)]
            spending = [asyncio.create_task(callers.spend(number)) for number in range(80)]
            async with asyncio.timeout(10):
                while len(await shop.stored("idempotency_keys")) < len(spending):
                    pass  # each took its key; next it asks for the balance
            assert proxy.held
            paid = await callers.buy(0)
            assert time.perf_counter() - started < 3.0
            assert not any(task.done() for task in spending), "they still waited meanwhile"
            assert set(await asyncio.gather(*waiting)) == {503}
            results = await asyncio.gather(*spending, return_exceptions=True)
            assert all(isinstance(result, Unanswered) for result in results)
            assert unavailable_databases(await shop.get("/health/ready")) == {"auth_database"}
            proxy.repair()
            await until_ready(shop)
            shop.clock.advance(minutes=1)
            await callers.check([paid, *[await callers.spend(number) for number in range(10)]])


async def test_silent_payments_database_is_not_taken_for_two(shop_options: ShopOptions) -> None:
    """However many wait for it: the auth database is asked past them, and everyone is answered."""
    assert SERVER_URL is not None
    async with proxied(SERVER_URL) as (url, proxy):
        shop_options.settings = {"mongodb_url": url, "database_timeout_seconds": TIMEOUT}
        async with open_shop(shop_options) as shop:
            callers = await callers_of(shop)
            proxy.fall_silent()
            waiting = [
                asyncio.create_task(timed(shop.get("/user/user_123/payments"))) for _ in range(200)
            ]
            await until(lambda: proxy.held > 0)
            ready, seconds = await timed(shop.get("/health/ready"))
            assert unavailable_databases(ready) == {"payments_database"}
            assert seconds < 8 * TIMEOUT
            asked = await asyncio.gather(*waiting)
            assert {response.status_code for response, _ in asked} == {503}
            assert max(seconds for _, seconds in asked) < 8 * TIMEOUT
            proxy.repair()
            await until_ready(shop)
            await callers.check([await callers.buy(0), await callers.spend(0)])


def unavailable_databases(response: httpx.Response) -> set[str]:
    checks = refused(response, 503, "database_unavailable")["checks"]
    return {name for name, result in checks.items() if result != "ok"}


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
        callers = await callers_of(shop)
        trying = asyncio.create_task(callers.all_try(6))
        await asyncio.sleep(after)
        assert not trying.done(), "killed in mid-flow"
        mortal_server.kill()
        assert await readiness(shop) == 503
        await asyncio.to_thread(mortal_server.start_again)
        await trying
        await callers.calm(6)


async def until_ready(shop: Shop) -> None:
    async with asyncio.timeout(10):
        while await readiness(shop) != 200:  # noqa: ASYNC110 - the server does not tell
            await asyncio.sleep(0.05)
