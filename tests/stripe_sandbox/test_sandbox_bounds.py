"""However much is asked of it, the sandbox keeps no more than its capacity."""

from collections import deque
from typing import Any

CAPACITY = 20
TIMERS = 12 * CAPACITY
"""One each for five kinds of objects, and cancelled ones that have not been swept yet."""


def sizes(held: Any, path: str = "sandbox", seen: set[int] | None = None) -> dict[str, int]:
    """Of every container that the sandbox's own objects hold, by the way that leads there."""
    seen = set() if seen is None else seen
    if id(held) in seen:
        return {}
    seen.add(id(held))
    if isinstance(held, (dict, list, set, deque)):
        return {path: len(held)}
    if not type(held).__module__.startswith("stripe_sandbox"):
        return {}
    found: dict[str, int] = {}
    for name, value in vars(held).items() if hasattr(held, "__dict__") else ():
        found |= sizes(value, f"{path}.{name}", seen)
    return found


async def fill(rig: Any, line_item: Any, rounds: int) -> None:
    """A bit of everything: each kind of object, event, delivery, timer and key."""
    v1 = rig.client.v1
    cards = ("visa", "createDispute", "createIssuerFraudRecord", "pendingRefund", "refundFail")
    for number in range(rounds):
        customer = await v1.customers.create_async({"payment_method": "pm_card_visa"})
        paid = await rig.intent(
            f"pm_card_{cards[number % len(cards)]}",
            customer=customer.id if number % 2 else None,
            metadata={"number": str(number)},
        )
        if cards[number % len(cards)] == "createDispute":
            [dispute] = (await v1.disputes.list_async({"payment_intent": paid.id})).data
            evidence = {"uncategorized_text": "winning_evidence"}
            await v1.disputes.update_async(dispute.id, {"evidence": evidence})
        else:
            await v1.refunds.create_async({"payment_intent": paid.id, "amount": 100})
        await rig.intent("pm_usBankAccount")
        session = await rig.session(line_items=[line_item(), line_item()])
        if number % 2:
            rig.sandbox.pay_session(session.id)
        else:
            await v1.customers.delete_async(customer.id)


async def test_nothing_grows_beyond_the_capacity(start: Any, line_item: Any) -> None:
    # So slow that every timer waits, and every second delivery for another try.
    rig = await start(
        capacity=CAPACITY,
        request_capacity=CAPACITY,
        delayed_payment_seconds=10_000,
        refund_settle_seconds=10_000,
        dispute_settle_seconds=10_000,
        balance_transaction_seconds=10_000,
        retry_schedule=(10_000,),
    )
    rig.receiver.statuses = [200, 500] * 5_000
    await fill(rig, line_item, 3 * CAPACITY)
    before = sizes(rig.sandbox)
    await fill(rig, line_item, 6 * CAPACITY)
    after = sizes(rig.sandbox)
    # An index has a bucket for each key of a record, an endpoint's answers those of two capacities.
    too_many = {
        path: length
        for path, length in after.items()
        if length > (TIMERS if path.endswith("clock._timers") else 3 * CAPACITY)
        and length > before.get(path, 0)
    }
    assert too_many == {}
    stores = [path for path in after if path.endswith("._records._order")]
    assert len(stores) == 9
    assert all(after[path] == CAPACITY for path in stores)
    [endpoint] = rig.sandbox.webhooks.endpoints
    assert len(endpoint.queue) + len(endpoint.waiting) <= 2 * CAPACITY
    assert len(endpoint.acknowledged) <= 2 * CAPACITY
    assert len(rig.sandbox.clock) <= TIMERS
    assert len(rig.sandbox.idempotency) == len(rig.sandbox.requests) == CAPACITY
