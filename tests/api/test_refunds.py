"""Refunds of money and of credits: never more than was paid, never twice, never forgotten."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest

from app.domain.payments import PaymentStatus
from stripe_sandbox import ApiError
from stripe_sandbox.trouble.faults import Fault, FaultKind
from tests.support.database_faults import DatabaseFaults, When, faulty
from tests.support.shop import GIVE_UP, Shop, ShopOptions, book, ok, open_shop, refused

Document = dict[str, Any]
JWT_SECRET = "a-secret-of-the-suite-with-32-characters"
INTERNAL_KEY = "internal-key-of-the-suite"
CLOSED: dict[str, Any] = {
    "environment": "test",
    "auth_jwt_secret": JWT_SECRET,
    "internal_service_key": INTERNAL_KEY,
}
RICH = [{"_id": "user_123", "credits": 100}, {"_id": "user_456", "credits": 0}]


async def refund(
    shop: Shop,
    payment: Document,
    *,
    key: str | None = None,
    headers: dict[str, str] | None = None,
    **fields: Any,
) -> httpx.Response:
    body = {"payment_id": payment["payment_id"], **fields}
    return await shop.post("/refund", body, key=key, headers=headers or {})


def made_at_stripe(shop: Shop, payment: Document) -> list[Document]:
    """Stripe's refunds of the payment, the oldest first."""
    of = {"payment_intent": payment["stripe_payment_intent_id"], "limit": 100}
    listed: list[Document] = shop.stripe.refunds.list(of)["data"]
    return listed[::-1]


def asked_of_stripe(shop: Shop) -> int:
    return len(shop.stripe.requests.matching("POST", r"^/v1/refunds$"))


async def order_status(shop: Shop, payment: Document) -> str:
    orders = await shop.orders(payment["user_id"])
    statuses = [o["status"] for o in orders if o["payment_id"] == payment["payment_id"]]
    assert len(statuses) == 1
    status: str = statuses[0]
    return status


async def assert_stands(
    shop: Shop, payment: Document, status: str, *, refunded: int, remaining: int
) -> Document:
    """What the API, the store and the order say of the payment. Returns it as the API shows it."""
    shown = await shop.payment(payment["payment_id"])
    stored = await shop.stored_payment(payment["payment_id"])
    assert shown["status"] == stored["status"] == status
    in_credits = shown["payment_method"] == "credits"
    assert shown["credits_refunded" if in_credits else "refunded_cents"] == refunded
    assert stored["refundable_credits" if in_credits else "refundable_amount"] == remaining
    holding = [r for r in stored["refunds"] if r["status"] in ("pending", "succeeded")]
    assert sum(r["amount"] for r in holding) + stored["refundable_amount"] == stored["amount"]
    assert sum(r["credits"] for r in holding) + stored["refundable_credits"] == stored["credits"]
    assert await order_status(shop, payment) == ("paid" if status == "succeeded" else status)
    return shown


# Of a card payment


@pytest.mark.shop(settings={"deployment_name": "suite"})
async def test_a_whole_refund_gives_everything_back(shop: Shop) -> None:
    payment = await shop.pay_by_card()

    reply = ok(await refund(shop, payment))
    await shop.stripe.webhooks.drain()

    assert reply == {
        "payment_id": payment["payment_id"],
        "refund_id": reply["refund_id"],
        "amount_cents": 999,
        "credits_returned": 0,
        "status": "succeeded",
        "failure_reason": None,
        "payment_status": "refunded",
    }
    shown = await assert_stands(shop, payment, "refunded", refunded=999, remaining=0)
    assert [(r["refund_id"], r["amount_cents"], r["status"]) for r in shown["refunds"]] == [
        (reply["refund_id"], 999, "succeeded")
    ]
    (made,) = made_at_stripe(shop, payment)
    assert made["amount"] == 999
    assert made["metadata"] == {
        "payment_id": payment["payment_id"],
        "refund_id": reply["refund_id"],
        "deployment": "suite",
    }
    assert "reconcile_at" not in await shop.stored_payment(payment["payment_id"])


async def test_several_partial_refunds_add_up_to_the_whole(shop: Shop) -> None:
    payment = await shop.pay_by_card()

    first = ok(await refund(shop, payment, amount_cents=400))
    assert first["payment_status"] == "partially_refunded"
    await assert_stands(shop, payment, "partially_refunded", refunded=400, remaining=599)
    second = ok(await refund(shop, payment, amount_cents=598))
    assert second["payment_status"] == "partially_refunded"
    problem = refused(await refund(shop, payment, amount_cents=2), 409, "refund_exceeds_remaining")
    assert problem["remaining"] == 1
    last = ok(await refund(shop, payment))
    await shop.stripe.webhooks.drain()

    assert (last["amount_cents"], last["payment_status"]) == (1, "refunded")
    await assert_stands(shop, payment, "refunded", refunded=999, remaining=0)
    refused(await refund(shop, payment), 409, "payment_not_refundable")
    refused(await refund(shop, payment, amount_cents=1), 409, "payment_not_refundable")
    assert [made["amount"] for made in made_at_stripe(shop, payment)] == [400, 598, 1]
    assert await shop.transitions(payment["payment_id"]) == [
        ("pending", "succeeded"),
        ("succeeded", "partially_refunded"),
        ("partially_refunded", "refunded"),
    ]


async def test_a_payment_is_refunded_by_stripes_id_as_well(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    by_intent = {"payment_id": payment["stripe_payment_intent_id"]}
    assert ok(await refund(shop, by_intent))["payment_id"] == payment["payment_id"]

    session = await shop.create_session()
    shop.stripe.pay_session(session["session_id"])
    await shop.stripe.webhooks.drain()
    reply = ok(await refund(shop, {"payment_id": session["session_id"]}, amount_cents=1))
    assert reply["payment_id"] == session["payment_id"]


@pytest.mark.parametrize("reason", ["duplicate", "fraudulent", "requested_by_customer"])
async def test_a_reason_that_stripe_knows_is_told_as_such(shop: Shop, reason: str) -> None:
    payment = await shop.pay_by_card()
    ok(await refund(shop, payment, reason=reason))
    (made,) = made_at_stripe(shop, payment)
    assert made["reason"] == reason
    assert "reason" not in made["metadata"]
    assert (await shop.payment(payment["payment_id"]))["refunds"][0]["reason"] == reason


async def test_blanks_around_a_reason_do_not_count(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    made = ok(await refund(shop, payment, reason=" requested_by_customer\n"))
    assert made["status"] == "succeeded"
    assert made_at_stripe(shop, payment)[0]["reason"] == "requested_by_customer"


async def test_a_reason_in_free_text_goes_to_the_metadata(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    text = "Arrived damaged, 第三章 missing"
    ok(await refund(shop, payment, reason=text))
    (made,) = made_at_stripe(shop, payment)
    assert made["reason"] is None
    assert made["metadata"]["reason"] == text
    assert (await shop.payment(payment["payment_id"]))["refunds"][0]["reason"] == text


async def _pending(shop: Shop) -> str:
    return str((await shop.create_intent())["payment_id"])


async def _declined(shop: Shop) -> str:
    created = await shop.create_intent()
    refused(await shop.confirm(created, "pm_card_visa_chargeDeclined"), 402, "card_declined")
    return str(created["payment_id"])


async def _processing(shop: Shop) -> str:
    session = await shop.create_session()
    shop.stripe.pay_session(session["session_id"], "pm_usBankAccount")
    await shop.stripe.webhooks.drain()
    return str(session["payment_id"])


async def _canceled(shop: Shop) -> str:
    session = await shop.create_session()
    shop.stripe.expire_session(session["session_id"])
    await shop.stripe.webhooks.drain()
    return str(session["payment_id"])


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (_pending, "pending"),
        (_declined, "failed"),
        (_processing, "processing"),
        (_canceled, "canceled"),
    ],
)
async def test_what_is_not_paid_is_not_refunded(shop: Shop, make: Any, status: str) -> None:
    payment_id = await make(shop)
    await shop.stripe.webhooks.drain()
    assert (await shop.payment(payment_id))["status"] == status

    problem = refused(await refund(shop, {"payment_id": payment_id}), 409, "payment_not_refundable")

    assert status in problem["detail"]
    assert (await shop.stored_payment(payment_id))["refunds"] == []
    assert asked_of_stripe(shop) == 0


async def test_a_payment_that_does_not_exist_is_not_found(shop: Shop) -> None:
    for unknown in ("pay_unknown", "pi_unknown", "cs_unknown"):
        refused(await refund(shop, {"payment_id": unknown}), 404, "payment_not_found")


@pytest.mark.parametrize(
    "fields",
    [
        {"amount_cents": 0},
        {"amount_cents": -1},
        {"amount_cents": "100"},
        {"amount_cents": 1.5},
        {"credits": 0},
        {"amount_cents": 100, "credits": 1},
        {"reason": ""},
        {"reason": "x" * 501},
    ],
)
async def test_a_refund_that_makes_no_sense_is_refused(shop: Shop, fields: Document) -> None:
    payment = await shop.pay_by_card()
    refused(await refund(shop, payment, **fields), 422, "validation_error")
    await assert_stands(shop, payment, "succeeded", refunded=0, remaining=999)


async def test_a_card_payment_is_not_refunded_in_credits(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    refused(await refund(shop, payment, credits=1), 409, "payment_not_refundable")


@pytest.mark.parametrize(
    ("currency", "paid", "amount", "step"),
    [("isk", 50_000, 12_345, 100), ("ugx", 50_000, 60_001, 100), ("kwd", 12_340, 5, 10)],
)
async def test_a_refund_that_its_currency_does_not_have_is_refused_and_leaves_nothing_behind(
    shop: Shop, currency: str, paid: int, amount: int, step: int
) -> None:
    body = {"user_id": "user_123", "amount": paid, "currency": currency}
    created = ok(await shop.post("/create-payment-intent", body))
    ok(await shop.confirm(created, "pm_card_visa"))
    await shop.stripe.webhooks.drain()
    payment = await shop.payment(created["payment_id"])

    response = await refund(shop, payment, amount_cents=amount)
    problem = refused(response, 422, "invalid_amount_for_currency")
    assert (problem["currency"], problem["multiple_of"]) == (currency, step)
    assert asked_of_stripe(shop) == 0
    assert await shop.payment(payment["payment_id"]) == payment
    ok(await refund(shop, payment, amount_cents=step))
    ok(await refund(shop, payment))


async def test_a_repeated_request_is_one_refund(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    first = await refund(shop, payment, amount_cents=100, key="refund-1")
    again = await refund(shop, payment, amount_cents=100, key="refund-1")
    assert ok(first) == ok(again)
    assert again.headers["idempotent-replayed"] == "true"
    assert len(made_at_stripe(shop, payment)) == 1


# Of a credits payment


async def test_credits_come_back_once_and_are_no_business_of_stripes(shop: Shop) -> None:
    payment = await shop.pay_with_credits(credits=3)
    assert await shop.credits() == 7

    reply = ok(await refund(shop, payment, credits=2))

    assert (reply["credits_returned"], reply["status"]) == (2, "succeeded")
    assert (reply["amount_cents"], reply["payment_status"]) == (866, "partially_refunded")
    assert await shop.credits() == 9
    await assert_stands(shop, payment, "partially_refunded", refunded=2, remaining=1)

    last = ok(await refund(shop, payment))
    assert (last["credits_returned"], last["amount_cents"]) == (1, 1299 - 866)
    assert await shop.credits() == 10
    await assert_stands(shop, payment, "refunded", refunded=3, remaining=0)
    refused(await refund(shop, payment), 409, "payment_not_refundable")
    assert len(shop.stripe.requests) == 0


async def test_credits_are_refunded_by_an_amount_that_is_worth_whole_ones(shop: Shop) -> None:
    items = [book(price_cents=999, credits=3)]
    bought = ok(await shop.post("/pay-with-credits", {"user_id": "user_123", "items": items}))
    payment = await shop.payment(bought["payment_id"])

    for amount in (1, 332, 334, 998):
        problem = refused(
            await refund(shop, payment, amount_cents=amount), 409, "payment_not_refundable"
        )
        assert "credits" in problem["detail"]
    reply = ok(await refund(shop, payment, amount_cents=666))

    assert (reply["amount_cents"], reply["credits_returned"]) == (666, 2)
    assert await shop.credits() == 9
    await assert_stands(shop, payment, "partially_refunded", refunded=2, remaining=1)


@pytest.mark.parametrize("fields", [{"credits": 3}, {"amount_cents": 1299}])
async def test_more_credits_than_remain_are_not_given_back(shop: Shop, fields: Document) -> None:
    payment = await shop.pay_with_credits(credits=3)
    ok(await refund(shop, payment, credits=1))

    problem = refused(await refund(shop, payment, **fields), 409, "refund_exceeds_remaining")

    assert problem["remaining"] == 2
    assert await shop.credits() == 8


async def test_credits_of_a_user_who_is_gone_are_not_reserved(shop: Shop) -> None:
    payment = await shop.pay_with_credits(credits=3)
    await shop.databases.auth["users"].delete_one({"_id": "user_123"})

    refused(await refund(shop, payment), 404, "user_not_found")

    await assert_stands(shop, payment, "succeeded", refunded=0, remaining=3)
    assert (await shop.stored_payment(payment["payment_id"]))["refunds"] == []


async def test_while_the_auth_database_is_away_no_credits_are_reserved() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(connect=faulty(faults))) as shop:
        payment = await shop.pay_with_credits(credits=3)
        card = await shop.pay_by_card()
        faults.add(database="auth", times=None)

        answer = await refund(shop, payment)

        problem = refused(answer, 503, "database_unavailable")
        assert problem["database"] == "auth"
        assert int(answer.headers["retry-after"]) > 0
        assert ok(await refund(shop, card))["status"] == "succeeded", "cards do not need it"
        await assert_stands(shop, payment, "succeeded", refunded=0, remaining=3)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_credits_refund_cut_short_by_the_auth_database_is_finished_once(
    when: When,
) -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(connect=faulty(faults))) as shop:
        payment = await shop.pay_with_credits(credits=3)
        faults.add("find_one_and_update", database="auth", when=when)

        reply = ok(await refund(shop, payment))

        assert (reply["status"], reply["credits_returned"]) == ("pending", 0)
        assert reply["payment_status"] == "succeeded"
        await assert_stands(shop, payment, "succeeded", refunded=0, remaining=0)
        refused(await refund(shop, payment), 409, "payment_not_refundable")

        for _ in range(2):
            assert not (await shop.reconcile(minutes=2)).failed
        assert await shop.credits() == 10
        shown = await assert_stands(shop, payment, "refunded", refunded=3, remaining=0)
        assert [r["status"] for r in shown["refunds"]] == ["succeeded"]


async def test_pending_credits_of_a_user_who_left_meanwhile_are_released_without_alarm() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(connect=faulty(faults))) as shop:
        payment = await shop.pay_with_credits(credits=3)
        faults.add("find_one_and_update", database="auth")
        assert ok(await refund(shop, payment))["status"] == "pending"
        await shop.databases.auth["users"].delete_one({"_id": "user_123"})

        report = await shop.reconcile(minutes=2)

        assert not report.failed, "it was decided: there is nothing to try again"
        shown = await assert_stands(shop, payment, "succeeded", refunded=0, remaining=3)
        assert [r["status"] for r in shown["refunds"]] == ["failed"]


# At once


async def test_fifty_refunds_at_once_never_exceed_the_payment(shop: Shop) -> None:
    payment = await shop.pay_by_card(amount=999)

    answers = await asyncio.gather(*(refund(shop, payment, amount_cents=100) for _ in range(50)))
    await shop.stripe.webhooks.drain()

    made = [ok(answer) for answer in answers if answer.status_code == 200]
    assert [reply["status"] for reply in made] == ["succeeded"] * 9
    assert len({reply["refund_id"] for reply in made}) == 9
    for answer in answers:
        if answer.status_code != 200:
            assert refused(answer, 409, "refund_exceeds_remaining")["remaining"] == 99
    assert asked_of_stripe(shop) == 9
    assert sum(r["amount"] for r in made_at_stripe(shop, payment)) == 900
    await assert_stands(shop, payment, "partially_refunded", refunded=900, remaining=99)


@pytest.mark.shop(users=RICH)
async def test_fifty_refunds_of_credits_at_once_never_exceed_the_payment(shop: Shop) -> None:
    payment = await shop.pay_with_credits(credits=20)
    assert await shop.credits() == 80

    answers = await asyncio.gather(*(refund(shop, payment, credits=3) for _ in range(50)))

    made = [ok(answer) for answer in answers if answer.status_code == 200]
    assert [reply["credits_returned"] for reply in made] == [3] * 6
    for answer in answers:
        if answer.status_code != 200:
            assert refused(answer, 409, "refund_exceeds_remaining")["remaining"] == 2
    assert await shop.credits() == 98
    await assert_stands(shop, payment, "partially_refunded", refunded=18, remaining=2)


async def test_one_request_sent_ten_times_at_once_is_one_refund(shop: Shop) -> None:
    payment = await shop.pay_by_card()

    answers = await asyncio.gather(
        *(refund(shop, payment, amount_cents=100, key="refund-1") for _ in range(10))
    )

    replies = [ok(answer) for answer in answers if answer.status_code == 200]
    assert replies
    assert all(reply == replies[0] for reply in replies)
    for answer in answers:
        if answer.status_code != 200:
            refused(answer, 409, "idempotency_key_in_use")
    assert len(made_at_stripe(shop, payment)) == 1
    await shop.stripe.webhooks.drain()
    await assert_stands(shop, payment, "partially_refunded", refunded=100, remaining=899)


# Who may


def token(user_id: str, role: str | None = None) -> dict[str, str]:
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    claims = {"sub": user_id, "exp": expires_at, **({"role": role} if role else {})}
    return {"Authorization": f"Bearer {jwt.encode(claims, JWT_SECRET, algorithm='HS256')}"}


INTERNAL = {"X-Internal-Service-Key": INTERNAL_KEY}


async def _bought_by(shop: Shop, user_id: str) -> str:
    """The id of a payment with credits, in a shop that asks everyone for credentials."""
    body = {"user_id": user_id, "items": [book()]}
    bought = ok(await shop.post("/pay-with-credits", body, headers=INTERNAL))
    return str(bought["payment_id"])


@pytest.mark.shop(settings=CLOSED)
async def test_shoppers_do_not_refund_themselves(shop: Shop) -> None:
    payment_id = await _bought_by(shop, "user_123")
    mine = {"payment_id": payment_id}

    refused(await refund(shop, mine), 401, "unauthenticated")
    refused(await refund(shop, mine, headers=token("user_123")), 403, "forbidden")
    refused(await refund(shop, mine, headers=token("user_123", "customer")), 403, "forbidden")
    refused(await refund(shop, mine, headers=token("user_456")), 403, "forbidden")

    assert (await shop.stored_payment(payment_id))["refunds"] == []
    assert await shop.credits() == 9


@pytest.mark.shop(settings=CLOSED)
@pytest.mark.parametrize(
    "headers",
    [token("boss", "admin"), token("shop-service", "service"), INTERNAL],
    ids=["admin", "service", "internal"],
)
async def test_support_and_sister_services_refund_anyone(
    shop: Shop, headers: dict[str, str]
) -> None:
    payment_id = await _bought_by(shop, "user_123")
    reply = ok(await refund(shop, {"payment_id": payment_id}, headers=headers))
    assert reply["status"] == "succeeded"
    assert await shop.credits() == 10


@pytest.mark.shop(settings={**CLOSED, "allow_user_refunds": True})
async def test_where_shoppers_may_refund_themselves_anothers_payment_does_not_exist(
    shop: Shop,
) -> None:
    payment_id = await _bought_by(shop, "user_123")
    mine = {"payment_id": payment_id}

    refused(await refund(shop, mine, headers=token("user_456")), 404, "payment_not_found")
    assert (await shop.stored_payment(payment_id))["refunds"] == []
    assert ok(await refund(shop, mine, headers=token("user_123")))["status"] == "succeeded"


# Made in Stripe's dashboard


async def test_a_refund_from_the_dashboard_is_taken_over(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    intent_id = payment["stripe_payment_intent_id"]

    made = shop.stripe.dashboard_refund(payment_intent=intent_id, amount=400, reason="duplicate")
    await shop.stripe.webhooks.drain()

    shown = await assert_stands(shop, payment, "partially_refunded", refunded=400, remaining=599)
    (taken,) = shown["refunds"]
    assert (taken["amount_cents"], taken["status"]) == (400, "succeeded")
    assert taken["reason"] == "duplicate"
    stored = await shop.stored_payment(payment["payment_id"])
    assert stored["refunds"][0]["stripe_refund_id"] == made["id"]
    rest = ok(await refund(shop, payment))
    assert rest["amount_cents"] == 599
    await shop.stripe.webhooks.drain()
    await assert_stands(shop, payment, "refunded", refunded=999, remaining=0)


@pytest.mark.shop(webhooks=False)
async def test_a_refund_from_the_dashboard_is_not_mistaken_for_ours_that_is_pending(
    shop: Shop,
) -> None:
    payment = await shop.pay_by_card()
    _silence(shop, "error_before")
    assert ok(await refund(shop, payment, amount_cents=600))["status"] == "pending"
    shop.stripe.faults.clear()
    shop.stripe.dashboard_refund(payment_intent=payment["stripe_payment_intent_id"], amount=300)

    # The only news of it, and it says no more than that 300 were refunded by now.
    (event,) = shop.events("charge.refunded")
    assert ok(await shop.deliver(event))["result"] == "processed"

    shown = await assert_stands(shop, payment, "partially_refunded", refunded=300, remaining=99)
    assert sorted((r["amount_cents"], r["status"]) for r in shown["refunds"]) == [
        (300, "succeeded"),
        (600, "pending"),
    ]


async def _while_ours_is_in_flight(
    shop: Shop, payment: Document, *, ours: int, theirs: int
) -> httpx.Response:
    """Someone refunds in the dashboard after our request left and before Stripe looked at it."""
    slow = shop.stripe.faults.add("latency", method="POST", path="/v1/refunds", seconds=0.3)
    answer = asyncio.create_task(refund(shop, payment, amount_cents=ours))
    async with asyncio.timeout(5):
        while not slow.hits:  # noqa: ASYNC110 - the sandbox counts, it does not tell
            await asyncio.sleep(0)
    shop.stripe.dashboard_refund(payment_intent=payment["stripe_payment_intent_id"], amount=theirs)
    return await answer


@pytest.mark.parametrize(
    "told", [pytest.param(True, id="told"), pytest.param(False, id="not told")]
)
async def test_a_refund_from_the_dashboard_while_ours_is_in_flight_counts_once(told: bool) -> None:
    async with open_shop(ShopOptions(webhooks=told)) as shop:
        payment = await shop.pay_by_card()

        reply = ok(await _while_ours_is_in_flight(shop, payment, ours=600, theirs=300))
        await shop.stripe.webhooks.drain()
        if not told:
            await shop.reconcile(minutes=2)

        assert reply["status"] == "succeeded"
        shown = await assert_stands(shop, payment, "partially_refunded", refunded=900, remaining=99)
        assert sorted(r["amount_cents"] for r in shown["refunds"]) == [300, 600]
        assert len(made_at_stripe(shop, payment)) == 2


@pytest.mark.parametrize(
    "told", [pytest.param(True, id="told"), pytest.param(False, id="not told")]
)
@pytest.mark.parametrize(
    ("theirs", "code", "status"),
    [
        (500, "refund_exceeds_remaining", "partially_refunded"),
        (999, "payment_not_refundable", "refunded"),
    ],
)
async def test_a_refund_from_the_dashboard_that_makes_ours_impossible_releases_ours(
    told: bool, theirs: int, code: str, status: str
) -> None:
    async with open_shop(ShopOptions(webhooks=told)) as shop:
        payment = await shop.pay_by_card()

        answer = await _while_ours_is_in_flight(shop, payment, ours=600, theirs=theirs)

        problem = refused(answer, 409, code)
        if code == "refund_exceeds_remaining":
            assert problem["remaining"] == 499
        await shop.stripe.webhooks.drain()
        shown = await assert_stands(shop, payment, status, refunded=theirs, remaining=999 - theirs)
        assert sorted((r["amount_cents"], r["status"]) for r in shown["refunds"]) == sorted(
            [(600, "failed"), (theirs, "succeeded")]
        )
        assert len(made_at_stripe(shop, payment)) == 1


async def test_a_disputed_payment_is_not_refunded_and_nothing_stays_reserved(shop: Shop) -> None:
    payment = await shop.pay_by_card(payment_method="pm_card_createDispute")

    refused(await refund(shop, payment), 409, "payment_not_refundable")

    shown = await assert_stands(shop, payment, "succeeded", refunded=0, remaining=999)
    assert [r["status"] for r in shown["refunds"]] == ["failed"]
    assert made_at_stripe(shop, payment) == []


# Decided later


async def test_a_refund_that_fails_later_gives_its_reservation_back(shop: Shop) -> None:
    payment = await shop.pay_by_card(payment_method="pm_card_refundFail")
    ok(await refund(shop, payment, amount_cents=300))
    assert ok(await refund(shop, payment))["payment_status"] == "refunded"
    await shop.stripe.webhooks.drain()
    first, second = made_at_stripe(shop, payment)

    shop.stripe.fail_refund(second["id"])
    await shop.stripe.webhooks.drain()
    await assert_stands(shop, payment, "partially_refunded", refunded=300, remaining=699)
    shop.stripe.fail_refund(first["id"])
    await shop.stripe.webhooks.drain()
    shown = await assert_stands(shop, payment, "succeeded", refunded=0, remaining=999)

    assert [r["status"] for r in shown["refunds"]] == ["failed", "failed"]
    stored = await shop.stored_payment(payment["payment_id"])
    assert {r["failure_reason"] for r in stored["refunds"]} == {"expired_or_canceled_card"}
    again = ok(await refund(shop, payment))
    assert (again["amount_cents"], again["payment_status"]) == (999, "refunded")
    await shop.stripe.webhooks.drain()
    await assert_stands(shop, payment, "refunded", refunded=999, remaining=0)


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
@pytest.mark.parametrize("told", ["by webhook", "by the reconciler"])
async def test_a_refund_that_is_pending_at_stripe_is_settled_later(outcome: str, told: str) -> None:
    async with open_shop(ShopOptions(webhooks=told == "by webhook")) as shop:
        payment = await shop.pay_by_card(payment_method="pm_card_pendingRefund")

        reply = ok(await refund(shop, payment, amount_cents=400))

        assert (reply["status"], reply["payment_status"]) == ("pending", "succeeded")
        await shop.stripe.webhooks.drain()
        await assert_stands(shop, payment, "succeeded", refunded=0, remaining=599)
        await shop.reconcile(minutes=2)
        await assert_stands(shop, payment, "succeeded", refunded=0, remaining=599)

        (made,) = made_at_stripe(shop, payment)
        if outcome == "succeeded":
            shop.stripe.succeed_refund(made["id"])
        else:
            shop.stripe.fail_refund(made["id"])
        await shop.stripe.webhooks.drain()
        if told == "by the reconciler":
            await shop.reconcile(minutes=10)

        expected = (
            ("partially_refunded", 400, 599)
            if outcome == "succeeded"
            else (
                "succeeded",
                0,
                999,
            )
        )
        status, refunded, remaining = expected
        shown = await assert_stands(shop, payment, status, refunded=refunded, remaining=remaining)
        assert [r["status"] for r in shown["refunds"]] == [outcome]
        assert len(made_at_stripe(shop, payment)) == 1


# Stripe is silent

IMPATIENT = {"stripe_timeout_seconds": 0.6}


def _silence(shop: Shop, kind: FaultKind) -> Fault:
    def add(kind: FaultKind, times: int | None = None) -> Fault:
        return shop.stripe.faults.add(
            kind, method="POST", path="/v1/refunds", times=times, seconds=1.2, headers=GIVE_UP
        )

    if kind != "drop_after":
        return add(kind)
    # The SDK asks again and would be told what was made: but Stripe is busy by then.
    lost = add(kind, times=1)
    add("rate_limit")
    return lost


async def _until_made(shop: Shop, payment: Document) -> None:
    """Until Stripe has done what nobody waits for any more."""
    async with asyncio.timeout(5):
        while not made_at_stripe(shop, payment):  # noqa: ASYNC110 - the sandbox does not tell
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("later", [{"minutes": 2}, {"hours": 25}], ids=["soon", "next day"])
@pytest.mark.parametrize(
    "kind", ["drop_before", "drop_after", "error_before", "error_after", "latency"]
)
async def test_a_refund_that_stripe_does_not_answer_for_is_settled_later_and_made_once(
    kind: FaultKind, later: dict[str, float]
) -> None:
    options = ShopOptions(webhooks=False, settings=IMPATIENT)
    async with open_shop(options) as shop:
        payment = await shop.pay_by_card()
        silence = _silence(shop, kind)

        reply = ok(await refund(shop, payment, amount_cents=400))

        assert silence.hits > 0
        assert (reply["status"], reply["payment_status"]) == ("pending", "succeeded")
        await assert_stands(shop, payment, "succeeded", refunded=0, remaining=599)
        problem = refused(
            await refund(shop, payment, amount_cents=600), 409, "refund_exceeds_remaining"
        )
        assert problem["remaining"] == 599

        shop.stripe.faults.clear()
        if kind == "latency":
            await _until_made(shop, payment)
        report = await shop.reconcile(**later)

        assert not report.failed
        shown = await assert_stands(
            shop, payment, "partially_refunded", refunded=400, remaining=599
        )
        assert [(r["refund_id"], r["status"]) for r in shown["refunds"]] == [
            (reply["refund_id"], "succeeded")
        ]
        (made,) = made_at_stripe(shop, payment)
        assert made["metadata"]["refund_id"] == reply["refund_id"]
        assert "reconcile_at" not in await shop.stored_payment(payment["payment_id"])


async def test_a_refund_stays_reserved_for_as_long_as_stripe_is_silent() -> None:
    options = ShopOptions(webhooks=False, settings=IMPATIENT)
    async with open_shop(options) as shop:
        payment = await shop.pay_by_card()
        shop.stripe.faults.add("error_before", path="/v1/refunds", times=None, headers=GIVE_UP)
        assert ok(await refund(shop, payment))["status"] == "pending"

        for _ in range(4):
            report = await shop.reconcile(hours=12)
            assert report.failed["payment"] == 1
            await assert_stands(shop, payment, "succeeded", refunded=0, remaining=0)
        shop.stripe.faults.clear()
        await shop.reconcile(hours=12)

        await assert_stands(shop, payment, "refunded", refunded=999, remaining=0)
        assert len(made_at_stripe(shop, payment)) == 1


async def test_a_refund_that_stripe_lost_sight_of_is_settled_by_its_webhook() -> None:
    async with open_shop(ShopOptions(settings=IMPATIENT)) as shop:
        payment = await shop.pay_by_card()
        _silence(shop, "drop_after")

        reply = ok(await refund(shop, payment))
        await shop.stripe.webhooks.drain()

        assert reply["status"] in ("pending", "succeeded")
        shown = await assert_stands(shop, payment, "refunded", refunded=999, remaining=0)
        assert [r["refund_id"] for r in shown["refunds"]] == [reply["refund_id"]]
        assert len(made_at_stripe(shop, payment)) == 1


async def test_a_refund_is_repeated_after_a_lost_answer_and_made_once(shop: Shop) -> None:
    payment = await shop.pay_by_card()
    shop.stripe.faults.add("drop_after", method="POST", path="/v1/refunds")
    reply = ok(await refund(shop, payment))
    assert reply["status"] == "succeeded"
    assert len(made_at_stripe(shop, payment)) == 1
    keys = {r.idempotency_key for r in shop.stripe.requests.matching("POST", "/v1/refunds")}
    assert keys == {f"refund:{reply['refund_id']}"}


async def test_a_refund_that_stripe_refuses_while_being_repeated_is_released() -> None:
    options = ShopOptions(webhooks=False, settings=IMPATIENT)
    async with open_shop(options) as shop:
        payment = await shop.pay_by_card()
        _silence(shop, "error_before")
        assert ok(await refund(shop, payment, amount_cents=600))["status"] == "pending"
        shop.stripe.faults.clear()
        shop.stripe.dashboard_refund(payment_intent=payment["stripe_payment_intent_id"], amount=500)

        await shop.reconcile(minutes=2)

        shown = await assert_stands(
            shop, payment, "partially_refunded", refunded=500, remaining=499
        )
        assert sorted((r["amount_cents"], r["status"]) for r in shown["refunds"]) == [
            (500, "succeeded"),
            (600, "failed"),
        ]


# A worker that stands still for longer than marks are kept


async def test_a_refund_that_stood_still_until_the_marks_were_gone_gives_nothing_twice() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        payment = await shop.pay_with_credits(credits=4)
        pause = faults.pause("find_one_and_update", database="auth")
        request = asyncio.create_task(refund(shop, payment, credits=3, key="refund-1"))
        await pause.reached()
        assert not (await shop.reconcile(minutes=2)).failed
        assert not (await shop.reconcile(minutes=16)).failed
        assert await shop.credits() == 9
        assert (await shop.user())["payment_marks"] == []
        pause.go_on()

        reply = ok(await request)

        assert (reply["status"], reply["credits_returned"]) == ("succeeded", 3)
        assert await shop.credits() == 9
        await assert_stands(shop, payment, "partially_refunded", refunded=3, remaining=1)
        assert ok(await refund(shop, payment))["status"] == "succeeded"
        assert await shop.credits() == 10
        await assert_stands(shop, payment, "refunded", refunded=4, remaining=0)


async def test_a_reconciler_with_an_old_list_gives_nothing_back_twice() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        payment = await shop.pay_with_credits(credits=4)
        faults.add("find_one_and_update", database="auth")
        assert ok(await refund(shop, payment))["status"] == "pending"
        await shop.reconcile(minutes=2)
        await shop.reconcile(minutes=16)
        assert await shop.credits() == 10
        assert (await shop.user())["payment_marks"] == []

        advanced = await shop.services.advancer.advance(payment["payment_id"])

        assert advanced.status is PaymentStatus.REFUNDED
        assert await shop.credits() == 10
        assert (await shop.user())["payment_marks"] == []
        assert "reconcile_at" not in await shop.stored_payment(payment["payment_id"])


async def test_an_old_read_does_not_make_a_refund_that_was_given_back_undone() -> None:
    """Nor does it give the credits back a second time."""
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        payment = await shop.pay_with_credits(credits=4)
        faults.add("find_one_and_update", database="auth", when="after")
        faults.distort(
            "find_one", lambda user: user and {"_id": user["_id"], "credits": 6}, database="auth"
        )
        reply = ok(await refund(shop, payment, key="refund-1"))
        assert reply["status"] == "pending"
        assert (await shop.reconcile(minutes=2)).failed == {"payment": 1}
        await assert_stands(shop, payment, "succeeded", refunded=0, remaining=0)
        faults.clear()

        assert not (await shop.reconcile(minutes=5)).failed

        assert await shop.credits() == 10
        await assert_stands(shop, payment, "refunded", refunded=4, remaining=0)


# Stripe refuses for good


@pytest.mark.parametrize("met_by", ["request", "reconciler"])
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (402, None),
        (400, "amount_too_small"),
        (400, "amount_too_large"),
        (400, "balance_insufficient"),
        (400, "charge_expired_for_refund"),
        (400, "charge_not_refundable"),
        (400, "insufficient_funds"),
        (404, "resource_missing"),
    ],
)
async def test_a_refund_that_stripe_refuses_for_good_is_failed_and_released(
    status: int, code: str | None, met_by: str
) -> None:
    async with open_shop(ShopOptions(webhooks=False)) as shop:
        payment = await shop.pay_by_card()
        if met_by == "reconciler":
            shop.stripe.faults.add(
                "error_before", method="POST", path="^/v1/refunds$", headers=GIVE_UP
            )
            assert ok(await refund(shop, payment, amount_cents=400))["status"] == "pending"
        shop.stripe.faults.add(
            "error_before",
            method="POST",
            path="^/v1/refunds$",
            status=status,
            code=code,
            headers=GIVE_UP,
        )

        if met_by == "reconciler":
            assert not (await shop.reconcile(minutes=2)).failed
        else:
            first = await refund(shop, payment, key="refund-1", amount_cents=400)
            problem = refused(first, 409, "refund_refused")
            assert problem["reason"] == (code or "refused")
            again = await refund(shop, payment, key="refund-1", amount_cents=400)
            assert refused(again, 409, "refund_refused") == {
                **problem,
                "request_id": again.headers["x-request-id"],
            }

        shown = await assert_stands(shop, payment, "succeeded", refunded=0, remaining=999)
        (failed,) = shown["refunds"]
        assert (failed["amount_cents"], failed["status"]) == (400, "failed")
        assert failed["failure_reason"] == (code or "refused")
        assert "reconcile_at" not in await shop.stored_payment(payment["payment_id"])
        shop.stripe.faults.clear()
        asked = asked_of_stripe(shop)
        await shop.reconcile(hours=26)
        assert asked_of_stripe(shop) == asked
        assert ok(await refund(shop, payment))["status"] == "succeeded"
        assert len(made_at_stripe(shop, payment)) == 1


async def test_a_refused_refund_whose_answer_was_lost_is_refused_to_its_repeat() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        payment = await shop.pay_by_card()
        shop.stripe.faults.add(
            "error_before", path="^/v1/refunds$", status=400, code="charge_expired_for_refund"
        )
        # The refusal is recorded on the payment and lost on its way into the stored answer.
        faults.add("update_one", collection="idempotency_keys", times=None)
        faults.add("find_one_and_update", collection="idempotency_keys", times=None)
        assert (await refund(shop, payment, key="refund-1")).status_code == 503
        faults.clear()
        shop.later(seconds=31)

        problem = refused(await refund(shop, payment, key="refund-1"), 409, "refund_refused")

        assert problem["reason"] == "charge_expired_for_refund"
        assert asked_of_stripe(shop) == 1
        await assert_stands(shop, payment, "succeeded", refunded=0, remaining=999)


async def test_a_dashboard_refund_is_recorded_as_stripe_shows_it_not_as_its_event_words_it(
    shop: Shop,
) -> None:
    payment = await shop.pay_by_card()
    shop.stripe.webhooks.pause()
    shop.stripe.dashboard_refund(payment_intent=payment["stripe_payment_intent_id"], amount=400)
    (event,) = shop.events("refund.created")
    # In the shopper's currency, as an endpoint of an older API version words it.
    event["data"]["object"].update(amount=371, currency="eur")

    ok(await shop.deliver(event))

    await assert_stands(shop, payment, "partially_refunded", refunded=400, remaining=599)


async def test_a_refund_that_the_bank_returns_says_why(shop: Shop) -> None:
    payment = await shop.pay_by_card(payment_method="pm_card_refundFail")
    made = ok(await refund(shop, payment))
    shop.stripe.fail_refund(made_at_stripe(shop, payment)[0]["id"])
    await shop.stripe.webhooks.drain()

    (shown,) = (await shop.payment(payment["payment_id"]))["refunds"]

    assert (shown["refund_id"], shown["status"]) == (made["refund_id"], "failed")
    assert shown["failure_reason"] == "expired_or_canceled_card"


async def test_a_refund_that_cannot_be_looked_up_stops_no_other_and_no_order() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        created = await shop.create_intent()
        faults.add("insert_one", collection="orders", times=None)
        await shop.confirm(created, "pm_card_pendingRefund")
        payment = await shop.payment(created["payment_id"])
        assert (payment["status"], payment["order_id"]) == ("succeeded", None)
        assert ok(await refund(shop, payment, amount_cents=100))["status"] == "pending"
        shop.stripe.faults.add("error_before", method="POST", path="^/v1/refunds$", headers=GIVE_UP)
        assert ok(await refund(shop, payment, amount_cents=200))["status"] == "pending"
        assert [r.get("stripe_refund_id") for r in await stored_refunds(shop, payment)][1] is None
        faults.clear()
        shop.stripe.faults.add(
            "error_before",
            method="GET",
            path="^/v1/refunds/re_",
            times=None,
            status=404,
            headers=GIVE_UP,
        )
        shop.stripe.faults.add("error_before", path="^/v1/events", headers=GIVE_UP)

        report = await shop.reconcile(minutes=2)

        assert report.failed == {"event_list": 1, "payment": 1}
        assert await order_status(shop, payment) == "paid"
        made = made_at_stripe(shop, payment)
        assert [r["amount"] for r in made] == [100, 200]
        refunds = await stored_refunds(shop, payment)
        assert [r["stripe_refund_id"] for r in refunds] == [r["id"] for r in made]


async def test_an_order_does_not_wait_for_a_refund_that_cannot_be_looked_up() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        created = await shop.create_intent()
        faults.add("insert_one", collection="orders", times=None)
        await shop.confirm(created, "pm_card_pendingRefund")
        payment = await shop.payment(created["payment_id"])
        assert ok(await refund(shop, payment, amount_cents=100))["status"] == "pending"
        shop.stripe.faults.add("error_before", path="^/v1/events", times=None, headers=GIVE_UP)
        shop.stripe.faults.add("error_before", path="^/v1/refunds", times=None, headers=GIVE_UP)
        faults.clear()
        assert await shop.stored("orders") == []

        assert (await shop.reconcile(minutes=2)).failed == {"event_list": 1, "payment": 1}

        assert await order_status(shop, payment) == "paid"


async def stored_refunds(shop: Shop, payment: Document) -> list[Document]:
    refunds: list[Document] = (await shop.stored_payment(payment["payment_id"]))["refunds"]
    return refunds


# Our own database fails


async def test_a_repeat_continues_the_refund_that_was_reserved_before_we_died() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        payment = await shop.pay_by_card()
        faults.add("update_one", collection="payments", when="after")

        first = await refund(shop, payment, amount_cents=400, key="refund-1")
        refused(first, 503, "database_unavailable")
        assert asked_of_stripe(shop) == 0
        reply = ok(await refund(shop, payment, amount_cents=400, key="refund-1"))

        assert reply["status"] == "succeeded"
        await assert_stands(shop, payment, "partially_refunded", refunded=400, remaining=599)
        assert len(made_at_stripe(shop, payment)) == 1


async def test_an_order_that_missed_its_refund_is_brought_up_to_date() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        payment = await shop.pay_by_card()
        faults.add("update_one", collection="orders")

        reply = ok(await refund(shop, payment))

        assert (reply["status"], reply["payment_status"]) == ("succeeded", "refunded")
        assert await order_status(shop, payment) == "paid"
        await shop.reconcile(minutes=2)
        await assert_stands(shop, payment, "refunded", refunded=999, remaining=0)
        assert len(made_at_stripe(shop, payment)) == 1


async def test_stripe_itself_refuses_what_exceeds_the_charge(shop: Shop) -> None:
    """The promise does not hang on the sandbox being lenient: it refuses as Stripe does."""
    payment = await shop.pay_by_card()
    with pytest.raises(ApiError) as refusal:
        shop.stripe.dashboard_refund(
            payment_intent=payment["stripe_payment_intent_id"], amount=1000
        )
    assert refusal.value.status == 400
