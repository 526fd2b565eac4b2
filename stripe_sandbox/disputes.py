"""Disputes: the cardholder asked the bank for the money back (https://docs.stripe.com/disputes)."""

from typing import Literal

from stripe_sandbox.charges import ChargeRecord, Charges
from stripe_sandbox.clock import Clock
from stripe_sandbox.config import SandboxConfig
from stripe_sandbox.errors import ApiError, no_such
from stripe_sandbox.events import EventLog
from stripe_sandbox.ids import IdFactory
from stripe_sandbox.ledger import Ledger
from stripe_sandbox.lists import list_page
from stripe_sandbox.objects import StripeObject, build
from stripe_sandbox.params import EXPAND, LIST_PARAMS, Kind, Params, Range, Text
from stripe_sandbox.store import Collection, Record

RETRIEVE: dict[str, Kind] = {"expand": EXPAND}
LIST: dict[str, Kind] = {
    **LIST_PARAMS,
    "charge": Text(),
    "created": Range(),
    "payment_intent": Text(),
}

REASONS = (
    "bank_cannot_process", "check_returned", "credit_not_processed", "customer_initiated",
    "debit_not_authorized", "duplicate", "fraudulent", "general", "incorrect_account_details",
    "insufficient_funds", "noncompliant", "product_not_received", "product_unacceptable",
    "subscription_canceled", "unrecognized",
)  # fmt: skip
_DISPUTE_FEE = 1_500
_EVIDENCE_SECONDS = 9 * 24 * 3600
_NETWORK_CODES = {"fraudulent": "10.4", "product_not_received": "13.1"}


class Disputes:
    def __init__(
        self,
        config: SandboxConfig,
        clock: Clock,
        ids: IdFactory,
        events: EventLog,
        ledger: Ledger,
        charges: Charges,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._events = events
        self._ledger = ledger
        self._charges = charges
        self._records: Collection[Record] = Collection(
            capacity=config.capacity,
            indexes={
                "charge": lambda dispute: dispute["charge"],
                "payment_intent": lambda dispute: dispute["payment_intent"],
            },
        )

    def open(
        self,
        charge: ChargeRecord,
        *,
        reason: str = "fraudulent",
        amount: int | None = None,
        inquiry: bool = False,
    ) -> StripeObject:
        if reason not in REASONS:
            raise ApiError(400, f"Invalid reason: {reason}", param="reason")
        if charge.data["status"] != "succeeded" or not charge.data["captured"]:
            raise ApiError(400, f"Charge {charge.id} has not been paid: nothing to dispute.")
        if charge.data["disputed"]:
            raise ApiError(400, f"Charge {charge.id} is disputed already.", code="charge_disputed")
        disputed = charge.data["amount"] if amount is None else amount
        if not 1 <= disputed <= charge.data["amount"]:
            raise ApiError(400, "The disputed amount must be within the charge's.", param="amount")
        now = self._clock.timestamp()
        brand = charge.method.data.get("card", {}).get("brand", "visa")
        dispute = build(
            "dispute",
            id=self._ids.new("du"),
            amount=disputed,
            charge=charge.id,
            created=now,
            currency=charge.data["currency"],
            evidence=build("dispute.evidence"),
            evidence_details={
                "due_by": now + _EVIDENCE_SECONDS,
                "enhanced_eligibility": {},
                "has_evidence": False,
                "past_due": False,
                "submission_count": 0,
            },
            is_charge_refundable=inquiry,
            payment_intent=charge.data["payment_intent"],
            payment_method_details={
                "card": {
                    "brand": brand,
                    "case_type": "inquiry" if inquiry else "chargeback",
                    "network": brand,
                    "network_reason_code": _NETWORK_CODES.get(reason, "13.7"),
                },
                "type": "card",
            },
            reason=reason,
            status="warning_needs_response" if inquiry else "needs_response",
        )
        charge.data["disputed"] = True
        if not inquiry:
            self._move_funds(dispute, -disputed, _DISPUTE_FEE)
        self._records.add(Record(dispute))
        self._events.emit("charge.dispute.created", dispute)
        if not inquiry:
            self._events.emit("charge.dispute.funds_withdrawn", dispute)
        return dispute

    def close(self, id: str, status: Literal["won", "lost"]) -> StripeObject:
        if status not in ("won", "lost"):
            raise ApiError(400, "Invalid status: must be one of won or lost", param="status")
        dispute = self.named(id)
        if dispute["status"] in ("won", "lost", "warning_closed"):
            raise ApiError(400, f"Dispute {id} is closed already: {dispute['status']}.")
        inquiry = dispute["status"].startswith("warning_")
        dispute["status"] = "warning_closed" if inquiry else status
        dispute["is_charge_refundable"] = inquiry or status == "won"
        reinstated = status == "won" and not inquiry
        if reinstated:
            self._move_funds(dispute, dispute["amount"], 0)
        self._events.emit("charge.dispute.closed", dispute)
        if reinstated:
            self._events.emit("charge.dispute.funds_reinstated", dispute)
        return dispute

    def is_charged_back(self, charge_id: str) -> bool:
        """Whether a dispute keeps the charge from being refunded."""
        return any(
            not record.data["is_charge_refundable"]
            for record in self._records.by("charge", charge_id)
        )

    def retrieve(self, params: Params, id: str) -> StripeObject:
        return self.named(id)

    def list(self, params: Params) -> StripeObject:
        within = None
        filters = []
        if "charge" in params:
            within = self._records.by("charge", params["charge"])
        if "payment_intent" in params:
            intent_id = params["payment_intent"]
            if within is None:
                within = self._records.by("payment_intent", intent_id)
            else:
                filters.append(lambda dispute: dispute["payment_intent"] == intent_id)
        return list_page(
            self._records, params, "/v1/disputes", noun="dispute", within=within, filters=filters
        )

    def find(self, id: str) -> Record | None:
        return self._records.find(id)

    def named(self, id: str) -> StripeObject:
        record = self._records.find(id)
        if record is None:
            raise no_such("dispute", id, "dispute")
        return record.data

    def _move_funds(self, dispute: StripeObject, amount: int, fee: int) -> None:
        transaction = self._ledger.record(
            "adjustment",
            dispute["id"],
            amount,
            dispute["currency"],
            fee=fee,
            description="Chargeback withdrawal" if amount < 0 else "Chargeback reversal",
            reporting_category="dispute" if amount < 0 else "dispute_reversal",
        )
        booked = self._ledger.find(transaction)
        if booked is not None:
            dispute["balance_transactions"] = [*dispute["balance_transactions"], dict(booked)]
