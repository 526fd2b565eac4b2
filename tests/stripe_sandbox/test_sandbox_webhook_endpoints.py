"""https://docs.stripe.com/api/webhook_endpoints, by both kinds of client."""

import json
from typing import Any

import pytest
import stripe

HOOK = {"url": "http://app.test/new", "enabled_events": ["charge.succeeded"]}


def received_at(rig: Any, path: str) -> list[Any]:
    return [request for request in rig.receiver.received if request.url.path == path]


async def test_the_secret_is_shown_once_and_signs_what_is_delivered(rig: Any, ask: Any) -> None:
    made = await ask("webhook_endpoints.create", {**HOOK, "metadata": {"a": "1"}})
    assert (made.id[:3], made.status, made.secret[:6]) == ("we_", "enabled", "whsec_")
    found = await ask("webhook_endpoints.retrieve", made.id)
    assert "secret" not in found
    assert (found.url, found.enabled_events) == (HOOK["url"], ["charge.succeeded"])
    listed = await ask("webhook_endpoints.list")
    assert next(endpoint.id for endpoint in listed.data) == made.id
    assert not any("secret" in endpoint for endpoint in listed.data)
    await rig.intent()
    await rig.sandbox.webhooks.drain()
    [request] = received_at(rig, "/new")
    event = stripe.Webhook.construct_event(
        request.content, request.headers["Stripe-Signature"], made.secret
    )
    assert event.type == "charge.succeeded"


async def test_an_endpoint_of_the_configuration_is_listed_too(rig: Any, ask: Any) -> None:
    [configured] = (await ask("webhook_endpoints.list")).data
    assert (configured.url, configured.enabled_events) == ("http://app.test/hook", ["*"])


async def test_each_endpoint_counts_as_pending_until_it_has_answered(rig: Any, ask: Any) -> None:
    await ask("webhook_endpoints.create", {**HOOK, "enabled_events": ["*"]})
    rig.sandbox.webhooks.pause()
    await ask("payment_intents.create", {"amount": 1000, "currency": "usd"})
    [event] = (await ask("events.list", {"delivery_success": False})).data
    assert event.pending_webhooks == 2
    rig.receiver.statuses = [200, 500, 500, 500]
    rig.sandbox.webhooks.resume()
    await rig.sandbox.webhooks.drain()
    assert (await ask("events.retrieve", event.id)).pending_webhooks == 1
    assert (await ask("events.list", {"delivery_success": True})).data == []
    rig.sandbox.webhooks.resend(event.id)
    await rig.sandbox.webhooks.drain()
    assert (await ask("events.retrieve", event.id)).pending_webhooks == 0
    assert len((await ask("events.list", {"delivery_success": True})).data) == 1


async def test_an_update_takes_effect_and_disabled_means_silent(rig: Any, ask: Any) -> None:
    made = await ask("webhook_endpoints.create", HOOK)
    changed = await ask(
        "webhook_endpoints.update",
        made.id,
        {"url": "http://app.test/moved", "enabled_events": ["payment_intent.succeeded"]},
    )
    assert (changed.url, changed.status) == ("http://app.test/moved", "enabled")
    await rig.intent()
    await rig.sandbox.webhooks.drain()
    [request] = received_at(rig, "/moved")
    assert json.loads(request.content)["type"] == "payment_intent.succeeded"
    off = await ask("webhook_endpoints.update", made.id, {"disabled": True})
    assert off.status == "disabled"
    await rig.intent()
    await rig.sandbox.webhooks.drain()
    assert len(received_at(rig, "/moved")) == 1
    assert (await ask("webhook_endpoints.update", made.id, {"disabled": False})).status == "enabled"


async def test_a_deleted_endpoint_gets_nothing_not_even_retries(rig: Any, ask: Any) -> None:
    made = await ask("webhook_endpoints.create", HOOK)
    rig.sandbox.webhooks.pause()
    await rig.intent()
    gone = await ask("webhook_endpoints.delete", made.id)
    assert (gone.id, gone.deleted) == (made.id, True)
    rig.sandbox.webhooks.resume()
    await rig.intent()
    await rig.sandbox.webhooks.drain()
    assert received_at(rig, "/new") == []
    refused = await ask.refused("webhook_endpoints.retrieve", made.id)
    assert (refused.http_status, refused.code) == (404, "resource_missing")
    assert (await ask.refused("webhook_endpoints.delete", made.id)).http_status == 404


async def test_deliveries_carry_the_version_of_the_endpoint(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/webhooks/versioning"""
    await ask("webhook_endpoints.create", {**HOOK, "api_version": "2025-03-31.basil"})
    await rig.intent()
    await rig.sandbox.webhooks.drain()
    [request] = received_at(rig, "/new")
    assert json.loads(request.content)["api_version"] == "2025-03-31.basil"
    stored = rig.sandbox.events.all("charge.succeeded")[0]
    assert stored["api_version"] == "2026-10-28.endive"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"url": ""}, "url"),
        ({"url": "app.test/hook"}, "url"),
        ({"enabled_events": ["charge.exploded"]}, "enabled_events[0]"),
        ({"enabled_events": []}, "enabled_events"),
        ({"connect": True}, "connect"),
        ({"secret": "whsec_mine"}, "secret"),
    ],
)
async def test_what_makes_no_endpoint_is_refused(
    ask: Any, change: dict[str, Any], param: str
) -> None:
    refused = await ask.refused("webhook_endpoints.create", {**HOOK, **change})
    assert (refused.http_status, refused.param) == (400, param)


async def test_there_are_at_most_sixteen(ask: Any) -> None:
    """https://docs.stripe.com/webhooks: one comes from the configuration."""
    for _ in range(15):
        await ask("webhook_endpoints.create", HOOK)
    refused = await ask.refused("webhook_endpoints.create", HOOK)
    assert refused.user_message == "You have reached the maximum of 16 test webhook endpoints."


async def test_a_replayed_creation_makes_no_second_endpoint(rig: Any) -> None:
    form = {"url": "http://app.test/new", "enabled_events[]": "*"}
    headers = {"Idempotency-Key": "hook"}
    first = await rig.http.post("/v1/webhook_endpoints", data=form, headers=headers)
    second = await rig.http.post("/v1/webhook_endpoints", data=form, headers=headers)
    assert first.json() == second.json()
    assert len(rig.sandbox.webhooks.endpoints) == 2
