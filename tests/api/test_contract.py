"""What callers rely on: paths, field names and types, headers, and one shape for every failure."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from app.routers import BASE_PATH
from tests.support.shop import Shop, book, ok, refused

Check = Callable[[Any], bool]

RFC3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def boolean(value: Any) -> bool:
    return isinstance(value, bool)


def time(value: Any) -> bool:
    return isinstance(value, str) and RFC3339_UTC.fullmatch(value) is not None


def null(value: Any) -> bool:
    return value is None


def nullable(check: Check) -> Check:
    return lambda value: value is None or check(value)


def one_of(*values: str) -> Check:
    return lambda value: value in values


def id_of(prefix: str) -> Check:
    return lambda value: isinstance(value, str) and value.startswith(prefix)


def list_of(fields: Mapping[str, Check]) -> Check:
    def check(value: Any) -> bool:
        for each in value:
            require_fields(each, fields)
        return isinstance(value, list)

    return check


def texts(value: Any) -> bool:
    return isinstance(value, dict) and all(text(k) and text(v) for k, v in value.items())


def require_fields(
    body: Any, fields: Mapping[str, Check], *, optional: frozenset[str] = frozenset()
) -> None:
    """``body`` has exactly these fields (but for the optional ones), each of its type."""
    assert isinstance(body, dict)
    assert body.keys() - optional == fields.keys(), body.keys() ^ fields.keys()
    wrong = {name: body[name] for name, check in fields.items() if not check(body[name])}
    assert not wrong


PAYMENT_STATUS = one_of(
    "pending",
    "processing",
    "succeeded",
    "failed",
    "canceled",
    "partially_refunded",
    "refunded",
)
ITEM: Mapping[str, Check] = {
    "book_id": text,
    "quantity": integer,
    "price_cents": integer,
    "credits": integer,
    "title": nullable(text),
}
REFUND: Mapping[str, Check] = {
    "refund_id": id_of("rfd_"),
    "amount_cents": integer,
    "credits": integer,
    "status": one_of("pending", "succeeded", "failed", "canceled"),
    "reason": nullable(text),
    "failure_reason": nullable(text),
    "created_at": time,
}
PAYMENT: Mapping[str, Check] = {
    "payment_id": id_of("pay_"),
    "user_id": text,
    "status": PAYMENT_STATUS,
    "amount_cents": integer,
    "refunded_cents": integer,
    "currency": text,
    "payment_method": one_of("card", "credits"),
    "credits_used": integer,
    "credits_refunded": integer,
    "stripe_payment_intent_id": nullable(id_of("pi_")),
    "stripe_checkout_session_id": nullable(id_of("cs_")),
    "order_id": nullable(id_of("ord_")),
    "items": list_of(ITEM),
    "refunds": list_of(REFUND),
    "failure": lambda value: value is None or value.keys() == {"code", "decline_code", "message"},
    "metadata": texts,
    "created_at": time,
    "updated_at": time,
}
CLAIMS = frozenset({"disputes", "fraud_warnings"})
ORDER: Mapping[str, Check] = {
    "order_id": id_of("ord_"),
    "user_id": text,
    "payment_id": id_of("pay_"),
    "items": list_of(ITEM),
    "total_cents": integer,
    "total_credits": integer,
    "currency": text,
    "status": one_of("paid", "partially_refunded", "refunded"),
    "payment_method": one_of("card", "credits"),
    "created_at": time,
}
CONFIRMATION: Mapping[str, Check] = {
    "payment_id": id_of("pay_"),
    "payment_intent_id": id_of("pi_"),
    "status": PAYMENT_STATUS,
    "stripe_status": text,
    "requires_action": boolean,
    "client_secret": nullable(text),
    "order_id": nullable(id_of("ord_")),
}
CHECKOUT_STATUS: Mapping[str, Check] = {
    "session_id": id_of("cs_"),
    "payment_id": id_of("pay_"),
    "status": one_of("open", "complete", "expired"),
    "payment_status": one_of("paid", "unpaid", "no_payment_required"),
    "amount_total": integer,
    "currency": text,
    "order_id": nullable(id_of("ord_")),
}
PAGE: Mapping[str, Check] = {
    "count": integer,
    "has_more": boolean,
    "next_cursor": nullable(text),
}


def require_payment(body: Any) -> None:
    require_fields(body, PAYMENT, optional=CLAIMS)


# The replies


async def test_publishable_key_comes_with_its_mode(shop: Shop) -> None:
    reply = ok(await shop.get("/config/publishable-key"))
    assert reply == {"publishable_key": "pk_test_suite", "mode": "test"}


async def test_create_payment_intent_replies_with_the_contract_fields(shop: Shop) -> None:
    reply = ok(
        await shop.post("/create-payment-intent", {"user_id": "user_123", "items": [book()]})
    )
    require_fields(
        reply,
        {
            "payment_id": id_of("pay_"),
            "client_secret": text,
            "payment_intent_id": id_of("pi_"),
            "amount_cents": integer,
            "currency": one_of("usd"),
            "status": one_of("pending"),
        },
    )
    assert reply["amount_cents"] == 999
    intent = shop.stripe.payment_intents.named(reply["payment_intent_id"]).data
    assert intent["client_secret"] == reply["client_secret"]
    assert (intent["amount"], intent["currency"]) == (999, "usd")


async def test_confirm_payment_replies_with_the_contract_fields(shop: Shop) -> None:
    paid = ok(await shop.confirm(await shop.create_intent(), "pm_card_visa"))
    require_fields(paid, CONFIRMATION)
    assert (paid["status"], paid["stripe_status"]) == ("succeeded", "succeeded")
    assert (paid["requires_action"], paid["client_secret"]) == (False, None)
    assert paid["order_id"] == (await shop.orders())[0]["order_id"]

    created = await shop.create_intent()
    challenged = ok(await shop.confirm(created, "pm_card_threeDSecure2Required"))
    require_fields(challenged, CONFIRMATION)
    assert (challenged["status"], challenged["stripe_status"]) == ("pending", "requires_action")
    assert (challenged["requires_action"], challenged["order_id"]) == (True, None)
    assert challenged["client_secret"] == created["client_secret"]


async def test_create_checkout_session_replies_with_the_contract_fields(shop: Shop) -> None:
    reply = await shop.create_session()
    require_fields(
        reply,
        {
            "session_id": id_of("cs_"),
            "checkout_url": id_of("http"),
            "payment_id": id_of("pay_"),
            "amount_cents": integer,
            "currency": one_of("usd"),
        },
    )
    session = shop.stripe.checkout_sessions.named(reply["session_id"]).data
    assert reply["checkout_url"] == session["url"]
    assert reply["amount_cents"] == session["amount_total"] == 999


async def test_checkout_session_replies_with_the_contract_fields(shop: Shop) -> None:
    created = await shop.create_session()
    path = f"/checkout-session/{created['session_id']}"
    waiting = ok(await shop.get(path))
    require_fields(waiting, CHECKOUT_STATUS)
    assert (waiting["status"], waiting["payment_status"]) == ("open", "unpaid")
    assert waiting["order_id"] is None

    shop.stripe.pay_session(created["session_id"], "pm_card_visa")
    for _ in ("asked of Stripe", "answered from our record"):
        paid = ok(await shop.get(path))
        require_fields(paid, CHECKOUT_STATUS)
        assert (paid["status"], paid["payment_status"]) == ("complete", "paid")
        assert (paid["amount_total"], paid["currency"]) == (999, "usd")
        assert paid["order_id"] == (await shop.payment(created["payment_id"]))["order_id"]
        await shop.stripe.webhooks.drain()


async def test_pay_with_credits_replies_with_the_contract_fields(shop: Shop) -> None:
    reply = ok(
        await shop.post(
            "/pay-with-credits",
            {"user_id": "user_123", "items": [book(credits=3)], "total_credits": 3},
        )
    )
    require_fields(
        reply,
        {
            "payment_id": id_of("pay_"),
            "order_id": id_of("ord_"),
            "credits_deducted": integer,
            "remaining_credits": integer,
            "status": one_of("succeeded"),
            "message": text,
        },
    )
    assert (reply["credits_deducted"], reply["remaining_credits"]) == (3, 7)
    assert await shop.credits() == 7


async def test_card_payment_is_shown_with_the_contract_fields(shop: Shop) -> None:
    created = ok(
        await shop.post(
            "/create-payment-intent",
            {
                "user_id": "user_123",
                "items": [book(quantity=2), {"book_id": "emma", "price_cents": 100}],
                "metadata": {"campaign": "spring"},
            },
        )
    )
    pending = await shop.payment(created["payment_id"])
    require_payment(pending)
    assert (pending["status"], pending["order_id"], pending["failure"]) == ("pending", None, None)
    assert pending["metadata"] == {"campaign": "spring"}
    assert pending["items"][1] == {
        "book_id": "emma",
        "quantity": 1,
        "price_cents": 100,
        "credits": 1,
        "title": None,
    }

    refused(await shop.confirm(created, "pm_card_visa_chargeDeclined"), 402, "card_declined")
    failed = await shop.payment(created["payment_id"])
    require_payment(failed)
    assert failed["status"] == "failed"
    assert failed["failure"]["code"] == "card_declined"

    ok(await shop.confirm(created, "pm_card_visa"))
    ok(await shop.post("/refund", {"payment_id": created["payment_id"], "amount_cents": 100}))
    refunded = await shop.payment(created["payment_id"])
    require_payment(refunded)
    assert (refunded["status"], refunded["refunded_cents"]) == ("partially_refunded", 100)
    assert (refunded["payment_method"], refunded["credits_used"]) == ("card", 0)
    assert len(refunded["refunds"]) == 1


async def test_credits_payment_is_shown_with_the_contract_fields(shop: Shop) -> None:
    payment = await shop.pay_with_credits(credits=4)
    require_payment(payment)
    assert (payment["payment_method"], payment["credits_used"]) == ("credits", 4)
    assert payment["stripe_payment_intent_id"] is None


@pytest.mark.parametrize("kind", ["payment_id", "payment_intent_id", "session_id"])
async def test_payment_is_found_by_our_id_and_by_stripes(shop: Shop, kind: str) -> None:
    created = await (shop.create_session() if kind == "session_id" else shop.create_intent())
    found = await shop.payment(created[kind])
    assert found["payment_id"] == created["payment_id"]


async def test_payments_of_a_user_are_a_page_of_payments(shop: Shop) -> None:
    for _ in range(3):
        await shop.create_intent()
    page = ok(await shop.get("/user/user_123/payments?limit=2"))
    require_fields(page, {**PAGE, "payments": lambda value: len(value) == 2})
    for payment in page["payments"]:
        require_payment(payment)
    assert (page["count"], page["has_more"]) == (2, True)

    rest = ok(await shop.get(f"/user/user_123/payments?limit=2&cursor={page['next_cursor']}"))
    require_fields(rest, {**PAGE, "payments": lambda value: len(value) == 1})
    assert (rest["count"], rest["has_more"], rest["next_cursor"]) == (1, False, None)
    assert rest["payments"][0] not in page["payments"]


async def test_orders_of_a_user_are_a_page_of_orders(shop: Shop) -> None:
    by_card = await shop.pay_by_card()
    by_credits = await shop.pay_with_credits(credits=2)
    page = ok(await shop.get("/user/user_123/orders"))
    require_fields(page, {**PAGE, "orders": list_of(ORDER)})
    assert (page["count"], page["has_more"], page["next_cursor"]) == (2, False, None)
    newest, oldest = page["orders"]
    assert (newest["order_id"], newest["total_credits"]) == (by_credits["order_id"], 2)
    assert (oldest["order_id"], oldest["total_cents"]) == (by_card["order_id"], 999)


@pytest.mark.parametrize("collection", ["payments", "orders"])
async def test_user_without_history_has_an_empty_page(shop: Shop, collection: str) -> None:
    page = ok(await shop.get(f"/user/nobody/{collection}"))
    assert page == {collection: [], "count": 0, "has_more": False, "next_cursor": None}


async def test_refund_replies_with_the_contract_fields(shop: Shop) -> None:
    fields: Mapping[str, Check] = {
        "payment_id": id_of("pay_"),
        "refund_id": id_of("rfd_"),
        "amount_cents": integer,
        "credits_returned": integer,
        "status": one_of("succeeded"),
        "failure_reason": nullable(text),
        "payment_status": PAYMENT_STATUS,
    }
    card = await shop.pay_by_card()
    reply = ok(await shop.post("/refund", {"payment_id": card["payment_id"], "amount_cents": 99}))
    require_fields(reply, fields)
    assert (reply["amount_cents"], reply["payment_status"]) == (99, "partially_refunded")

    credits = await shop.pay_with_credits(credits=2)
    reply = ok(await shop.post("/refund", {"payment_id": credits["payment_id"]}))
    require_fields(reply, fields)
    assert (reply["credits_returned"], reply["payment_status"]) == (2, "refunded")


@pytest.mark.shop(webhooks=False)
async def test_webhook_replies_with_the_contract_fields(shop: Shop) -> None:
    created = await shop.create_intent()
    await shop.confirm_in_browser(created)
    [event] = shop.events("payment_intent.succeeded")
    first = ok(await shop.deliver(event))
    again = ok(await shop.deliver(event))
    assert first == {"received": True, "event_id": event["id"], "result": "processed"}
    assert again == {"received": True, "event_id": event["id"], "result": "duplicate"}


async def test_banner_names_the_service(shop: Shop) -> None:
    reply = ok(await shop.client.get("/"))
    assert reply["service"] == "audiobooker-payment"
    assert ok(await shop.client.get(reply["health"]))["status"] == "healthy"


async def test_metrics_are_prometheus_text(shop: Shop) -> None:
    await shop.pay_by_card()
    reply = await shop.client.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'route="/api/v1/payment/create-payment-intent"' in reply.text
    assert "pay_" not in reply.text, "an id as a label would make a series for each payment"


# Headers


async def test_well_formed_request_id_is_echoed_on_answers_and_refusals(shop: Shop) -> None:
    headers = {"X-Request-ID": "trace-7.A_b"}
    good = await shop.get("/health/", headers=headers)
    bad = await shop.get("/payment/pay_none", headers=headers)
    assert good.headers["x-request-id"] == "trace-7.A_b"
    assert refused(bad, 404, "payment_not_found")["request_id"] == "trace-7.A_b"


@pytest.mark.parametrize("sent", [None, "", "two words", "a" * 129, "a\tb", "<script>", "é"])
async def test_request_id_is_made_here_when_the_callers_is_not_well_formed(
    shop: Shop, sent: str | None
) -> None:
    headers = {} if sent is None else {"X-Request-ID": sent.encode()}
    response = await shop.client.get(f"{BASE_PATH}/health/", headers=headers)  # type: ignore[arg-type]  # bytes are fine
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


async def test_answers_are_never_cached(shop: Shop) -> None:
    created = await shop.create_intent()
    for response in (
        await shop.get(f"/payment/{created['payment_id']}"),
        await shop.get("/payment/pay_none"),
        await shop.get("/config/publishable-key"),
    ):
        assert response.headers["cache-control"] == "no-store"


async def test_browser_of_the_shop_may_read_answers_refusals_and_their_headers(shop: Shop) -> None:
    origin = {"Origin": "http://localhost:5173"}
    for response in (
        await shop.get("/health/", headers=origin),
        await shop.get("/payment/pay_none", headers=origin),
    ):
        assert response.headers["access-control-allow-origin"] == "http://localhost:5173"
        exposed = response.headers["access-control-expose-headers"]
        assert {"Retry-After", "X-Request-ID"} <= set(exposed.split(", "))
    stranger = await shop.get("/health/", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in stranger.headers


# Failures of the address


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        f"{BASE_PATH}/nothing",
        f"{BASE_PATH}/payment",
        f"{BASE_PATH}/user//payments",
        f"{BASE_PATH}/user/user_123/invoices",
        "/payment/health/",
    ],
)
async def test_unknown_path_is_a_404_problem(shop: Shop, path: str) -> None:
    refused(await shop.client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/create-payment-intent", "POST"),
        ("PUT", "/confirm-payment", "POST"),
        ("GET", "/create-checkout-session", "POST"),
        ("POST", "/checkout-session/cs_test_x", "GET"),
        ("GET", "/pay-with-credits", "POST"),
        ("DELETE", "/payment/pay_x", "GET"),
        ("POST", "/user/user_123/payments", "GET"),
        ("PATCH", "/user/user_123/orders", "GET"),
        ("GET", "/refund", "POST"),
        ("GET", "/webhook/stripe", "POST"),
        ("POST", "/health/", "GET, HEAD"),
        ("POST", "/health/live", "GET, HEAD"),
        ("POST", "/health/ready", "GET, HEAD"),
        ("POST", "/config/publishable-key", "GET"),
    ],
)
async def test_wrong_method_is_a_405_problem_that_names_the_right_one(
    shop: Shop, method: str, path: str, allowed: str
) -> None:
    response = await shop.client.request(method, BASE_PATH + path)
    refused(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/health", "/health/live/", "/user/user_123/payments/", "/config/publishable-key/"]
)
async def test_no_path_is_redirected_for_its_trailing_slash(shop: Shop, path: str) -> None:
    """A redirect would name this service's own path, which is another one behind the proxy."""
    response = await shop.get(path)
    assert response.status_code in (200, 404)
    assert "location" not in response.headers


# Behind the API proxy


class RewritingProxy:
    """What the API proxy does: another prefix outside, another host, the rest as it is."""

    OUTER = "/api/v1/audiobooker_proxy/payment"

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["path"].startswith(self.OUTER)
        path = BASE_PATH + scope["path"].removeprefix(self.OUTER)
        headers = [pair for pair in scope["headers"] if pair[0] != b"host"]
        inner = {
            **scope,
            "path": path,
            "raw_path": path.encode(),
            "headers": [*headers, (b"host", b"payment-service:8004")],
        }
        await self._inner(inner, receive, send)


async def test_whole_flow_works_behind_a_proxy_with_another_prefix(shop: Shop) -> None:
    transport = httpx.ASGITransport(app=RewritingProxy(shop.app))
    async with httpx.AsyncClient(transport=transport, base_url="https://api.example") as outside:
        base = RewritingProxy.OUTER
        answers = []

        async def ask(method: str, path: str, **body: Any) -> Any:
            response = await outside.request(method, base + path, json=body or None)
            answers.append(response)
            return ok(response)

        await ask("GET", "/health/")
        created = await ask(
            "POST", "/create-payment-intent", user_id="user_123", items=[book(price_cents=500)]
        )
        await ask(
            "POST",
            "/confirm-payment",
            payment_intent_id=created["payment_intent_id"],
            payment_method_id="pm_card_visa",
        )
        session = await ask("POST", "/create-checkout-session", user_id="user_123", items=[book()])
        await ask("GET", f"/checkout-session/{session['session_id']}")
        await ask("POST", "/pay-with-credits", user_id="user_123", items=[book()])
        refund = await ask("POST", "/refund", payment_id=created["payment_id"])
        assert refund["payment_status"] == "refunded"
        orders = await ask("GET", "/user/user_123/orders")
        assert orders["count"] == 2
        refused(await outside.get(f"{base}/nothing"), 404, "not_found")

    for answer in answers:
        assert BASE_PATH not in answer.text, "an answer names the inner path"
        assert "payment-service:8004" not in answer.text
        assert "location" not in answer.headers
