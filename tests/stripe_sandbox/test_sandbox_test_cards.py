"""Every test card, by the SDK's two kinds of client: the table of Stripe's page, row by row."""

from typing import Any, NamedTuple

import pytest
import stripe

from stripe_sandbox.objects import instruments

CARDS = "https://docs.stripe.com/testing#cards"
DECLINES = "https://docs.stripe.com/testing#declined-payments"
FRAUD = "https://docs.stripe.com/testing#fraud-prevention"
INVALID = "https://docs.stripe.com/testing#trigger-an-error-with-invalid-data"
SECURE = "https://docs.stripe.com/testing#regulatory-cards"
DISPUTES = "https://docs.stripe.com/testing#disputes"
REFUNDS = "https://docs.stripe.com/testing#refunds"
BALANCE = "https://docs.stripe.com/testing#available-balance"
COUNTRIES = "https://docs.stripe.com/testing#international-cards"


class Pays(NamedTuple):
    source: str
    number: str
    id: str
    brand: str = "visa"
    risk: str = "normal"


PAYING = [
    Pays(CARDS, "4242424242424242", "pm_card_visa"),
    Pays(CARDS, "4000056655665556", "pm_card_visa_debit"),
    Pays(CARDS, "5555555555554444", "pm_card_mastercard", "mastercard"),
    Pays(CARDS, "5200828282828210", "pm_card_mastercard_debit", "mastercard"),
    Pays(CARDS, "5105105105105100", "pm_card_mastercard_prepaid", "mastercard"),
    Pays(CARDS, "378282246310005", "pm_card_amex", "amex"),
    Pays(CARDS, "6011111111111117", "pm_card_discover", "discover"),
    Pays(CARDS, "3056930009020004", "pm_card_diners", "diners"),
    Pays(CARDS, "3566002020360505", "pm_card_jcb", "jcb"),
    Pays(CARDS, "6200000000000005", "pm_card_unionpay", "unionpay"),
    Pays(FRAUD, "4000000000004954", "pm_card_riskLevelHighest", risk="highest"),
    Pays(FRAUD, "4000000000009235", "pm_card_riskLevelElevated", risk="elevated"),
    Pays(SECURE, "4000000000003055", "pm_card_threeDSecureOptional"),
    Pays(DISPUTES, "4000000000000259", "pm_card_createDispute"),
    Pays(DISPUTES, "4000000000002685", "pm_card_createDisputeProductNotReceived"),
    Pays(DISPUTES, "4000000000001976", "pm_card_createDisputeInquiry"),
    Pays(DISPUTES, "4000000000005423", "pm_card_createIssuerFraudRecord"),
    Pays(REFUNDS, "4000000000007726", "pm_card_pendingRefund"),
    Pays(REFUNDS, "4000000000005126", "pm_card_refundFail"),
    Pays(BALANCE, "4000000000000077", "pm_card_bypassPending"),
    Pays(COUNTRIES, "4000002760000016", "pm_card_de"),
    Pays(COUNTRIES, "4000058260000005", "pm_card_gb_debit"),
    Pays(COUNTRIES, "5200007840000022", "pm_card_ae_mastercard", "mastercard"),
]


class Declined(NamedTuple):
    source: str
    number: str
    ids: tuple[str, ...]
    code: str
    decline_code: str | None
    message: str


NO = "Your card was declined."
DECLINING = [
    Declined(
        DECLINES, "4000000000000002", ("visa_chargeDeclined", "chargeDeclined"),
        "card_declined", "generic_decline", NO,
    ),
    Declined(
        DECLINES, "4000000000009995",
        ("visa_chargeDeclinedInsufficientFunds", "chargeDeclinedInsufficientFunds"),
        "card_declined", "insufficient_funds", "Your card has insufficient funds.",
    ),
    Declined(
        DECLINES, "4000000000009987", ("visa_chargeDeclinedLostCard", "chargeDeclinedLostCard"),
        "card_declined", "lost_card", NO,
    ),
    Declined(
        DECLINES, "4000000000009979",
        ("visa_chargeDeclinedStolenCard", "chargeDeclinedStolenCard"),
        "card_declined", "stolen_card", NO,
    ),
    Declined(
        DECLINES, "4000000000000069",
        ("chargeDeclinedExpiredCard", "visa_chargeDeclinedExpiredCard"),
        "expired_card", None, "Your card has expired.",
    ),
    Declined(
        DECLINES, "4000000000000127",
        ("chargeDeclinedIncorrectCvc", "visa_chargeDeclinedIncorrectCvc"),
        "incorrect_cvc", None, "Your card's security code is incorrect.",
    ),
    Declined(
        DECLINES, "4000000000000119",
        ("chargeDeclinedProcessingError", "visa_chargeDeclinedProcessingError"),
        "processing_error", None,
        "An error occurred while processing your card. Try again in a little bit.",
    ),
    Declined(
        DECLINES, "4000000000006975",
        ("visa_chargeDeclinedVelocityLimitExceeded", "chargeDeclinedVelocityLimitExceeded"),
        "card_declined", "card_velocity_exceeded",
        "Your card was declined for making repeated attempts too frequently or exceeding its "
        "amount limit.",
    ),
    Declined(
        DECLINES, "4000000000000341", ("chargeCustomerFail",),
        "card_declined", "generic_decline", NO,
    ),
    Declined(FRAUD, "4100000000000019", ("radarBlock",), "card_declined", "fraudulent", NO),
    Declined(
        SECURE, "4000008400001280", ("threeDSecureRequiredProcessingError",),
        "card_declined", "processing_error", NO,
    ),
]  # fmt: skip


class Secured(NamedTuple):
    """``approved`` and ``off_session`` are a status, or the decline code."""

    source: str
    number: str
    id: str
    approved: str
    off_session: str


REQUIRED = "authentication_required"
SECURED = [
    Secured(
        SECURE, "4000002500003155", "authenticationRequiredOnSetup", "succeeded", REQUIRED
    ),
    Secured(SECURE, "4000002760003184", "authenticationRequired", "succeeded", REQUIRED),
    Secured(
        SECURE, "4000003800000446", "authenticationRequiredSetupForOffSession",
        "succeeded", "succeeded",
    ),
    Secured(
        SECURE, "4000008260003178", "authenticationRequiredChargeDeclinedInsufficientFunds",
        "insufficient_funds", "insufficient_funds",
    ),
    Secured(SECURE, "4000000000003220", "threeDSecure2Required", "succeeded", REQUIRED),
    Secured(SECURE, "4000008400000027", "threeDSecure2Required", "succeeded", REQUIRED),
    Secured(
        SECURE, "4000008400001629", "threeDSecureRequiredChargeDeclined",
        "generic_decline", "generic_decline",
    ),
]  # fmt: skip


def confirming(id: str, **params: Any) -> dict[str, Any]:
    return {
        "amount": 1000,
        "currency": "usd",
        "payment_method": id,
        "confirm": True,
        "return_url": "https://shop.example/return",
        **params,
    }


@pytest.mark.parametrize("row", PAYING, ids=lambda row: row.id)
async def test_cards_that_pay(rig: Any, ask: Any, row: Pays) -> None:
    intent = await ask(
        "payment_intents.create", confirming(row.id, expand=["latest_charge", "payment_method"])
    )
    assert (intent.status, intent.amount_received) == ("succeeded", 1000)
    assert intent.payment_method.card.brand == row.brand
    assert intent.payment_method.card.last4 == row.number[-4:]
    charge = intent.latest_charge
    assert (charge.status, charge.captured) == ("succeeded", True)
    assert (charge.outcome.type, charge.outcome.risk_level) == ("authorized", row.risk)


@pytest.mark.parametrize("row", DECLINING, ids=lambda row: row.ids[0])
async def test_cards_that_are_declined(rig: Any, ask: Any, row: Declined) -> None:
    for id in row.ids:
        refused = await ask.refused("payment_intents.create", confirming(f"pm_card_{id}"))
        assert isinstance(refused, stripe.CardError)
        assert (refused.http_status, refused.code) == (402, row.code)
        error: Any = refused.error
        body: Any = refused.json_body
        assert (error.type, body["error"].get("decline_code")) == ("card_error", row.decline_code)
        assert error.message == row.message
        assert error.payment_method.card.last4 == row.number[-4:]
        intent = await ask("payment_intents.retrieve", error.payment_intent.id)
        assert (intent.status, intent.latest_charge) == ("requires_payment_method", error.charge)


@pytest.mark.parametrize("row", SECURED, ids=lambda row: row.number)
async def test_cards_that_want_three_d_secure(rig: Any, ask: Any, row: Secured) -> None:
    intent = await ask("payment_intents.create", confirming(f"pm_card_{row.id}"))
    assert (intent.status, intent.latest_charge) == ("requires_action", None)
    assert intent.next_action.type == "redirect_to_url"
    rig.sandbox.authenticate(intent.id, approve=True)
    settled = await ask("payment_intents.retrieve", intent.id)
    if row.approved == "succeeded":
        assert settled.status == "succeeded"
    else:
        assert settled.status == "requires_payment_method"
        assert settled.last_payment_error.decline_code == row.approved
    again = await ask("payment_intents.create", confirming(f"pm_card_{row.id}"))
    rig.sandbox.authenticate(again.id, approve=False)
    refused = await ask("payment_intents.retrieve", again.id)
    assert refused.status == "requires_payment_method"
    assert refused.last_payment_error.code == "payment_intent_authentication_failure"


@pytest.mark.parametrize("row", SECURED, ids=lambda row: row.number)
async def test_the_same_cards_without_the_customer(rig: Any, ask: Any, row: Secured) -> None:
    params = confirming(f"pm_card_{row.id}", off_session=True)
    if row.off_session == "succeeded":
        assert (await ask("payment_intents.create", params)).status == "succeeded"
        return
    error: Any = (await ask.refused("payment_intents.create", params)).error
    assert error.decline_code == row.off_session


@pytest.mark.parametrize(
    ("id", "checks"),
    [
        ("cvcCheckFail", (None, None, "fail")),
        ("avsZipFail", (None, "fail", "pass")),
        ("avsLine1Fail", ("fail", None, "pass")),
        ("avsFail", ("fail", "fail", "pass")),
        ("avsUnchecked", ("unavailable", "unavailable", "pass")),
    ],
)
async def test_cards_that_fail_the_issuers_checks_and_pay(
    rig: Any, ask: Any, id: str, checks: tuple[str | None, ...]
) -> None:
    """https://docs.stripe.com/testing#fraud-prevention"""
    intent = await ask(
        "payment_intents.create", confirming(f"pm_card_{id}", expand=["latest_charge"])
    )
    found = intent.latest_charge.payment_method_details.card.checks
    assert (
        found.address_line1_check,
        found.address_postal_code_check,
        found.cvc_check,
    ) == checks


EVERY_NUMBER = [
    *((row.number, row.id) for row in PAYING),
    *((row.number, f"pm_card_{row.ids[0]}") for row in DECLINING),
    *((row.number, f"pm_card_{row.id}") for row in SECURED),
]


@pytest.mark.parametrize(("number", "id"), EVERY_NUMBER, ids=[n for n, _ in EVERY_NUMBER])
async def test_a_number_typed_in_the_browser_is_the_card_of_its_id(
    rig: Any, number: str, id: str
) -> None:
    typed = instruments.by_number(number)
    assert typed is instruments.by_id(id)
    assert typed is not None
    form = {
        "type": "card",
        "card[number]": number,
        "card[exp_month]": "12",
        "card[exp_year]": "44",
        "card[cvc]": "1234" if typed.brand == "amex" else "123",
    }
    headers = {"Authorization": "Bearer pk_test_1"}
    answer = await rig.http.post("/v1/payment_methods", data=form, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["card"]["last4"] == number[-4:]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"card[number]": "4242424242424241"}, "incorrect_number"),
        ({"card[exp_month]": "13"}, "invalid_expiry_month"),
        ({"card[exp_year]": "1995"}, "invalid_expiry_year"),
        ({"card[cvc]": "99"}, "invalid_cvc"),
        ({"card[number]": "378282246310005"}, "invalid_cvc"),
        ({"card[number]": "4111111111111111"}, "card_declined"),
    ],
)
async def test_invalid_card_details_are_refused(
    rig: Any, changes: dict[str, str], code: str
) -> None:
    """https://docs.stripe.com/testing#trigger-an-error-with-invalid-data"""
    form = {
        "type": "card",
        "card[number]": "4242424242424242",
        "card[exp_month]": "12",
        "card[exp_year]": "44",
        "card[cvc]": "123",
        **changes,
    }
    headers = {"Authorization": "Bearer pk_test_1"}
    answer = await rig.http.post("/v1/payment_methods", data=form, headers=headers)
    assert answer.status_code == 402
    assert answer.json()["error"]["code"] == code


async def test_a_server_may_not_send_card_numbers(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/testing#test-code"""
    card = {"number": "4242424242424242", "exp_month": 12, "exp_year": 44}
    refused = await ask.refused("payment_methods.create", {"type": "card", "card": card})
    assert refused.http_status == 402


@pytest.mark.parametrize("row", DECLINING, ids=lambda row: row.ids[0])
async def test_only_issuers_declines_cannot_be_attached(rig: Any, ask: Any, row: Declined) -> None:
    """https://docs.stripe.com/testing#declined-payments"""
    customer = await ask("customers.create", {})
    attach = ("payment_methods.attach", f"pm_card_{row.ids[0]}", {"customer": customer.id})
    attachable = ("chargeCustomerFail", "radarBlock", "threeDSecureRequiredProcessingError")
    if row.ids[0] in attachable:
        assert (await ask(*attach)).customer == customer.id
        return
    refused = await ask.refused(*attach)
    assert (refused.http_status, refused.code) == (402, row.code)
    listed = await ask("payment_methods.list", {"customer": customer.id})
    assert listed.data == []


async def test_the_card_that_fails_after_attaching(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/testing#declined-payments"""
    customer = await ask("customers.create", {})
    method = await ask(
        "payment_methods.attach", "pm_card_chargeCustomerFail", {"customer": customer.id}
    )
    refused = await ask.refused(
        "payment_intents.create", confirming(method.id, customer=customer.id, off_session=True)
    )
    assert (refused.http_status, refused.code) == (402, "card_declined")


async def test_a_card_set_up_on_session_pays_off_session(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/testing#regulatory-cards: 3DS unless set up for off-session use."""
    customer = await ask("customers.create", {})
    first = await ask(
        "payment_intents.create",
        confirming(
            "pm_card_authenticationRequiredOnSetup",
            customer=customer.id,
            setup_future_usage="off_session",
        ),
    )
    rig.sandbox.authenticate(first.id)
    [method] = (await ask("customers.payment_methods.list", customer.id)).data
    later = await ask(
        "payment_intents.create", confirming(method.id, customer=customer.id, off_session=True)
    )
    assert later.status == "succeeded"


async def test_asynchronous_refunds(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/testing#refunds"""
    pending = await ask("payment_intents.create", confirming("pm_card_pendingRefund"))
    refund = await ask("refunds.create", {"payment_intent": pending.id})
    assert refund.status == "pending"
    rig.sandbox.succeed_refund(refund.id)
    assert (await ask("refunds.retrieve", refund.id)).status == "succeeded"
    failing = await ask("payment_intents.create", confirming("pm_card_refundFail"))
    refund = await ask("refunds.create", {"payment_intent": failing.id})
    assert refund.status == "succeeded"
    rig.sandbox.fail_refund(refund.id)
    failed = await ask("refunds.retrieve", refund.id)
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    assert "refund.failed" in rig.sandbox.events.types()


def test_every_number_passes_the_check_digit_and_belongs_to_one_card() -> None:
    numbers = [n for card in instruments.INSTRUMENTS for n in card.numbers if card.type == "card"]
    assert all(instruments.passes_luhn(number) for number in numbers)
    assert len(numbers) == len(set(numbers))
