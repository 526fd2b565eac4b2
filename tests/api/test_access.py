"""Who may call what: every route against every kind of caller."""

import time
from collections.abc import Mapping
from typing import Any, Final

import httpx
import jwt
import pytest

from app.routers import BASE_PATH
from tests.support.shop import Shop, book, ok, refused

JWT_SECRET: Final = "the auth service's signing secret, 32+"
INTERNAL_KEY: Final = "internal-key-of-the-suite"
STAGING: Final = {
    "environment": "staging",
    "auth_jwt_secret": JWT_SECRET,
    "internal_service_key": INTERNAL_KEY,
}
INTERNAL: Final = {"X-Internal-Service-Key": INTERNAL_KEY}


def bearer(
    user_id: str, role: str | None = None, *, expires_in: int = 3600, secret: str = JWT_SECRET
) -> dict[str, str]:
    claims: dict[str, Any] = {"sub": user_id, "exp": int(time.time()) + expires_in}
    if role is not None:
        claims["role"] = role
    return {"Authorization": f"Bearer {jwt.encode(claims, secret, algorithm='HS256')}"}


UNVERIFIED: Final[Mapping[str, Mapping[str, str]]] = {
    "none": {},
    "garbage": {"Authorization": "Bearer garbage"},
    "basic": {"Authorization": "Basic dXNlcjpwYXNz"},
    "expired": bearer("user_123", expires_in=-60),
    "signed by another": bearer("user_123", "admin", secret="x" * 32),
    "unsigned": {
        "Authorization": "Bearer "
        + jwt.encode({"sub": "user_123", "exp": int(time.time()) + 600}, "", algorithm="none")
    },
    "wrong internal key": {"X-Internal-Service-Key": INTERNAL_KEY + "x"},
    "wrong internal key beside a good token": {
        "X-Internal-Service-Key": "internal",
        **bearer("user_123"),
    },
}
FOR_ANYONE: Final[Mapping[str, Mapping[str, str]]] = {
    "admin": bearer("root", "admin"),
    "service": bearer("cart-service", "service"),
    "internal": INTERNAL,
}
OWNER: Final = bearer("user_123")
STRANGER: Final = bearer("user_456")

# route: (method, path, body, what the owner is told, what a stranger is told); {..} come from Ids.
Route = tuple[str, str, dict[str, Any] | None, int, int]
GUARDED: Final[tuple[Route, ...]] = (
    ("POST", "/create-payment-intent", {"user_id": "user_123", "amount": 500}, 200, 403),
    (
        "POST",
        "/confirm-payment",
        {"payment_intent_id": "{intent}", "payment_method_id": "pm_card_visa"},
        200,
        404,
    ),
    ("POST", "/create-checkout-session", {"user_id": "user_123", "items": [book()]}, 200, 403),
    ("GET", "/checkout-session/{session}", None, 200, 404),
    ("POST", "/pay-with-credits", {"user_id": "user_123", "items": [book()]}, 200, 403),
    ("GET", "/payment/{payment}", None, 200, 404),
    ("GET", "/payment/{intent}", None, 200, 404),
    ("GET", "/payment/{session}", None, 200, 404),
    ("POST", "/payment/{payment}/cancel", {}, 200, 404),
    ("GET", "/user/user_123/payments", None, 200, 403),
    ("GET", "/user/user_123/orders", None, 200, 403),
    ("POST", "/refund", {"payment_id": "{paid}", "amount_cents": 1}, 403, 403),
)
CODE_OF: Final = {401: {"unauthenticated"}, 403: {"forbidden"}}
NOT_FOUND: Final = {"payment_not_found", "checkout_session_not_found"}


async def ids_of_user_123(shop: Shop) -> dict[str, str]:
    """A payment intent, a Checkout Session and a paid payment."""
    intent_body = {"user_id": "user_123", "amount": 999}
    created = ok(await shop.post("/create-payment-intent", intent_body, headers=INTERNAL))
    paid = ok(await shop.post("/create-payment-intent", intent_body, headers=INTERNAL))
    confirmation = {
        "payment_intent_id": paid["payment_intent_id"],
        "payment_method_id": "pm_card_visa",
    }
    ok(await shop.post("/confirm-payment", confirmation, headers=INTERNAL))
    session_body = {"user_id": "user_123", "items": [book()]}
    session = ok(await shop.post("/create-checkout-session", session_body, headers=INTERNAL))
    await shop.stripe.webhooks.drain()
    return {
        "payment": created["payment_id"],
        "intent": created["payment_intent_id"],
        "session": session["session_id"],
        "paid": paid["payment_id"],
    }


def filled(body: dict[str, Any] | None, ids: Mapping[str, str]) -> dict[str, Any] | None:
    if body is None:
        return None
    return {
        name: ids[value[1:-1]] if isinstance(value, str) and value.startswith("{") else value
        for name, value in body.items()
    }


@pytest.mark.shop(settings=STAGING)
@pytest.mark.parametrize("route", GUARDED, ids=[f"{route[0]} {route[1]}" for route in GUARDED])
async def test_route_tells_each_caller_what_is_theirs(shop: Shop, route: Route) -> None:
    method, path, body, owners, strangers = route
    ids = await ids_of_user_123(shop)
    path = BASE_PATH + path.format(**ids)
    body = filled(body, ids)

    async def ask(headers: Mapping[str, str]) -> httpx.Response:
        return await shop.client.request(method, path, json=body, headers=headers)

    collections = ("payments", "orders", "idempotency_keys")
    before = {name: await shop.stored(name) for name in collections}
    shop.stripe.requests.clear()
    for name, headers in UNVERIFIED.items():
        response = await ask(headers)
        assert response.status_code == 401, name
        refused(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"] == "Bearer"
        # Before the body is looked at: nobody learns from a refusal what would be taken.
        refused(
            await shop.client.request(method, path, json={}, headers=headers),
            401,
            "unauthenticated",
        )
    stranger = await ask(STRANGER)
    assert stranger.status_code == strangers
    problem = refused(stranger, strangers, stranger.json()["code"])
    assert problem["code"] in CODE_OF.get(strangers, NOT_FOUND)
    assert "user_123" not in problem["detail"]
    assert {name: await shop.stored(name) for name in collections} == before
    assert len(shop.stripe.requests) == 0, "Stripe was asked for somebody who may not"

    own = await ask(OWNER)
    assert own.status_code == owners, own.text
    for name, headers in FOR_ANYONE.items():
        response = await ask(headers)
        assert response.status_code == 200, (name, response.text)


@pytest.mark.shop(settings=STAGING)
async def test_matrix_above_has_every_route_that_is_not_public(shop: Shop) -> None:
    public = {
        f"{BASE_PATH}{path}"
        for path in (
            "/config/publishable-key",
            "/webhook/stripe",
            "/health/",
            "/health/live",
            "/health/ready",
        )
    }
    documented = set(shop.app.openapi()["paths"]) - public
    names = {"intent": "payment_id", "session": "payment_id", "payment": "payment_id"}
    tested = set()
    for _, path, *_ in GUARDED:
        for name, parameter in names.items():
            path = path.replace(f"/payment/{{{name}}}", f"/payment/{{{parameter}}}")
        path = path.replace("{session}", "{session_id}").replace("user_123", "{user_id}")
        tested.add(BASE_PATH + path)
    assert tested == documented


@pytest.mark.shop(settings=STAGING)
@pytest.mark.parametrize("headers", UNVERIFIED.values(), ids=UNVERIFIED.keys())
async def test_public_routes_need_no_credential_and_mind_no_bad_one(
    shop: Shop, headers: Mapping[str, str]
) -> None:
    for path in ("/health/", "/health/live", "/health/ready", "/config/publishable-key"):
        ok(await shop.get(path, headers=headers))
    for outside in ("/", "/docs", "/openapi.json", "/metrics"):
        assert (await shop.client.get(outside, headers=headers)).status_code == 200
    # Its signature is its credential.
    webhook = f"{BASE_PATH}/webhook/stripe"
    refused(await shop.client.post(webhook, headers=headers), 400, "invalid_signature")


@pytest.mark.shop(settings=STAGING, webhooks=False)
async def test_signed_event_needs_no_other_credential(shop: Shop) -> None:
    ids = await ids_of_user_123(shop)
    [event] = shop.events("payment_intent.succeeded")
    reply = ok(await shop.deliver(event))
    assert reply["result"] == "processed"
    paid = ok(await shop.get(f"/payment/{ids['paid']}", headers=OWNER))
    assert paid["status"] == "succeeded"


@pytest.mark.shop(settings=STAGING)
async def test_token_that_is_meant_for_someone_else_in_the_body_is_refused(shop: Shop) -> None:
    """The user id of the body is checked against the token, never taken instead of it."""
    body = {"user_id": "user_123", "items": [book()]}
    refused(await shop.post("/pay-with-credits", body, headers=STRANGER), 403, "forbidden")
    assert await shop.credits("user_123") == 10
    assert await shop.stored("payments") == []


@pytest.mark.shop(settings={**STAGING, "allow_user_refunds": True})
async def test_user_may_refund_their_own_payment_when_the_shop_allows_it(shop: Shop) -> None:
    ids = await ids_of_user_123(shop)
    body = {"payment_id": ids["paid"], "amount_cents": 1}
    refused(await shop.post("/refund", body, headers=STRANGER), 404, "payment_not_found")
    assert ok(await shop.post("/refund", body, headers=OWNER))["status"] == "succeeded"


@pytest.mark.shop(settings=STAGING)
async def test_idempotency_keys_of_different_callers_do_not_meet(shop: Shop) -> None:
    replies = []
    for user_id in ("user_123", "user_456"):
        body = {"user_id": user_id, "amount": 500}
        headers = bearer(user_id)
        first = await shop.post("/create-payment-intent", body, key="k-1", headers=headers)
        again = await shop.post("/create-payment-intent", body, key="k-1", headers=headers)
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        replies.append(ok(first))
    assert replies[0]["payment_id"] != replies[1]["payment_id"]
    assert len(await shop.stored("payments")) == 2


@pytest.mark.shop(settings={**STAGING, "auth_jwt_secret": ""})
async def test_token_is_refused_where_only_the_internal_key_is_configured(shop: Shop) -> None:
    refused(await shop.get("/user/user_123/orders", headers=OWNER), 401, "unauthenticated")
    ok(await shop.get("/user/user_123/orders", headers=INTERNAL))


async def test_development_is_open_to_everyone(shop: Shop) -> None:
    paid = await shop.pay_by_card()
    await shop.pay_with_credits()
    await shop.create_session()
    ok(await shop.get("/user/user_123/payments"))
    ok(await shop.post("/refund", {"payment_id": paid["payment_id"]}))
    # A frontend that is signed in sends its token, which nobody here could verify.
    ok(await shop.get("/user/user_123/orders", headers=bearer("user_456")))


@pytest.mark.shop(settings={"auth_jwt_secret": JWT_SECRET})
async def test_development_with_a_secret_still_holds_users_to_what_is_theirs(shop: Shop) -> None:
    ok(await shop.get("/user/user_123/orders"))
    ok(await shop.get("/user/user_123/orders", headers=OWNER))
    refused(await shop.get("/user/user_123/orders", headers=STRANGER), 403, "forbidden")
    garbage = await shop.get("/user/user_123/orders", headers=UNVERIFIED["garbage"])
    refused(garbage, 401, "unauthenticated")
