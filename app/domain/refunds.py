"""A refund, part of its payment: reserved first, then made, then settled."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class RefundStatus(StrEnum):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @classmethod
    def from_stripe(cls, status: str) -> "RefundStatus":
        """Stripe's ``requires_action``, and any status it may add, is still undecided for us.

        https://docs.stripe.com/api/refunds/object#refund_object-status
        """
        try:
            return cls(status)
        except ValueError:
            return cls.PENDING

    @property
    def holds_money(self) -> bool:
        """Whether the refund counts against what may still be refunded."""
        return self in (RefundStatus.PENDING, RefundStatus.SUCCEEDED)

    def may_become(self, other: "RefundStatus") -> bool:
        """A refund that Stripe called succeeded can still fail, up to 30 days later.

        https://docs.stripe.com/refunds#failed-refunds
        """
        return other in _FORWARD[self]


_FORWARD: Final = {
    RefundStatus.PENDING: frozenset(
        {RefundStatus.SUCCEEDED, RefundStatus.FAILED, RefundStatus.CANCELED}
    ),
    RefundStatus.SUCCEEDED: frozenset({RefundStatus.FAILED, RefundStatus.CANCELED}),
    RefundStatus.FAILED: frozenset[RefundStatus](),
    RefundStatus.CANCELED: frozenset[RefundStatus](),
}


@dataclass(frozen=True, slots=True)
class Refund:
    """``amount`` in minor units; ``credits`` is 0 for a card payment."""

    refund_id: str
    amount: int
    credits: int
    status: RefundStatus
    created_at: datetime
    updated_at: datetime
    reason: str | None = None
    stripe_refund_id: str | None = None
    failure_reason: str | None = None

    @property
    def was_refused(self) -> bool:
        """Whether it failed because it was never made, rather than on its way to the shopper."""
        return self.status is RefundStatus.FAILED and self.stripe_refund_id is None
