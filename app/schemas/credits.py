from dataclasses import replace
from typing import Annotated

from pydantic import Field

from app.domain.payments import PaymentStatus
from app.schemas.common import PurchaseBody, ReplyBody
from app.services.credits import CreditsPayment
from app.services.purchases import Purchase


class PayWithCreditsBody(PurchaseBody):
    total_credits: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="When sent, it must equal the price computed here."
    )

    def to_purchase(self) -> Purchase:
        return replace(super().to_purchase(), total_credits=self.total_credits)


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
