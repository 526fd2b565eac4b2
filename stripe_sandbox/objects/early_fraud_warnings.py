"""Early fraud warnings: the issuer thinks a payment was not the cardholder's.

https://docs.stripe.com/api/radar/early_fraud_warnings
"""

from stripe_sandbox.core.api_objects import StripeObject, build
from stripe_sandbox.core.store import Record
from stripe_sandbox.objects.charges import ChargeRecord, Charges
from stripe_sandbox.objects.resource import Account, Resource
from stripe_sandbox.protocol.errors import ApiError
from stripe_sandbox.protocol.params import EXPAND, LIST_PARAMS, Kind, Range, Text

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


class EarlyFraudWarnings(Resource[Record]):
    """A warning is actionable until its charge is refunded in full or disputed."""

    url = "/v1/radar/early_fraud_warnings"
    noun = "early_fraud_warning"
    id_param = "early_fraud_warning"
    indexes = ("charge", "payment_intent")
    listed_by = ("charge", "payment_intent")

    def __init__(self, account: Account, charges: Charges) -> None:
        super().__init__(account)
        charges.on_captured.append(self._warn_by_card)
        account.events.subscribe(self._notice)

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
