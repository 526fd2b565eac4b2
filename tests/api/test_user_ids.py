"""User ids: what one route accepts every route finds, under whichever spelling."""

import time
import uuid
from typing import Any, Final
from urllib.parse import quote

import jwt
import pytest
from bson import Binary, ObjectId

from tests.support.shop import Shop, book, ok, refused

ODD: Final = (
    "org/alice",
    "org/alice/payments",
    "payments",
    "orders/payments",
    "/",
    "//a",
    "a/",
    "a+b",
    "100%",
    "a%2Fb",
    "%00",
    "%2e%2e",
    "\U0001f4d6",
    "\u0642\u0627\u0631\u0626",
    "a?b",
    "a#b",
    "a&b=c",
    "a b",
    " a ",
    "...",
    "a..b",
    ".hidden",
    "a\\b",
    "a;b",
    "reader@example.com",
    '"$ne"',
    "u" * 128,
    "ab " * 8,
)
UNFIT: Final = (".", "..", "a/../b", "../a", "a/.")
OBJECT_ID: Final = "64b7f8c2e4b0a1d2c3e4f5ab"
UUID: Final = "7d4e8c1a-0b2f-4c3d-9e5a-6f7b8c9d0eab"
SECRET: Final = "a-secret-of-the-suite-with-32-characters"
CARD: Final = ("/create-payment-intent", "/create-checkout-session")


def in_path(user_id: str) -> str:
    """As ``encodeURIComponent`` writes it."""
    return quote(user_id, safe="!'()*")


def bearer(user_id: str, **claims: Any) -> dict[str, str]:
    token = jwt.encode({"sub": user_id, "exp": time.time() + 60, **claims}, SECRET, "HS256")
    return {"Authorization": f"Bearer {token}"}


async def listed(shop: Shop, user_id: str, kind: str, **kwargs: Any) -> list[dict[str, Any]]:
    return list(ok(await shop.get(f"/user/{in_path(user_id)}/{kind}", **kwargs))[kind])


@pytest.mark.shop(users=[{"_id": user_id, "credits": 5} for user_id in ODD])
async def test_whoever_can_pay_is_found_by_every_route(shop: Shop) -> None:
    for user_id in ODD:
        body = {"user_id": user_id, "items": [book()]}
        made = [ok(await shop.post(path, body)) for path in (*CARD, "/pay-with-credits")]
        payments = await listed(shop, user_id, "payments")
        ids = {reply["payment_id"] for reply in made}
        assert {payment["payment_id"] for payment in payments} == ids, user_id
        assert {payment["user_id"] for payment in payments} == {user_id}
        [order] = await listed(shop, user_id, "orders")
        assert order["order_id"] == made[-1]["order_id"], user_id
        assert await shop.credits(user_id) == 4


@pytest.mark.shop(users=[{"_id": user_id, "credits": 5} for user_id in UNFIT])
@pytest.mark.parametrize("user_id", UNFIT)
async def test_id_that_no_url_can_hold_is_refused_when_paying(shop: Shop, user_id: str) -> None:
    for path in (*CARD, "/pay-with-credits"):
        response = await shop.post(path, {"user_id": user_id, "items": [book()]})
        problem = refused(response, 422, "validation_error")
        assert "cannot be part of a URL" in problem["detail"]
    assert await shop.stored("payments") == []


async def test_template_of_the_route_stands_for_any_id_in_the_metrics(shop: Shop) -> None:
    await listed(shop, "org/alice", "orders")
    route = "/api/v1/payment/user/{user_id}/orders"
    sample = f'http_requests_total{{method="GET",route="{route}",status="200"}}'
    assert await shop.metric(sample) == 1


def users(*ids: Any) -> list[dict[str, Any]]:
    return [{"_id": each, "credits": 10} for each in ids]


@pytest.mark.parametrize(
    "spellings",
    [
        pytest.param(
            (OBJECT_ID, OBJECT_ID.upper()),
            marks=pytest.mark.shop(users=users(ObjectId(OBJECT_ID))),
            id="auto",
        ),
        pytest.param(
            (OBJECT_ID, OBJECT_ID.upper(), OBJECT_ID.title()),
            marks=pytest.mark.shop(
                users=users(ObjectId(OBJECT_ID)), settings={"auth_user_id_type": "ObjectId"}
            ),
            id="objectid",
        ),
        pytest.param(
            (UUID, UUID.upper(), UUID.replace("-", "")),
            marks=pytest.mark.shop(
                users=users(Binary.from_uuid(uuid.UUID(UUID))),
                settings={"auth_user_id_type": "uuid"},
            ),
            id="uuid",
        ),
    ],
)
async def test_spellings_of_one_id_are_one_account_with_one_history(
    shop: Shop, spellings: tuple[str, ...]
) -> None:
    for place, spelled in enumerate(spellings):
        body = {"user_id": spelled, "items": [book()]}
        paid = ok(await shop.post("/pay-with-credits", body))
        assert paid["remaining_credits"] == 9 - place
    for spelled in spellings:
        orders = await listed(shop, spelled, "orders")
        assert len(orders) == len(spellings)
        assert {order["user_id"] for order in orders} == {spellings[0]}
    ok(await shop.post("/refund", {"payment_id": paid["payment_id"]}))
    [user] = await shop.databases.auth["users"].find({}).to_list(None)
    assert user["credits"] == 11 - len(spellings)


@pytest.mark.shop(users=users(OBJECT_ID), settings={"auth_user_id_type": "string"})
async def test_text_of_24_hex_digits_is_text_where_ids_are_text(shop: Shop) -> None:
    body = {"user_id": OBJECT_ID, "items": [book()]}
    ok(await shop.post("/pay-with-credits", body))
    body["user_id"] = OBJECT_ID.upper()
    refused(await shop.post("/pay-with-credits", body), 404, "user_not_found")
    assert await listed(shop, OBJECT_ID.upper(), "orders") == []


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, marks=pytest.mark.shop(settings={"auth_user_id_type": kind}), id=kind)
        for kind, words in {"objectid": "24 hex digits", "uuid": "a UUID"}.items()
    ],
)
async def test_id_of_another_type_is_refused(shop: Shop, words: str) -> None:
    for path in (*CARD, "/pay-with-credits"):
        response = await shop.post(path, {"user_id": "user_123", "items": [book()]})
        assert words in refused(response, 422, "validation_error")["detail"]
    refused(await shop.get("/user/user_123/payments"), 422, "validation_error")


@pytest.mark.shop(
    users=users(ObjectId(OBJECT_ID)), settings={"environment": "test", "auth_jwt_secret": SECRET}
)
async def test_caller_is_the_same_whichever_way_the_token_spells_the_id(shop: Shop) -> None:
    upper = OBJECT_ID.upper()
    body = {"user_id": OBJECT_ID, "items": [book()]}
    first = await shop.post("/pay-with-credits", body, key="k", headers=bearer(upper))
    second = await shop.post(
        "/pay-with-credits", {**body, "user_id": upper}, key="k", headers=bearer(OBJECT_ID)
    )
    assert ok(first) == ok(second)
    assert second.headers["idempotent-replayed"] == "true"
    ok(await shop.get(f"/payment/{ok(first)['payment_id']}", headers=bearer(upper)))
    assert len(await listed(shop, OBJECT_ID, "orders", headers=bearer(upper))) == 1


@pytest.mark.shop(
    users=users(ObjectId(OBJECT_ID)), settings={"environment": "test", "auth_jwt_secret": SECRET}
)
async def test_payment_that_was_stored_in_upper_case_is_still_the_users(shop: Shop) -> None:
    body = {"user_id": OBJECT_ID, "items": [book()]}
    earlier = ok(await shop.post("/pay-with-credits", body, headers=bearer(OBJECT_ID)))
    for collection in ("payments", "orders"):
        await shop.databases.payments[collection].update_many(
            {}, {"$set": {"user_id": OBJECT_ID.upper()}}
        )
    later = ok(await shop.post("/pay-with-credits", body, headers=bearer(OBJECT_ID)))
    for kind in ("payments", "orders"):
        found = await listed(shop, OBJECT_ID, kind, headers=bearer(OBJECT_ID))
        assert [each["payment_id"] for each in found] == [
            later["payment_id"],
            earlier["payment_id"],
        ]
    ok(await shop.get(f"/payment/{earlier['payment_id']}", headers=bearer(OBJECT_ID)))


@pytest.mark.shop(
    settings={"environment": "test", "auth_jwt_secret": SECRET, "auth_user_id_type": "uuid"}
)
async def test_token_of_a_user_whose_id_is_of_another_type_is_refused_and_a_services_is_not(
    shop: Shop,
) -> None:
    path = f"/user/{UUID}/orders"
    refused(await shop.get(path, headers=bearer("user_123")), 401, "unauthenticated")
    ok(await shop.get(path, headers=bearer("shop-proxy", role="service")))
    ok(await shop.get(path, headers=bearer(UUID.upper())))
