"""https://docs.stripe.com/api/customers and their PaymentMethods, by both kinds of client."""

from typing import Any

import pytest


async def customer_of(ask: Any, **params: Any) -> Any:
    return await ask("customers.create", {"email": "jenny@example.com", "name": "Jenny", **params})


def paying(method: str, **params: Any) -> dict[str, Any]:
    return {
        "amount": 1000,
        "currency": "usd",
        "payment_method": method,
        "confirm": True,
        "return_url": "https://shop.example/return",
        **params,
    }


async def test_a_customer_is_created_and_retrieved(rig: Any, ask: Any) -> None:
    made = await customer_of(
        ask,
        metadata={"user": "7"},
        address={"line1": "1 Street", "country": "US"},
        shipping={"name": "Jenny", "address": {"city": "Oslo"}},
    )
    assert made.id.startswith("cus_")
    found = await ask("customers.retrieve", made.id)
    assert (found.email, found.name, found.delinquent) == ("jenny@example.com", "Jenny", False)
    assert found.metadata.to_dict() == {"user": "7"}
    assert (found.address.line1, found.address.city) == ("1 Street", None)
    assert found.shipping.address.city == "Oslo"
    assert rig.sandbox.events.types() == ["customer.created"]


async def test_an_update_merges_and_tells_what_was_before(rig: Any, ask: Any) -> None:
    made = await customer_of(ask, metadata={"a": "1", "b": "2"}, address={"line1": "1 Street"})
    changed = await ask(
        "customers.update",
        made.id,
        {"name": "Jenny Rosen", "metadata": {"b": "", "c": "3"}, "address": {"city": "Oslo"}},
    )
    assert changed.metadata.to_dict() == {"a": "1", "c": "3"}
    assert (changed.address.line1, changed.address.city) == ("1 Street", "Oslo")
    event = rig.sandbox.events.all("customer.updated")[0]
    assert event["data"]["previous_attributes"] == {
        "name": "Jenny",
        "address": {"city": None},
        "metadata": {"b": "2", "c": None},
    }
    await ask("customers.update", made.id, {"name": "Jenny Rosen"})
    assert len(rig.sandbox.events.all("customer.updated")) == 1


async def test_a_deleted_customer_is_a_tombstone(rig: Any, ask: Any) -> None:
    made = await customer_of(ask, payment_method="pm_card_visa")
    gone = await ask("customers.delete", made.id)
    assert (gone.id, gone.deleted) == (made.id, True)
    assert (await ask("customers.retrieve", made.id)).deleted is True
    assert (await ask("customers.list")).data == []
    refused = await ask.refused("payment_intents.create", paying("pm_card_visa", customer=made.id))
    assert (refused.http_status, refused.code) == (400, "resource_missing")
    assert (await ask.refused("customers.update", made.id, {"name": "x"})).http_status == 404
    assert rig.sandbox.events.types() == [
        "customer.created",
        "payment_method.attached",
        "payment_method.detached",
        "customer.deleted",
    ]
    assert "deleted" not in rig.sandbox.events.all("customer.deleted")[0]["data"]["object"]


async def test_customers_are_listed_by_email_and_by_page(ask: Any) -> None:
    ids = [(await customer_of(ask, email=f"{n % 2}@example.com")).id for n in range(5)]
    page = await ask("customers.list", {"limit": 2})
    assert ([c.id for c in page.data], page.has_more) == ([ids[4], ids[3]], True)
    rest = await ask("customers.list", {"starting_after": ids[3]})
    assert ([c.id for c in rest.data], rest.has_more) == ([ids[2], ids[1], ids[0]], False)
    odd = await ask("customers.list", {"email": "1@example.com"})
    assert [c.id for c in odd.data] == [ids[3], ids[1]]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"email": "nobody"}, "email"),
        ({"colour": "red"}, "colour"),
        ({"address": {"planet": "Mars"}}, "address[planet]"),
        ({"balance": "much"}, "balance"),
        ({"test_clock": "clock_1"}, "test_clock"),
        ({"payment_method": "pm_unknown"}, "payment_method"),
    ],
)
async def test_what_makes_no_customer_is_refused(
    rig: Any, ask: Any, params: dict[str, Any], param: str
) -> None:
    refused = await ask.refused("customers.create", params)
    assert refused.param == param
    assert rig.sandbox.events.all() == []


async def test_an_unknown_customer_is_missing(ask: Any) -> None:
    refused = await ask.refused("customers.retrieve", "cus_x")
    assert (refused.http_status, refused.code, refused.param) == (404, "resource_missing", "id")
    assert refused.user_message == "No such customer: 'cus_x'"


async def test_a_payment_names_its_customer_everywhere(rig: Any, ask: Any) -> None:
    made = await customer_of(ask)
    other = await customer_of(ask)
    intent = await ask(
        "payment_intents.create",
        paying("pm_card_visa", customer=made.id, expand=["customer", "latest_charge.customer"]),
    )
    assert intent.customer.email == "jenny@example.com"
    assert intent.latest_charge.customer.id == made.id
    refund = await ask("refunds.create", {"payment_intent": intent.id, "amount": 1})
    assert refund.customer == made.id
    for kind in ("payment_intents", "charges"):
        assert len((await ask(f"{kind}.list", {"customer": made.id})).data) == 1
        assert (await ask(f"{kind}.list", {"customer": other.id})).data == []
    assert rig.data(intent.payment_method)["customer"] is None


async def test_the_customer_of_an_intent_is_set_once(ask: Any) -> None:
    made, other = await customer_of(ask), await customer_of(ask)
    intent = await ask("payment_intents.create", {"amount": 1000, "currency": "usd"})
    named = await ask("payment_intents.update", intent.id, {"customer": made.id})
    assert named.customer == made.id
    refused = await ask.refused("payment_intents.update", intent.id, {"customer": other.id})
    assert (refused.http_status, refused.param) == (400, "customer")
    missing = await ask.refused("payment_intents.confirm", intent.id, {"return_url": "https://x"})
    assert made.id in missing.user_message


async def test_attaching_is_told_once_and_detaching_ends_it(rig: Any, ask: Any) -> None:
    made = await customer_of(ask)
    method = await ask("payment_methods.attach", "pm_card_visa", {"customer": made.id})
    assert (method.customer, method.card.checks.cvc_check) == (made.id, "pass")
    again = await ask("payment_methods.attach", method.id, {"customer": made.id})
    assert again.id == method.id
    listed = await ask("payment_methods.list", {"customer": made.id, "type": "card"})
    assert [m.id for m in listed.data] == [method.id]
    detached = await ask("payment_methods.detach", method.id)
    assert detached.customer is None
    assert (await ask("customers.payment_methods.list", made.id)).data == []
    assert rig.sandbox.events.types() == [
        "customer.created",
        "payment_method.attached",
        "payment_method.detached",
    ]
    previous = rig.sandbox.events.all()[-1]["data"]["previous_attributes"]
    assert previous == {"customer": made.id}
    assert (await ask.refused("payment_methods.detach", method.id)).http_status == 400
    used = await ask.refused("payment_intents.create", paying(method.id))
    assert "may not be used again" in used.user_message


async def test_attaching_needs_a_customer_that_exists(ask: Any) -> None:
    refused = await ask.refused("payment_methods.attach", "pm_card_visa", {})
    assert (refused.http_status, refused.code) == (400, "parameter_missing")
    refused = await ask.refused("payment_methods.attach", "pm_card_visa", {"customer": "cus_x"})
    assert (refused.http_status, refused.code) == (400, "resource_missing")
    made = await customer_of(ask)
    refused = await ask.refused("payment_methods.attach", "pm_x", {"customer": made.id})
    assert (refused.http_status, refused.param) == (404, "payment_method")
    assert (await ask("payment_methods.list")).data == []
    refused = await ask.refused("payment_methods.list", {"customer": "cus_x"})
    assert refused.http_status == 400


async def test_a_saved_method_pays_again_and_for_its_customer_only(rig: Any, ask: Any) -> None:
    made, other = await customer_of(ask), await customer_of(ask)
    method = await ask("payment_methods.attach", "pm_card_visa", {"customer": made.id})
    for _ in range(2):
        paid = await ask("payment_intents.create", paying(method.id, customer=made.id))
        assert paid.status == "succeeded"
    nobody = await ask.refused("payment_intents.create", paying(method.id))
    assert (nobody.code, nobody.param) == ("parameter_missing", "source")
    wrong = await ask.refused("payment_intents.create", paying(method.id, customer=other.id))
    assert (wrong.code, wrong.param) == (None, "payment_method")
    taken = await ask.refused("payment_methods.attach", method.id, {"customer": other.id})
    assert taken.http_status == 400


async def test_setup_future_usage_saves_the_method(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/payments/save-during-payment"""
    made = await customer_of(ask)
    params = paying("pm_card_visa", customer=made.id, setup_future_usage="off_session")
    intent = await ask("payment_intents.create", params)
    assert rig.data(intent.payment_method)["customer"] == made.id
    later = await ask(
        "payment_intents.create", paying(intent.payment_method, customer=made.id, off_session=True)
    )
    assert later.status == "succeeded"


async def test_only_a_saved_method_can_be_updated_or_be_the_default(rig: Any, ask: Any) -> None:
    made = await customer_of(ask)
    loose = (await ask("payment_methods.retrieve", "pm_card_visa")).id
    assert (await ask.refused("payment_methods.update", loose, {})).http_status == 400
    settings = {"invoice_settings": {"default_payment_method": loose}}
    assert (await ask.refused("customers.update", made.id, settings)).code == "resource_missing"
    await ask("payment_methods.attach", loose, {"customer": made.id})
    changed = await ask(
        "payment_methods.update",
        loose,
        {
            "metadata": {"main": "1"},
            "card": {"exp_month": 7},
            "billing_details": {"name": "Jenny", "address": {"city": "Oslo"}},
            "allow_redisplay": "always",
        },
    )
    assert (changed.card.exp_month, changed.billing_details.address.city) == (7, "Oslo")
    assert rig.sandbox.events.types()[-1] == "payment_method.updated"
    updated = await ask("customers.update", made.id, settings)
    assert updated.invoice_settings.default_payment_method == loose
    found = await ask("payment_methods.list", {"customer": made.id, "allow_redisplay": "limited"})
    assert found.data == []


async def test_a_session_pays_for_its_customer(rig: Any, ask: Any, line_item: Any) -> None:
    made = await customer_of(ask)
    params = {
        "mode": "payment",
        "success_url": "https://shop.example/ok",
        "line_items": [line_item()],
    }
    session = await ask("checkout.sessions.create", {**params, "customer": made.id})
    assert (session.customer, session.customer_creation) == (made.id, None)
    assert session.customer_details.email == "jenny@example.com"
    payment = rig.sandbox.pay_session(session.id)
    assert payment.session["customer_details"]["email"] == "jenny@example.com"
    assert payment.payment_intent["customer"] == made.id
    listed = await ask("checkout.sessions.list", {"customer": made.id})
    assert [found.id for found in listed.data] == [session.id]
    unknown = await ask.refused("checkout.sessions.create", {**params, "customer": "cus_x"})
    assert (unknown.code, unknown.param) == ("resource_missing", "customer")
    both = await ask.refused(
        "checkout.sessions.create",
        {**params, "customer": made.id, "customer_creation": "always"},
    )
    assert both.param == "customer_creation"


async def test_a_session_makes_a_customer_when_asked_to(rig: Any, ask: Any, line_item: Any) -> None:
    """https://docs.stripe.com/api/checkout/sessions/create"""
    session = await ask(
        "checkout.sessions.create",
        {
            "mode": "payment",
            "success_url": "https://shop.example/ok",
            "line_items": [line_item()],
            "customer_creation": "always",
        },
    )
    assert session.customer is None
    payment = rig.sandbox.pay_session(session.id, email="new@example.com")
    made = await ask("customers.retrieve", payment.session["customer"])
    assert made.email == "new@example.com"
    assert payment.payment_intent["customer"] == made.id
    guest = await ask(
        "checkout.sessions.create",
        {
            "mode": "payment",
            "success_url": "https://shop.example/ok",
            "line_items": [line_item()],
        },
    )
    assert rig.sandbox.pay_session(guest.id).session["customer"] is None
