"""Charges: one per attempt to move money (https://docs.stripe.com/api/charges)."""

from typing import TYPE_CHECKING

from stripe_sandbox.core.api_objects import StripeObject, build, copy_json
from stripe_sandbox.core.store import Record
from stripe_sandbox.objects.instruments import BANK_DEBIT, CARD, Decline
from stripe_sandbox.objects.ledger import Ledger
from stripe_sandbox.objects.payment_methods import PaymentMethodRecord
from stripe_sandbox.objects.resource import Account, Resource
from stripe_sandbox.protocol.params import (
    EXPAND,
    LIST_PARAMS,
    Hash,
    Kind,
    Metadata,
    NotSimulated,
    OneOf,
    Params,
    Range,
    Text,
    merge_metadata,
)

if TYPE_CHECKING:
    from collections.abc import Callable

RETRIEVE: dict[str, Kind] = {"expand": EXPAND}
UPDATE: dict[str, Kind] = {
    "customer": NotSimulated(),
    "description": Text(unsettable=True),
    "metadata": Metadata(),
    "receipt_email": Text(unsettable=True),
    "fraud_details": Hash({"user_report": OneOf(("fraudulent", "safe"), unsettable=True)}),
    "shipping": NotSimulated(),
    "transfer_group": NotSimulated(),
    "expand": EXPAND,
}
LIST: dict[str, Kind] = {
    **LIST_PARAMS,
    "created": Range(),
    "customer": Text(),
    "payment_intent": Text(),
    "transfer_group": Text(),
}


class ChargeRecord(Record):
    def __init__(self, data: StripeObject, method: PaymentMethodRecord) -> None:
        super().__init__(data)
        self.method = method


class Charges(Resource[ChargeRecord]):
    url = "/v1/charges"
    noun = "charge"
    indexes = ("payment_intent", "customer")
    listed_by = ("payment_intent", "customer", "transfer_group")

    def __init__(self, account: Account, ledger: Ledger) -> None:
        super().__init__(account)
        self._ledger = ledger
        self.on_captured: list[Callable[[ChargeRecord], None]] = []
        """Called when money has been taken, after the event that says so."""

    def attempt(
        self, intent: StripeObject, method: PaymentMethodRecord, *, authenticated: bool
    ) -> ChargeRecord:
        """A charge that is ``pending`` until it is told what came of it.

        It takes the intent's metadata as it is now; later edits do not follow
        (https://docs.stripe.com/metadata).
        """
        instrument = method.instrument
        is_card = instrument.type == CARD
        id = self._ids.new("ch" if is_card else "py", family="3")
        charge = build(
            "charge",
            id=id,
            amount=intent["amount"],
            billing_details=copy_json(method.data["billing_details"]),
            created=self._clock.timestamp(),
            currency=intent["currency"],
            customer=intent["customer"],
            description=intent["description"],
            metadata=dict(intent["metadata"]),
            outcome=build(
                "charge.outcome",
                network_status="approved_by_network",
                risk_level=instrument.risk_level if is_card else "not_assessed",
                seller_message="Payment complete.",
                type="authorized",
            ),
            payment_intent=intent["id"],
            payment_method=method.id,
            payment_method_details=_method_details(intent, method, authenticated),
            receipt_email=intent["receipt_email"],
            shipping=copy_json(intent["shipping"]),
            statement_descriptor=intent["statement_descriptor"],
            statement_descriptor_suffix=intent["statement_descriptor_suffix"],
            status="pending",
            transfer_group=intent["transfer_group"],
        )
        charge["calculated_statement_descriptor"] = (
            "SANDBOX* " + intent["statement_descriptor_suffix"]
            if intent["statement_descriptor_suffix"]
            else "SANDBOX"
        )
        del charge["refunds"]
        return self._records.add(ChargeRecord(charge, method))

    def fail(self, record: ChargeRecord, decline: Decline) -> None:
        blocked = decline.outcome == "blocked"
        record.data.update(
            status="failed",
            paid=False,
            captured=False,
            amount_captured=0,
            failure_code=decline.code,
            failure_message=decline.message,
            outcome=build(
                "charge.outcome",
                advice_code=decline.advice_code,
                network_decline_code=decline.network_decline_code,
                network_status="not_sent_to_network" if blocked else "declined_by_network",
                reason="highest_risk_level" if blocked else (decline.decline_code or decline.code),
                risk_level=record.method.instrument.risk_level,
                seller_message=(
                    "Stripe blocked this payment as too risky."
                    if blocked
                    else "The bank did not return any further details with this decline."
                ),
                type=decline.outcome,
            ),
        )
        self._events.emit("charge.failed", record.data)

    def hold_pending(self, record: ChargeRecord) -> None:
        """A delayed notification method: the bank will answer later."""
        record.data.update(captured=True, amount_captured=record.data["amount"])
        self._events.emit("charge.pending", record.data)

    def authorize(self, record: ChargeRecord) -> None:
        """The money is held, not taken: waits for a capture."""
        record.data.update(status="succeeded", paid=True, receipt_url=self._receipt(record))
        self._events.emit("charge.succeeded", record.data)

    def succeed(self, record: ChargeRecord, *, capture_method: str) -> None:
        """With ``automatic_async`` the balance transaction comes a little later.

        https://docs.stripe.com/payments/payment-intents/asynchronous-capture
        """
        charge = record.data
        charge.update(
            status="succeeded",
            paid=True,
            captured=True,
            amount_captured=charge["amount"],
            receipt_url=self._receipt(record),
        )
        if capture_method == "automatic_async":
            self._events.emit("charge.succeeded", charge)
            id = record.id
            record.timer = self._clock.call_later(
                self._config.balance_transaction_seconds, lambda: self._book_later(id)
            )
        else:
            self._book(record)
            self._events.emit("charge.succeeded", charge)
        self._tell_captured(record)

    def capture(self, record: ChargeRecord, amount: int) -> None:
        """What is not captured is released (https://docs.stripe.com/payments/place-a-hold)."""
        charge = record.data
        charge.update(captured=True, amount_captured=amount)
        if amount < charge["amount"]:
            charge["amount_refunded"] = charge["amount"] - amount
        self._book(record)
        self._events.emit("charge.captured", charge)
        self._tell_captured(record)

    def release(self, record: ChargeRecord) -> None:
        """The hold of a canceled intent goes back to the cardholder."""
        charge = record.data
        charge.update(amount_refunded=charge["amount"], refunded=True)
        self._events.emit(
            "charge.refunded", charge, previous={"amount_refunded": 0, "refunded": False}
        )

    def change_refunded(self, record: ChargeRecord, difference: int) -> StripeObject:
        """Add to (or take from) what has been refunded; answers the previous values."""
        charge = record.data
        before = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
        charge["amount_refunded"] += difference
        charge["refunded"] = charge["amount_refunded"] >= charge["amount"]
        return {key: value for key, value in before.items() if charge[key] != value}

    def refundable(self, record: ChargeRecord) -> int:
        remaining: int = record.data["amount"] - record.data["amount_refunded"]
        return remaining

    def update(self, params: Params, id: str) -> StripeObject:
        charge = self.named(id).data
        before = {}
        metadata = merge_metadata(charge["metadata"], params.get("metadata"))
        for key, value in {**params, "metadata": metadata}.items():
            if key != "expand" and charge[key] != value:
                before[key] = charge[key]
                charge[key] = value
        if before:
            self._events.emit("charge.updated", charge, previous=before)
        return charge

    def _tell_captured(self, record: ChargeRecord) -> None:
        for listener in self.on_captured:
            listener(record)

    def _book_later(self, id: str) -> None:
        record = self._records.find(id)
        if record is not None and record.data["balance_transaction"] is None:
            self._book(record)
            self._events.emit("charge.updated", record.data, previous={"balance_transaction": None})

    def _book(self, record: ChargeRecord) -> None:
        charge = record.data
        amount = charge["amount_captured"]
        charge["balance_transaction"] = self._ledger.record(
            "charge" if record.method.instrument.type == CARD else "payment",
            charge["id"],
            amount,
            charge["currency"],
            fee=round(amount * 0.029) + 30,
            description=charge["description"],
            available=record.method.instrument.funds_available,
            reporting_category="charge",
        )

    def _receipt(self, record: ChargeRecord) -> str:
        return f"https://pay.stripe.com/receipts/payment/{self._ids.token(40)}"


def _checks(method: PaymentMethodRecord) -> StripeObject:
    """What the issuer compared: the security code, and whatever of the address was given."""
    address = method.data["billing_details"]["address"]
    wrong = method.instrument.checks
    return {
        f"address_{name}_check": wrong.get(
            f"address_{name}_check", "pass" if address[name] else None
        )
        for name in ("line1", "postal_code")
    } | {"cvc_check": method.instrument.check("cvc_check")}


_ON_VOUCHER = {"multibanco": ("entity", "reference"), "oxxo": ("number",)}
"""What the charge repeats of the voucher that was paid."""


def _method_details(
    intent: StripeObject, method: PaymentMethodRecord, authenticated: bool
) -> StripeObject:
    kind = method.instrument.type
    if kind == BANK_DEBIT:
        bank = copy_json(method.data[kind])
        for key in ("financial_connections_account", "networks", "status_details"):
            del bank[key]
        return {kind: {**bank, "mandate": None, "payment_reference": None}, "type": kind}
    if kind != CARD:
        voucher = (intent["next_action"] or {}).get(f"{kind}_display_details", {})
        shown = {name: voucher[name] for name in _ON_VOUCHER.get(kind, ())}
        store = {"store": {"chain": "familymart"}} if kind == "konbini" else {}
        return {kind: {**copy_json(method.data[kind]), **shown, **store}, "type": kind}
    card = method.data["card"]
    shared = ("brand", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4")
    details = build(
        "charge.payment_method_details.card",
        **{key: card[key] for key in shared},
        amount_authorized=intent["amount"],
        checks=_checks(method),
        network=card["brand"],
        overcapture={"maximum_amount_capturable": intent["amount"], "status": "unavailable"},
    )
    if authenticated:
        details["three_d_secure"] = {
            "authentication_flow": "challenge",
            "electronic_commerce_indicator": "05",
            "exemption_indicator": None,
            "result": "authenticated",
            "result_reason": None,
            "transaction_id": None,
            "version": "2.2.0",
        }
    return {"card": details, "type": "card"}
