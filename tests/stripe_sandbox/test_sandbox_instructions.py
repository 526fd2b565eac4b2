"""Payments that wait for days for what the shopper does elsewhere.

https://docs.stripe.com/payments/vouchers, /payments/bank-transfers, /payments/ach-direct-debit
"""

import html
from typing import Any

import pytest
import stripe

from stripe_sandbox import ApiError

DAY = 24 * 3600
VOUCHERS = [
    ("oxxo", "mxn", "expires_after", 3, {"number"}),
    ("boleto", "brl", "expires_at", 3, {"number", "pdf"}),
    ("konbini", "jpy", "expires_at", 3, {"stores"}),
    ("multibanco", "eur", "expires_at", 7, {"entity", "reference"}),
]
EXPIRED = "payment_intent_payment_attempt_expired"


async def oxxo(rig: Any) -> Any:
    return await rig.intent("pm_oxxo", currency="mxn")


async def microdeposits(rig: Any) -> Any:
    return await rig.intent("pm_usBankAccount_microdeposits")


async def transfer(rig: Any, currency: str = "eur") -> Any:
    customer = await rig.client.v1.customers.create_async({"email": "jenny@example.com"})
    return await rig.intent("pm_customerBalance", currency=currency, customer=customer.id)


@pytest.mark.parametrize(("type", "currency", "expiry", "days", "fields"), VOUCHERS)
async def test_a_voucher_waits_until_it_is_paid(
    rig: Any, type: str, currency: str, expiry: str, days: int, fields: set[str]
) -> None:
    intent = await rig.intent(f"pm_{type}", currency=currency)
    assert (intent.status, intent.latest_charge) == ("requires_action", None)
    assert intent.next_action.type == f"{type}_display_details"
    shown = intent.next_action[intent.next_action.type].to_dict()
    assert shown.keys() == fields | {expiry, "hosted_voucher_url"}
    assert shown[expiry] == intent.created + days * DAY
    assert rig.sandbox.events.types() == [
        "payment_intent.requires_action",
        "payment_intent.created",
    ]
    assert (await rig.http.get(shown["hosted_voucher_url"])).status_code == 200
    rig.sandbox.clock.advance(days * DAY - 60)
    rig.sandbox.settle(intent.id)
    paid = await rig.client.v1.payment_intents.retrieve_async(
        intent.id, {"expand": ["latest_charge"]}
    )
    assert (paid.status, paid.amount_received, paid.next_action) == ("succeeded", 1000, None)
    assert paid.latest_charge.paid is True
    assert paid.latest_charge.payment_method_details.type == type
    assert rig.sandbox.events.types()[2:] == ["charge.succeeded", "payment_intent.succeeded"]
    rig.sandbox.clock.advance(days * DAY)
    assert rig.data(intent.id)["status"] == "succeeded"


@pytest.mark.parametrize(("type", "currency", "expiry", "days", "fields"), VOUCHERS)
async def test_a_voucher_that_is_not_paid_expires_by_itself(
    rig: Any, type: str, currency: str, expiry: str, days: int, fields: set[str]
) -> None:
    intent = await rig.intent(f"pm_{type}", currency=currency)
    rig.sandbox.clock.advance(days * DAY - 60)
    assert rig.data(intent.id)["status"] == "requires_action"
    rig.sandbox.clock.advance(60)
    expired = rig.data(intent.id)
    assert (expired["status"], expired["next_action"]) == ("requires_payment_method", None)
    assert (expired["payment_method"], expired["latest_charge"]) == (None, None)
    assert expired["last_payment_error"]["code"] == EXPIRED
    assert expired["last_payment_error"]["payment_method"]["type"] == type
    assert rig.sandbox.events.types()[2:] == ["payment_intent.payment_failed"]


async def test_an_expired_voucher_leaves_room_for_another_way_to_pay(rig: Any) -> None:
    intent = await oxxo(rig)
    rig.sandbox.settle(intent.id, "failed")
    assert rig.data(intent.id)["last_payment_error"]["code"] == EXPIRED
    confirmed = await rig.client.v1.payment_intents.confirm_async(
        intent.id, {"payment_method": "pm_card_visa", "return_url": "https://shop.example"}
    )
    assert confirmed.status == "succeeded"


async def test_another_way_to_pay_replaces_a_voucher(rig: Any) -> None:
    intent = await oxxo(rig)
    await rig.client.v1.payment_intents.confirm_async(
        intent.id, {"payment_method": "pm_card_visa", "return_url": "https://shop.example"}
    )
    rig.sandbox.clock.advance(4 * DAY)
    assert rig.data(intent.id)["status"] == "succeeded"
    assert "payment_intent.payment_failed" not in rig.sandbox.events.types()


@pytest.mark.parametrize("make", [oxxo, transfer, microdeposits])
async def test_what_is_awaited_can_be_canceled_and_then_never_ends_otherwise(
    rig: Any, make: Any
) -> None:
    intent = await make(rig)
    canceled = await rig.client.v1.payment_intents.cancel_async(
        intent.id, {"cancellation_reason": "abandoned"}
    )
    assert (canceled.status, canceled.next_action) == ("canceled", None)
    rig.sandbox.clock.advance(20 * DAY)
    with pytest.raises(ApiError, match="nothing to settle"):
        rig.sandbox.settle(intent.id)
    assert rig.data(intent.id)["status"] == "canceled"
    assert rig.sandbox.events.types()[-1] == "payment_intent.canceled"


@pytest.mark.parametrize(
    ("currency", "kind", "account"),
    [
        ("eur", "eu_bank_transfer", "iban"),
        ("gbp", "gb_bank_transfer", "sort_code"),
        ("jpy", "jp_bank_transfer", "zengin"),
        ("mxn", "mx_bank_transfer", "spei"),
        ("usd", "us_bank_transfer", "aba"),
    ],
)
async def test_a_bank_transfer_is_awaited_without_a_limit(
    rig: Any, currency: str, kind: str, account: str
) -> None:
    intent = await transfer(rig, currency)
    assert intent.status == "requires_action"
    told = intent.next_action.display_bank_transfer_instructions
    assert (told.type, told.amount_remaining, told.currency) == (kind, 1000, currency)
    [address] = told.financial_addresses
    assert address.type == account
    assert address[account].account_holder_name == "Sandbox"
    rig.sandbox.clock.advance(60 * DAY)
    assert rig.data(intent.id)["status"] == "requires_action"
    rig.sandbox.settle(intent.id)
    assert rig.data(intent.id)["status"] == "succeeded"
    refund = await rig.client.v1.refunds.create_async({"payment_intent": intent.id})
    assert refund.destination_details.type == "customer_cash_balance"


async def test_a_transfer_that_failed_is_told_with_its_code(rig: Any) -> None:
    intent = await transfer(rig)
    rig.sandbox.settle(intent.id, "failed")
    failed = rig.data(intent.id)
    assert failed["status"] == "requires_payment_method"
    assert failed["last_payment_error"]["code"] == "payment_intent_payment_attempt_failed"


async def test_a_verified_account_is_debited_and_the_bank_answers(rig: Any) -> None:
    intent = await microdeposits(rig)
    action = intent.next_action
    assert (intent.status, action.type) == ("requires_action", "verify_with_microdeposits")
    assert action.verify_with_microdeposits.microdeposit_type == "descriptor_code"
    assert action.verify_with_microdeposits.arrival_date > intent.created
    assert intent.latest_charge is None
    rig.sandbox.settle(intent.id, "processing")
    debited = rig.data(intent.id)
    assert (debited["status"], debited["next_action"]) == ("processing", None)
    assert rig.sandbox.events.types()[2:] == ["charge.pending", "payment_intent.processing"]
    rig.sandbox.clock.advance(20 * DAY)
    assert rig.data(intent.id)["status"] == "processing"
    rig.sandbox.settle(intent.id, "failed")
    assert rig.data(intent.id)["last_payment_error"]["code"] == "insufficient_funds"


async def test_verifying_and_the_banks_answer_can_be_told_at_once(rig: Any) -> None:
    intent = await microdeposits(rig)
    assert rig.sandbox.settle(intent.id)["status"] == "succeeded"
    assert rig.sandbox.events.types()[2:] == [
        "charge.pending",
        "payment_intent.processing",
        "charge.succeeded",
        "payment_intent.succeeded",
    ]


@pytest.mark.parametrize(
    ("advance", "code"),
    [
        (0, "payment_method_microdeposit_verification_attempts_exceeded"),
        (10 * DAY, "payment_method_microdeposit_verification_timeout"),
    ],
)
async def test_an_account_that_is_not_verified_pays_nothing(
    rig: Any, advance: int, code: str
) -> None:
    intent = await microdeposits(rig)
    if advance:
        rig.sandbox.clock.advance(advance)
    else:
        rig.sandbox.settle(intent.id, "failed")
    failed = rig.data(intent.id)
    assert (failed["status"], failed["latest_charge"]) == ("requires_payment_method", None)
    assert failed["last_payment_error"]["code"] == code


async def test_a_verified_account_is_debited_by_time_where_the_bank_answers_by_time(
    start: Any,
) -> None:
    rig = await start(delayed_payment_seconds=300)
    intent = await microdeposits(rig)
    rig.sandbox.clock.advance(DAY)
    assert rig.data(intent.id)["status"] == "requires_action"
    rig.sandbox.settle(intent.id, "processing")
    rig.sandbox.clock.advance(300)
    assert rig.data(intent.id)["status"] == "succeeded"


@pytest.mark.parametrize("make", [oxxo, transfer])
async def test_only_a_debit_is_ever_processing(rig: Any, make: Any) -> None:
    intent = await make(rig)
    answer = await rig.http.post(
        f"/_sandbox/payment_intents/{intent.id}/settle", json={"outcome": "processing"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "payment_intent_unexpected_state"
    assert rig.data(intent.id)["status"] == "requires_action"


async def test_a_debit_that_is_processing_is_not_verified_again(rig: Any) -> None:
    intent = await rig.intent("pm_usBankAccount")
    with pytest.raises(ApiError, match="nothing to settle"):
        rig.sandbox.settle(intent.id, "processing")


@pytest.mark.parametrize("make", [oxxo, transfer, microdeposits])
async def test_there_is_nothing_for_a_bank_page_to_approve(rig: Any, make: Any) -> None:
    intent = await make(rig)
    with pytest.raises(ApiError, match="nothing to authenticate"):
        rig.sandbox.authenticate(intent.id)
    assert (await rig.http.get(f"/3ds/{intent.id}")).status_code == 404


async def test_three_d_secure_is_not_settled(rig: Any) -> None:
    intent = await rig.intent("pm_card_authenticationRequired")
    with pytest.raises(ApiError, match="nothing to settle"):
        rig.sandbox.settle(intent.id)


@pytest.mark.parametrize(
    ("currency", "offered"),
    [
        ("mxn", ["card", "oxxo"]),
        ("brl", ["card", "boleto"]),
        ("jpy", ["card", "konbini"]),
        ("eur", ["card", "multibanco"]),
        ("usd", ["card", "us_bank_account"]),
        ("gbp", ["card"]),
    ],
)
async def test_each_method_is_on_offer_in_its_currency(
    rig: Any, currency: str, offered: list[str]
) -> None:
    params = {"amount": 1000, "currency": currency}
    intent = await rig.client.v1.payment_intents.create_async(params)
    assert intent.payment_method_types == offered


async def test_a_method_of_another_currency_or_a_transfer_without_a_customer_is_refused(
    rig: Any,
) -> None:
    for method in ("pm_oxxo", "pm_customerBalance"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await rig.intent(method, currency="eur")
        assert refused.value.code == "payment_intent_invalid_parameter"
        assert refused.value.param == "payment_method"


async def test_a_session_paid_by_voucher_completes_unpaid_and_is_paid_later(
    rig: Any, line_item: Any
) -> None:
    session = await rig.session(line_items=[line_item(currency="mxn")])
    payment = rig.sandbox.pay_session(session.id, "pm_oxxo")
    assert (payment.outcome, payment.error) == ("complete", None)
    assert payment.redirect_url == f"https://shop.example/ok?session_id={session.id}"
    assert (payment.session["status"], payment.session["payment_status"]) == ("complete", "unpaid")
    assert payment.payment_intent is not None
    assert payment.payment_intent["status"] == "requires_action"
    assert rig.sandbox.events.types() == [
        "payment_intent.created",
        "payment_intent.requires_action",
        "checkout.session.completed",
    ]
    rig.sandbox.clock.advance(2 * DAY)
    rig.sandbox.settle(payment.payment_intent["id"])
    assert rig.data(session.id)["payment_status"] == "paid"
    assert rig.sandbox.events.types()[-2:] == [
        "payment_intent.succeeded",
        "checkout.session.async_payment_succeeded",
    ]


async def test_a_session_whose_voucher_expires_stays_unpaid(rig: Any, line_item: Any) -> None:
    session = await rig.session(line_items=[line_item(currency="mxn")])
    rig.sandbox.pay_session(session.id, "pm_oxxo")
    rig.sandbox.clock.advance(3 * DAY)
    assert (rig.data(session.id)["status"], rig.data(session.id)["payment_status"]) == (
        "complete",
        "unpaid",
    )
    assert rig.sandbox.events.types()[-2:] == [
        "payment_intent.payment_failed",
        "checkout.session.async_payment_failed",
    ]


async def test_a_session_paid_from_an_account_to_verify_completes_once(rig: Any) -> None:
    session = await rig.session()
    payment = rig.sandbox.pay_session(session.id, "pm_usBankAccount_microdeposits")
    rig.sandbox.settle(payment.session["payment_intent"], "processing")
    assert rig.data(session.id)["payment_status"] == "unpaid"
    rig.sandbox.settle(payment.session["payment_intent"])
    assert rig.data(session.id)["payment_status"] == "paid"
    types = rig.sandbox.events.types()
    assert types.count("checkout.session.completed") == 1
    assert types.count("checkout.session.async_payment_succeeded") == 1


@pytest.mark.parametrize(
    ("form", "currency", "label", "action"),
    [
        ({"method": "oxxo"}, "mxn", "OXXO", "oxxo_display_details"),
        ({"method": "boleto"}, "brl", "Boleto", "boleto_display_details"),
        ({"method": "konbini"}, "jpy", "Konbini", "konbini_display_details"),
        ({"method": "multibanco"}, "eur", "Multibanco", "multibanco_display_details"),
        (
            {"method": "customer_balance"},
            "gbp",
            "Bank transfer",
            "display_bank_transfer_instructions",
        ),
        (
            {"method": "bank", "bank_outcome": "verifies", "name": "Jenny"},
            "usd",
            "microdeposits",
            "verify_with_microdeposits",
        ),
    ],
)
async def test_the_hosted_page_offers_it_and_takes_it(
    rig: Any, line_item: Any, form: dict[str, str], currency: str, label: str, action: str
) -> None:
    customer = await rig.client.v1.customers.create_async({"email": "jenny@example.com"})
    session = await rig.session(line_items=[line_item(currency=currency)], customer=customer.id)
    page = await rig.http.get(f"/c/pay/{session.id}")
    assert label in html.unescape(page.text)
    answer = await rig.http.post(
        f"/c/pay/{session.id}", data={"email": "jenny@example.com", **form}
    )
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("https://shop.example/ok")
    intent = rig.data(rig.data(session.id)["payment_intent"])
    assert intent["next_action"]["type"] == action


async def test_the_payment_element_can_offer_it(rig: Any) -> None:
    page = (await rig.http.get("/elements/payment")).text
    for type, id in (("oxxo", "pm_oxxo"), ("customer_balance", "pm_customerBalance")):
        assert f'value="{id}" data-type="{type}"' in page
    assert 'value="pm_usBankAccount_microdeposits"' in page


async def test_the_hosted_page_offers_nothing_of_another_currency(rig: Any) -> None:
    session = await rig.session(allowed_payment_method_types=["us_bank_account"])
    answer = await rig.http.post(
        f"/c/pay/{session.id}", data={"email": "jenny@example.com", "method": "oxxo"}
    )
    assert answer.status_code == 422
    assert "OXXO" not in answer.text


@pytest.mark.parametrize(
    ("make", "buttons"),
    [
        (oxxo, ["Voucher is paid", "Voucher expires"]),
        (transfer, ["Transfer arrives", "Transfer fails"]),
        (microdeposits, ["Account is verified", "Verification fails"]),
    ],
)
async def test_the_dashboard_shows_what_is_awaited_and_ends_it(
    rig: Any, make: Any, buttons: list[str]
) -> None:
    intent = await make(rig)
    page = html.unescape((await rig.http.get(f"/dashboard/payments/{intent.id}")).text)
    assert "Awaiting shopper" in page
    assert "3-D Secure" not in page
    assert all(f">{button}</button>" in page for button in buttons)
    rig.sandbox.settle(intent.id)
    for path in (f"/dashboard/payments/{intent.id}", "/dashboard/payments"):
        assert "Succeeded" in (await rig.http.get(path)).text


@pytest.mark.parametrize(
    "options",
    [
        {"oxxo": {"expires_after_days": 1}},
        {"us_bank_account": {"verification_method": "microdeposits"}},
    ],
)
async def test_options_that_would_change_the_wait_are_refused_by_name(
    rig: Any, options: Any
) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="does not simulate"):
        await rig.intent(payment_method_options=options)
