from typing import Annotated

from pydantic import Field, StringConstraints

from app.domain.payments import PaymentStatus
from app.domain.refunds import RefundStatus
from app.errors import ValidationFailed
from app.schemas.common import AnyPaymentId, ReplyBody, RequestBody
from app.services.refunds import MadeRefund


class RefundBody(RequestBody):
    """At most one of `amount_cents` and `credits`; without either all that remains is refunded."""

    payment_id: AnyPaymentId
    amount_cents: Annotated[int, Field(ge=1)] | None = None
    credits: Annotated[int, Field(ge=1, description="For a credits payment.")] | None = None
    reason: (
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
        | None
    ) = Field(
        default=None,
        description=(
            "Free text, or one of Stripe's: duplicate, fraudulent (blocks the card), "
            "requested_by_customer."
        ),
    )

    def require_one_measure(self) -> None:
        if self.amount_cents is not None and self.credits is not None:
            raise ValidationFailed.of_field("credits", "Send amount_cents or credits, not both")


class RefundReply(ReplyBody):
    payment_id: str
    refund_id: str
    amount_cents: int
    credits_returned: int
    status: RefundStatus
    failure_reason: str | None = Field(description="Why it failed, as a stable code.")
    payment_status: PaymentStatus

    @classmethod
    def of(cls, made: MadeRefund) -> "RefundReply":
        succeeded = made.refund.status is RefundStatus.SUCCEEDED
        return cls(
            payment_id=made.payment.payment_id,
            refund_id=made.refund.refund_id,
            amount_cents=made.refund.amount,
            credits_returned=made.refund.credits if succeeded else 0,
            status=made.refund.status,
            failure_reason=made.refund.failure_reason,
            payment_status=made.payment.status,
        )
