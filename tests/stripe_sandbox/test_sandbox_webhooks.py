"""https://docs.stripe.com/webhooks"""

import asyncio
import json
import re
import time
from typing import Any

import httpx
import pytest
import stripe

from stripe_sandbox import WebhookEndpointConfig


async def make_event(rig: Any, amount: int = 1000) -> dict[str, Any]:
    await rig.client.v1.payment_intents.create_async({"amount": amount, "currency": "usd"})
    event: dict[str, Any] = rig.sandbox.events.all()[-1]
    return event


async def test_events_are_delivered_signed_and_in_order(rig: Any, webhook_secret: str) -> None:
    await rig.intent()
    await rig.sandbox.webhooks.drain()
    assert rig.receiver.types == rig.sandbox.events.types()
    for request in rig.receiver.received:
        event = rig.client.construct_event(
            request.content, request.headers["Stripe-Signature"], webhook_secret
        )
        assert event.id == json.loads(request.content)["id"]
        assert request.headers["Content-Type"] == "application/json; charset=utf-8"
        assert request.headers["User-Agent"].startswith("Stripe/1.0")


async def test_a_changed_body_or_another_secret_does_not_verify(
    rig: Any, webhook_secret: str
) -> None:
    await make_event(rig)
    await rig.sandbox.webhooks.drain()
    [request] = rig.receiver.received
    header = request.headers["Stripe-Signature"]
    body = request.content.decode()
    verify = stripe.WebhookSignature.verify_header
    assert verify(body, header, webhook_secret, 300)
    for forged, secret in (
        (body.replace("1000", "1"), webhook_secret),
        (json.dumps(json.loads(body)), webhook_secret),
        (body, "whsec_other"),
    ):
        with pytest.raises(stripe.SignatureVerificationError):
            verify(forged, header, secret, 300)


async def test_signatures_carry_the_real_time_whatever_the_clock_says(
    rig: Any, webhook_secret: str
) -> None:
    rig.sandbox.clock.advance(7 * 24 * 3600)
    await make_event(rig)
    await rig.sandbox.webhooks.drain()
    [request] = rig.receiver.received
    signed_at = int(request.headers["Stripe-Signature"].split(",")[0].removeprefix("t="))
    assert abs(signed_at - time.time()) < 5


async def test_while_a_secret_is_rolled_both_verify(start: Any) -> None:
    endpoint = WebhookEndpointConfig(
        url="http://app.test/hook", secret="whsec_new", rolled_secrets=["whsec_old"]
    )
    rig = await start(webhook_endpoints=[endpoint])
    await make_event(rig)
    await rig.sandbox.webhooks.drain()
    [request] = rig.receiver.received
    for secret in ("whsec_new", "whsec_old"):
        assert rig.client.construct_event(
            request.content, request.headers["Stripe-Signature"], secret
        )


@pytest.mark.parametrize("failure", [500, 400, 302, httpx.ConnectError("refused"), RuntimeError()])
async def test_anything_but_2xx_is_tried_again(rig: Any, failure: Any) -> None:
    rig.receiver.statuses = [failure]
    event = await make_event(rig)
    await rig.sandbox.webhooks.drain()
    first, second = rig.sandbox.webhooks.attempts
    assert (first.succeeded, second.succeeded) == (False, True)
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.event_id == second.event_id == event["id"]
    assert (first.error is None) == isinstance(failure, int)
    assert rig.sandbox.events.find(event["id"])["pending_webhooks"] == 0


async def test_each_attempt_is_signed_anew(start: Any, webhook_secret: str) -> None:
    """https://docs.stripe.com/webhooks: so that a receiver's tolerance holds for retries too."""
    rig = await start(retry_schedule=(1.0,))
    rig.receiver.statuses = [500]
    await make_event(rig)
    await rig.sandbox.webhooks.drain()
    headers = [request.headers["Stripe-Signature"] for request in rig.receiver.received]
    first, second = (int(re.findall(r"^t=(\d+)", header)[0]) for header in headers)
    assert second > first
    for request, header in zip(rig.receiver.received, headers, strict=True):
        assert rig.client.construct_event(request.content, header, webhook_secret)


async def test_tries_are_bounded(rig: Any) -> None:
    rig.receiver.statuses = [500] * 10
    event = await make_event(rig)
    await rig.sandbox.webhooks.drain()
    assert len(rig.receiver.received) == 3
    assert rig.sandbox.events.find(event["id"])["pending_webhooks"] == 1
    assert rig.sandbox.webhooks.outstanding == 0


async def test_a_slow_receiver_is_a_failure(start: Any) -> None:
    rig = await start(webhook_timeout=0.02, retry_schedule=())

    async def slow(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(1)
        return httpx.Response(200)

    rig.receiver.handle_async_request = slow
    await make_event(rig)
    await rig.sandbox.webhooks.drain()
    [attempt] = rig.sandbox.webhooks.attempts
    assert (attempt.status, attempt.error) == (None, "no answer within 0.02 s")


async def test_a_failing_event_does_not_hold_up_the_next(rig: Any) -> None:
    rig.receiver.statuses = [500]
    first, second = await make_event(rig), await make_event(rig)
    await rig.sandbox.webhooks.drain()
    assert [event["id"] for event in rig.receiver.events] in (
        [first["id"], second["id"], first["id"]],
        [first["id"], first["id"], second["id"]],
    )


async def test_every_endpoint_gets_what_it_asked_for(start: Any) -> None:
    rig = await start(webhook_endpoints=[])
    add = rig.sandbox.webhooks.add_endpoint
    add(WebhookEndpointConfig(url="http://all.test/", secret="whsec_a"))
    add(
        WebhookEndpointConfig(
            url="http://some.test/", secret="whsec_b", enabled_events=["charge.succeeded"]
        )
    )
    await rig.intent()
    await rig.sandbox.webhooks.drain()
    by_host: dict[str, list[str]] = {"all.test": [], "some.test": []}
    for request in rig.receiver.received:
        by_host[request.url.host].append(json.loads(request.content)["type"])
    assert by_host["all.test"] == rig.sandbox.events.types()
    assert by_host["some.test"] == ["charge.succeeded"]
    [event] = [e for e in rig.receiver.events if e["type"] == "charge.succeeded"][:1]
    assert rig.sandbox.events.find(event["id"])["pending_webhooks"] == 0


async def test_a_removed_endpoint_gets_nothing_more(rig: Any) -> None:
    rig.sandbox.webhooks.pause()
    await make_event(rig)
    [endpoint] = rig.sandbox.webhooks.endpoints
    rig.sandbox.webhooks.remove_endpoint(endpoint.id)
    rig.sandbox.webhooks.resume()
    await make_event(rig)
    await rig.sandbox.webhooks.drain()
    assert rig.receiver.received == []


async def test_paused_deliveries_wait_and_then_arrive(rig: Any) -> None:
    rig.sandbox.webhooks.pause()
    event = await make_event(rig)
    await asyncio.sleep(0.02)
    assert rig.receiver.received == []
    with pytest.raises(RuntimeError):
        await rig.sandbox.webhooks.drain()
    rig.sandbox.webhooks.resume()
    await rig.sandbox.webhooks.drain()
    assert [received["id"] for received in rig.receiver.events] == [event["id"]]


async def test_held_events_are_released_in_a_chosen_order(rig: Any) -> None:
    rig.sandbox.webhooks.pause()
    ids = [(await make_event(rig))["id"] for _ in range(4)]
    rig.sandbox.webhooks.release([ids[3], ids[1]])
    await rig.sandbox.webhooks.drain()
    assert [event["id"] for event in rig.receiver.events] == [ids[3], ids[1], ids[0], ids[2]]


async def test_dropped_deliveries_never_arrive_but_can_be_resent(rig: Any) -> None:
    rig.sandbox.webhooks.pause()
    event = await make_event(rig)
    assert rig.sandbox.webhooks.drop_pending() == 1
    rig.sandbox.webhooks.resume()
    await rig.sandbox.webhooks.drain()
    assert rig.receiver.received == []
    rig.sandbox.webhooks.resend(event["id"])
    await rig.sandbox.webhooks.drain()
    assert [received["id"] for received in rig.receiver.events] == [event["id"]]
    assert rig.sandbox.events.find(event["id"])["pending_webhooks"] == 0


async def test_a_resent_event_has_the_same_id_and_data(rig: Any) -> None:
    event = await make_event(rig)
    await rig.sandbox.webhooks.drain()
    rig.sandbox.webhooks.resend(event["id"])
    await rig.sandbox.webhooks.drain()
    first, second = rig.receiver.events
    assert (first["id"], first["data"]) == (second["id"], second["data"])
    with pytest.raises(KeyError):
        rig.sandbox.webhooks.resend("evt_unknown")


async def test_retries_waiting_for_their_turn_can_be_dropped(start: Any) -> None:
    rig = await start(retry_schedule=(60,))
    rig.receiver.statuses = [500]
    await make_event(rig)
    await rig.eventually(lambda: rig.sandbox.webhooks.attempts)
    [waiting] = rig.sandbox.webhooks.pending()
    assert waiting["attempts"] == 1
    assert rig.sandbox.webhooks.drop_pending() == 1
    await rig.sandbox.webhooks.drain()
    assert len(rig.receiver.received) == 1


async def test_what_is_queued_may_leave_while_closing(start: Any) -> None:
    rig = await start(shutdown_drain_seconds=5)
    await make_event(rig)
    await rig.sandbox.aclose()
    assert rig.receiver.types == ["payment_intent.created"]


@pytest.mark.parametrize(
    ("url", "secret"), [("ftp://x", "whsec_1"), ("http://x", ""), ("http://x", "whsec_")]
)
def test_an_endpoint_needs_a_url_and_a_secret(url: str, secret: str) -> None:
    with pytest.raises(ValueError, match="webhook"):
        WebhookEndpointConfig(url=url, secret=secret)


def test_secrets_do_not_show(webhook_secret: str) -> None:
    endpoint = WebhookEndpointConfig(url="http://x", secret=webhook_secret)
    assert webhook_secret not in repr(endpoint)
