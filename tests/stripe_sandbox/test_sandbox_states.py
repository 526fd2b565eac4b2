"""Which move is possible in which state, and how Stripe refuses the others: tables, row by row."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
import stripe

LIFECYCLE = "https://docs.stripe.com/payments/paymentintents/lifecycle"
INTENTS = "https://docs.stripe.com/api/payment_intents"
CODES = "https://docs.stripe.com/error-codes"
ERRORS = "https://docs.stripe.com/api/errors"
REFUNDS = "https://docs.stripe.com/refunds"
SESSIONS = "https://docs.stripe.com/api/checkout/sessions"
METADATA = "https://docs.stripe.com/metadata"
CURRENCIES = "https://docs.stripe.com/currencies"
DESCRIPTORS = "https://docs.stripe.com/get-started/account/statement-descriptors"
VERSION = "https://docs.stripe.com/changelog/endive"

Make = Callable[[Any, Any], Awaitable[Any]]


async def new(rig: Any, ask: Any) -> Any:
    return await ask("payment_intents.create", {"amount": 1000, "currency": "usd"})


async def ready(rig: Any, ask: Any) -> Any:
    params = {"amount": 1000, "currency": "usd", "payment_method": "pm_card_visa"}
    return await ask("payment_intents.create", params)


async def secured(rig: Any, ask: Any) -> Any:
    return await rig.intent("pm_card_authenticationRequired")


async def debited(rig: Any, ask: Any) -> Any:
    return await rig.intent("pm_usBankAccount")


async def held(rig: Any, ask: Any) -> Any:
    return await rig.intent(capture_method="manual")


async def paid(rig: Any, ask: Any) -> Any:
    return await rig.intent()


async def canceled(rig: Any, ask: Any) -> Any:
    return await ask("payment_intents.cancel", (await new(rig, ask)).id)


class Move(NamedTuple):
    source: str
    make: Make
    before: str
    verb: str
    after: str
    """A status, or the error code that refuses."""


PAY = {"payment_method": "pm_card_visa", "return_url": "https://shop.example"}
WRONG = "payment_intent_unexpected_state"
MOVES = [
    Move(LIFECYCLE, new, "requires_payment_method", "confirm", "succeeded"),
    Move(LIFECYCLE, new, "requires_payment_method", "capture", WRONG),
    Move(LIFECYCLE, new, "requires_payment_method", "cancel", "canceled"),
    Move(LIFECYCLE, ready, "requires_confirmation", "confirm", "succeeded"),
    Move(LIFECYCLE, ready, "requires_confirmation", "capture", WRONG),
    Move(LIFECYCLE, ready, "requires_confirmation", "cancel", "canceled"),
    Move(LIFECYCLE, secured, "requires_action", "confirm", "succeeded"),
    Move(LIFECYCLE, secured, "requires_action", "capture", WRONG),
    Move(LIFECYCLE, secured, "requires_action", "cancel", "canceled"),
    Move(LIFECYCLE, debited, "processing", "confirm", WRONG),
    Move(LIFECYCLE, debited, "processing", "capture", WRONG),
    Move(LIFECYCLE, debited, "processing", "cancel", "canceled"),
    Move(LIFECYCLE, held, "requires_capture", "confirm", WRONG),
    Move(LIFECYCLE, held, "requires_capture", "capture", "succeeded"),
    Move(LIFECYCLE, held, "requires_capture", "cancel", "canceled"),
    Move(LIFECYCLE, paid, "succeeded", "confirm", WRONG),
    Move(LIFECYCLE, paid, "succeeded", "capture", WRONG),
    Move(LIFECYCLE, paid, "succeeded", "cancel", WRONG),
    Move(LIFECYCLE, canceled, "canceled", "confirm", WRONG),
    Move(LIFECYCLE, canceled, "canceled", "capture", WRONG),
    Move(LIFECYCLE, canceled, "canceled", "cancel", WRONG),
]


@pytest.mark.parametrize("row", MOVES, ids=lambda row: f"{row.before}-{row.verb}")
async def test_moves_of_a_payment_intent(rig: Any, ask: Any, row: Move) -> None:
    intent = await row.make(rig, ask)
    assert intent.status == row.before
    call = (f"payment_intents.{row.verb}", intent.id, PAY if row.verb == "confirm" else {})
    if row.after != WRONG:
        assert (await ask(*call)).status == row.after
        return
    refused = await ask.refused(*call)
    assert (refused.http_status, refused.code) == (400, WRONG)
    assert refused.error.payment_intent.id == intent.id
    assert (await ask("payment_intents.retrieve", intent.id)).status == row.before


class Wrong(NamedTuple):
    source: str
    name: str
    arguments: tuple[Any, ...]
    status: int
    code: str | None
    param: str | None
    message: str = ""


def intent(**changes: Any) -> tuple[dict[str, Any]]:
    return ({"amount": 1000, "currency": "usd", **changes},)


CREATE = "payment_intents.create"
FRACTIONS = "https://support.stripe.com/questions/deprecation-of-fractional-isk-charges-and-refunds"
NO_DECIMALS = "invalid_charge_amount_no_decimal_compatible"
AMOUNT, INTEGER = "amount_too_small", "parameter_invalid_integer"
WRONGS = [
    Wrong(
        ERRORS, CREATE, ({"amount": 1000},), 400, "parameter_missing", "currency",
        "Missing required param: currency.",
    ),
    Wrong(
        ERRORS, CREATE, intent(colour="red"), 400, "parameter_unknown", "colour",
        "Received unknown parameter: colour",
    ),
    Wrong(
        ERRORS, CREATE, intent(x="1", y="2"), 400, "parameter_unknown", "x",
        "Received unknown parameters: x, y",
    ),
    Wrong(
        ERRORS, "payment_intents.retrieve", ("pi_x",), 404, "resource_missing", "intent",
        "No such payment_intent: 'pi_x'",
    ),
    Wrong(ERRORS, "charges.retrieve", ("ch_x",), 404, "resource_missing", "id"),
    Wrong(ERRORS, "refunds.retrieve", ("re_x",), 404, "resource_missing", "id"),
    Wrong(ERRORS, "events.retrieve", ("evt_x",), 404, "resource_missing", "id"),
    Wrong(ERRORS, "disputes.retrieve", ("du_x",), 404, "resource_missing", "dispute"),
    Wrong(ERRORS, "customers.retrieve", ("cus_x",), 404, "resource_missing", "id"),
    Wrong(
        ERRORS, "checkout.sessions.retrieve", ("cs_test_x",), 404, "resource_missing", "session"
    ),
    Wrong(
        ERRORS, "payment_methods.retrieve", ("pm_x",), 404, "resource_missing", "payment_method"
    ),
    Wrong(ERRORS, CREATE, intent(customer="cus_x"), 400, "resource_missing", "customer"),
    Wrong(
        ERRORS, CREATE, intent(payment_method="pm_x"), 400, "resource_missing", "payment_method"
    ),
    Wrong(CURRENCIES, CREATE, intent(amount=49), 400, AMOUNT, "amount"),
    Wrong(CURRENCIES, CREATE, intent(amount=29, currency="gbp"), 400, AMOUNT, "amount"),
    Wrong(CURRENCIES, CREATE, intent(amount=49, currency="jpy"), 400, AMOUNT, "amount"),
    Wrong(CURRENCIES, CREATE, intent(amount=999, currency="mxn"), 400, AMOUNT, "amount"),
    *(
        Wrong(
            FRACTIONS, CREATE, intent(amount=12345, currency=currency), 400, NO_DECIMALS, "amount",
            f"Currency {currency.upper()} has become effectively zero-decimal",
        )
        for currency in ("isk", "ugx")
    ),
    *(
        Wrong(
            CURRENCIES, CREATE, intent(amount=12345, currency=currency), 400,
            "invalid_charge_amount", "amount", "divisible by 10",
        )
        for currency in ("bhd", "jod", "kwd", "omr", "tnd")
    ),
    *(
        Wrong(
            CURRENCIES, CREATE, intent(amount=10**digits, currency=currency), 400,
            "amount_too_large", "amount",
        )
        for currency, digits in (("idr", 12), ("cop", 10), ("inr", 9), ("eur", 8))
    ),
    Wrong(
        INTENTS, CREATE, intent(amount=100_000_000), 400, "amount_too_large", "amount",
        "Amount must be no more than $999,999.99",
    ),
    Wrong(
        CODES, CREATE, intent(amount="10.5"), 400, INTEGER, "amount", "Invalid integer: 10.5"
    ),
    Wrong(CODES, CREATE, intent(amount="ten"), 400, INTEGER, "amount", "Invalid integer: ten"),
    Wrong(CURRENCIES, CREATE, intent(currency="xyz"), 400, None, "currency"),
    Wrong(METADATA, CREATE, intent(metadata={"k" * 41: "v"}), 400, None, "metadata"),
    Wrong(METADATA, CREATE, intent(metadata={"k": "v" * 501}), 400, None, "metadata"),
    Wrong(
        METADATA, CREATE, intent(metadata={f"k{n}": "v" for n in range(51)}), 400, None, "metadata"
    ),
    Wrong(
        DESCRIPTORS, CREATE, intent(statement_descriptor="SHOP"), 400, None, "statement_descriptor"
    ),
    Wrong(
        VERSION, CREATE, intent(payment_method_types=["card"]), 400,
        "payment_method_types_no_longer_supported", "payment_method_types",
    ),
    Wrong(INTENTS, CREATE, intent(confirm=True), 400, None, None, "must provide a `return_url`"),
    Wrong(INTENTS, CREATE, intent(return_url="https://x"), 400, None, "return_url"),
    Wrong(
        VERSION, "checkout.sessions.create",
        ({"mode": "payment", "success_url": "https://x", "payment_method_types": ["card"]},),
        400, "payment_method_types_no_longer_supported", "payment_method_types",
    ),
    Wrong(
        SESSIONS, "checkout.sessions.create", ({"success_url": "https://x", "locale": "ku_lat"},),
        400, None, "locale",
        "Invalid locale: must be one of auto, bg, cs, da, de, el, en, en-GB, es,",
    ),
    Wrong(
        INTENTS, "payment_intents.cancel", ("pi_x", {"cancellation_reason": "because"}), 400, None,
        "cancellation_reason", "Invalid cancellation_reason: must be one of duplicate, fraudulent,",
    ),
    Wrong(
        INTENTS, CREATE, intent(receipt_email="jenny"), 400, "email_invalid", "receipt_email",
    ),
    Wrong(
        SESSIONS, "checkout.sessions.create", ({"success_url": "https://x"},), 400,
        "parameter_missing", "line_items",
    ),
    Wrong(REFUNDS, "refunds.create", ({},), 400, None, None, "payment_intent or charge"),
    Wrong(
        REFUNDS, "refunds.create", ({"payment_intent": "pi_x"},), 404, "resource_missing",
        "payment_intent",
    ),
    Wrong(REFUNDS, "refunds.create", ({"charge": "ch_x", "amount": 0},), 400, INTEGER, "amount"),
    Wrong(
        REFUNDS, "refunds.create", ({"charge": "ch_x", "reason": "because"},), 400, None, "reason"
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    "row", WRONGS, ids=lambda row: f"{row.name}-{row.param}-{row.code or row.status}"
)
async def test_wrong_requests_are_refused_as_documented(rig: Any, ask: Any, row: Wrong) -> None:
    refused = await ask.refused(row.name, *row.arguments)
    assert refused.http_status == row.status
    assert refused.error.type == "invalid_request_error"
    assert (refused.code, refused.param) == (row.code, row.param)
    assert row.message in refused.user_message
    assert refused.request_id.startswith("req_")


class Unpaid(NamedTuple):
    source: str
    make: Make
    message: str


NO_CHARGE = "does not have a successful charge to refund"


@pytest.mark.parametrize(
    "row",
    [
        Unpaid(REFUNDS, new, NO_CHARGE),
        Unpaid(REFUNDS, secured, NO_CHARGE),
        Unpaid(REFUNDS, held, NO_CHARGE),
        Unpaid(REFUNDS, canceled, NO_CHARGE),
    ],
    ids=lambda row: row.make.__name__,
)
async def test_what_was_not_taken_is_not_refunded(rig: Any, ask: Any, row: Unpaid) -> None:
    made = await row.make(rig, ask)
    refused = await ask.refused("refunds.create", {"payment_intent": made.id})
    assert (refused.http_status, refused.code) == (400, None)
    assert row.message in refused.user_message


async def test_a_charge_is_refunded_in_parts_and_never_beyond(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/refunds"""
    made = await rig.intent()
    await ask("refunds.create", {"payment_intent": made.id, "amount": 600})
    partly = await ask("charges.retrieve", made.latest_charge)
    assert (partly.amount_refunded, partly.refunded) == (600, False)
    over = await ask.refused("refunds.create", {"payment_intent": made.id, "amount": 600})
    assert (over.http_status, over.code, over.param) == (400, None, "amount")
    assert over.user_message == (
        "Refund amount ($6.00) is greater than unrefunded amount on charge ($4.00)"
    )
    await ask("refunds.create", {"charge": made.latest_charge})
    wholly = await ask("charges.retrieve", made.latest_charge)
    assert (wholly.amount_refunded, wholly.refunded) == (1000, True)
    again = await ask.refused("refunds.create", {"charge": made.latest_charge, "amount": 1})
    assert (again.http_status, again.code) == (400, "charge_already_refunded")
    assert (await ask("payment_intents.retrieve", made.id)).status == "succeeded"


@pytest.mark.parametrize(
    ("currency", "whole", "fraction", "code"),
    [
        ("isk", 12300, 12345, NO_DECIMALS),
        ("ugx", 12300, 12310, NO_DECIMALS),
        ("kwd", 12340, 12345, "invalid_charge_amount"),
    ],
)
async def test_digits_that_a_currency_has_no_use_for_are_refused_everywhere(
    rig: Any, ask: Any, line_item: Any, currency: str, whole: int, fraction: int, code: str
) -> None:
    """https://docs.stripe.com/currencies#special-cases"""
    held = await rig.intent(amount=50000, currency=currency, capture_method="manual")
    waiting = await ask("payment_intents.create", {"amount": whole, "currency": currency})
    calls = [
        ("amount", "payment_intents.update", waiting.id, {"amount": fraction}),
        ("amount_to_capture", "payment_intents.capture", held.id, {"amount_to_capture": fraction}),
        (
            "line_items[0][price_data][unit_amount]",
            "checkout.sessions.create",
            {
                "mode": "payment",
                "success_url": "https://shop.example",
                "line_items": [line_item(fraction, currency=currency)],
            },
        ),
    ]
    for param, *call in calls:
        refused = await ask.refused(*call)
        assert (refused.http_status, refused.code, refused.param) == (400, code, param)
    paid = await ask("payment_intents.capture", held.id)
    refused = await ask.refused("refunds.create", {"payment_intent": paid.id, "amount": fraction})
    assert (refused.http_status, refused.code, refused.param) == (400, code, "amount")
    refund = await ask("refunds.create", {"payment_intent": paid.id, "amount": whole})
    assert refund.amount == whole
    rest = await ask("refunds.create", {"payment_intent": paid.id})
    assert rest.amount == 50000 - whole


@pytest.mark.parametrize(
    ("currency", "largest"), [("idr", 10**12 - 1), ("cop", 10**10 - 1), ("inr", 10**9 - 1)]
)
async def test_some_currencies_have_room_for_more_digits(
    ask: Any, currency: str, largest: int
) -> None:
    """https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts"""
    params = {"amount": largest, "currency": currency}
    assert (await ask("payment_intents.create", params)).amount == largest


async def test_a_largest_amount_of_ones_own_counts_in_every_currency(start: Any) -> None:
    rig = await start(max_amount=5000)
    for currency in ("usd", "idr"):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            await rig.intent(amount=5001, currency=currency)
        assert refused.value.code == "amount_too_large"
    assert (await rig.intent(amount=5000)).status == "succeeded"


async def refund_in(rig: Any, ask: Any, status: str) -> Any:
    made = await rig.intent("pm_card_pendingRefund")
    refund = await ask("refunds.create", {"payment_intent": made.id, "amount": 400})
    if status == "requires_action":
        rig.sandbox.require_refund_details(refund.id)
    elif status == "succeeded":
        rig.sandbox.succeed_refund(refund.id)
    elif status == "failed":
        rig.sandbox.fail_refund(refund.id)
    elif status == "canceled":
        rig.sandbox.require_refund_details(refund.id)
        await ask("refunds.cancel", refund.id)
    found = await ask("refunds.retrieve", refund.id)
    assert found.status == status
    return found


@pytest.mark.parametrize(
    ("status", "cancelable"),
    [
        ("pending", False),
        ("requires_action", True),
        ("succeeded", False),
        ("failed", False),
        ("canceled", False),
    ],
)
async def test_only_a_refund_that_waits_for_details_can_be_canceled(
    rig: Any, ask: Any, status: str, cancelable: bool
) -> None:
    """https://docs.stripe.com/api/refunds/cancel"""
    refund = await refund_in(rig, ask, status)
    if not cancelable:
        assert (await ask.refused("refunds.cancel", refund.id)).http_status == 400
        return
    assert refund.next_action.type == "display_details"
    gone = await ask("refunds.cancel", refund.id)
    assert (gone.status, "next_action" in gone) == ("canceled", False)
    charge = await ask("charges.retrieve", refund.charge)
    assert charge.amount_refunded == 0
    assert rig.sandbox.events.types()[-3:] == [
        "refund.updated",
        "charge.refund.updated",
        "charge.updated",
    ]


async def test_a_refund_that_waited_for_details_can_arrive_or_fail(rig: Any, ask: Any) -> None:
    for settle, status in (
        (rig.sandbox.succeed_refund, "succeeded"),
        (rig.sandbox.fail_refund, "failed"),
    ):
        refund = await refund_in(rig, ask, "requires_action")
        settle(refund.id)
        assert (await ask("refunds.retrieve", refund.id)).status == status


async def test_a_refund_keeps_its_merged_metadata(ask: Any, rig: Any) -> None:
    """https://docs.stripe.com/api/refunds/update"""
    made = await rig.intent()
    refund = await ask("refunds.create", {"payment_intent": made.id, "metadata": {"a": "1"}})
    changed = await ask("refunds.update", refund.id, {"metadata": {"b": "2"}})
    assert changed.metadata.to_dict() == {"a": "1", "b": "2"}
    assert [r.id for r in (await ask("refunds.list", {"payment_intent": made.id})).data] == [
        refund.id
    ]


async def test_words_for_the_customer_are_handed_through(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/api/payment_intents/create, .../checkout/sessions/create"""
    words = {"receipt_email": "jenny@example.com", "description": "Two books"}
    session = await rig.session(locale="pt-BR", payment_intent_data=words)
    assert (await ask("checkout.sessions.retrieve", session.id)).locale == "pt-BR"
    bought = rig.sandbox.pay_session(session.id).session["payment_intent"]
    paid = (await rig.intent(**words)).id
    for id in (bought, paid):
        intent = await ask("payment_intents.retrieve", id, {"expand": ["latest_charge"]})
        for shown in (intent, intent.latest_charge):
            assert {name: shown[name] for name in words} == words


@pytest.mark.parametrize(
    "reason", ["duplicate", "fraudulent", "requested_by_customer", "abandoned"]
)
async def test_a_cancellation_keeps_its_reason(rig: Any, ask: Any, reason: str) -> None:
    """https://docs.stripe.com/api/payment_intents/cancel"""
    made = await new(rig, ask)
    await ask("payment_intents.cancel", made.id, {"cancellation_reason": reason})
    assert (await ask("payment_intents.retrieve", made.id)).cancellation_reason == reason


async def test_moves_of_a_checkout_session(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/api/checkout/sessions/expire"""
    expired = await rig.session()
    assert (await ask("checkout.sessions.expire", expired.id)).status == "expired"
    complete = await rig.session()
    rig.sandbox.pay_session(complete.id)
    for session, status in ((expired, "expired"), (complete, "complete")):
        refused = await ask.refused("checkout.sessions.expire", session.id)
        assert refused.http_status == 400
        assert f"status of `{status}`" in refused.user_message
        found = await ask("checkout.sessions.retrieve", session.id, {"expand": ["line_items"]})
        assert (found.status, found.url) == (status, None)
        assert found.line_items.data[0].object == "item"
        items = await ask("checkout.sessions.line_items.list", session.id)
        assert [item.amount_total for item in items.data] == [3000]


async def test_a_held_session_counts_as_paid_once_captured(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/payments/place-a-hold-on-a-payment-method"""
    session = await rig.session(payment_intent_data={"capture_method": "manual"})
    payment = rig.sandbox.pay_session(session.id)
    assert payment.session["payment_status"] == "unpaid"
    await ask("payment_intents.capture", payment.session["payment_intent"])
    assert (await ask("checkout.sessions.retrieve", session.id)).payment_status == "paid"


async def test_the_balance_is_read_by_both_clients(rig: Any, ask: Any) -> None:
    """https://docs.stripe.com/api/balance"""
    await rig.intent("pm_card_bypassPending", capture_method="automatic")
    balance = await ask("balance.retrieve")
    assert (balance.available[0].amount, balance.pending[0].amount) == (941, 0)
