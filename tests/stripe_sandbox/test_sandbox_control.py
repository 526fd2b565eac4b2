"""The control API: JSON over HTTP for what happens outside Stripe's API."""

import json
from typing import Any

import pytest
import stripe


async def call(rig: Any, method: str, url: str, /, **body: Any) -> Any:
    answer = await rig.http.request(method, f"/_sandbox{url}", json=body or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_requests_can_be_read_and_cleared(rig: Any) -> None:
    await rig.intent()
    await rig.client.v1.balance.retrieve_async()
    [record] = (await call(rig, "GET", "/requests?method=post&path=payment_intents"))["data"]
    assert record["path"] == "/v1/payment_intents"
    assert record["params"]["amount"] == "1000"
    assert record["status"] == 200
    assert len(record["idempotency_key"]) > 10
    await call(rig, "DELETE", "/requests")
    assert (await call(rig, "GET", "/requests"))["data"] == []


async def test_faults_can_be_added_listed_and_cleared(rig: Any) -> None:
    await call(rig, "POST", "/faults", kind="error_before", path="^/v1/balance", times=None)
    await call(rig, "POST", "/faults", kind="latency", seconds=0.01)
    listed = (await call(rig, "GET", "/faults"))["data"]
    assert [(fault["kind"], fault["times"]) for fault in listed] == [
        ("error_before", None),
        ("latency", 1),
    ]
    assert (await rig.http.get("/v1/balance")).status_code == 500
    await call(rig, "DELETE", "/faults")
    assert (await rig.http.get("/v1/balance")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "meteor"},
        {},
        {"kind": "latency", "times": 0},
        {"kind": "latency", "path": "("},
        {"kind": "latency", "secnods": 1},
        {"kind": "latency", "seconds": "soon"},
        {"kind": "latency", "seconds": "2..1"},
        {"kind": "latency", "chance": 1.5},
        {"kind": "latency", "times": True},
        {"kind": "error_before", "status": 200},
        {"kind": "error_before", "status": 600},
        {"kind": "error_before", "code": 7},
        {"kind": "rate_limit", "headers": {"Retry-After": 5}},
        {"kind": "rate_limit", "headers": {"X": "a\r\nY: b"}},
        {"kind": "rate_limit", "headers": {"X Y": "a"}},
        {"kind": "rate_limit", "reason": "\u00e9"},
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused(rig: Any, body: dict[str, Any]) -> None:
    answer = await rig.http.post("/_sandbox/faults", json=body)
    assert answer.status_code == 400
    assert rig.sandbox.faults.all() == []


@pytest.mark.parametrize(
    "code",
    [
        "balance_insufficient",
        "charge_disputed",
        "charge_expired_for_refund",
        "charge_not_refundable",
        "insufficient_funds",
    ],
)
async def test_a_fault_refuses_with_the_code_and_the_param_asked_for(rig: Any, code: str) -> None:
    """As Stripe would refuse for good: https://docs.stripe.com/error-codes"""
    body = {
        "kind": "error_before",
        "path": "^/v1/refunds",
        "status": 400,
        "code": code,
        "param": "charge",
        "headers": {"Stripe-Should-Retry": "false"},
    }
    added = await call(rig, "POST", "/faults", **body)
    assert {name: added[name] for name in body} == body
    with pytest.raises(stripe.InvalidRequestError) as refused:
        await rig.client.v1.refunds.create_async({"charge": "ch_1"})
    error = refused.value
    assert (error.http_status, error.code, error.param) == (400, code, "charge")
    assert error.error is not None
    assert error.error.type == "invalid_request_error"
    assert error.headers is not None
    assert error.headers["stripe-should-retry"] == "false"


async def test_a_field_that_nobody_knows_is_refused_before_anything_is_done(rig: Any) -> None:
    for path in ("/webhooks/pause", "/webhooks/drop", "/clock/advance", "/refunds/re_1/succeed"):
        answer = await rig.http.post(f"/_sandbox{path}", json={"seconds": 1, "colour": "red"})
        assert answer.status_code == 400, path
        assert answer.json()["error"]["message"].startswith("Received unknown parameter"), path
    assert rig.sandbox.webhooks.paused is False


async def test_a_pattern_that_makes_no_sense_is_refused(rig: Any) -> None:
    answer = await rig.http.get("/_sandbox/requests?path=[")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "path")


@pytest.mark.parametrize("seconds", ["-1", "NaN", "Infinity", "1e18", "1" + "0" * 400])
async def test_the_clock_is_not_moved_where_there_is_no_time(rig: Any, seconds: str) -> None:
    content = f'{{"seconds": {seconds}}}'
    answer = await rig.http.post("/_sandbox/clock/advance", content=content)
    assert answer.status_code == 400
    assert (await rig.intent()).status == "succeeded"


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
async def test_bodies_that_are_no_objects_are_refused(rig: Any, content: bytes) -> None:
    assert (await rig.http.post("/_sandbox/refunds", content=content)).status_code == 400


async def test_webhooks_can_be_held_reordered_resent_and_watched(rig: Any) -> None:
    await call(rig, "POST", "/webhooks/pause")
    await rig.intent()
    ids = [event["id"] for event in rig.sandbox.events.all()]
    held = await call(rig, "GET", "/webhooks/deliveries")
    assert held["paused"] is True
    assert [delivery["event"] for delivery in held["pending"]] == ids
    answer = await rig.http.post("/_sandbox/webhooks/drain")
    assert answer.status_code == 409
    await call(rig, "POST", "/webhooks/release", events=ids[::-1])
    await call(rig, "POST", "/webhooks/drain", within=5)
    assert [event["id"] for event in rig.receiver.events] == ids[::-1]
    assert await call(rig, "POST", f"/events/{ids[0]}/resend") == {"queued": 1}
    await call(rig, "POST", "/webhooks/drain")
    made = (await call(rig, "GET", f"/webhooks/deliveries?event={ids[0]}"))["data"]
    assert [(delivery["event"], delivery["status"]) for delivery in made] == [(ids[0], 200)] * 2
    assert (await rig.http.post("/_sandbox/events/evt_unknown/resend")).status_code == 404


async def test_pending_webhooks_can_be_dropped(rig: Any) -> None:
    await call(rig, "POST", "/webhooks/pause")
    await rig.intent()
    assert await call(rig, "POST", "/webhooks/drop") == {"dropped": 3}
    await call(rig, "POST", "/webhooks/resume")
    await call(rig, "POST", "/webhooks/drain")
    assert rig.receiver.received == []


async def test_delayed_payments_and_three_d_secure_are_decided(rig: Any) -> None:
    debit = await rig.intent("pm_usBankAccount")
    settled = await call(rig, "POST", f"/payment_intents/{debit.id}/settle", outcome="failed")
    assert settled["status"] == "requires_payment_method"
    secure = await rig.intent("pm_card_threeDSecure2Required")
    approved = await call(rig, "POST", f"/payment_intents/{secure.id}/3ds", approve=True)
    assert approved["status"] == "succeeded"
    again = await rig.http.post(f"/_sandbox/payment_intents/{secure.id}/3ds")
    assert again.status_code == 400
    assert again.json()["error"]["code"] == "payment_intent_unexpected_state"


async def test_refunds_and_disputes_are_made_outside_the_api(rig: Any) -> None:
    intent = await rig.intent("pm_card_pendingRefund")
    refund = await call(rig, "POST", "/refunds", payment_intent=intent.id, amount=100)
    assert refund["status"] == "pending"
    assert (await call(rig, "POST", f"/refunds/{refund['id']}/succeed"))["status"] == "succeeded"
    assert (await call(rig, "POST", f"/refunds/{refund['id']}/fail"))["status"] == "failed"
    dispute = await call(rig, "POST", "/disputes", charge=intent.latest_charge, reason="general")
    closed = await call(rig, "POST", f"/disputes/{dispute['id']}/close", status="lost")
    assert closed["status"] == "lost"
    assert rig.sandbox.events.types()[-1] == "charge.dispute.closed"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/refunds", {"payment_intent": "pi_unknown"}, 404),
        ("/refunds", {}, 400),
        ("/refunds/re_unknown/fail", {}, 404),
        ("/disputes", {}, 400),
        ("/disputes", {"charge": "ch_unknown"}, 404),
        ("/disputes/du_unknown/close", {"status": "won"}, 404),
        ("/payment_intents/pi_unknown/settle", {"outcome": "succeeded"}, 404),
        ("/payment_intents/pi_unknown/settle", {"outcome": "perhaps"}, 400),
        ("/checkout/sessions/cs_unknown/complete", {}, 404),
        ("/clock/advance", {"seconds": -1}, 400),
        ("/clock/advance", {}, 400),
    ],
)
async def test_what_is_impossible_is_refused(
    rig: Any, path: str, body: dict[str, Any], status: int
) -> None:
    answer = await rig.http.post(f"/_sandbox{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


async def test_a_session_is_paid_without_a_browser(rig: Any) -> None:
    session = await rig.session()
    path = f"/checkout/sessions/{session.id}/complete"
    declined = await call(rig, "POST", path, payment_method="pm_card_chargeDeclined")
    assert declined["outcome"] == "declined"
    assert declined["error"]["decline_code"] == "generic_decline"
    unknown = await rig.http.post(f"/_sandbox{path}", json={"payment_method": "pm_unknown"})
    assert unknown.json()["error"]["code"] == "resource_missing"
    paid = await call(rig, "POST", path, email="jenny@example.com")
    assert paid["outcome"] == "complete"
    assert paid["redirect_url"] == f"https://shop.example/ok?session_id={session.id}"
    assert paid["session"]["customer_details"]["email"] == "jenny@example.com"
    again = await rig.http.post(f"/_sandbox{path}")
    assert again.status_code == 400


async def test_the_clock_goes_forward_over_http(rig: Any) -> None:
    session = await rig.session()
    await call(rig, "POST", "/clock/advance", seconds=25 * 3600)
    assert rig.data(session.id)["status"] == "expired"


async def test_the_status_page_shows_no_secret(rig: Any, webhook_secret: str) -> None:
    status = await call(rig, "GET", "/")
    assert status["webhook_endpoints"][0]["url"] == "http://app.test/hook"
    assert "pm_card_visa" in status["payment_methods"]
    assert webhook_secret not in json.dumps(status)
