"""Every key of the official example objects, whatever the state (https://docs.stripe.com/api)."""

import json
from pathlib import Path
from typing import Any

import pytest

from stripe_sandbox.core.api_objects import build

OFFICIAL: dict[str, list[str]] = json.loads(
    Path(__file__).with_name("official_keys.json").read_text()
)
INCLUDABLE = {"charge": {"refunds"}}
"""Left out unless expanded (https://docs.stripe.com/changelog/2022-11-15)."""


def missing(kind: str, data: dict[str, Any]) -> set[str]:
    return set(OFFICIAL[kind]) - INCLUDABLE.get(kind, set()) - data.keys()


async def states(rig: Any) -> dict[str, dict[str, Any]]:
    """One object of each kind in each of the states that look different."""
    v1 = rig.client.v1
    made = {
        "new": await v1.payment_intents.create_async({"amount": 1000, "currency": "usd"}),
        "paid": await rig.intent(),
        "action": await rig.intent("pm_card_threeDSecure2Required"),
        "debit": await rig.intent("pm_usBankAccount"),
        "voucher": await rig.intent("pm_oxxo", currency="mxn"),
        "voucher paid": await rig.intent("pm_konbini", currency="jpy"),
        "held": await rig.intent(capture_method="manual"),
        "canceled": await v1.payment_intents.cancel_async(
            (await v1.payment_intents.create_async({"amount": 100, "currency": "usd"})).id
        ),
    }
    rig.sandbox.settle(made["voucher paid"].id)
    found = {f"payment_intent {name}": rig.data(intent.id) for name, intent in made.items()}
    found["charge voucher"] = rig.data(found["payment_intent voucher paid"]["latest_charge"])
    for name in ("paid", "debit", "held"):
        found[f"charge {name}"] = rig.data(made[name].latest_charge)
    refund = await v1.refunds.create_async({"payment_intent": made["paid"].id, "amount": 10})
    found["refund"] = rig.data(refund.id)
    found["payment_method"] = rig.data(made["paid"].payment_method)
    dispute = rig.sandbox.open_dispute(payment_intent=made["paid"].id)
    found["dispute"] = dispute
    found["balance_transaction"] = dispute["balance_transactions"][0]
    session = await rig.session()
    found["checkout.session open"] = json.loads(json.dumps(rig.data(session.id)))
    rig.sandbox.pay_session(session.id, "pm_card_chargeDeclined")
    failed = rig.data(rig.data(session.id)["payment_intent"])
    found["payment_intent failed"] = failed
    found["charge failed"] = rig.data(failed["latest_charge"])
    rig.sandbox.pay_session(session.id)
    found["checkout.session complete"] = rig.data(session.id)
    items = await v1.checkout.sessions.line_items.list_async(session.id)
    found["item"] = items.data[0].to_dict()
    found["price"] = found["item"]["price"]
    customer = await v1.customers.create_async({"email": "jenny@example.com"})
    found["customer"] = (await v1.customers.retrieve_async(customer.id)).to_dict()
    [endpoint] = rig.sandbox.webhooks.endpoints
    found["webhook_endpoint"] = endpoint.data
    await rig.intent("pm_card_createIssuerFraudRecord")
    warnings = await v1.radar.early_fraud_warnings.list_async()
    found["radar.early_fraud_warning"] = warnings.data[0].to_dict()
    found["event"] = rig.sandbox.events.all()[-1]
    found["balance"] = (await rig.http.get("/v1/balance")).json()
    return found


async def test_no_object_lacks_an_official_key_in_any_state(rig: Any) -> None:
    found = await states(rig)
    lacking = {
        name: missing(name.split()[0], data)
        for name, data in found.items()
        if missing(name.split()[0], data)
    }
    assert lacking == {}
    for name, data in found.items():
        assert data["object"] == name.split()[0]


async def test_nested_card_details_are_whole(rig: Any) -> None:
    found = await states(rig)
    charge = found["charge paid"]
    assert missing("payment_method.card", found["payment_method"]["card"]) == set()
    assert missing("charge.outcome", charge["outcome"]) == set()
    card = charge["payment_method_details"]["card"]
    assert missing("charge.payment_method_details.card", card) == set()
    assert missing("dispute.evidence", found["dispute"]["evidence"]) == set()


async def test_expanded_products_and_refunds_are_whole(rig: Any) -> None:
    session = await rig.session()
    answer = await rig.http.get(
        f"/v1/checkout/sessions/{session.id}?expand[]=line_items.data.price.product"
    )
    product = answer.json()["line_items"]["data"][0]["price"]["product"]
    assert missing("product", product) == set()
    assert product["name"] == "A tale of two cities"


def test_a_misspelled_key_cannot_be_built() -> None:
    with pytest.raises(KeyError, match="payment_intent has no amuont"):
        build("payment_intent", amuont=1)


def test_built_objects_share_nothing() -> None:
    one, two = build("payment_intent"), build("payment_intent")
    one["metadata"]["a"] = "1"
    one["amount_details"]["tip"]["amount"] = 1
    assert two["metadata"] == {}
    assert two["amount_details"] == {"tip": {}}
