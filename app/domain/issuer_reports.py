"""What the issuer of a card reports about a payment: disputes and early fraud warnings."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, TypeVar


@dataclass(frozen=True, slots=True)
class Dispute:
    """https://docs.stripe.com/api/disputes/object"""

    kept_in: ClassVar[str] = "disputes"

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

    kept_in: ClassVar[str] = "fraud_warnings"

    stripe_fraud_warning_id: str
    fraud_type: str
    actionable: bool
    created_at: datetime
    updated_at: datetime

    @property
    def stripe_id(self) -> str:
        return self.stripe_fraud_warning_id


IssuerReport = TypeVar("IssuerReport", bound=Dispute | FraudWarning)
"""Either of them."""


def says_the_same(report: IssuerReport, other: IssuerReport | None) -> bool:
    """Whether both say the same, apart from ``updated_at``."""
    return other is not None and replace(report, updated_at=other.updated_at) == other
