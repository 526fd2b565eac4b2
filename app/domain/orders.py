"""An order: what a paid payment is worth to the shop. It is a projection of its payment."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from app.domain.cart import CartItem
from app.domain.ids import order_id_of

if TYPE_CHECKING:
    from app.domain.payments import Payment, PaymentMethod


class OrderStatus(StrEnum):
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"


@dataclass(frozen=True, slots=True)
class Order:
    """``payment_revision`` is the revision of the payment it was made from; a later one wins."""

    order_id: str
    payment_id: str
    user_id: str
    items: tuple[CartItem, ...]
    total_amount: int
    total_credits: int
    currency: str
    status: OrderStatus
    payment_method: "PaymentMethod"
    created_at: datetime
    payment_revision: int

    @classmethod
    def of(cls, payment: "Payment") -> Self:
        """Raises ValueError for a payment that is not paid: it must never have an order."""
        status = payment.due_order_status
        if status is None or payment.succeeded_at is None:
            raise ValueError(f"{payment.payment_id} is not paid")
        return cls(
            order_id=order_id_of(payment.payment_id),
            payment_id=payment.payment_id,
            user_id=payment.user_id,
            items=payment.items,
            total_amount=payment.amount,
            total_credits=payment.credits,
            currency=payment.currency,
            status=status,
            payment_method=payment.payment_method,
            created_at=payment.succeeded_at,
            payment_revision=payment.revision,
        )
