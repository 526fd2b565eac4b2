"""Early fraud warnings: the issuer thinks a payment was not the cardholder's.

https://docs.stripe.com/api/radar/early_fraud_warnings
"""

from stripe_sandbox.core.api_objects import StripeObject, build
from stripe_sandbox.core.clock import Clock
from stripe_sandbox.core.config import SandboxConfig
from stripe_sandbox.core.ids import IdFactory
from stripe_sandbox.core.store import Collection, Record
from stripe_sandbox.objects.charges import ChargeRecord, Charges
from stripe_sandbox.objects.events import EventLog
from stripe_sandbox.protocol.errors import ApiError, no_such
from stripe_sandbox.protocol.lists import list_page
from stripe_sandbox.protocol.params import EXPAND, LIST_PARAMS, Kind, Params, Range, Text

RETRIEVE: dict[str, Kind] = {"expand": EXPAND}
LIST: dict[str, Kind] = {
    **LIST_PARAMS,
    "charge": Text(),
    "created": Range(),
    "payment_intent": Text(),
}

FRAUD_TYPES = (
    "card_never_received", "fraudulent_card_application", "made_with_counterfeit_card",
    "made_with_lost_card", "made_with_stolen_card", "misc", "unauthorized_use_of_card",
)  # fmt: skip


class EarlyFraudWarnings:
    """A warning is actionable until its charge is refunded in full or disputed."""

    def __init__(
        self,
        config: SandboxConfig,
        clock: Clock,
        ids: IdFactory,
        events: EventLog,
        charges: Charges,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._events = events
        self._records: Collection[Record] = Collection(
            capacity=config.capacity,
            indexes={
                "charge": lambda warning: warning["charge"],
                "payment_intent": lambda warning: warning["payment_intent"],
            },
        )
        charges.on_captured.append(self._warn_by_card)
        events.subscribe(self._notice)

    def retrieve(self, params: Params, id: str) -> StripeObject:
        record = self._records.find(id)
        if record is None:
            raise no_such("early_fraud_warning", id, "early_fraud_warning")
        return record.data

    def list(self, params: Params) -> StripeObject:
        return list_page(
            self._records,
            params,
            "/v1/radar/early_fraud_warnings",
            noun="early_fraud_warning",
            by=("charge", "payment_intent"),
        )

    def warn(self, charge: ChargeRecord, fraud_type: str = "misc") -> StripeObject:
        """The issuer reports fraud."""
        if fraud_type not in FRAUD_TYPES:
            raise ApiError(400, f"Invalid fraud_type: {fraud_type}", param="fraud_type")
        data = charge.data
        if data["status"] != "succeeded":
            raise ApiError(400, f"Charge {charge.id} has not been paid: nothing to warn of.")
        warning = build(
            "radar.early_fraud_warning",
            id=self._ids.new("issfr"),
            actionable=not (data["refunded"] or data["disputed"]),
            charge=charge.id,
            created=self._clock.timestamp(),
            fraud_type=fraud_type,
            payment_intent=data["payment_intent"],
        )
        self._records.add(Record(warning))
        self._events.emit("radar.early_fraud_warning.created", warning)
        return warning

    def _warn_by_card(self, charge: ChargeRecord) -> None:
        """https://docs.stripe.com/testing#disputes"""
        if charge.method.instrument.fraud_warning:
            self.warn(charge)

    def _notice(self, event: StripeObject) -> None:
        subject = event["data"]["object"]
        if event["type"] == "charge.refunded" and subject["refunded"]:
            charge_id = subject["id"]
        elif event["type"] == "charge.dispute.created":
            charge_id = subject["charge"]
        else:
            return
        for record in self._records.by("charge", charge_id):
            if record.data["actionable"]:
                record.data["actionable"] = False
                self._events.emit(
                    "radar.early_fraud_warning.updated",
                    record.data,
                    previous={"actionable": True},
                )
