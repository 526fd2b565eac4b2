import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import Field

from app.domain.issuer_reports import Dispute, FraudWarning
from app.domain.orders import Order, OrderStatus
from app.domain.pages import Page, PagePosition
from app.domain.payments import Failure, Payment, PaymentMethod, PaymentStatus
from app.domain.refunds import Refund, RefundStatus
from app.errors import ValidationFailed
from app.schemas.common import CartItemReply, ReplyBody, RequestBody

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class CancelPayment(RequestBody):
    """What a request to cancel is about, from its path: part of its Idempotency-Key's meaning."""

    payment_id: str


class RefundView(ReplyBody):
    refund_id: str
    amount_cents: int
    credits: int
    status: RefundStatus
    reason: str | None
    failure_reason: str | None = Field(description="Why it failed, as a stable code.")
    created_at: datetime

    @classmethod
    def of(cls, refund: Refund) -> "RefundView":
        return cls(
            refund_id=refund.refund_id,
            amount_cents=refund.amount,
            credits=refund.credits,
            status=refund.status,
            reason=refund.reason,
            failure_reason=refund.failure_reason,
            created_at=refund.created_at,
        )


class FailureView(ReplyBody):
    code: str
    decline_code: str | None
    message: str

    @classmethod
    def of(cls, failure: Failure) -> "FailureView":
        return cls(
            code=failure.code,
            decline_code=failure.public_decline_code if failure.decline_code else None,
            message=failure.message,
        )


class DisputeView(ReplyBody):
    dispute_id: str
    status: str
    reason: str
    amount_cents: int
    created_at: datetime

    @classmethod
    def of(cls, dispute: Dispute) -> "DisputeView":
        return cls(
            dispute_id=dispute.stripe_dispute_id,
            status=dispute.status,
            reason=dispute.reason,
            amount_cents=dispute.amount,
            created_at=dispute.created_at,
        )


class FraudWarningView(ReplyBody):
    warning_id: str
    fraud_type: str
    actionable: bool
    created_at: datetime

    @classmethod
    def of(cls, warning: FraudWarning) -> "FraudWarningView":
        return cls(
            warning_id=warning.stripe_fraud_warning_id,
            fraud_type=warning.fraud_type,
            actionable=warning.actionable,
            created_at=warning.created_at,
        )


class PaymentReply(ReplyBody):
    payment_id: str
    user_id: str
    status: PaymentStatus
    amount_cents: int
    refunded_cents: int
    currency: str
    payment_method: PaymentMethod
    credits_used: int
    credits_refunded: int
    stripe_payment_intent_id: str | None
    stripe_checkout_session_id: str | None
    order_id: str | None
    items: list[CartItemReply]
    refunds: list[RefundView]
    disputes: list[DisputeView]
    fraud_warnings: list[FraudWarningView]
    failure: FailureView | None
    metadata: dict[str, str]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, payment: Payment) -> "PaymentReply":
        return cls(
            payment_id=payment.payment_id,
            user_id=payment.user_id,
            status=payment.status,
            amount_cents=payment.amount,
            refunded_cents=payment.refunded_amount,
            currency=payment.currency,
            payment_method=payment.payment_method,
            credits_used=payment.credits if payment.status.is_paid else 0,
            credits_refunded=payment.refunded_credits,
            stripe_payment_intent_id=payment.stripe_payment_intent_id,
            stripe_checkout_session_id=payment.stripe_checkout_session_id,
            order_id=payment.order_id,
            items=[CartItemReply.of(item) for item in payment.items],
            refunds=[RefundView.of(refund) for refund in payment.refunds],
            disputes=[DisputeView.of(dispute) for dispute in payment.disputes],
            fraud_warnings=[FraudWarningView.of(warning) for warning in payment.fraud_warnings],
            failure=FailureView.of(payment.failure) if payment.failure else None,
            metadata=dict(payment.metadata),
            created_at=payment.created_at,
            updated_at=payment.updated_at,
        )


class PaymentListReply(ReplyBody):
    payments: list[PaymentReply]
    count: int
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Payment]) -> "PaymentListReply":
        last = page.records[-1] if page.has_more else None
        return cls(
            payments=[PaymentReply.of(payment) for payment in page.records],
            count=len(page.records),
            has_more=page.has_more,
            next_cursor=encode_cursor(last.created_at, last.payment_id) if last else None,
        )


class OrderReply(ReplyBody):
    order_id: str
    user_id: str
    payment_id: str
    items: list[CartItemReply]
    total_cents: int
    total_credits: int
    currency: str
    status: OrderStatus
    payment_method: PaymentMethod
    created_at: datetime

    @classmethod
    def of(cls, order: Order) -> "OrderReply":
        return cls(
            order_id=order.order_id,
            user_id=order.user_id,
            payment_id=order.payment_id,
            items=[CartItemReply.of(item) for item in order.items],
            total_cents=order.total_amount,
            total_credits=order.total_credits,
            currency=order.currency,
            status=order.status,
            payment_method=order.payment_method,
            created_at=order.created_at,
        )


class OrderListReply(ReplyBody):
    orders: list[OrderReply]
    count: int
    has_more: bool
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Order]) -> "OrderListReply":
        last = page.records[-1] if page.has_more else None
        return cls(
            orders=[OrderReply.of(order) for order in page.records],
            count=len(page.records),
            has_more=page.has_more,
            next_cursor=encode_cursor(last.created_at, last.order_id) if last else None,
        )


def encode_cursor(created_at: datetime, record_id: str) -> str:
    milliseconds = (created_at - _EPOCH) // _MILLISECOND
    return base64.urlsafe_b64encode(f"{milliseconds}:{record_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> PagePosition | None:
    """Raises ValidationFailed for a cursor that this service did not make."""
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        milliseconds, _, record_id = text.decode().partition(":")
        created_at = _EPOCH + int(milliseconds) * _MILLISECOND
    except (binascii.Error, ValueError, OverflowError):
        raise ValidationFailed.of_field(
            "cursor", "Send the next_cursor of the page before"
        ) from None
    return PagePosition(created_at, record_id)
