"""Events whose object is not as Stripe's API version has it: kept, shown, and never believed."""

import copy
import json
import random
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from stripe_sandbox.webhooks import sign
from tests.support.shop import WEBHOOK_SECRET, Shop, ok
from tests.support.store import as_many

# Stripe sends nothing by itself: each test delivers what it is about.
pytestmark = pytest.mark.shop(webhooks=False)

Document = dict[str, Any]
Path = tuple[str, ...]
GONE: Final = object()
NESTED: Final = "nested"
"""Stands for what is too deep for ``json.dumps``."""

WRONG: Final[dict[str, Any]] = {
    "deleted": GONE,
    "null": None,
    "an object": {"id": {"id": None}},
    "a list": [1],
    "true": True,
    "a number": 7,
    "half a number": 0.5,
    "less than nothing": -1,
    "a text": "x",
    "an empty text": "",
    "beyond 64 bits": 2**64,
    "beyond any calendar": 10**30,
    "half a surrogate pair": "\ud800",
    "deep": NESTED,
}
DEPTH: Final = 400

ANSWERS: Final[dict[int, set[str | None]]] = {
    200: {None},
    400: {"not_a_stripe_event"},
    409: {"refund_exceeds_remaining"},
    # It names something that is well-formed and that Stripe does not have.
    502: {"stripe_error"},
    503: {"event_not_yet_applicable"},
}
"""Codes of what may be answered, by status."""

READ: Final = frozenset(
    """
    id object status amount amount_received amount_refunded amount_total currency metadata
    payment_id refund_id deployment latest_charge last_payment_error code message decline_code
    charge payment_intent payment_status mode url reason failure_reason created fraud_type
    actionable client_secret
    """.split()
)
"""The fields that the service reads, in objects and inside of them."""

FORESEEN: Final = {"webhook.event_unreadable", "payment.held_for_review"}
"""What may be logged as an error here."""


async def live(shop: Shop) -> None:
    """Makes an event of every type that is handled, of payments that we have."""
    stripe = shop.stripe
    paid = await shop.create_intent()
    await shop.confirm_in_browser(paid, "pm_card_visa_chargeDeclined")
    await shop.confirm_in_browser(paid, "pm_card_createIssuerFraudRecord")
    refund = stripe.dashboard_refund(payment_intent=paid["payment_intent_id"])
    stripe.fail_refund(refund["id"])
    stripe.dashboard_refund(payment_intent=paid["payment_intent_id"])
    disputed = await shop.create_intent()
    await shop.confirm_in_browser(disputed)
    dispute = stripe.open_dispute(payment_intent=disputed["payment_intent_id"])
    stripe.disputes.update({"evidence": {"uncategorized_text": "a receipt"}}, dispute["id"])
    stripe.close_dispute(dispute["id"], "won")
    canceled = await shop.create_intent()
    stripe.payment_intents.cancel({}, canceled["payment_intent_id"])
    stripe.expire_session((await shop.create_session())["session_id"])
    for outcome in ("succeeded", "failed"):
        session = await shop.create_session()
        waiting = stripe.pay_session(session["session_id"], "pm_usBankAccount")
        assert waiting.payment_intent is not None
        stripe.settle(waiting.payment_intent["id"], outcome)


def handled_events(shop: Shop) -> dict[str, Document]:
    """One event of each type."""
    found = {
        type: shop.events(type)[-1] for type in shop.services.inbox.event_types if shop.events(type)
    }
    assert set(found) >= set(shop.services.inbox.event_types) - {
        # Made by 3-D Secure only.
        "payment_intent.requires_action"
    }
    return found


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The way to each field, those inside of objects too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name)
            yield from places(inner, (*path, name))


def mutated(event: Document, path: Path, value: Any) -> bytes:
    changed = copy.deepcopy(event)
    holder: Any = changed
    for name in path[:-1]:
        holder = holder[name]
    if value is GONE:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    text = json.dumps(changed)
    return text.replace(f'"{NESTED}"', '{"id":' * DEPTH + "1" + "}" * DEPTH).encode()


async def deliver(shop: Shop, body: bytes) -> tuple[int, Document]:
    answer = await shop.client.post(
        "/api/v1/payment/webhook/stripe",
        content=body,
        headers={
            "Stripe-Signature": sign(body, [WEBHOOK_SECRET], int(time.time())),
            "Content-Type": "application/json",
        },
    )
    return answer.status_code, answer.json()


def as_stripe_has_it(shop: Shop, payment: Document) -> set[str]:
    """The statuses that Stripe confirms, from what it charged and gave back."""
    charges = [
        charge.data
        for charge in shop.stripe.charges._records
        if charge.data["metadata"].get("payment_id") == payment["_id"]
        and charge.data["status"] == "succeeded"
    ]
    if not charges:
        return {"pending", "processing", "failed", "canceled"}
    (charge,) = charges
    # A payment that was not heard of yet may still be so; the money is there, so it may be paid.
    refunded = charge["amount_refunded"] == charge["amount"]
    return {"pending", "processing", "failed", "succeeded"} | ({"refunded"} if refunded else set())


async def test_no_field_of_an_event_can_break_the_service_or_fake_a_payment(shop: Shop) -> None:
    await live(shop)
    events = handled_events(shop)
    # Of each kind of object, each field that is read with each wrong value; and some of all else.
    ways = [(type, path) for type, event in events.items() for path in places(event["data"])]
    kinds = {
        (events[type]["data"]["object"]["object"], path): (type, path)
        for type, path in ways
        if path[-1] in READ
    }
    cases = [(*way, kind) for way in kinds.values() for kind in WRONG]
    anything = [(*way, kind) for way in ways for kind in WRONG]
    sample = random.Random(9).sample(anything, 300) + cases[:: as_many(1, on_a_server=5)]

    with capture_logs() as logs:
        for number, (type, path, kind) in enumerate(sample):
            event = {**events[type], "id": f"evt_{number}"}
            status, answer = await deliver(shop, mutated(event, ("data", *path), WRONG[kind]))
            case = f"{type} {'.'.join(path)} {kind}: {status} {answer}"
            assert answer.get("code") in ANSWERS[status], case
            unforeseen = [
                line
                for line in logs
                if line["log_level"] in ("error", "critical") and line["event"] not in FORESEEN
            ]
            assert not unforeseen, (case, unforeseen)
            logs.clear()
    for payment in await shop.stored("payments"):
        assert payment["status"] in as_stripe_has_it(shop, payment), payment["_id"]


UNREADABLE: Final[dict[str, tuple[str, Path, Any, str]]] = {
    "no object": ("payment_intent.succeeded", ("data", "object"), GONE, "not an object"),
    "null": ("payment_intent.succeeded", ("data", "object"), None, "not an object"),
    "incomplete": ("refund.created", ("data", "object", "amount"), GONE, "amount is missing"),
    "of another kind": (
        "charge.refunded",
        ("data", "object"),
        {"object": "customer", "id": "cus_1"},
        "is a customer",
    ),
    "of another kind that is read": (
        "checkout.session.completed",
        ("data", "object", "object"),
        "payment_intent",
        "data.object",
    ),
    "an object as id": (
        "payment_intent.succeeded",
        ("data", "object", "id"),
        {"id": "pi_1"},
        "id is not a string",
    ),
    "a dispute of a time to come": (
        "charge.dispute.created",
        ("data", "object", "created"),
        10**30,
        "created",
    ),
    "a charge beyond 64 bits": (
        "charge.refunded",
        ("data", "object", "amount_refunded"),
        2**64,
        "amount_refunded is not an amount",
    ),
    "half a surrogate pair": (
        "charge.dispute.created",
        ("data", "object", "reason"),
        "\ud800",
        "reason is not valid Unicode",
    ),
    "a session of no mode": (
        "checkout.session.completed",
        ("data", "object", "mode"),
        None,
        "mode is missing",
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_an_event_that_cannot_be_read_is_kept_counted_and_shown(
    shop: Shop, kind: str
) -> None:
    type, path, value, reason = UNREADABLE[kind]
    await live(shop)
    before = await shop.stored("payments")
    body = mutated(handled_events(shop)[type], path, value)

    with capture_logs() as logs:
        status, answer = await deliver(shop, body)

    assert (status, answer["result"]) == (200, "deferred")
    (kept,) = await shop.stored("webhook_events")
    assert (kept["_id"], kept["status"]) == (answer["event_id"], "failed")
    assert reason in kept["last_error"]
    assert "expires_at" not in kept
    assert await shop.metric(f'webhook_events_total{{result="unreadable",type="{type}"}}') == 1
    assert await shop.metric(f'webhook_events_total{{result="failed",type="{type}"}}') == 0
    shown = [line for line in logs if line["event"] == "webhook.event_unreadable"]
    assert [(s["log_level"], s["stripe_event_id"], s["type"]) for s in shown] == [
        ("error", kept["_id"], type)
    ]
    assert await shop.stored("payments") == before


async def test_the_reconciler_tries_an_event_that_cannot_be_read_again_and_reports_it(
    shop: Shop,
) -> None:
    await live(shop)
    await shop.reconcile(minutes=2)
    event = {**handled_events(shop)["charge.refunded"], "id": "evt_unreadable"}
    event["data"]["object"] |= {"amount_refunded": "100"}
    assert ok(await shop.deliver(event))["result"] == "deferred"

    with capture_logs() as logs:
        report = await shop.reconcile(seconds=31)

    assert dict(report.failed) == {"event": 1}
    failed = [line for line in logs if line["event"] == "reconciler.item_failed"]
    assert [(line["log_level"], line["error"]) for line in failed] == [
        ("warning", "event_unreadable")
    ]
    (kept,) = [e for e in await shop.stored("webhook_events") if e["_id"] == "evt_unreadable"]
    assert (kept["status"], kept["attempts"]) == ("failed", 2)
    assert (kept["next_attempt_at"] - shop.clock()).total_seconds() > 50, "longer each time"

    # The version that can read it needs no help.
    payload = kept["payload"].replace('"100"', "100")
    await shop.databases.payments["webhook_events"].update_one(
        {"_id": "evt_unreadable"}, {"$set": {"payload": payload}}
    )
    assert not (await shop.reconcile(minutes=2)).failed
    (kept,) = [e for e in await shop.stored("webhook_events") if e["_id"] == "evt_unreadable"]
    assert kept["status"] == "processed"


async def test_an_event_that_a_less_strict_version_stored_waits_longer_each_time(
    shop: Shop,
) -> None:
    paid = await shop.create_intent()
    await shop.confirm_in_browser(paid)
    (event,) = shop.events("payment_intent.succeeded")
    event["data"]["object"] |= {"amount": "x"}
    assert ok(await shop.deliver(event))["result"] == "deferred"
    await shop.databases.payments["webhook_events"].update_one(
        {"_id": event["id"]}, {"$set": {"payload": "{}"}}
    )

    report = await shop.reconcile(seconds=31)

    assert report.failed["event"] == 1
    (kept,) = await shop.stored("webhook_events")
    assert (kept["status"], kept["last_error"]) == ("failed", "NotAStripeEvent")
    assert kept["next_attempt_at"] > shop.clock()


@pytest.mark.parametrize("object", [None, [], {}, {"object": 7}, {"object": "charge", "id": {}}])
async def test_an_event_of_a_type_that_nobody_reads_is_ignored_whatever_it_carries(
    shop: Shop, object: Any
) -> None:
    event = {
        "id": "evt_1",
        "object": "event",
        "type": "charge.updated",
        "livemode": False,
        "created": int(time.time()),
        "data": {"object": object},
    }
    assert ok(await shop.deliver(event))["result"] == "ignored"
