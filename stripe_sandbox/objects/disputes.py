"""Disputes: the cardholder asked the bank for the money back (https://docs.stripe.com/disputes)."""

from typing import Literal

from stripe_sandbox.core.api_objects import StripeObject, build, changes, keys_of
from stripe_sandbox.core.store import Record
from stripe_sandbox.objects.charges import ChargeRecord, Charges
from stripe_sandbox.objects.ledger import Ledger
from stripe_sandbox.objects.resource import Account, Resource
from stripe_sandbox.protocol.errors import ApiError
from stripe_sandbox.protocol.params import (
    EXPAND,
    LIST_PARAMS,
    Boolean,
    Hash,
    Kind,
    Metadata,
    NotSimulated,
    Params,
    Range,
    Text,
    merge_metadata,
)

RETRIEVE: dict[str, Kind] = {"expand": EXPAND}
CLOSE: dict[str, Kind] = {"expand": EXPAND}
UPDATE: dict[str, Kind] = {
    "evidence": Hash(
        {
            **{
                name: Text(unsettable=True, max_length=150_000)
                for name in sorted(keys_of("dispute.evidence") - {"enhanced_evidence"})
            },
            "appeal": NotSimulated(("",)),
            "enhanced_evidence": NotSimulated(("",)),
        }
    ),
    "expand": EXPAND,
    "intended_submission_method": NotSimulated(("manual", "prefer_manual")),
    "metadata": Metadata(),
    "submit": Boolean(),
}
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
_DAY = 24 * 3600
_NETWORK_CODES = {"fraudulent": "10.4", "product_not_received": "13.1"}
CLOSED_STATUSES = ("won", "lost", "warning_closed")
_VERDICTS: dict[str, Literal["won", "lost"]] = {
    "winning_evidence": "won",
    "losing_evidence": "lost",
}
_ESCALATING = "escalate_inquiry_evidence"
"""What ``uncategorized_text`` makes the bank decide (https://docs.stripe.com/testing#evidence)."""


class Disputes(Resource[Record]):
    url = "/v1/disputes"
    noun = "dispute"
    id_param = "dispute"
    indexes = ("charge", "payment_intent")
    listed_by = ("charge", "payment_intent")

    def __init__(self, account: Account, ledger: Ledger, charges: Charges) -> None:
        super().__init__(account)
        self._ledger = ledger
        self._charges = charges
        charges.on_captured.append(self._open_by_card)

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
        captured = charge.data["amount_captured"]
        disputed = captured if amount is None else amount
        if not 1 <= disputed <= captured:
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
                "due_by": (now // _DAY + 9) * _DAY - 1,
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
                    "network_reason_code": (
                        "10" if inquiry else _NETWORK_CODES.get(reason, "13.7")
                    ),
                },
                "type": "card",
            },
            reason=reason,
            status="warning_needs_response" if inquiry else "needs_response",
        )
        charge.data["disputed"] = True
        if not inquiry:
            self._withdraw(dispute)
        self._records.add(Record(dispute))
        self._events.emit("charge.dispute.created", dispute)
        if not inquiry:
            self._events.emit("charge.dispute.funds_withdrawn", dispute)
        return dispute

    def close(self, id: str, status: Literal["won", "lost"]) -> StripeObject:
        if status not in ("won", "lost"):
            raise ApiError(400, "Invalid status: must be one of won or lost", param="status")
        record = self._open_one(id)
        self._clock.cancel(record.timer)
        dispute = record.data
        inquiry = dispute["status"].startswith("warning_")
        dispute["status"] = "warning_closed" if inquiry else status
        dispute["is_charge_refundable"] = inquiry or status == "won"
        if status == "won" and not inquiry:
            self._move_funds(dispute, dispute["amount"], 0)
            self._events.emit("charge.dispute.funds_reinstated", dispute)
        self._events.emit("charge.dispute.closed", dispute)
        return dispute

    def escalate(self, id: str) -> StripeObject:
        """The bank makes a dispute of an inquiry, whatever was answered to it."""
        record = self._open_one(id)
        dispute = record.data
        if not dispute["status"].startswith("warning_"):
            raise ApiError(400, "Only an inquiry can be escalated: this is a dispute already.")
        self._clock.cancel(record.timer)
        before = dict(dispute)
        self._escalate(dispute)
        self._events.emit("charge.dispute.updated", dispute, previous=changes(before, dispute))
        self._events.emit("charge.dispute.funds_withdrawn", dispute)
        return dispute

    def accept(self, params: Params, id: str) -> StripeObject:
        """Closing by the API admits that there is no evidence: the dispute is lost.

        https://docs.stripe.com/api/disputes/close
        """
        return self.close(id, "lost")

    def update(self, params: Params, id: str) -> StripeObject:
        """Evidence is sent to the bank unless ``submit`` is false, which only keeps it.

        https://docs.stripe.com/api/disputes/update
        """
        record = self._open_one(id)
        dispute = record.data
        before = {**dispute, "evidence": dict(dispute["evidence"])}
        before["evidence_details"] = dict(dispute["evidence_details"])
        evidence, details = dispute["evidence"], dispute["evidence_details"]
        evidence.update(params.get("evidence") or {})
        dispute["metadata"] = merge_metadata(dispute["metadata"], params.get("metadata"))
        details["has_evidence"] = any(
            value is not None for name, value in evidence.items() if name != "enhanced_evidence"
        )
        sent = (
            params.get("submit", True)
            and details["has_evidence"]
            and ("evidence" in params or params.get("submit"))
        )
        text = evidence["uncategorized_text"]
        inquiry = dispute["status"].startswith("warning_")
        escalated = bool(sent and inquiry and text == _ESCALATING)
        if sent:
            details["submission_count"] += 1
            if escalated:
                self._escalate(dispute)
            else:
                dispute["status"] = "warning_under_review" if inquiry else "under_review"
        previous = changes(before, dispute)
        if previous:
            self._events.emit("charge.dispute.updated", dispute, previous=previous)
        if escalated:
            self._events.emit("charge.dispute.funds_withdrawn", dispute)
        elif sent and text in _VERDICTS and self._config.dispute_settle_seconds is not None:
            verdict = _VERDICTS[text]
            self._clock.cancel(record.timer)
            record.timer = self._clock.call_later(
                self._config.dispute_settle_seconds, lambda: self._decide(id, verdict)
            )
        return dispute

    def is_charged_back(self, charge_id: str) -> bool:
        """Whether a dispute keeps the charge from being refunded."""
        return any(
            not record.data["is_charge_refundable"]
            for record in self._records.by("charge", charge_id)
        )

    def _open_one(self, id: str) -> Record:
        record = self.named(id)
        if record.data["status"] in CLOSED_STATUSES:
            raise ApiError(400, "This dispute is already closed")
        return record

    def _open_by_card(self, charge: ChargeRecord) -> None:
        """https://docs.stripe.com/testing#disputes"""
        instrument = charge.method.instrument
        if instrument.dispute is not None:
            self.open(charge, reason=instrument.dispute, inquiry=instrument.inquiry)

    def _decide(self, id: str, verdict: Literal["won", "lost"]) -> None:
        """The bank's verdict, unless the dispute was closed in the meantime."""
        record = self._records.find(id)
        if record is not None and record.data["status"] not in CLOSED_STATUSES:
            self.close(id, verdict)

    def _escalate(self, dispute: StripeObject) -> None:
        """An inquiry becomes a chargeback: only now does the money leave."""
        card = dispute["payment_method_details"]["card"]
        dispute["payment_method_details"] = {
            "card": {
                **card,
                "case_type": "chargeback",
                "network_reason_code": _NETWORK_CODES.get(dispute["reason"], "13.7"),
            },
            "type": "card",
        }
        dispute.update(status="needs_response", is_charge_refundable=False)
        self._withdraw(dispute)

    def _withdraw(self, dispute: StripeObject) -> None:
        self._move_funds(dispute, -dispute["amount"], _DISPUTE_FEE)

    def _move_funds(self, dispute: StripeObject, amount: int, fee: int) -> None:
        transaction = self._ledger.record(
            "adjustment",
            dispute["id"],
            amount,
            dispute["currency"],
            fee=fee,
            description=(
                f"Chargeback {'withdrawal' if amount < 0 else 'reversal'} for {dispute['charge']}"
            ),
            fee_description="Dispute fee",
            reporting_category="dispute" if amount < 0 else "dispute_reversal",
        )
        booked = self._ledger.find(transaction)
        if booked is not None:
            dispute["balance_transactions"] = [*dispute["balance_transactions"], dict(booked)]
