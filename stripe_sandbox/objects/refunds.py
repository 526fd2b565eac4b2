"""Refunds (https://docs.stripe.com/refunds)."""

from stripe_sandbox.core.api_objects import StripeObject, build
from stripe_sandbox.core.store import Record
from stripe_sandbox.objects.charges import ChargeRecord, Charges
from stripe_sandbox.objects.disputes import Disputes
from stripe_sandbox.objects.instruments import BANK_TRANSFER, CARD
from stripe_sandbox.objects.ledger import Ledger
from stripe_sandbox.objects.payment_intents import PaymentIntents
from stripe_sandbox.objects.resource import Account, Resource
from stripe_sandbox.protocol.errors import ApiError, invalid_param
from stripe_sandbox.protocol.lists import list_page
from stripe_sandbox.protocol.money import check_decimals, display
from stripe_sandbox.protocol.params import (
    EXPAND,
    LIST_PARAMS,
    Email,
    Integer,
    Kind,
    Metadata,
    NotSimulated,
    OneOf,
    Params,
    Range,
    Text,
    merge_metadata,
)

CREATE: dict[str, Kind] = {
    "amount": Integer(minimum=1),
    "charge": Text(),
    "currency": Text(),
    "customer": NotSimulated(),
    "expand": EXPAND,
    "instructions_email": Email(),
    "metadata": Metadata(),
    "origin": NotSimulated(),
    "payment_intent": Text(),
    "reason": OneOf(("duplicate", "fraudulent", "requested_by_customer"), unsettable=True),
    "refund_application_fee": NotSimulated(("false",)),
    "reverse_transfer": NotSimulated(("false",)),
}
_DETAILS_SECONDS = 30 * 24 * 3600
UPDATE: dict[str, Kind] = {"metadata": Metadata(), "expand": EXPAND}
CANCEL: dict[str, Kind] = {"expand": EXPAND}
RETRIEVE: dict[str, Kind] = {"expand": EXPAND}
LIST: dict[str, Kind] = {
    **LIST_PARAMS,
    "charge": Text(),
    "created": Range(),
    "payment_intent": Text(),
}


_BANK_TRANSFERS = {
    "boleto": "br_bank_transfer",
    "konbini": "jp_bank_transfer",
    "multibanco": "multibanco",
    "oxxo": "mx_bank_transfer",
    "us_bank_account": "us_bank_transfer",
}
"""How the refund of each kind of payment travels."""


class RefundRecord(Record):
    def __init__(self, data: StripeObject, charge: ChargeRecord) -> None:
        super().__init__(data)
        self.charge = charge


class Refunds(Resource[RefundRecord]):
    url = "/v1/refunds"
    noun = "refund"
    indexes = ("charge", "payment_intent")
    listed_by = ("charge", "payment_intent")

    def __init__(
        self,
        account: Account,
        ledger: Ledger,
        charges: Charges,
        intents: PaymentIntents,
        disputes: Disputes,
    ) -> None:
        super().__init__(account)
        self._ledger = ledger
        self._charges = charges
        self._intents = intents
        self._disputes = disputes

    def check_create(self, params: Params) -> None:
        if "charge" not in params and "payment_intent" not in params:
            raise ApiError(
                400,
                "One of the following params should be provided for this request: payment_intent "
                "or charge.",
                executed=False,
            )
        if "charge" in params and "payment_intent" in params:
            raise invalid_param(
                "You may only specify one of these parameters: charge, payment_intent.", "charge"
            )

    def create(self, params: Params) -> StripeObject:
        charge = self._charge_of(params)
        remaining = self._charges.refundable(charge)
        currency = charge.data["currency"]
        if charge.data["refunded"] or remaining == 0:
            raise ApiError(
                400,
                f"Charge {charge.id} has already been refunded.",
                code="charge_already_refunded",
            )
        if self._disputes.is_charged_back(charge.id):
            raise ApiError(
                400,
                f"Charge {charge.id} has been charged back; cannot issue a refund.",
                code="charge_disputed",
            )
        amount = params.get("amount", remaining)
        check_decimals(amount, currency, "amount")
        if amount > remaining:
            raise ApiError(
                400,
                f"Refund amount ({display(amount, currency)}) is greater than unrefunded amount on "
                f"charge ({display(remaining, currency)})",
                param="amount",
            )
        return self._refund(charge, amount, params).data

    def update(self, params: Params, id: str) -> StripeObject:
        record = self.named(id)
        before = record.data["metadata"]
        after = merge_metadata(before, params.get("metadata"))
        if after != before:
            record.data["metadata"] = after
            changed = {
                key: before.get(key)
                for key in {*before, *after}
                if before.get(key) != after.get(key)
            }
            self._updated(record, {"metadata": changed})
        return record.data

    def cancel(self, params: Params, id: str) -> StripeObject:
        """Only a refund that waits for the customer's bank details can be canceled by the API.

        https://docs.stripe.com/api/refunds/cancel
        """
        record = self.named(id)
        if record.data["status"] != "requires_action":
            raise ApiError(
                400,
                f"Refund {id} could not be canceled because it has a status of "
                f"{record.data['status']}. Only a refund with a status of requires_action may be "
                "canceled.",
            )
        self._give_back(record, "canceled")
        return record.data

    def require_action(self, id: str) -> StripeObject:
        """The customer is asked by e-mail where the money should go."""
        record = self._in_status(id, ("pending",))
        self._clock.cancel(record.timer)
        now = self._clock.timestamp()
        address = record.data.get("instructions_email") or "customer@example.com"
        record.data.pop("pending_reason", None)
        record.data.update(
            status="requires_action",
            next_action={
                "display_details": {
                    "email_sent": {"email_sent_at": now, "email_sent_to": address},
                    "expires_at": now + _DETAILS_SECONDS,
                },
                "type": "display_details",
            },
        )
        self._updated(record, {"status": "pending"})
        return record.data

    def of_charge(self, charge_id: str) -> StripeObject:
        """The ``refunds`` list that a charge shows when it is expanded."""
        return list_page(
            self._records,
            {},
            f"/v1/charges/{charge_id}/refunds",
            noun="refund",
            within=self._records.by("charge", charge_id),
        )

    def succeed(self, id: str) -> StripeObject:
        """The bank took a pending refund, or the customer told where it should go."""
        record = self._in_status(id, ("pending", "requires_action"))
        self._clock.cancel(record.timer)
        previous = {"status": record.data["status"]}
        record.data["status"] = "succeeded"
        record.data.pop("pending_reason", None)
        record.data.pop("next_action", None)
        self._updated(record, previous)
        return record.data

    def fail(self, id: str, reason: str = "expired_or_canceled_card") -> StripeObject:
        """The money came back: the charge counts as that much less refunded."""
        record = self._in_status(id, ("pending", "requires_action", "succeeded"))
        record.data["failure_reason"] = reason
        self._give_back(record, "failed")
        return record.data

    def _charge_of(self, params: Params) -> ChargeRecord:
        if "charge" in params:
            charge = self._charges.named(params["charge"], "charge")
            if charge.data["status"] != "succeeded" or not charge.data["captured"]:
                raise ApiError(
                    400,
                    f"Charge {charge.id} has not been paid and captured, so there is nothing to "
                    "refund.",
                    param="charge",
                )
            return charge
        id = params["payment_intent"]
        intent = self._intents.named(id, "payment_intent")
        latest = self._charges.find(intent.data["latest_charge"] or "")
        if intent.status != "succeeded" or latest is None:
            raise ApiError(
                400,
                f"This PaymentIntent ({id}) does not have a successful charge to refund.",
                param="payment_intent",
            )
        return latest

    def _refund(self, charge: ChargeRecord, amount: int, params: Params) -> RefundRecord:
        instrument = charge.method.instrument
        pending = instrument.refund == "pends"
        is_card = instrument.type == CARD
        id = self._ids.new("re" if is_card else "pyr", family="3")
        currency = charge.data["currency"]
        refund = build(
            "refund",
            id=id,
            amount=amount,
            balance_transaction=self._ledger.record(
                "refund" if is_card else "payment_refund",
                id,
                -amount,
                currency,
                description="REFUND FOR CHARGE",
                reporting_category="refund",
            ),
            charge=charge.id,
            created=self._clock.timestamp(),
            currency=currency,
            customer=charge.data["customer"],
            destination_details=(
                {
                    "card": {
                        "reference_status": "pending",
                        "reference_type": "acquirer_reference_number",
                        "type": "pending" if pending else "refund",
                    },
                    "type": "card",
                }
                if is_card
                else _other_destination(instrument.type)
            ),
            metadata=merge_metadata({}, params.get("metadata")),
            payment_intent=charge.data["payment_intent"],
            payment_method=charge.method.id,
            reason=params.get("reason"),
            status="pending" if pending else "succeeded",
        )
        if pending:
            refund["pending_reason"] = "processing"
        if "instructions_email" in params:
            refund["instructions_email"] = params["instructions_email"]
        record = self._records.add(RefundRecord(refund, charge))
        before = self._charges.change_refunded(charge, amount)
        # Observed order: refund.created, charge.refunded, refund.updated, charge.refund.updated.
        self._events.emit("refund.created", refund)
        self._events.emit("charge.refunded", charge.data, previous=before)
        if is_card and not pending:
            self._give_reference(record)
        self._change_mind_later(record)
        return record

    def _give_reference(self, record: RefundRecord) -> None:
        card = record.data["destination_details"]["card"]
        card.update(reference=self._ids.digits(23), reference_status="available")
        previous = {"card": {"reference": None, "reference_status": "pending"}}
        self._updated(record, {"destination_details": previous})

    def _change_mind_later(self, record: RefundRecord) -> None:
        behaviour = record.charge.method.instrument.refund
        if behaviour == "succeeds" or self._config.refund_settle_seconds is None:
            return
        id = record.id

        def settle() -> None:
            status = record.data["status"]
            if behaviour == "pends" and status == "pending":
                self.succeed(id)
            elif behaviour == "fails" and status == "succeeded":
                self.fail(id)

        record.timer = self._clock.call_later(self._config.refund_settle_seconds, settle)

    def _give_back(self, record: RefundRecord, status: str) -> None:
        """The money of a failed or canceled refund is the merchant's again."""
        self._clock.cancel(record.timer)
        refund = record.data
        previous: StripeObject = {"status": refund["status"]}
        refund.update(
            status=status,
            failure_balance_transaction=self._ledger.record(
                "refund_failure", record.id, refund["amount"], refund["currency"]
            ),
        )
        refund.pop("pending_reason", None)
        refund.pop("next_action", None)
        before = self._charges.change_refunded(record.charge, -refund["amount"])
        if status == "failed":
            self._events.emit("refund.failed", refund)
        self._updated(record, previous)
        self._events.emit("charge.updated", record.charge.data, previous=before)

    def _in_status(self, id: str, statuses: tuple[str, ...]) -> RefundRecord:
        record = self.named(id)
        if record.data["status"] not in statuses:
            raise ApiError(400, f"Refund {id} has a status of {record.data['status']}.")
        return record

    def _updated(self, record: RefundRecord, previous: StripeObject) -> None:
        self._events.emit("refund.updated", record.data, previous=previous)
        self._events.emit("charge.refund.updated", record.data, previous=previous)


def _other_destination(type: str) -> StripeObject:
    if type == BANK_TRANSFER:
        return {"customer_cash_balance": {}, "type": "customer_cash_balance"}
    transfer = _BANK_TRANSFERS[type]
    return {transfer: {"reference": None}, "type": transfer}
