"""Bad days: a database or Stripe is away, slow or broken, and money stays right."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import dns.resolver
import httpx
import pytest
import structlog
from pymongo.errors import (
    AutoReconnect,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from app.observability import configure_logging
from app.routers import BASE_PATH
from tests.support.database_faults import DatabaseFaults, faulty
from tests.support.programs import free_ports
from tests.support.shop import (
    Shop,
    ShopOptions,
    book,
    ok,
    open_shop,
    refused,
)

KEY: Final = "checkout-of-tuesday"


@pytest.fixture
def faults(shop_options: ShopOptions) -> DatabaseFaults:
    """Asked for before ``shop``: puts itself between the shop and its databases."""
    faults = DatabaseFaults()
    shop_options.connect = faulty(faults, shop_options.connect)
    return faults


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the service writes in production: one JSON object a line, everything from debug on."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configuration = structlog.get_config()
    stream = io.StringIO()
    configure_logging("DEBUG", json=True, stream=stream)
    yield stream
    for handler in [each for each in root.handlers if each not in handlers]:
        root.removeHandler(handler)
    root.setLevel(level)
    structlog.configure(**configuration)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def made(kind: Any) -> list[str]:
    """Ids of what there is at Stripe: ``made(shop.stripe.payment_intents)``."""
    return [each["id"] for each in kind.list({})["data"]]


async def until(condition: Callable[[], object]) -> None:
    """For what another task brings about; the test's own time-out ends it."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event to give
        await asyncio.sleep(0.005)


def requires_retry(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """A failure that passes says when to try again."""
    problem = refused(response, status, code)
    assert int(response.headers["retry-after"]) > 0
    return problem


# The payments database

Ask = Callable[[Shop, dict[str, str]], Any]
ROUTES: Final[dict[str, Ask]] = {
    "create-payment-intent": lambda shop, ids: shop.post(
        "/create-payment-intent", {"user_id": "user_123", "amount": 999}
    ),
    "create-payment-intent with a key": lambda shop, ids: shop.post(
        "/create-payment-intent", {"user_id": "user_123", "amount": 999}, key=KEY
    ),
    "confirm-payment": lambda shop, ids: shop.post(
        "/confirm-payment",
        {"payment_intent_id": ids["payment_intent_id"], "payment_method_id": "pm_card_visa"},
    ),
    "create-checkout-session": lambda shop, ids: shop.post(
        "/create-checkout-session", {"user_id": "user_123", "items": [book()]}
    ),
    "checkout-session": lambda shop, ids: shop.get(f"/checkout-session/{ids['session_id']}"),
    "pay-with-credits": lambda shop, ids: shop.post(
        "/pay-with-credits", {"user_id": "user_123", "items": [book()]}
    ),
    "payment": lambda shop, ids: shop.get(f"/payment/{ids['payment_id']}"),
    "payments": lambda shop, ids: shop.get("/user/user_123/payments"),
    "orders": lambda shop, ids: shop.get("/user/user_123/orders"),
    "refund": lambda shop, ids: shop.post("/refund", {"payment_id": ids["paid_id"]}),
}


async def some_ids(shop: Shop) -> dict[str, str]:
    created = await shop.create_intent()
    session = await shop.create_session()
    paid = await shop.pay_by_card()
    return {
        "payment_id": created["payment_id"],
        "payment_intent_id": created["payment_intent_id"],
        "session_id": session["session_id"],
        "paid_id": paid["payment_id"],
    }


@pytest.mark.parametrize("route", ROUTES)
async def test_payments_database_away_is_a_503_on_every_route(
    faults: DatabaseFaults, shop: Shop, route: str
) -> None:
    ids = await some_ids(shop)
    asked = len(shop.stripe.requests)
    before = await shop.stored("payments")
    away = faults.add(database="payments", times=None)

    problem = requires_retry(await ROUTES[route](shop, ids), 503, "database_unavailable")

    assert problem["database"] == "payments"
    assert away.hits > 0
    assert len(shop.stripe.requests) == asked, "Stripe was asked about what is not recorded"
    faults.clear()
    assert await shop.stored("payments") == before
    assert await shop.credits() == 10
    ok(await ROUTES[route](shop, ids))


@pytest.mark.parametrize("history", ["payments", "orders"])
async def test_history_that_cannot_be_read_is_never_an_empty_one(
    faults: DatabaseFaults, shop: Shop, history: str
) -> None:
    await shop.pay_by_card()
    faults.add("find", collection=history)
    response = await shop.get(f"/user/user_123/{history}")
    requires_retry(response, 503, "database_unavailable")
    assert history not in response.json()
    assert ok(await shop.get(f"/user/user_123/{history}"))["count"] == 1


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("connection closed"),
        NetworkTimeout("timed out"),
        ServerSelectionTimeoutError("no servers found"),
        NotPrimaryError("not primary"),
        OperationFailure("node is shutting down", 91),
        OperationFailure("stepped down", 189),
        OperationFailure("could not find host matching read preference", 133),
        OperationFailure("incomplete history detected for transaction", 217),
        OperationFailure("Authentication failed.", 18),
        OperationFailure("not authorized on audiobooker_payment", 13),
    ],
    ids=lambda error: f"{type(error).__name__}-{getattr(error, 'code', '')}",
)
async def test_every_way_of_a_database_to_be_away_is_the_same_503(
    faults: DatabaseFaults, shop: Shop, error: Exception
) -> None:
    faults.add("find_one", collection="payments", error=error)
    response = await shop.get("/payment/pay_x")
    problem = requires_retry(response, 503, "database_unavailable")
    assert str(error) not in problem["detail"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_payment_whose_insert_was_interrupted_is_made_once_by_a_repeat(
    faults: DatabaseFaults, shop: Shop, when: Any
) -> None:
    body = {"user_id": "user_123", "amount": 999}
    faults.add("insert_one", collection="payments", when=when)
    first = await shop.post("/create-payment-intent", body, key=KEY)
    requires_retry(first, 503, "database_unavailable")
    again = ok(await shop.post("/create-payment-intent", body, key=KEY))
    assert [payment["_id"] for payment in await shop.stored("payments")] == [again["payment_id"]]
    assert len(shop.stripe.requests.matching("POST", "payment_intents$")) == 1


async def test_webhook_that_cannot_be_stored_is_not_acknowledged_and_comes_again(
    faults: DatabaseFaults, shop: Shop
) -> None:
    created = await shop.create_intent()
    await shop.stripe.webhooks.drain()
    away = faults.add("insert_one", collection="webhook_events", times=2)
    await shop.confirm_in_browser(created)
    await shop.stripe.webhooks.drain()
    assert away.hits == 2
    refusals = [attempt for attempt in shop.stripe.webhooks.attempts if attempt.status == 503]
    assert len(refusals) == 2
    assert (await shop.payment(created["payment_id"]))["status"] == "succeeded"
    assert len(await shop.orders()) == 1


async def test_database_fault_that_is_no_outage_is_a_500_without_a_trace_and_is_logged(
    faults: DatabaseFaults, shop: Shop, log: io.StringIO
) -> None:
    secret = "mongodb://joe:hunter22@db.internal:27017/x"
    faults.add("find_one", collection="payments", error=RuntimeError(f"a bug near {secret}"))
    response = await shop.get("/payment/pay_x", headers={"X-Request-ID": "the-request"})
    problem = refused(response, 500, "internal_error")
    assert problem["request_id"] == "the-request"
    for hidden in ("RuntimeError", "Traceback", "a bug", "hunter22", ".py"):
        assert hidden not in response.text
    [crash] = [line for line in lines(log) if line["level"] == "error"]
    assert crash["event"] == "request.crashed"
    assert crash["request_id"] == "the-request"
    assert "RuntimeError: a bug near" in crash["exception"]
    assert "hunter22" not in log.getvalue()


async def test_crash_frees_the_idempotency_key_for_a_repeat(
    faults: DatabaseFaults, shop: Shop
) -> None:
    body = {"user_id": "user_123", "amount": 999}
    faults.add("update_one", collection="payments", error=RuntimeError("a bug"))
    first = await shop.post("/create-payment-intent", body, key=KEY)
    refused(first, 500, "internal_error")
    ok(await shop.post("/create-payment-intent", body, key=KEY))
    assert len(await shop.stored("payments")) == 1
    assert len(made(shop.stripe.payment_intents)) == 1


# The auth database, by the real driver


@pytest.fixture
def no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's resolver asks a port of this machine that nobody listens at."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    [resolver.port] = free_ports(1)
    monkeypatch.setattr(dns.resolver, "default_resolver", resolver)


@pytest.mark.shop(
    settings={
        "auth_mongodb_url": "mongodb+srv://cluster.example.com/",
        "database_timeout_seconds": 0.2,
    },
    users=(),
)
@pytest.mark.usefixtures("no_name_server")
async def test_cluster_whose_name_cannot_be_asked_for_is_away_like_any_other(shop: Shop) -> None:
    """PyMongo says that the URL is wrong (ConfigurationError)."""
    body = {"user_id": "user_123", "items": [book()]}
    problem = requires_retry(
        await shop.post("/pay-with-credits", body), 503, "database_unavailable"
    )
    assert problem["database"] == "auth"
    problem = requires_retry(await shop.get("/health/ready"), 503, "database_unavailable")
    assert problem["checks"] == {"payments_database": "ok", "auth_database": "unavailable"}
    assert (await shop.pay_by_card())["status"] == "succeeded"


AUTH_AWAY: Final = {
    "auth_mongodb_url": "mongodb://127.0.0.1:1",
    "database_timeout_seconds": 0.1,
}


@pytest.mark.shop(settings=AUTH_AWAY, users=())
async def test_cards_sell_while_the_auth_database_is_away(shop: Shop) -> None:
    paid = await shop.pay_by_card()
    assert (paid["status"], len(await shop.orders())) == ("succeeded", 1)
    session = await shop.create_session()
    shop.stripe.pay_session(session["session_id"], "pm_card_visa")
    await shop.stripe.webhooks.drain()
    assert (await shop.payment(session["payment_id"]))["status"] == "succeeded"
    refund = ok(await shop.post("/refund", {"payment_id": paid["payment_id"]}))
    assert refund["status"] == "succeeded"


@pytest.mark.shop(settings=AUTH_AWAY, users=())
async def test_credits_answer_503_while_the_auth_database_is_away(shop: Shop) -> None:
    body = {"user_id": "user_123", "items": [book()]}
    for _ in range(2):
        response = await shop.post("/pay-with-credits", body, key=KEY)
        problem = requires_retry(response, 503, "database_unavailable")
        assert problem["database"] == "auth"
    assert await shop.stored("payments") == []


@pytest.mark.shop(settings=AUTH_AWAY, users=())
async def test_service_is_not_ready_while_the_auth_database_is_away(shop: Shop) -> None:
    problem = requires_retry(await shop.get("/health/ready"), 503, "database_unavailable")
    assert problem["checks"] == {"payments_database": "ok", "auth_database": "unavailable"}
    assert "auth_database" in problem["detail"]
    ok(await shop.get("/health/live"))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_debit_that_was_interrupted_is_taken_once(
    faults: DatabaseFaults, shop: Shop, when: Any
) -> None:
    body = {"user_id": "user_123", "items": [book(credits=3)]}
    faults.add("find_one_and_update", database="auth", when=when)
    first = await shop.post("/pay-with-credits", body, key=KEY)
    requires_retry(first, 503, "database_unavailable")
    again = ok(await shop.post("/pay-with-credits", body, key=KEY))
    assert (again["credits_deducted"], again["remaining_credits"]) == (3, 7)
    assert await shop.credits() == 7
    assert len(await shop.orders()) == len(await shop.stored("payments")) == 1


# Stripe

CREATE: Final = {"user_id": "user_123", "amount": 999}
INTENTS: Final = "^/v1/payment_intents$"


async def finishes_with_one_payment(shop: Shop) -> None:
    """A repeat with the same key ends in one payment at one PaymentIntent."""
    again = ok(await shop.post("/create-payment-intent", CREATE, key=KEY))
    [payment] = await shop.stored("payments")
    assert payment["_id"] == again["payment_id"]
    assert made(shop.stripe.payment_intents) == [again["payment_intent_id"]]
    paid = ok(await shop.confirm(again, "pm_card_visa"))
    assert (paid["status"], len(await shop.orders())) == ("succeeded", 1)


async def require_undecided(shop: Shop) -> None:
    """Nobody knows how it went at Stripe, so the payment is neither paid nor failed."""
    [payment] = ok(await shop.get("/user/user_123/payments"))["payments"]
    assert (payment["status"], payment["failure"], payment["order_id"]) == ("pending", None, None)
    assert (await shop.stored_payment(payment["payment_id"]))["reconcile_at"] is not None


def keys_sent(shop: Shop, path: str = INTENTS) -> list[str | None]:
    return [request.idempotency_key for request in shop.stripe.requests.matching("POST", path)]


# The sandbox then answers as Stripe does when it asks not to be asked again, which saves the waits.
NO_RETRY: Final = {"Stripe-Should-Retry": "false"}


async def test_stripe_failing_is_a_502_and_a_repeat_finishes_the_same_payment(shop: Shop) -> None:
    shop.stripe.faults.add("error_before", path=INTENTS, times=2, headers=NO_RETRY)
    for _ in range(2):
        response = await shop.post("/create-payment-intent", CREATE, key=KEY)
        requires_retry(response, 502, "stripe_error")
        assert "told to fail" not in response.text, "Stripe's own words are for the log"
        await require_undecided(shop)
    await finishes_with_one_payment(shop)
    assert len(set(keys_sent(shop))) == 1


async def test_failure_that_stripe_keeps_for_its_key_never_becomes_a_second_payment(
    shop: Shop,
) -> None:
    """https://docs.stripe.com/api/idempotent_requests: a 500 is kept, and the work may be done."""
    shop.stripe.faults.add("error_after", path=INTENTS, headers=NO_RETRY)
    for _ in range(2):
        response = await shop.post("/create-payment-intent", CREATE, key=KEY)
        requires_retry(response, 502, "stripe_error")
    await require_undecided(shop)
    assert len(set(keys_sent(shop))) == 1
    assert len(made(shop.stripe.payment_intents)) == 1
    assert len(await shop.stored("payments")) == 1


async def test_stripe_failing_once_is_repeated_by_us_with_the_same_key(shop: Shop) -> None:
    shop.stripe.faults.add("error_before", path=INTENTS, times=1, status=503)
    created = ok(await shop.post("/create-payment-intent", CREATE))
    assert keys_sent(shop) == [f"payment_intent:{created['payment_id']}"] * 2


@pytest.mark.parametrize("kind", ["rate_limit", "lock_timeout"])
@pytest.mark.usefixtures("quick_retries")
async def test_busy_stripe_is_asked_again_by_us_with_the_same_key(shop: Shop, kind: Any) -> None:
    shop.stripe.faults.add(kind, path=INTENTS, times=2)
    created = ok(await shop.post("/create-payment-intent", CREATE))
    assert keys_sent(shop) == [f"payment_intent:{created['payment_id']}"] * 3
    assert len(made(shop.stripe.payment_intents)) == 1


@pytest.mark.usefixtures("quick_retries")
async def test_stripe_that_stays_busy_is_a_503_and_a_repeat_finishes(shop: Shop) -> None:
    busy = shop.stripe.faults.add("rate_limit", path=INTENTS, times=None)
    response = await shop.post("/create-payment-intent", CREATE, key=KEY)
    requires_retry(response, 503, "stripe_error")
    assert busy.hits == 4
    await require_undecided(shop)
    shop.stripe.faults.clear()
    await finishes_with_one_payment(shop)
    assert len(set(keys_sent(shop))) == 1


@pytest.mark.shop(settings={"stripe_timeout_seconds": 0.2})
async def test_slow_stripe_is_a_504_and_a_repeat_finishes(shop: Shop) -> None:
    shop.stripe.faults.add("latency", path=INTENTS, seconds=0.8, times=None)
    response = await shop.post("/create-payment-intent", CREATE, key=KEY)
    assert shop.stripe.requests[0].status is None, "the caller waited until Stripe had done it"
    problem = requires_retry(response, 504, "stripe_timeout")
    assert "not known" in problem["detail"]
    await require_undecided(shop)
    # Stripe goes on with what it began, although nobody listens any more.
    await until(lambda: made(shop.stripe.payment_intents))
    shop.stripe.faults.clear()
    await finishes_with_one_payment(shop)
    assert len(set(keys_sent(shop))) == 1


@pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
async def test_connection_that_breaks_is_repeated_by_us_with_the_same_key(
    shop: Shop, kind: Any
) -> None:
    shop.stripe.faults.add(kind, path=INTENTS, times=1)
    ok(await shop.post("/create-payment-intent", CREATE))
    assert len(set(keys_sent(shop))) == 1
    assert len(made(shop.stripe.payment_intents)) == 1


@pytest.mark.usefixtures("quick_retries")
async def test_connection_that_keeps_breaking_is_a_502_and_a_repeat_finishes(shop: Shop) -> None:
    shop.stripe.faults.add("drop_before", path=INTENTS, times=None)
    response = await shop.post("/create-payment-intent", CREATE, key=KEY)
    requires_retry(response, 502, "stripe_error")
    await require_undecided(shop)
    shop.stripe.faults.clear()
    await finishes_with_one_payment(shop)


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_key_is_a_502_that_names_no_key_and_the_payment_waits(
    shop: Shop, status: int
) -> None:
    shop.stripe.faults.add("error_before", path=INTENTS, status=status, times=1)
    response = await shop.post("/create-payment-intent", CREATE, key=KEY)
    refused(response, 502, "stripe_error")
    assert "sk_test" not in response.text
    await require_undecided(shop)
    await finishes_with_one_payment(shop)


@pytest.fixture
async def unreachable(shop_options: ShopOptions) -> AsyncIterator[Shop]:
    """A shop at whose Stripe address nobody listens."""
    shop_options.settings["stripe_api_base"] = "http://127.0.0.1:1"
    async with open_shop(shop_options) as opened:
        yield opened


@pytest.mark.usefixtures("quick_retries")
async def test_unreachable_stripe_is_a_502_for_cards_and_nothing_to_credits(
    unreachable: Shop,
) -> None:
    response = await unreachable.post("/create-payment-intent", CREATE, key=KEY)
    requires_retry(response, 502, "stripe_error")
    await require_undecided(unreachable)
    body = {"user_id": "user_123", "items": [book()]}
    ok(await unreachable.post("/pay-with-credits", body))
    for path in ("/health/", "/health/live", "/health/ready"):
        ok(await unreachable.get(path))


@pytest.mark.shop(settings={"stripe_secret_key": "", "stripe_publishable_key": ""})
async def test_service_without_stripe_keys_says_so_and_sells_for_credits(shop: Shop) -> None:
    refused(await shop.post("/create-payment-intent", CREATE), 503, "stripe_not_configured")
    refused(await shop.get("/config/publishable-key"), 503, "stripe_not_configured")
    ok(await shop.post("/pay-with-credits", {"user_id": "user_123", "items": [book()]}))


async def test_confirmation_that_stripe_did_not_take_is_not_reported_failed(shop: Shop) -> None:
    created = await shop.create_intent()
    shop.stripe.faults.add("error_before", path="/confirm$", headers=NO_RETRY)
    response = await shop.confirm(created, "pm_card_visa", key=KEY)
    requires_retry(response, 502, "stripe_error")
    await require_undecided(shop)

    again = ok(await shop.confirm(created, "pm_card_visa", key=KEY))
    assert again["status"] == "succeeded"
    assert len(set(keys_sent(shop, "/confirm$"))) == 1
    assert len(made(shop.stripe.charges)) == 1
    assert len(await shop.orders()) == 1


@pytest.mark.shop(webhooks=False)
async def test_charge_nobody_heard_of_is_found_by_a_repeat_and_not_made_again(shop: Shop) -> None:
    created = await shop.create_intent()
    shop.stripe.faults.add("error_after", path="/confirm$", headers=NO_RETRY)
    response = await shop.confirm(created, "pm_card_visa", key=KEY)
    requires_retry(response, 502, "stripe_error")
    await require_undecided(shop)

    found = ok(await shop.confirm(created))
    assert found["status"] == "succeeded"
    again = ok(await shop.confirm(created, "pm_card_visa", key=KEY))
    assert again["order_id"] == found["order_id"]
    assert len(made(shop.stripe.charges)) == 1
    assert len(await shop.orders()) == 1


async def test_checkout_session_nobody_heard_of_is_made_once(shop: Shop) -> None:
    body = {"user_id": "user_123", "items": [book()]}
    shop.stripe.faults.add("error_before", path="/sessions$", headers=NO_RETRY)
    first = await shop.post("/create-checkout-session", body, key=KEY)
    requires_retry(first, 502, "stripe_error")
    await require_undecided(shop)
    shop.stripe.faults.add("drop_after", path="/sessions$")
    again = ok(await shop.post("/create-checkout-session", body, key=KEY))
    assert made(shop.stripe.checkout_sessions) == [again["session_id"]]
    assert len(set(keys_sent(shop, "/sessions$"))) == 1
    assert len(await shop.stored("payments")) == 1


async def test_refund_that_stripe_did_not_answer_is_pending_and_made_once(shop: Shop) -> None:
    paid = await shop.pay_by_card()
    shop.stripe.faults.add("error_before", path="/refunds$", headers=NO_RETRY)
    body = {"payment_id": paid["payment_id"]}
    reply = ok(await shop.post("/refund", body, key=KEY))
    assert (reply["status"], reply["payment_status"]) == ("pending", "succeeded")
    again = ok(await shop.post("/refund", body, key=KEY))
    assert again["refund_id"] == reply["refund_id"]
    refused(await shop.post("/refund", body), 409, "payment_not_refundable")

    shop.clock.advance(minutes=2)
    await shop.services.reconciliation.run_once()
    await shop.stripe.webhooks.drain()
    payment = await shop.payment(paid["payment_id"])
    assert (payment["status"], payment["refunded_cents"]) == ("refunded", 999)
    assert len(made(shop.stripe.refunds)) == len(payment["refunds"]) == 1


@pytest.mark.shop(settings={"stripe_max_concurrency": 4})
async def test_probes_and_credits_do_not_wait_for_a_slow_stripe(shop: Shop) -> None:
    shop.stripe.faults.add("latency", path=INTENTS, seconds=0.5, times=None)
    waiting = [asyncio.ensure_future(shop.post("/create-payment-intent", CREATE)) for _ in range(8)]
    await until(lambda: len(shop.stripe.requests) == 4)
    ok(await shop.get("/health/live"))
    ok(await shop.get("/health/"))
    ok(await shop.get("/health/ready"))
    ok(await shop.post("/pay-with-credits", {"user_id": "user_123", "items": [book()]}))
    assert len(shop.stripe.requests) == 4, "more calls in flight than were allowed"
    assert not any(task.done() for task in waiting)
    for response in await asyncio.gather(*waiting):
        ok(response)


# What the log says of all this

EMAIL: Final = "anna.karenina@example.com"
CARD: Final = "4242 4242 4242 4242"


@pytest.mark.shop(settings={"internal_service_key": "internal-key-of-the-suite"})
async def test_no_log_line_of_a_whole_flow_holds_a_secret_or_a_person(
    log: io.StringIO, shop: Shop
) -> None:
    secrets = {
        "sk_test_suite",
        shop.settings.stripe_webhook_secret.get_secret_value(),
        "internal-key-of-the-suite",
        EMAIL,
        CARD,
        CARD.replace(" ", ""),
    }
    caller = {"X-Internal-Service-Key": "internal-key-of-the-suite"}
    created = await shop.create_intent()
    refused(await shop.confirm(created, "pm_card_visa_chargeDeclined"), 402, "card_declined")
    challenged = ok(await shop.confirm(created, "pm_card_threeDSecure2Required"))
    secrets |= {created["client_secret"], challenged["client_secret"]}
    shop.stripe.authenticate(created["payment_intent_id"])
    session = await shop.create_session(customer_email=EMAIL, metadata={"note": CARD})
    shop.stripe.pay_session(session["session_id"], "pm_card_visa", email=EMAIL)
    await shop.stripe.webhooks.drain()
    paid = await shop.pay_by_card()
    refund_body = {"payment_id": paid["payment_id"], "reason": f"{EMAIL} asked, {CARD}"}
    ok(await shop.post("/refund", refund_body, headers=caller))
    # What goes wrong is logged with its cause, and the cause may quote what was sent.
    body: dict[str, Any] = {"user_id": EMAIL, "amount": CARD, "currency": "sk_test_suite"}
    refused(await shop.post("/create-payment-intent", body), 422, "validation_error")
    body = {"user_id": EMAIL, "items": [book()]}
    refused(await shop.post("/pay-with-credits", body), 404, "user_not_found")
    bad_key = {"X-Internal-Service-Key": "internal-key-of-the-suitE"}
    refused(await shop.get(f"/user/{EMAIL}/orders", headers=bad_key), 401, "unauthenticated")
    refused(await shop.get(f"/user/{EMAIL}/invoices"), 404, "not_found")
    headers = {"Stripe-Signature": "t=1,v1=deadbeef"}
    forged = await shop.client.post(
        f"{BASE_PATH}/webhook/stripe", content=json.dumps({"email": EMAIL}), headers=headers
    )
    refused(forged, 400, "invalid_signature")
    shop.stripe.faults.add("error_before", path=INTENTS, times=3, status=401)
    refused(await shop.post("/create-payment-intent", CREATE), 502, "stripe_error")
    await shop.services.reconciliation.run_once()

    written = log.getvalue()
    assert {secret for secret in secrets if secret in written} == set()
    assert "_secret_" not in written
    events = {line["event"] for line in lines(log)}
    assert {"payment.status_changed", "refund.status_changed", "request.refused"} <= events
    assert {"stripe.request_failed", "webhook.event_finished", "request.finished"} <= events
    requests = [line for line in lines(log) if line["event"] == "request.finished"]
    assert all(line["request_id"] for line in requests)
    assert {line["route"] for line in requests} >= {f"{BASE_PATH}/refund", "unmatched"}
    assert EMAIL not in {line["route"] for line in requests}
