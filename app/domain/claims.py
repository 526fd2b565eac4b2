"""What a cardholder or an issuer has against a payment: disputes and early fraud warnings."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, TypeVar


@dataclass(frozen=True, slots=True)
class Dispute:
    """https://docs.stripe.com/api/disputes/object"""

    kept_in: ClassVar = "disputes"

    stripe_dispute_id: str
    status: str
    reason: str
    amount: int
    created_at: datetime
    updated_at: datetime

    @property
    def stripe_id(self) -> str:
        return self.stripe_dispute_id


@dataclass(frozen=True, slots=True)
class FraudWarning:
    """The issuer thinks that the payment was not the cardholder's: often a dispute follows.

    ``actionable`` until it is refunded in full or disputed.
    https://docs.stripe.com/api/radar/early_fraud_warnings/object
    """

    kept_in: ClassVar = "fraud_warnings"

    stripe_fraud_warning_id: str
    fraud_type: str
    actionable: bool
    created_at: datetime
    updated_at: datetime

    @property
    def stripe_id(self) -> str:
        return self.stripe_fraud_warning_id


Claim = TypeVar("Claim", bound=Dispute | FraudWarning)
"""What a cardholder or an issuer has against a payment."""


def says_the_same(claim: Claim, other: Claim | None) -> bool:
    """Whenever each of them was recorded."""
    return other is not None and replace(claim, updated_at=other.updated_at) == other
