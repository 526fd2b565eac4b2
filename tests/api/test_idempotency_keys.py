"""Idempotency-Key: one effect and one answer, whatever is repeated, when, and by whom."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import jwt
import pytest

from tests.support.database_faults import DatabaseFaults, faulty
from tests.support.shop import Shop, ShopOptions, book, ok, open_shop, refused, until
from tests.support.store import not_on

CREATE = {"user_id": "user_123", "amount": 999}
INTENTS = "^/v1/payment_intents$"
JWT_SECRET = "a-secret-for-the-suite-of-enough-characters"


def replayed(response: httpx.Response) -> bool:
    value: str | None = response.headers.get("idempotent-replayed")
    return value == "true"


async def create(shop: Shop, key: str | None = "cart-7", **fields: Any) -> httpx.Response:
    return await shop.post("/create-payment-intent", {**CREATE, **fields}, key=key)


def intents_at_stripe(shop: Shop) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shop.stripe.payment_intents.list({})["data"]
    return found


async def assert_one_payment(shop: Shop, payment_id: str) -> None:
    """In the store and at Stripe."""
    (stored,) = await shop.stored("payments")
    (intent,) = intents_at_stripe(shop)
    assert stored["_id"] == payment_id == intent["metadata"]["payment_id"]
    assert stored["stripe_payment_intent_id"] == intent["id"]


async def crash_at_stripe(shop: Shop, request: Awaitable[httpx.Response], path: str) -> None:
    """The process dies while Stripe works: nothing comes after the call, not even an error."""
    slow = shop.stripe.faults.add("latency", path=path, seconds=0.2)
    task = asyncio.ensure_future(request)
    await until(lambda: slow.hits == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


# The same request


async def test_repeat_gets_the_same_answer_and_makes_no_second_payment(shop: Shop) -> None:
    first = await create(shop)
    asked = len(shop.stripe.requests.matching("POST"))

    repeats = [await create(shop) for _ in range(3)]

    assert not replayed(first)
    reply = ok(first)
    assert reply["client_secret"].startswith(reply["payment_intent_id"])
    for repeat in repeats:
        assert replayed(repeat)
        assert ok(repeat) == reply
    assert len(shop.stripe.requests.matching("POST")) == asked
    await assert_one_payment(shop, reply["payment_id"])


async def test_twenty_at_once_make_one_payment_and_agree_on_the_answer(shop: Shop) -> None:
    async def insist() -> httpx.Response:
        """As a client does that is told to come again."""
        async with asyncio.timeout(10):
            while True:
                response = await create(shop)
                if response.status_code != 409:
                    return response
                refused(response, 409, "idempotency_key_in_use")
                assert int(response.headers["retry-after"]) >= 1

    answers = await asyncio.gather(*(insist() for _ in range(20)))

    replies = [ok(answer) for answer in answers]
    assert all(reply == replies[0] for reply in replies)
    assert sorted(replayed(answer) for answer in answers) == [False] + [True] * 19
    assert len(shop.stripe.requests.matching("POST", INTENTS)) == 1
    await assert_one_payment(shop, replies[0]["payment_id"])


async def test_without_a_key_each_request_is_a_payment_of_its_own(shop: Shop) -> None:
    first, second = ok(await create(shop, key=None)), ok(await create(shop, key=None))

    assert first["payment_id"] != second["payment_id"]
    assert len(intents_at_stripe(shop)) == 2
    assert await shop.stored("idempotency_keys") == []


async def test_fields_that_are_ignored_do_not_make_another_request(shop: Shop) -> None:
    first = ok(await create(shop))

    repeat = await create(shop, source="retry-button")

    assert replayed(repeat)
    assert ok(repeat) == first


async def test_repeat_while_the_first_is_running_is_told_to_come_again(shop: Shop) -> None:
    slow = shop.stripe.faults.add("latency", path=INTENTS, seconds=1.0)
    first = asyncio.create_task(create(shop))
    await until(lambda: slow.hits == 1)

    problem = await create(shop)

    refused(problem, 409, "idempotency_key_in_use")
    assert 1 <= int(problem.headers["retry-after"]) <= 30
    assert not replayed(problem)
    reply = ok(await first)
    repeat = await create(shop)
    assert replayed(repeat)
    assert ok(repeat) == reply
    await assert_one_payment(shop, reply["payment_id"])


async def test_different_keys_are_not_held_up_by_one_another(shop: Shop) -> None:
    slow = shop.stripe.faults.add("latency", path=INTENTS, seconds=1.0)
    first = asyncio.create_task(create(shop, key="cart-7"))
    await until(lambda: slow.hits == 1)

    assert ok(await create(shop, key="cart-8"))["payment_id"]

    assert not first.done()
    ok(await first)
    assert len(await shop.stored("payments")) == 2


# Another request


async def test_key_of_another_body_is_refused(shop: Shop) -> None:
    reply = ok(await create(shop))

    for other in ({"amount": 1000}, {"user_id": "user_456"}, {"currency": "eur"}):
        refused(await create(shop, **other), 422, "idempotency_key_reused")

    assert ok(await create(shop)) == reply
    await assert_one_payment(shop, reply["payment_id"])


async def test_key_of_another_route_is_refused(shop: Shop) -> None:
    reply = ok(await create(shop))

    for path, body in (
        ("/pay-with-credits", CREATE),
        ("/create-checkout-session", {"user_id": "user_123", "items": [book()]}),
        ("/confirm-payment", {"payment_intent_id": reply["payment_intent_id"]}),
        ("/refund", {"payment_id": reply["payment_id"]}),
    ):
        refused(await shop.post(path, body, key="cart-7"), 422, "idempotency_key_reused")

    assert await shop.credits() == 10
    await assert_one_payment(shop, reply["payment_id"])


async def test_key_of_another_body_is_refused_even_while_the_first_is_running(shop: Shop) -> None:
    slow = shop.stripe.faults.add("latency", path=INTENTS, seconds=1.0)
    first = asyncio.create_task(create(shop))
    await until(lambda: slow.hits == 1)

    refused(await create(shop, amount=1000), 422, "idempotency_key_reused")

    await assert_one_payment(shop, ok(await first)["payment_id"])


@pytest.mark.shop(settings={"auth_jwt_secret": JWT_SECRET})
async def test_same_key_of_another_caller_is_another_key(shop: Shop) -> None:
    replies = []
    for user_id in ("user_123", "user_456"):
        token = jwt.encode({"sub": user_id, "exp": 4_000_000_000}, JWT_SECRET, "HS256")
        answer = await shop.post(
            "/create-payment-intent",
            {**CREATE, "user_id": user_id},
            key="cart-7",
            headers={"Authorization": f"Bearer {token}"},
        )
        assert not replayed(answer)
        replies.append(ok(answer))
    anonymous = await create(shop)

    assert not replayed(anonymous)
    replies.append(ok(anonymous))
    assert len({reply["payment_id"] for reply in replies}) == 3
    assert len({reply["client_secret"] for reply in replies}) == 3
    owners = sorted(payment["user_id"] for payment in await shop.stored("payments"))
    assert owners == ["user_123", "user_123", "user_456"]


# Refusals are answers


async def test_declined_card_is_replayed_without_another_attempt(shop: Shop) -> None:
    created = await shop.create_intent()
    declined = "pm_card_visa_chargeDeclinedInsufficientFunds"
    first = await shop.confirm(created, declined, key="try-1")

    repeat = await shop.confirm(created, declined, key="try-1")

    assert not replayed(first)
    assert replayed(repeat)
    before, after = (refused(answer, 402, "card_declined") for answer in (first, repeat))
    assert before.pop("request_id") != after.pop("request_id")
    assert before == after
    assert after["decline_code"] == "insufficient_funds"
    assert len(shop.stripe.requests.matching("POST", "/confirm$")) == 1
    assert len(shop.events("charge.failed")) == 1
    assert ok(await shop.confirm(created, "pm_card_visa", key="try-2"))["status"] == "succeeded"
    assert replayed(await shop.confirm(created, declined, key="try-1"))


async def test_refusals_are_replayed_even_when_they_would_no_longer_be_refused(
    shop: Shop,
) -> None:
    cart = {"user_id": "user_456", "items": [book()]}
    too_poor = await shop.post("/pay-with-credits", cart, key="credits")
    unknown = await shop.post("/pay-with-credits", {**cart, "user_id": "late"}, key="unknown")
    created = await shop.create_intent()
    unpaid = await shop.post("/refund", {"payment_id": created["payment_id"]}, key="refund")
    users = shop.databases.auth["users"]
    await users.update_one({"_id": "user_456"}, {"$set": {"credits": 5}})
    await users.insert_one({"_id": "late", "credits": 5})
    ok(await shop.confirm(created, "pm_card_visa"))

    repeats = [
        await shop.post("/pay-with-credits", cart, key="credits"),
        await shop.post("/pay-with-credits", {**cart, "user_id": "late"}, key="unknown"),
        await shop.post("/refund", {"payment_id": created["payment_id"]}, key="refund"),
    ]

    expected = [
        (402, "insufficient_credits"),
        (404, "user_not_found"),
        (409, "payment_not_refundable"),
    ]
    for first, repeat, (status, code) in zip(
        (too_poor, unknown, unpaid), repeats, expected, strict=True
    ):
        assert not replayed(first)
        assert replayed(repeat)
        before, after = refused(first, status, code), refused(repeat, status, code)
        assert {**before, "request_id": None} == {**after, "request_id": None}
    assert repeats[0].json()["required"] == 1
    assert await shop.credits("user_456") == await shop.credits("late") == 5
    assert shop.events("refund.created") == []


async def test_request_that_was_never_understood_does_not_use_up_its_key(shop: Shop) -> None:
    refused(await create(shop, amount="999"), 422, "validation_error")
    refused(await create(shop, items=[book()]), 422, "validation_error")

    assert not replayed(await create(shop))


# Failures are not


@pytest.mark.parametrize("fault", ["error_before", "drop_before", "lock_timeout"])
@pytest.mark.usefixtures("quick_retries")
async def test_failure_at_stripe_is_not_the_answer_for_ever(shop: Shop, fault: Any) -> None:
    times = 4 if fault == "lock_timeout" else 3
    broken = shop.stripe.faults.add(fault, path=INTENTS, times=times)
    failed = await create(shop)
    assert failed.status_code in (502, 503)
    assert int(failed.headers["retry-after"]) >= 1
    refused(failed, failed.status_code, "stripe_error")
    assert broken.hits == times
    (stored,) = await shop.stored("payments")
    assert stored["status"] == "pending"

    repeat = await create(shop)

    assert not replayed(repeat), "it is the first answer"
    assert ok(repeat)["payment_id"] == stored["_id"]
    await assert_one_payment(shop, stored["_id"])
    keys = {r.idempotency_key for r in shop.stripe.requests.matching("POST", INTENTS)}
    assert keys == {f"payment_intent:{stored['_id']}"}
    assert replayed(await create(shop))


async def test_repeat_after_a_lost_answer_continues_with_the_same_payment_intent(
    shop: Shop,
) -> None:
    await crash_at_stripe(shop, create(shop), INTENTS)
    await until(lambda: len(intents_at_stripe(shop)) == 1)
    (stored,) = await shop.stored("payments")
    assert "stripe_payment_intent_id" not in stored, "the crash came too late to tell anything"
    refused(await create(shop), 409, "idempotency_key_in_use")
    shop.clock.advance(seconds=31)

    reply = ok(await create(shop))

    assert reply["payment_id"] == stored["_id"]
    await assert_one_payment(shop, stored["_id"])
    # What Stripe repeats may be old: the PaymentIntent is looked at before it is handed out.
    again, look = list(shop.stripe.requests)[-2:]
    assert again.replayed
    assert look.method == "GET"
    assert look.path == f"/v1/payment_intents/{reply['payment_intent_id']}"


async def test_dropped_answer_is_asked_for_again_within_the_request(shop: Shop) -> None:
    dropped = shop.stripe.faults.add("drop_after", path=INTENTS)

    reply = ok(await create(shop))

    assert dropped.hits == 1
    await assert_one_payment(shop, reply["payment_id"])


async def test_repeat_of_a_crashed_confirmation_continues_the_same_attempt(shop: Shop) -> None:
    shop.stripe.webhooks.pause()
    created = await shop.create_intent()
    await crash_at_stripe(shop, shop.confirm(created, "pm_card_visa", key="try-1"), "/confirm$")
    await until(lambda: len(shop.events("charge.succeeded")) == 1)
    assert (await shop.stored_payment(created["payment_id"]))["status"] == "pending"
    shop.clock.advance(seconds=31)

    assert ok(await shop.confirm(created, "pm_card_visa", key="try-1"))["status"] == "succeeded"

    first, second = shop.stripe.requests.matching("POST", "/confirm$")
    assert first.idempotency_key == second.idempotency_key
    assert len(shop.events("charge.succeeded")) == 1
    assert len(await shop.orders()) == 1


async def test_repeat_of_a_crashed_checkout_continues_with_the_same_session(shop: Shop) -> None:
    body = {"user_id": "user_123", "items": [book()]}
    request = shop.post("/create-checkout-session", body, key="cart-7")
    await crash_at_stripe(shop, request, "sessions$")
    await until(lambda: bool(shop.stripe.checkout_sessions.list({})["data"]))
    shop.clock.advance(seconds=31)

    reply = ok(await shop.post("/create-checkout-session", body, key="cart-7"))

    (session,) = shop.stripe.checkout_sessions.list({})["data"]
    (stored,) = await shop.stored("payments")
    assert (reply["session_id"], reply["payment_id"]) == (session["id"], stored["_id"])
    assert stored["stripe_checkout_session_id"] == session["id"]


# How long a key lives


async def test_claim_is_taken_over_when_its_lease_has_run_out_and_not_before(shop: Shop) -> None:
    await crash_at_stripe(shop, create(shop), INTENTS)
    (stored,) = await shop.stored("payments")
    shop.clock.advance(seconds=25)
    waiting = await create(shop)
    refused(waiting, 409, "idempotency_key_in_use")
    assert int(waiting.headers["retry-after"]) <= 5
    shop.clock.advance(seconds=6)

    answers = await asyncio.gather(*(create(shop) for _ in range(10)))

    assert {answer.status_code for answer in answers} <= {200, 409}
    assert sum(answer.status_code == 200 and not replayed(answer) for answer in answers) == 1
    assert ok(await create(shop))["payment_id"] == stored["_id"]
    await assert_one_payment(shop, stored["_id"])


async def test_answer_stored_while_a_repeat_takes_over_is_kept_and_replayed() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(connect=faulty(faults))) as shop:
        answers = faults.pause("update_one", collection="idempotency_keys")
        first = asyncio.create_task(create(shop))
        await answers.reached()
        shop.clock.advance(seconds=31)
        takes_over = faults.pause("replace_one", collection="idempotency_keys")
        repeat = asyncio.create_task(create(shop))
        await takes_over.reached()
        answers.go_on()
        reply = ok(await first)
        (before,) = await shop.stored("idempotency_keys")
        takes_over.go_on()

        refused(await repeat, 409, "idempotency_key_in_use")

        assert await shop.stored("idempotency_keys") == [before]
        again = await create(shop)
        assert replayed(again)
        assert ok(again) == reply
        await assert_one_payment(shop, reply["payment_id"])


async def test_key_is_remembered_for_a_day_and_new_afterwards(shop: Shop) -> None:
    first = ok(await create(shop))
    shop.clock.advance(hours=23, minutes=59)
    assert replayed(await create(shop))
    shop.clock.advance(minutes=1, seconds=1)

    second = await create(shop)

    assert not replayed(second)
    assert ok(second)["payment_id"] != first["payment_id"]
    assert ok(second)["client_secret"] != first["client_secret"]
    assert replayed(await create(shop))
    assert len(await shop.stored("payments")) == len(intents_at_stripe(shop)) == 2


async def test_key_is_free_for_any_request_after_a_day(shop: Shop) -> None:
    ok(await create(shop))
    shop.clock.advance(hours=24, seconds=1)

    assert not replayed(await create(shop, amount=1000))

    refused(await create(shop), 422, "idempotency_key_reused")


@not_on("ferretdb", "has no expiring indexes")
async def test_stored_keys_say_when_to_expire_and_their_index_says_so_too(shop: Shop) -> None:
    ok(await create(shop))

    (record,) = await shop.stored("idempotency_keys")

    indexes = await shop.databases.payments["idempotency_keys"].index_information()
    assert list(indexes["expiry"]["key"]) == [("expires_at", 1)]
    assert indexes["expiry"]["expireAfterSeconds"] == 0
    day = 24 * 3600
    left = (record["expires_at"].replace(tzinfo=None) - shop.clock().replace(tzinfo=None)).seconds
    assert day - 60 < left <= day
    assert "cart-7" not in str(record), "the key is the client's, and only its hash is needed"


# Keys


@pytest.mark.parametrize(
    "key",
    [b"", b"k" * 256, b"tab\there", b"nul\x00", b"\x7f", "schlüssel".encode(), b"\xff"],
    ids=repr,
)
async def test_malformed_key_is_refused(shop: Shop, key: bytes) -> None:
    problem = refused(
        await shop.client.post(
            "/api/v1/payment/create-payment-intent",
            json=CREATE,
            headers=[(b"Idempotency-Key", key)],
        ),
        422,
        "validation_error",
    )

    assert [error["field"] for error in problem["errors"]] == ["Idempotency-Key"]
    assert await shop.stored("payments") == []
    assert len(shop.stripe.requests) == 0


@pytest.mark.parametrize("key", ["k", "k" * 255, "a key, with {odd} $characters.~"])
async def test_any_printable_key_of_up_to_255_characters_will_do(shop: Shop, key: str) -> None:
    first = ok(await create(shop, key=key))

    repeat = await create(shop, key=key)

    assert replayed(repeat)
    assert ok(repeat) == first


# Every POST


async def _create_intent(shop: Shop) -> dict[str, Any]:
    return CREATE


async def _confirm(shop: Shop) -> dict[str, Any]:
    created = await shop.create_intent()
    return {
        "payment_intent_id": created["payment_intent_id"],
        "payment_method_id": "pm_card_threeDSecure2Required",
    }


async def _cart(shop: Shop) -> dict[str, Any]:
    return {"user_id": "user_123", "items": [book()]}


async def _refund(shop: Shop) -> dict[str, Any]:
    paid = await shop.pay_by_card()
    return {"payment_id": paid["payment_id"], "amount_cents": 100}


async def _cancel(shop: Shop) -> dict[str, Any]:
    """No body is read; what is here names the payment in the path."""
    return {"payment_id": (await shop.create_intent())["payment_id"]}


POSTS: dict[str, Callable[[Shop], Awaitable[dict[str, Any]]]] = {
    "/create-payment-intent": _create_intent,
    "/confirm-payment": _confirm,
    "/create-checkout-session": _cart,
    "/pay-with-credits": _cart,
    "/refund": _refund,
    "/payment/{payment_id}/cancel": _cancel,
}


@pytest.mark.parametrize("path", POSTS)
async def test_every_post_is_done_once_and_answered_alike(shop: Shop, path: str) -> None:
    body = await POSTS[path](shop)
    first = await shop.post(path.format(**body), body, key="once")
    await shop.stripe.webhooks.drain()
    asked = len(shop.stripe.requests.matching("POST"))
    before = await shop.stored("payments"), await shop.stored("orders"), await shop.credits()

    repeat = await shop.post(path.format(**body), body, key="once")
    await shop.stripe.webhooks.drain()

    assert not replayed(first)
    assert replayed(repeat)
    assert ok(repeat) == ok(first)
    assert len(shop.stripe.requests.matching("POST")) == asked
    after = await shop.stored("payments"), await shop.stored("orders"), await shop.credits()
    assert after == before


async def test_every_post_but_the_webhook_takes_a_key(shop: Shop) -> None:
    document = shop.app.openapi()
    takes_key = {
        path.removeprefix("/api/v1/payment")
        for path, operations in document["paths"].items()
        if "post" in operations
        and any(
            parameter["name"].lower() == "idempotency-key"
            for parameter in operations["post"].get("parameters", ())
        )
    }
    posts = {
        path.removeprefix("/api/v1/payment")
        for path, operations in document["paths"].items()
        if "post" in operations
    }

    assert takes_key == set(POSTS)
    assert posts - takes_key == {"/webhook/stripe"}


# Secrets


async def test_no_client_secret_is_anywhere_in_the_store(shop: Shop) -> None:
    created = ok(await create(shop))
    card = "pm_card_threeDSecure2Required"
    waiting = ok(await shop.confirm(created, card, key="try-1"))
    assert waiting["client_secret"] == created["client_secret"]
    repeat = await shop.confirm(created, card, key="try-1")
    assert replayed(repeat)
    assert ok(repeat) == waiting
    shop.stripe.authenticate(created["payment_intent_id"], approve=False)
    refused(
        await shop.confirm(created, "pm_card_visa_chargeDeclined", key="try-2"),
        402,
        "card_declined",
    )
    ok(await shop.confirm(created, "pm_card_visa", key="try-3"))
    await shop.stripe.webhooks.drain()
    shop.stripe.webhooks.pause()
    await shop.confirm_in_browser(await shop.create_intent())
    shop.clock.advance(minutes=2)
    report = await shop.services.reconciliation.run_once()
    assert report.moved["missed_event"], "events are stored on this way too"

    stored = ""
    for name in await shop.databases.payments.list_collection_names():
        documents = await shop.stored(name)
        stored += repr(documents)
    assert created["payment_id"] in stored
    assert created["payment_intent_id"] in stored
    assert "payment_intent.succeeded" in stored
    assert created["client_secret"] not in stored
    assert "_secret_" not in stored
