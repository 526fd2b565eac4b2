from typing import Annotated

from pydantic import Field

from app.domain.payments import PaymentStatus
from app.errors import ValidationFailed
from app.schemas.common import (
    AmountCents,
    Cart,
    Metadata,
    ReplyBody,
    RequestBody,
    UserId,
    cart_items,
)
from app.services.credits import CreditsPayment
from app.services.purchases import Purchase


class PayWithCreditsBody(RequestBody):
    """Exactly one of `items` and `amount`."""

    user_id: UserId
    items: Cart | None = None
    amount: AmountCents | None = None
    total_credits: (
        Annotated[int, Field(ge=0, description="When sent, it must equal the price computed here.")]
        | None
    ) = None
    metadata: Metadata | None = None

    def to_purchase(self) -> Purchase:
        if (self.items is None) == (self.amount is None):
            raise ValidationFailed.of_field("items", "send exactly one of items and amount")
        return Purchase(
            user_id=self.user_id,
            items=cart_items(self.items),
            amount=self.amount,
            total_credits=self.total_credits,
            metadata=self.metadata or {},
        )


class PayWithCreditsReply(ReplyBody):
    payment_id: str
    order_id: str | None
    credits_deducted: int
    remaining_credits: int
    status: PaymentStatus
    message: str

    @classmethod
    def of(cls, paid: CreditsPayment) -> "PayWithCreditsReply":
        return cls(
            payment_id=paid.payment.payment_id,
            order_id=paid.payment.order_id,
            credits_deducted=paid.payment.credits,
            remaining_credits=paid.remaining_credits,
            status=paid.payment.status,
            message=f"Paid with {paid.payment.credits} credits.",
        )
