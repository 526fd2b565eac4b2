"""Payments with the account's credits: from a request to an order, and credits conserved."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId

from app.domain.credits import DebitOutcome
from app.domain.ids import new_id
from app.domain.payments import Payment, PaymentFlow, PaymentStatus
from app.repositories.database import AUTH_DATABASE, PAYMENTS_DATABASE, Commands
from app.repositories.payments import PaymentRepository
from app.repositories.users import UserRepository
from tests.support.database_faults import DatabaseFaults, When, faulty
from tests.support.shop import Shop, ShopOptions, book, ok, open_shop, refused
from tests.support.store import not_on

ANNA = ObjectId("65f0c0ffee0123456789abcd")


async def pay(shop: Shop, *, key: str | None = None, **fields: Any) -> Any:
    body = {"user_id": "user_123", "items": [book()], **fields}
    return await shop.post("/pay-with-credits", body, key=key)


async def marks(shop: Shop, user_id: Any = "user_123") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await shop.user(user_id)).get("payment_marks", [])
    return found


async def reconcile(shop: Shop, **later: float) -> None:
    """One run, so much later."""
    shop.clock.advance(**later)
    report = await shop.services.reconciliation.run_once()
    assert not report.failed


async def assert_conserved(shop: Shop, *, had: int, user_id: Any = "user_123") -> None:
    """Promises 1 and 2: the balance is what it was less what succeeded payments took, and each of
    them, and nothing else, has an order.
    """
    payments = await shop.stored("payments")
    paid = {payment["_id"] for payment in payments if payment["status"] == "succeeded"}
    taken = sum(payment["credits"] for payment in payments if payment["_id"] in paid)
    assert await shop.credits(user_id) == had - taken >= 0
    orders = await shop.stored("orders")
    assert sorted(order["payment_id"] for order in orders) == sorted(paid)


# The whole life


async def test_credits_payment_takes_the_credits_and_becomes_one_order(shop: Shop) -> None:
    cart = [book(credits=2, quantity=2), book(book_id="ubik", title="Ubik")]

    reply = ok(await pay(shop, items=cart, total_credits=5, metadata={"campaign": "autumn"}))

    assert reply["status"] == "succeeded"
    assert (reply["credits_deducted"], reply["remaining_credits"]) == (5, 5)
    assert "5 credits" in reply["message"]
    assert await shop.credits() == 5
    payment = await shop.payment(reply["payment_id"])
    assert (payment["status"], payment["payment_method"]) == ("succeeded", "credits")
    assert (payment["credits_used"], payment["amount_cents"]) == (5, 3 * 999)
    assert payment["metadata"] == {"campaign": "autumn"}
    (order,) = await shop.orders()
    assert order["order_id"] == payment["order_id"] == reply["order_id"]
    assert (order["total_credits"], order["payment_method"]) == (5, "credits")
    assert order["items"] == payment["items"]
    (document,) = await shop.stored("orders")
    assert document["_id"] == reply["order_id"]
    assert await shop.transitions(reply["payment_id"]) == [("pending", "succeeded")]
    assert len(shop.stripe.requests) == 0, "credits need no Stripe"


@pytest.mark.shop(users=[{"_id": ANNA, "credits": 3, "email": "anna@example.com"}])
async def test_user_id_of_24_hex_digits_is_an_object_id(shop: Shop) -> None:
    reply = ok(await pay(shop, user_id=str(ANNA)))

    assert reply["remaining_credits"] == 2
    user = await shop.user(ANNA)
    assert user["credits"] == 2
    assert user["email"] == "anna@example.com"
    (order,) = await shop.orders(str(ANNA))
    assert order["payment_id"] == reply["payment_id"]


@pytest.mark.shop(users=[{"_id": str(ANNA), "credits": 3}])
async def test_object_id_never_pays_from_an_account_of_the_same_text(shop: Shop) -> None:
    refused(await pay(shop, user_id=str(ANNA)), 404, "user_not_found")

    assert await shop.credits(str(ANNA)) == 3


@pytest.mark.shop(
    users=[{"_id": "user_123", "wallet": 4, "credits": 9}],
    settings={"auth_credits_field": "wallet"},
)
async def test_the_balance_is_in_the_configured_field(shop: Shop) -> None:
    assert ok(await pay(shop))["remaining_credits"] == 3

    user = await shop.user()
    assert (user["wallet"], user["credits"]) == (3, 9)


# The price


@pytest.mark.parametrize(
    ("amount", "credits"), [(1, 1), (99, 1), (100, 1), (101, 2), (250, 3), (1000, 10)]
)
async def test_amount_is_paid_with_so_many_credits_rounded_up(
    shop: Shop, amount: int, credits: int
) -> None:
    reply = ok(
        await shop.post(
            "/pay-with-credits", {"user_id": "user_123", "amount": amount, "total_credits": credits}
        )
    )

    assert reply["credits_deducted"] == credits
    assert await shop.credits() == 10 - credits
    payment = await shop.payment(reply["payment_id"])
    assert (payment["amount_cents"], payment["credits_used"]) == (amount, credits)


@pytest.mark.shop(settings={"credit_value_cents": 300})
async def test_value_of_a_credit_is_a_setting(shop: Shop) -> None:
    reply = ok(await shop.post("/pay-with-credits", {"user_id": "user_123", "amount": 301}))

    assert reply["credits_deducted"] == 2


@pytest.mark.parametrize("claimed", [0, 1, 3])
async def test_total_that_differs_from_the_price_is_refused(shop: Shop, claimed: int) -> None:
    problem = refused(
        await pay(shop, items=[book(quantity=2)], total_credits=claimed), 422, "total_mismatch"
    )

    assert problem["expected"] == 2
    assert await shop.stored("payments") == []
    assert await shop.credits() == 10


@pytest.mark.parametrize(
    "purchase",
    [{"items": [book(credits=0)]}, {"items": [book(credits=0, price_cents=0)]}, {"amount": 0}],
)
async def test_free_cart_costs_at_least_one_credit(shop: Shop, purchase: dict[str, Any]) -> None:
    body = {"user_id": "user_123", **purchase}

    problem = refused(await shop.post("/pay-with-credits", body), 422, "amount_too_small")

    assert problem["minimum"] == 1
    assert await shop.stored("payments") == []
    assert await marks(shop) == []


async def test_free_book_in_a_cart_with_another_is_free(shop: Shop) -> None:
    assert ok(await pay(shop, items=[book(credits=0), book()]))["credits_deducted"] == 1


# Who cannot pay


@pytest.mark.parametrize("user_id", ["nobody", "65f0c0ffee0123456789abc0"])
async def test_unknown_user_leaves_no_record(shop: Shop, user_id: str) -> None:
    refused(await pay(shop, user_id=user_id), 404, "user_not_found")

    assert await shop.stored("payments") == []
    assert await shop.stored("orders") == []
    assert ok(await shop.get(f"/user/{user_id}/payments"))["payments"] == []


async def test_too_small_a_balance_is_refused_with_what_is_needed(shop: Shop) -> None:
    problem = refused(await pay(shop, items=[book(credits=11)]), 402, "insufficient_credits")

    assert (problem["required"], problem["available"]) == (11, 10)
    assert await shop.credits() == 10
    assert await marks(shop) == []
    assert await shop.stored("payments") == []


async def test_the_last_credit_can_be_spent(shop: Shop) -> None:
    assert ok(await pay(shop, items=[book(credits=10)]))["remaining_credits"] == 0

    problem = refused(await pay(shop), 402, "insufficient_credits")
    assert (problem["required"], problem["available"]) == (1, 0)
    await assert_conserved(shop, had=10)


@pytest.mark.parametrize(
    "user",
    [
        {},
        {"credits": None},
        {"credits": "100"},
        {"credits": True},
        {"credits": [100]},
        {"credits": {"amount": 100}},
        pytest.param({"credits": float("nan")}, marks=not_on("ferretdb", "stores no NaN")),
        pytest.param({"credits": float("inf")}, marks=not_on("ferretdb", "stores no infinity")),
        {"credits": 0.9},
    ],
    ids=str,
)
async def test_missing_or_odd_balance_is_no_credit(shop: Shop, user: dict[str, Any]) -> None:
    await shop.databases.auth["users"].replace_one({"_id": "user_123"}, user)

    problem = refused(await pay(shop), 402, "insufficient_credits")

    assert (problem["required"], problem["available"]) == (1, 0)
    assert await marks(shop) == []
    assert await shop.stored("payments") == []


@pytest.mark.parametrize("balance", [Int64(5), 5.0, 5.5])
async def test_balance_of_another_number_type_pays(shop: Shop, balance: float) -> None:
    await shop.databases.auth["users"].replace_one({"_id": "user_123"}, {"credits": balance})

    assert ok(await pay(shop))["remaining_credits"] == 4

    assert (await shop.user())["credits"] == balance - 1


@pytest.mark.mongodb
@not_on("ferretdb", "stores no Decimal128")
async def test_decimal_balance_pays(shop: Shop) -> None:
    balance = {"credits": Decimal128("5.5")}
    await shop.databases.auth["users"].replace_one({"_id": "user_123"}, balance)

    assert ok(await pay(shop))["remaining_credits"] == 4

    problem = refused(await pay(shop, items=[book(credits=5)]), 402, "insufficient_credits")
    assert (problem["required"], problem["available"]) == (5, 4)


# Many at once


async def test_fifty_payments_at_once_spend_ten_credits_exactly(shop: Shop) -> None:
    answers = await asyncio.gather(*(pay(shop) for _ in range(50)))

    assert Counter(answer.status_code for answer in answers) == {200: 10, 402: 40}
    paid = [ok(answer) for answer in answers if answer.status_code == 200]
    assert sorted(reply["remaining_credits"] for reply in paid) == list(range(10))
    for answer in answers:
        if answer.status_code == 402:
            problem = refused(answer, 402, "insufficient_credits")
            assert (problem["required"], problem["available"]) == (1, 0)
    assert await shop.credits() == 0
    assert len(await shop.orders()) == 10
    await assert_conserved(shop, had=10)

    payments = {payment["_id"]: payment for payment in await shop.stored("payments")}
    assert Counter(p["status"] for p in payments.values())["succeeded"] == 10
    assert {payment["status"] for payment in payments.values()} <= {"succeeded", "failed"}
    assert {reply["payment_id"] for reply in paid} == {
        payment_id for payment_id, p in payments.items() if p["status"] == "succeeded"
    }
    left = await marks(shop)
    assert sorted(mark["key"] for mark in left) == sorted(payments), "one mark each"
    for mark in left:
        status = payments[mark["key"]]["status"]
        expected = {"succeeded": ("debit", 1), "failed": ("cancel", 0)}[status]
        assert (mark["kind"], mark["credits"]) == expected

    await reconcile(shop, minutes=16)

    assert await marks(shop) == []
    assert await shop.credits() == 0
    await assert_conserved(shop, had=10)


async def test_twenty_repeats_at_once_of_one_payment_take_its_credits_once(shop: Shop) -> None:
    answers = await asyncio.gather(*(pay(shop, key="cart-7") for _ in range(20)))

    assert {answer.status_code for answer in answers} <= {200, 409}
    assert ok(await pay(shop, key="cart-7"))["remaining_credits"] == 9
    assert await shop.credits() == 9
    assert len(await shop.orders()) == 1
    await assert_conserved(shop, had=10)


# Marks


async def test_mark_is_removed_a_quarter_of_an_hour_after_the_payment(shop: Shop) -> None:
    reply = ok(await pay(shop))
    (mark,) = await marks(shop)
    assert (mark["key"], mark["kind"], mark["credits"]) == (reply["payment_id"], "debit", 1)

    await reconcile(shop, minutes=14)
    assert len(await marks(shop)) == 1, "a request that knew of the payment may still be running"

    await reconcile(shop, minutes=2)
    assert await marks(shop) == []
    stored = await shop.stored_payment(reply["payment_id"])
    assert stored["open_marks"] == []
    assert "reconcile_at" not in stored, "a finished payment is at rest"
    await assert_conserved(shop, had=10)


async def test_only_the_marks_of_finished_payments_are_removed(shop: Shop) -> None:
    ok(await pay(shop))
    shop.clock.advance(minutes=14)
    recent = ok(await pay(shop))

    await reconcile(shop, minutes=2)

    assert [mark["key"] for mark in await marks(shop)] == [recent["payment_id"]]


async def test_mark_stays_as_long_as_its_payment_is_unfinished(shop: Shop) -> None:
    """However late the reconciler comes, it finishes first and removes a quarter later."""
    payment = await crash(shop, debited=True)

    await reconcile(shop, hours=5)
    assert [mark["key"] for mark in await marks(shop)] == [payment.payment_id]
    assert (await shop.payment(payment.payment_id))["status"] == "succeeded"
    await reconcile(shop, minutes=14)
    assert [mark["key"] for mark in await marks(shop)] == [payment.payment_id]

    await reconcile(shop, minutes=2)
    assert await marks(shop) == []
    await assert_conserved(shop, had=10)


# Half-done payments


async def crash(shop: Shop, *, debited: bool, credits: int = 3) -> Payment:
    """A payment whose process died: recorded, and the credits taken or not."""
    now = shop.clock()
    payment_id = new_id("pay_")
    payment = await repository(shop).add(
        Payment(
            payment_id=payment_id,
            user_id="user_123",
            flow=PaymentFlow.CREDITS,
            status=PaymentStatus.PENDING,
            amount=300,
            currency="usd",
            credits=credits,
            open_marks=(payment_id,),
            created_at=now,
            updated_at=now,
            reconcile_at=now + timedelta(minutes=1),
        )
    )
    if debited:
        debit = await take(shop, payment)
        assert debit is DebitOutcome.TAKEN
    return payment


def repository(shop: Shop) -> PaymentRepository:
    return PaymentRepository(shop.databases.payments["payments"], Commands(PAYMENTS_DATABASE))


async def take(shop: Shop, payment: Payment) -> DebitOutcome:
    """The debit, as the request that the payment belongs to would make it."""
    users = UserRepository(
        shop.databases.auth["users"], Commands(AUTH_DATABASE), credits_field="credits"
    )
    debit = await users.take_credits(
        payment.user_id,
        payment_id=payment.payment_id,
        credits=payment.credits,
        as_of=payment.updated_at,
        now=shop.clock(),
    )
    return debit.outcome


async def test_debit_whose_payment_was_not_finished_is_finished_by_the_reconciler(
    shop: Shop,
) -> None:
    payment = await crash(shop, debited=True)
    assert await shop.credits() == 7
    assert await shop.orders() == []

    await reconcile(shop, minutes=2)

    finished = await shop.payment(payment.payment_id)
    assert (finished["status"], finished["credits_used"]) == ("succeeded", 3)
    assert [order["order_id"] for order in await shop.orders()] == [finished["order_id"]]
    await assert_conserved(shop, had=10)
    await reconcile(shop, minutes=16)
    await assert_conserved(shop, had=10)
    assert await marks(shop) == []


async def test_payment_without_a_debit_is_given_up_and_a_late_debit_does_not_pass(
    shop: Shop,
) -> None:
    payment = await crash(shop, debited=False)

    await reconcile(shop, minutes=2)

    given_up = await shop.payment(payment.payment_id)
    assert (given_up["status"], given_up["credits_used"]) == ("failed", 0)
    assert given_up["failure"]["code"] == "abandoned"
    (mark,) = await marks(shop)
    assert (mark["key"], mark["kind"]) == (payment.payment_id, "cancel")
    assert await take(shop, payment) is DebitOutcome.CANCELED
    await assert_conserved(shop, had=10)
    assert await shop.credits() == 10
    await reconcile(shop, minutes=16)
    assert await marks(shop) == []


async def test_reconciler_leaves_a_payment_alone_that_may_still_be_running(shop: Shop) -> None:
    payment = await crash(shop, debited=False)

    await reconcile(shop, seconds=50)

    assert (await shop.payment(payment.payment_id))["status"] == "pending"
    assert await marks(shop) == []


async def test_payment_of_a_user_who_is_gone_is_given_up(shop: Shop) -> None:
    payment = await crash(shop, debited=False)
    await shop.databases.auth["users"].delete_one({"_id": "user_123"})

    await reconcile(shop, minutes=2)

    assert (await shop.payment(payment.payment_id))["status"] == "failed"
    assert await shop.stored("orders") == []


async def test_repeat_after_a_given_up_payment_takes_nothing_however_late() -> None:
    """The cancelling mark is removed after a while; the payment itself remembers."""
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(connect=faulty(faults))) as shop:
        faults.add("find_one_and_update", database="auth")
        refused(await pay(shop, key="cart-7"), 503, "database_unavailable")
        (stored,) = await shop.stored("payments")
        assert stored["status"] == "pending"
        await reconcile(shop, minutes=2)
        await reconcile(shop, minutes=16)
        assert await marks(shop) == []

        for _ in range(2):
            refused(await pay(shop, key="cart-7"), 409, "payment_not_confirmable")

        assert await shop.credits() == 10
        assert await marks(shop) == []
        await assert_conserved(shop, had=10)
        assert ok(await pay(shop, key="cart-8"))["remaining_credits"] == 9


async def test_debit_that_was_made_but_not_told_is_finished_by_a_repeat() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(connect=faulty(faults))) as shop:
        faults.add("find_one_and_update", database="auth", when="after")
        refused(await pay(shop, key="cart-7"), 503, "database_unavailable")
        assert await shop.credits() == 9
        assert await shop.orders() == []

        reply = ok(await pay(shop, key="cart-7"))

        assert (reply["credits_deducted"], reply["remaining_credits"]) == (1, 9)
        await assert_conserved(shop, had=10)


# A worker that stands still for longer than marks are kept


async def test_request_that_stood_still_until_the_marks_were_gone_takes_nothing() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(connect=faulty(faults))) as shop:
        pause = faults.pause("find_one_and_update", database="auth")
        request = asyncio.create_task(pay(shop, key="cart-7", items=[book(credits=4)]))
        await pause.reached()
        await reconcile(shop, minutes=2)
        await reconcile(shop, minutes=16)
        assert await marks(shop) == []
        pause.go_on()

        refused(await request, 503, "database_unavailable")

        assert await shop.credits() == 10
        assert await marks(shop) == []
        (stored,) = await shop.stored("payments")
        assert (stored["status"], stored["failure"]["code"]) == ("failed", "abandoned")
        refused(
            await pay(shop, key="cart-7", items=[book(credits=4)]), 409, "payment_not_confirmable"
        )
        assert ok(await pay(shop, key="cart-8"))["remaining_credits"] == 9
        await assert_conserved(shop, had=10)


async def test_repeat_that_stood_still_until_the_marks_were_gone_takes_nothing_twice() -> None:
    """The first try died after the debit; the repeat had read the payment as pending."""
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(connect=faulty(faults))) as shop:
        faults.add("find_one_and_update", database="auth", when="after")
        refused(await pay(shop, key="cart-7"), 503, "database_unavailable")
        pause = faults.pause("find_one_and_update", database="auth")
        repeat = asyncio.create_task(pay(shop, key="cart-7"))
        await pause.reached()
        await reconcile(shop, minutes=2)
        await reconcile(shop, minutes=16)
        assert await marks(shop) == []
        pause.go_on()

        refused(await repeat, 503, "database_unavailable")

        assert await shop.credits() == 9
        assert ok(await pay(shop, key="cart-7"))["remaining_credits"] == 9
        await assert_conserved(shop, had=10)


async def test_removed_marks_hold_no_later_payment_back(shop: Shop) -> None:
    for left in (9, 8, 7):
        assert ok(await pay(shop))["remaining_credits"] == left
        fence = (await shop.user()).get("payment_marks_removed_until")
        await reconcile(shop, minutes=16)
        assert await marks(shop) == []
        newer = (await shop.user())["payment_marks_removed_until"]
        assert fence is None or newer > fence
    await assert_conserved(shop, had=10)


# A read that is older than the update


def as_before(user: Any) -> Any:
    """What a secondary says that has not heard of the debit yet."""
    return user and {"_id": user["_id"], "credits": 10}


@pytest.mark.parametrize("finished_by", ["repeat", "reconciler"])
async def test_debit_is_not_believed_undone_because_an_old_read_says_so(finished_by: str) -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(connect=faulty(faults))) as shop:
        faults.add("find_one_and_update", database="auth", when="after")
        refused(await pay(shop, key="cart-7"), 503, "database_unavailable")
        faults.distort("find_one", as_before, database="auth")
        if finished_by == "repeat":
            refused(await pay(shop, key="cart-7"), 503, "database_unavailable")
        shop.clock.advance(minutes=2)
        assert (await shop.services.reconciliation.run_once()).failed == {"payment": 1}
        (stored,) = await shop.stored("payments")
        assert stored["status"] == "pending"
        faults.clear()

        if finished_by == "repeat":
            assert ok(await pay(shop, key="cart-7"))["remaining_credits"] == 9
        else:
            await reconcile(shop, minutes=5)

        (stored,) = await shop.stored("payments")
        assert stored["status"] == "succeeded"
        await assert_conserved(shop, had=10)


class Crash(DatabaseFaults):
    """The death of the process before or after some command: nothing comes after it."""

    commands_left: int | None = None

    def strike(self, command: str, database: str, collection: str | None, when: When) -> None:
        if self.commands_left == 0:
            self.commands_left = None
            raise asyncio.CancelledError
        if self.commands_left is not None:
            self.commands_left -= 1


@pytest.mark.parametrize("repeated", [False, True], ids=["reconciled", "repeated"])
async def test_crash_before_or_after_any_step_loses_no_credit_and_no_order(repeated: bool) -> None:
    crash = Crash()
    had = 10
    outcomes = Counter[str]()
    async with open_shop(ShopOptions(connect=faulty(crash))) as shop:
        for step in range(100):
            user_id = key = f"reader_{step}"
            await shop.databases.auth["users"].insert_one({"_id": user_id, "credits": had})
            crash.commands_left = step
            request = asyncio.create_task(pay(shop, user_id=user_id, key=key))
            await asyncio.gather(request, return_exceptions=True)
            if not request.cancelled():
                break
            shop.clock.advance(minutes=2)
            if repeated:
                reply = ok(await pay(shop, user_id=user_id, key=key))
                assert reply["remaining_credits"] == await shop.credits(user_id) == had - 1
            await shop.services.reconciliation.run_once()

            payments = ok(await shop.get(f"/user/{user_id}/payments"))["payments"]
            assert len(payments) <= 1
            statuses = [payment["status"] for payment in payments]
            paid = statuses == ["succeeded"]
            assert paid or statuses in ([], ["failed"]), statuses
            assert await shop.credits(user_id) == (had - 1 if paid else had)
            assert len(await shop.orders(user_id)) == paid
            outcomes.update(statuses or ["nothing"])
        assert request.result().status_code == 200, "the last one had nothing left to crash at"
    met = {"succeeded"} if repeated else {"nothing", "failed", "succeeded"}
    assert set(outcomes) == met, "the crashes did not meet every stage"
