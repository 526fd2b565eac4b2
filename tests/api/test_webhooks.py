"""Stripe's events: only signed ones are believed, each is applied once, none is lost."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.metrics import STRIPE_EVENT_TYPES
from app.routers import BASE_PATH
from stripe_sandbox.webhooks import sign
from tests.faults.laboratory import EVENT_TYPES
from tests.support.database_faults import DatabaseFaults, When, faulty
from tests.support.shop import GIVE_UP, WEBHOOK_SECRET, Shop, ShopOptions, ok, open_shop, refused

# Stripe sends nothing by itself: each test delivers what it is about.
pytestmark = pytest.mark.shop(webhooks=False)

Document = dict[str, Any]
API_PAGE = Path(__file__).parents[2] / "docs" / "api.md"


async def paid_in_browser(shop: Shop) -> tuple[str, Document]:
    """A payment that was paid without our hearing of it: its id and Stripe's event."""
    created = await shop.create_intent()
    assert (await shop.confirm_in_browser(created)).status_code == 200
    event = shop.events("payment_intent.succeeded")[-1]
    assert event["data"]["object"]["metadata"]["payment_id"] == created["payment_id"]
    return created["payment_id"], event


async def refunded_in_dashboard(shop: Shop) -> tuple[str, Document]:
    """A payment at rest and the event of its refund, which does not say which refund it was."""
    payment = await shop.pay_by_card()
    shop.stripe.dashboard_refund(payment_intent=payment["stripe_payment_intent_id"], amount=400)
    return payment["payment_id"], shop.events("charge.refunded")[-1]


async def send(shop: Shop, body: bytes, signature: str | bytes | None) -> httpx.Response:
    """Any bytes with any header."""
    headers: dict[str, str | bytes] = {"Content-Type": "application/json"}
    if signature is not None:
        headers["Stripe-Signature"] = signature
    return await shop.client.post(
        f"{BASE_PATH}/webhook/stripe",
        content=body,
        headers=headers,  # type: ignore[arg-type]  # bytes are fine, mixed with text or not
    )


def signed(body: bytes, *, secret: str = WEBHOOK_SECRET, ahead: int = 0) -> str:
    return sign(body, [secret], int(time.time()) + ahead)


async def inbox(shop: Shop) -> dict[str, Document]:
    return {event["_id"]: event for event in await shop.stored("webhook_events")}


async def assert_untouched(shop: Shop, payment_id: str) -> None:
    assert await shop.stored("webhook_events") == []
    assert (await shop.payment(payment_id))["status"] == "pending"
    assert await shop.orders() == []


async def assert_paid_once(shop: Shop, payment_id: str) -> None:
    payment = await shop.payment(payment_id)
    assert payment["status"] == "succeeded"
    assert [order["order_id"] for order in await shop.orders()] == [payment["order_id"]]
    assert len(await shop.stored("orders")) == 1
    assert await shop.transitions(payment_id) == [("pending", "succeeded")]


# What Stripe is to send


async def test_every_list_of_event_types_is_the_one_that_is_handled(shop: Shop) -> None:
    handled = set(shop.services.inbox.event_types)
    text = API_PAGE.read_text(encoding="utf-8")
    subscribed = text.partition("and subscribe it to:\n\n```\n")[2].partition("```")[0]
    assert set(subscribed.replace(",", " ").split()) == handled
    assert handled <= STRIPE_EVENT_TYPES, "else their metrics are counted as other"
    assert handled == EVENT_TYPES, "the fault laboratory's"


async def test_stripes_list_can_be_asked_for_all_event_types_at_once(shop: Shop) -> None:
    """https://docs.stripe.com/api/events/list#list_events-types"""
    assert len(shop.services.inbox.event_types) <= 20


# Who is believed

FORGED: dict[str, Callable[[bytes], str | bytes | None]] = {
    "missing": lambda body: None,
    "empty": lambda body: "",
    "by another secret": lambda body: signed(body, secret="whsec_of_somebody_else"),
    "by an empty secret": lambda body: signed(body, secret=""),
    "of another body": lambda body: signed(body + b" "),
    "too old": lambda body: signed(body, ahead=-310),
    "from the future": lambda body: signed(body, ahead=310),
    "of a test scheme only": lambda body: signed(body).replace("v1=", "v9="),
    "without a time": lambda body: signed(body).partition(",")[2],
    "with an unreadable time": lambda body: signed(body).replace("t=", "t=x"),
    "with another time": lambda body: signed(body).replace("t=", "t=1"),
    "with spaces": lambda body: signed(body).replace(",", ", "),
    "nonsense": lambda body: "nonsense",
    "commas": lambda body: ",,=,t,v1",
    "not ASCII": lambda body: signed(body).encode().replace(b"v1=", b"v1=\xe9"),
}


@pytest.mark.parametrize("kind", FORGED)
async def test_an_event_with_a_forged_signature_is_refused_and_forgotten(
    shop: Shop, kind: str
) -> None:
    payment_id, event = await paid_in_browser(shop)
    body = json.dumps(event).encode()

    refused(await send(shop, body, FORGED[kind](body)), 400, "invalid_signature")

    await assert_untouched(shop, payment_id)


def envelope(**fields: Any) -> bytes:
    """An event of a type that no flow reads; a field that is ``...`` is left out."""
    event = {
        "id": "evt_1",
        "object": "event",
        "type": "customer.created",
        "livemode": False,
        "created": int(time.time()),
        "data": {"object": {"object": "customer", "id": "cus_1"}},
    }
    said = {name: value for name, value in {**event, **fields}.items() if value is not ...}
    return json.dumps(said).encode()


WRONG_FIELDS: dict[str, Document] = {
    "id": {"an object": {"id": "evt_1"}, "empty": "", "256 long": "e" * 256},
    "type": {"a list": ["charge.refunded"], "empty": "", "256 long": "t" * 256},
    "livemode": {"a text": "false", "a number": 0},
    "created": {
        "a text": "2026-03-01T12:00:00Z",
        "true": True,
        "negative": -1,
        "half a second": 1.5,
        "beyond any calendar": 10**30,
        "beyond the century": 2**32,
    },
    "data": {"a list": [], "a text": "charge"},
}

SIGNED_NONSENSE = {
    "nothing": b"",
    "not JSON": b"payment_intent.succeeded",
    "a list": b"[]",
    "a list of events": b"[" + envelope() + b"]",
    "null": b"null",
    "a number": b"1",
    "a text": b'"evt_1"',
    "an empty object": b"{}",
    "nested deeper than any reader": b"[" * 100_000,
    "an event nested deeper than any reader": envelope(data={"object": "HERE"}).replace(
        b'"HERE"', b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    ),
    "cut short": envelope()[:-1],
    "followed by more": envelope() + b"{}",
    "a constant that is not JSON": envelope(created="HERE").replace(b'"HERE"', b"NaN"),
    "infinity deep inside": envelope(data="HERE").replace(
        b'"HERE"', b'{"object":{"object":"charge","amount":-Infinity}}'
    ),
    "a number of 5,000 digits": envelope(created="HERE").replace(b'"HERE"', b"1" * 5_000),
    "two ids": envelope().replace(b'"id": "evt_1"', b'"id": "evt_1", "id": "evt_2"'),
    **{
        f"{name} is {kind}": envelope(**{name: value})
        for name, wrong in WRONG_FIELDS.items()
        for kind, value in {
            "missing": ...,
            "null": None,
            "half a surrogate pair": "\ud800",
            **wrong,
        }.items()
    },
}


@pytest.mark.parametrize("kind", SIGNED_NONSENSE)
async def test_a_signed_body_that_is_no_event_is_refused_and_forgotten(
    shop: Shop, kind: str
) -> None:
    body = SIGNED_NONSENSE[kind]
    refused(await send(shop, body, signed(body)), 400, "not_a_stripe_event")
    assert await shop.stored("webhook_events") == []


async def test_a_body_that_is_not_utf_8_cannot_be_signed(shop: Shop) -> None:
    body = b'{"id": "\xff"}'
    refused(await send(shop, body, signed(body)), 400, "invalid_signature")


THIN_EVENTS: dict[str, Document] = {
    # https://docs.stripe.com/event-destinations#thin-events
    "of the first version": {
        "object": "v2.core.event",
        "type": "v1.payment_intent.succeeded",
        "created": "2026-03-01T12:00:00.000Z",
        "related_object": {"id": "pi_1", "type": "payment_intent", "url": "/v1/x"},
        "data": ...,
    },
    "of the second version": {
        "object": "v2.core.event",
        "type": "v2.core.event_destination.ping",
        "created": "2026-03-01T12:00:00.000Z",
        "livemode": ...,
        "data": ...,
    },
    "known by its object": {"object": "v2.core.event", "type": ...},
    "known by its type": {"object": ..., "type": "v2.billing.meter.no_meter_found"},
}


@pytest.mark.parametrize("kind", THIN_EVENTS)
async def test_a_thin_event_is_refused_with_what_to_change_at_stripe(shop: Shop, kind: str) -> None:
    body = envelope(**THIN_EVENTS[kind])
    problem = refused(await send(shop, body, signed(body)), 400, "unsupported_event_payload")
    assert "snapshot" in problem["detail"]
    assert await shop.stored("webhook_events") == []
    refused(await send(shop, body, None), 400, "invalid_signature")


@pytest.mark.parametrize("ahead", [-290, 290])
async def test_clocks_may_differ_by_a_few_minutes(shop: Shop, ahead: int) -> None:
    payment_id, event = await paid_in_browser(shop)
    body = json.dumps(event).encode()
    assert ok(await send(shop, body, signed(body, ahead=ahead)))["result"] == "processed"
    await assert_paid_once(shop, payment_id)


@pytest.mark.shop(
    webhooks=False, settings={"stripe_webhook_secret": "whsec_being_retired, whsec_new_one"}
)
async def test_while_a_secret_is_rolled_both_sign(shop: Shop) -> None:
    payment_id, event = await paid_in_browser(shop)

    refused(await shop.deliver(event, secret="whsec_third"), 400, "invalid_signature")
    refused(
        await shop.deliver(event, secret="whsec_being_retired, whsec_new_one"),
        400,
        "invalid_signature",
    )
    assert ok(await shop.deliver(event, secret="whsec_new_one"))["result"] == "processed"
    assert ok(await shop.deliver(event, secret="whsec_being_retired"))["result"] == "duplicate"

    await assert_paid_once(shop, payment_id)


@pytest.mark.parametrize("configured", ["", " ", " , ,"])
async def test_without_a_secret_nobody_can_sign(configured: str) -> None:
    options = ShopOptions(webhooks=False, settings={"stripe_webhook_secret": configured})
    async with open_shop(options) as shop:
        payment_id, event = await paid_in_browser(shop)
        body = json.dumps(event).encode()
        for signature in (signed(body, secret=""), signed(body, secret=" "), signed(body), None):
            problem = refused(await send(shop, body, signature), 503, "stripe_not_configured")
            assert "webhook secret" in problem["detail"]
        await assert_untouched(shop, payment_id)


async def test_an_event_of_the_other_mode_is_refused_and_forgotten(shop: Shop) -> None:
    payment_id, event = await paid_in_browser(shop)
    refused(await shop.deliver({**event, "livemode": True}), 400, "livemode_mismatch")
    await assert_untouched(shop, payment_id)


# What is answered, and what is kept


async def test_the_answer_names_the_event_and_what_became_of_it(shop: Shop) -> None:
    payment_id, event = await paid_in_browser(shop)

    first = ok(await shop.deliver(event))
    before = await shop.stored_payment(payment_id)
    kept = (await inbox(shop))[event["id"]]
    second = ok(await shop.deliver(event))

    assert first == {"received": True, "event_id": event["id"], "result": "processed"}
    assert second == {"received": True, "event_id": event["id"], "result": "duplicate"}
    assert await shop.stored_payment(payment_id) == before
    assert (await inbox(shop))[event["id"]] == kept, "a duplicate leaves no trace in the inbox"
    await assert_paid_once(shop, payment_id)
    name = 'webhook_events_total{result="%s",type="payment_intent.succeeded"}'
    assert await shop.metric(name % "processed") == 1
    assert await shop.metric(name % "duplicate") == 1


@pytest.mark.shop(webhooks=False, settings={"webhook_event_retention_days": 7})
async def test_a_finished_event_is_kept_without_its_client_secret_until_its_retention_is_over(
    shop: Shop,
) -> None:
    _, event = await paid_in_browser(shop)
    body = json.dumps(event, indent=3).encode()

    ok(await send(shop, body, signed(body)))

    kept = (await inbox(shop))[event["id"]]
    secret = event["data"]["object"]["client_secret"]
    assert secret.startswith("pi_")
    assert kept["payload"] == body.decode().replace(secret, "elided"), "else to the letter"
    assert (kept["status"], kept["type"], kept["attempts"]) == ("processed", event["type"], 1)
    assert kept["expires_at"] - kept["processed_at"] == timedelta(days=7)
    assert "next_attempt_at" not in kept
    assert "last_error" not in kept


FOREIGN_TYPES: dict[str, Document] = {
    "customer.created": {"object": "customer", "id": "cus_1"},
    "payment_intent.created": {"object": "payment_intent", "id": "pi_1"},
    "a.type.that.stripe.may.add": {"object": "novelty", "id": "nov_1"},
}


@pytest.mark.parametrize("type", FOREIGN_TYPES)
async def test_an_event_of_a_type_that_nobody_reads_is_kept_and_ignored(
    shop: Shop, type: str
) -> None:
    data = {"status": "x", "amount": 1, "currency": "usd", **FOREIGN_TYPES[type]}
    event = {
        "id": "evt_foreign",
        "object": "event",
        "type": type,
        "livemode": False,
        "created": int(time.time()),
        "data": {"object": data},
    }

    assert ok(await shop.deliver(event))["result"] == "ignored"
    assert ok(await shop.deliver(event))["result"] == "duplicate"

    kept = (await inbox(shop))["evt_foreign"]
    assert kept["status"] == "ignored"
    assert "expires_at" in kept
    label = type if type in STRIPE_EVENT_TYPES else "other"
    assert await shop.metric(f'webhook_events_total{{result="ignored",type="{label}"}}') == 1


async def _elsewhere(shop: Shop, path: str, params: Document) -> Document:
    """What another system on the same Stripe account does."""
    async with httpx.AsyncClient(base_url=shop.settings.stripe_api_base) as client:
        key = shop.settings.stripe_secret_key.get_secret_value()
        answer = await client.post(path, data=params, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200, answer.text
    made: Document = answer.json()
    return made


@pytest.mark.parametrize("metadata", [{}, {"metadata[payment_id]": "invoice-77"}])
async def test_everything_about_a_payment_of_another_system_is_ignored(
    shop: Shop, metadata: Document
) -> None:
    intent = await _elsewhere(
        shop,
        "/v1/payment_intents",
        {
            "amount": 500,
            "currency": "usd",
            "confirm": "true",
            "payment_method": "pm_card_createDispute",
            "return_url": "https://elsewhere.example/",
            **metadata,
        },
    )
    shop.stripe.close_dispute(
        shop.events("charge.dispute.created")[0]["data"]["object"]["id"], "won"
    )
    refund = shop.stripe.dashboard_refund(payment_intent=intent["id"], amount=100)
    shop.stripe.fail_refund(refund["id"])
    session = await _elsewhere(
        shop,
        "/v1/checkout/sessions",
        {
            "mode": "payment",
            "success_url": "https://elsewhere.example/",
            "line_items[0][quantity]": 1,
            "line_items[0][price_data][currency]": "usd",
            "line_items[0][price_data][unit_amount]": 700,
            "line_items[0][price_data][product_data][name]": "Lamp",
            **metadata,
        },
    )
    shop.stripe.pay_session(session["id"])

    results = {
        event["type"]: ok(await shop.deliver(event))["result"] for event in shop.stripe.events.all()
    }

    assert set(results.values()) == {"ignored"}
    assert set(results) >= {
        "payment_intent.succeeded",
        "charge.refunded",
        "refund.created",
        "refund.updated",
        "refund.failed",
        "charge.dispute.created",
        "charge.dispute.closed",
        "checkout.session.completed",
    }
    assert {event["status"] for event in (await inbox(shop)).values()} == {"ignored"}
    assert await shop.stored("payments") == []
    assert await shop.stored("orders") == []


async def test_what_befalls_another_payment_intent_that_carries_our_id_is_not_ours(
    shop: Shop,
) -> None:
    payment = await shop.pay_by_card()
    stranger = await _elsewhere(
        shop,
        "/v1/payment_intents",
        {
            "amount": 999,
            "currency": "usd",
            "confirm": "true",
            "payment_method": "pm_card_visa",
            "return_url": "https://elsewhere.example/",
            "metadata[payment_id]": payment["payment_id"],
        },
    )
    paid = [e for e in shop.events("payment_intent.succeeded") if _object_id(e) == stranger["id"]]
    ok(await shop.deliver(paid[0]))
    before = await shop.stored_payment(payment["payment_id"])
    assert (before["status"], before["review"]["reason"]) == ("succeeded", "paid_twice")
    refund = shop.stripe.dashboard_refund(payment_intent=stranger["id"], amount=400)
    shop.stripe.fail_refund(refund["id"])
    shop.stripe.dashboard_refund(payment_intent=stranger["id"])
    shop.stripe.open_dispute(payment_intent=stranger["id"])

    types = ("refund.created", "refund.updated", "refund.failed", "charge.refunded")
    events = [e for t in (*types, "charge.dispute.created") for e in shop.events(t)]
    for event in events:
        # As Stripe would copy it there, or somebody in the dashboard.
        event["data"]["object"]["metadata"] = {"payment_id": payment["payment_id"]}
    results = [ok(await shop.deliver(event))["result"] for event in events]

    assert len({event["type"] for event in events}) == 5
    assert set(results) == {"ignored"}
    assert await shop.stored_payment(payment["payment_id"]) == before
    shown = await shop.payment(payment["payment_id"])
    assert (shown["refunds"], shown["disputes"], shown["refunded_cents"]) == ([], [], 0)
    assert [order["status"] for order in await shop.orders()] == ["paid"]
    refunded = ok(await shop.post("/refund", {"payment_id": payment["payment_id"]}))
    assert (refunded["status"], refunded["amount_cents"]) == ("succeeded", 999)


def _object_id(event: Document) -> str:
    object_id: str = event["data"]["object"]["id"]
    return object_id


@pytest.mark.parametrize("mode", ["setup", "subscription"])
async def test_a_session_that_sells_nothing_of_ours_is_ignored(shop: Shop, mode: str) -> None:
    session = await shop.create_session()
    shop.stripe.pay_session(session["session_id"])
    event = shop.events("checkout.session.completed")[0]
    event["data"]["object"] |= {"mode": mode, "amount_total": None, "currency": None}

    assert ok(await shop.deliver(event))["result"] == "ignored"

    assert (await shop.payment(session["payment_id"]))["status"] == "pending"


# At once


async def test_two_events_of_one_change_are_applied_once(shop: Shop) -> None:
    payment_id, event = await paid_in_browser(shop)
    ok(await shop.deliver(event))
    before = await shop.stored_payment(payment_id)

    assert ok(await shop.deliver({**event, "id": "evt_twin"}))["result"] == "processed"

    assert await shop.stored_payment(payment_id) == before
    await assert_paid_once(shop, payment_id)


async def test_an_event_delivered_twenty_times_at_once_is_applied_once(shop: Shop) -> None:
    payment_id, event = await paid_in_browser(shop)

    answers = await asyncio.gather(*(shop.deliver(event) for _ in range(20)))

    results = Counter(ok(answer)["result"] for answer in answers)
    assert results["processed"] == 1
    assert results["duplicate"] + results["deferred"] == 19
    assert (await inbox(shop))[event["id"]]["attempts"] == 1
    await assert_paid_once(shop, payment_id)


# What fails is kept and tried again


async def test_an_event_whose_handler_failed_is_not_acknowledged_and_succeeds_later(
    shop: Shop,
) -> None:
    payment_id, event = await refunded_in_dashboard(shop)
    shop.stripe.faults.add("error_before", path="/v1/refunds", headers=GIVE_UP)

    first = await shop.deliver(event)

    refused(first, 502, "stripe_error")
    kept = (await inbox(shop))[event["id"]]
    assert (kept["status"], kept["last_error"], kept["attempts"]) == ("failed", "StripeFailed", 1)
    wait = kept["next_attempt_at"] - kept["received_at"]
    assert timedelta(seconds=30) <= wait < timedelta(seconds=40)
    assert "expires_at" not in kept, "what is not finished is never forgotten"
    assert (await shop.payment(payment_id))["refunds"] == []
    failed = 'webhook_events_total{result="failed",type="charge.refunded"}'
    assert await shop.metric(failed) == 1

    assert ok(await shop.deliver(event))["result"] == "processed"

    kept = (await inbox(shop))[event["id"]]
    assert (kept["status"], kept["attempts"]) == ("processed", 2)
    assert "last_error" not in kept
    assert "next_attempt_at" not in kept
    assert "expires_at" in kept
    payment = await shop.payment(payment_id)
    assert (payment["status"], payment["refunded_cents"]) == ("partially_refunded", 400)
    assert [order["status"] for order in await shop.orders()] == ["partially_refunded"]


async def test_the_reconciler_retries_a_failed_event_once_it_is_due(shop: Shop) -> None:
    payment_id, event = await refunded_in_dashboard(shop)
    for other in shop.stripe.events.all():
        if other["id"] != event["id"] and not other["type"].startswith("refund."):
            await shop.deliver(other)
    shop.stripe.faults.add("error_before", path="/v1/refunds", headers=GIVE_UP)
    refused(await shop.deliver(event), 502, "stripe_error")
    shop.stripe.faults.add("error_before", path="/v1/events", headers=GIVE_UP, times=None)

    await shop.services.reconciliation.run_once()
    assert (await inbox(shop))[event["id"]]["attempts"] == 1, "it is not due yet"
    shop.clock.advance(seconds=31)
    report = await shop.services.reconciliation.run_once()

    assert report.moved["event"] == 1
    assert (await inbox(shop))[event["id"]]["status"] == "processed"
    assert (await shop.payment(payment_id))["status"] == "partially_refunded"


async def test_an_event_that_keeps_failing_waits_longer_each_time_up_to_an_hour(
    shop: Shop,
) -> None:
    _, event = await refunded_in_dashboard(shop)
    shop.stripe.faults.add("error_before", path="/v1/refunds", headers=GIVE_UP, times=None)
    waits = []
    for _ in range(9):
        refused(await shop.deliver(event), 502, "stripe_error")
        due = (await inbox(shop))[event["id"]]["next_attempt_at"]
        waits.append(round((due - shop.clock()).total_seconds() / 30))
        assert await shop.services.inbox.retry(event["id"]) == "deferred", "it is not due yet"
    assert waits == [1, 2, 4, 8, 16, 32, 64, 120, 120]


Step = tuple[str, str, When]
STEPS: list[Step] = [
    ("webhook_events", "insert_one", "before"),
    ("webhook_events", "insert_one", "after"),
    ("payments", "find_one", "before"),
    ("payments", "update_one", "before"),
    ("payments", "update_one", "after"),
    ("orders", "insert_one", "before"),
    ("orders", "insert_one", "after"),
    ("webhook_events", "update_one", "before"),
    ("webhook_events", "update_one", "after"),
]


@pytest.mark.parametrize("step", STEPS, ids=" ".join)
async def test_an_event_cut_short_by_the_database_is_finished_by_its_next_delivery(
    step: Step,
) -> None:
    collection, command, when = step
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        payment_id, event = await paid_in_browser(shop)
        fault = faults.add(command, collection=collection, when=when)

        problem = refused(await shop.deliver(event), 503, "database_unavailable")

        assert fault.hits == 1
        assert problem["database"] == "payments"
        stored = (await inbox(shop)).get(event["id"])
        assert (stored is None) is (step == ("webhook_events", "insert_one", "before"))

        again = ok(await shop.deliver(event))["result"]
        if again == "deferred":
            # It was stored and nobody is known to be at work on it before the lease is over.
            assert step == ("webhook_events", "insert_one", "after")
            shop.clock.advance(minutes=3)
            again = ok(await shop.deliver(event))["result"]
        assert again == ("duplicate" if step == STEPS[-1] else "processed")
        assert (await inbox(shop))[event["id"]]["status"] == "processed"
        await assert_paid_once(shop, payment_id)


async def test_an_event_whose_failure_could_not_be_recorded_is_not_lost() -> None:
    faults = DatabaseFaults()
    async with open_shop(ShopOptions(webhooks=False, connect=faulty(faults))) as shop:
        payment_id, event = await paid_in_browser(shop)
        # Applied, but neither the end of the event nor its failure can be written.
        faults.add("update_one", collection="webhook_events", times=2)

        refused(await shop.deliver(event), 503, "database_unavailable")

        assert (await inbox(shop))[event["id"]]["status"] == "processing"
        shop.clock.advance(minutes=3)
        assert ok(await shop.deliver(event))["result"] == "processed"
        await assert_paid_once(shop, payment_id)


async def _deliver_and_die(shop: Shop, event: Document) -> None:
    """The worker is killed while it waits for Stripe."""
    slow = shop.stripe.faults.add("latency", path="/v1/refunds", seconds=1)
    delivery = asyncio.create_task(shop.deliver(event))
    async with asyncio.timeout(5):
        while not slow.hits:  # noqa: ASYNC110 - the sandbox counts, it does not tell
            await asyncio.sleep(0)
    delivery.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivery


async def test_an_event_whose_worker_died_is_taken_over_by_a_later_delivery(shop: Shop) -> None:
    payment_id, event = await refunded_in_dashboard(shop)
    await _deliver_and_die(shop, event)
    assert (await inbox(shop))[event["id"]]["status"] == "processing"

    assert ok(await shop.deliver(event))["result"] == "deferred", "somebody may be at it"
    shop.clock.advance(seconds=121)
    assert ok(await shop.deliver(event))["result"] == "processed"

    assert (await shop.payment(payment_id))["refunded_cents"] == 400


async def test_an_event_whose_worker_died_is_taken_over_by_the_reconciler(shop: Shop) -> None:
    payment_id, event = await refunded_in_dashboard(shop)
    await _deliver_and_die(shop, event)
    shop.stripe.faults.add("error_before", path="/v1/events", headers=GIVE_UP, times=None)

    await shop.services.reconciliation.run_once()
    assert (await inbox(shop))[event["id"]]["status"] == "processing"
    shop.clock.advance(seconds=121)
    await shop.services.reconciliation.run_once()

    assert (await inbox(shop))[event["id"]]["status"] == "processed"
    assert (await shop.payment(payment_id))["refunded_cents"] == 400


# Events that overtake our own record


async def test_an_event_that_overtakes_its_payment_waits_for_it(shop: Shop) -> None:
    payment_id, event = await paid_in_browser(shop)
    record = await shop.stored_payment(payment_id)
    payments = shop.databases.payments["payments"]
    await payments.delete_one({"_id": payment_id})

    early = await shop.deliver(event)

    refused(early, 503, "event_not_yet_applicable")
    assert int(early.headers["retry-after"]) > 0
    assert (await inbox(shop))[event["id"]]["status"] == "failed"

    await payments.insert_one(record)
    assert ok(await shop.deliver(event))["result"] == "processed"
    await assert_paid_once(shop, payment_id)


async def test_the_reconciler_applies_an_event_when_its_payment_has_appeared(shop: Shop) -> None:
    payment_id, event = await paid_in_browser(shop)
    record = await shop.stored_payment(payment_id)
    payments = shop.databases.payments["payments"]
    await payments.delete_one({"_id": payment_id})
    refused(await shop.deliver(event), 503, "event_not_yet_applicable")
    await payments.insert_one(record)

    shop.clock.advance(seconds=31)
    await shop.services.reconciliation.run_once()

    assert (await inbox(shop))[event["id"]]["status"] == "processed"
    await assert_paid_once(shop, payment_id)


async def test_an_event_whose_payment_never_appears_is_ignored_after_an_hour(shop: Shop) -> None:
    payment_id, event = await paid_in_browser(shop)
    await shop.databases.payments["payments"].delete_one({"_id": payment_id})
    refused(await shop.deliver(event), 503, "event_not_yet_applicable")

    shop.clock.advance(minutes=59)
    refused(await shop.deliver(event), 503, "event_not_yet_applicable")
    shop.clock.advance(minutes=2)

    assert ok(await shop.deliver(event))["result"] == "ignored"
    assert (await inbox(shop))[event["id"]]["status"] == "ignored"
    assert await shop.orders() == []


async def test_a_payment_is_found_by_its_metadata_before_stripes_id_was_recorded(
    shop: Shop,
) -> None:
    payment_id, event = await paid_in_browser(shop)
    await shop.databases.payments["payments"].update_one(
        {"_id": payment_id}, {"$unset": {"stripe_payment_intent_id": ""}}
    )

    assert ok(await shop.deliver(event))["result"] == "processed"

    await assert_paid_once(shop, payment_id)
    payment = await shop.payment(payment_id)
    assert payment["stripe_payment_intent_id"] == event["data"]["object"]["id"]
