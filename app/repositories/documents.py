"""Domain objects to documents and back. None is never stored: an absent field and a sparse index
agree.
"""

from typing import Any

from app.domain.cart import CartItem
from app.domain.issuer_reports import Dispute, FraudWarning
from app.domain.orders import Order, OrderStatus
from app.domain.payments import (
    Change,
    CheckoutDetails,
    ElementsDetails,
    Failure,
    Payment,
    PaymentFlow,
    PaymentMethod,
    PaymentStatus,
    Review,
    ReviewReason,
)
from app.domain.refunds import Refund, RefundStatus
from app.domain.webhook_events import EventStatus, WebhookEvent

Document = dict[str, Any]


class UnreadableDocument(Exception):
    """Another version of the service wrote it, or a person."""


def _without_none(document: Document) -> Document:
    return {name: value for name, value in document.items() if value is not None}


def _item_to_document(item: CartItem) -> Document:
    return _without_none(
        {
            "book_id": item.book_id,
            "quantity": item.quantity,
            "price_cents": item.price_cents,
            "credits": item.credits,
            "title": item.title,
        }
    )


def _item_from_document(document: Document) -> CartItem:
    return CartItem(
        book_id=document["book_id"],
        quantity=document["quantity"],
        price_cents=document["price_cents"],
        credits=document["credits"],
        title=document.get("title"),
    )


def _refund_to_document(refund: Refund) -> Document:
    return _without_none(
        {
            "refund_id": refund.refund_id,
            "amount": refund.amount,
            "credits": refund.credits,
            "status": refund.status.value,
            "reason": refund.reason,
            "stripe_refund_id": refund.stripe_refund_id,
            "failure_reason": refund.failure_reason,
            "created_at": refund.created_at,
            "updated_at": refund.updated_at,
        }
    )


def _refund_from_document(document: Document) -> Refund:
    return Refund(
        refund_id=document["refund_id"],
        amount=document["amount"],
        credits=document["credits"],
        status=RefundStatus(document["status"]),
        reason=document.get("reason"),
        stripe_refund_id=document.get("stripe_refund_id"),
        failure_reason=document.get("failure_reason"),
        created_at=document["created_at"],
        updated_at=document["updated_at"],
    )


def payment_to_document(payment: Payment) -> Document:
    return _without_none(
        {
            "_id": payment.payment_id,
            "user_id": payment.user_id,
            "flow": payment.flow.value,
            "status": payment.status.value,
            "amount": payment.amount,
            "currency": payment.currency,
            "credits": payment.credits,
            "items": [_item_to_document(item) for item in payment.items],
            # A list: the caller's keys may hold dots and dollars, field names should not. Of
            # documents, because not every server keeps an array in an array.
            "metadata": [{"key": key, "value": value} for key, value in payment.metadata.items()],
            "checkout": payment.checkout
            and _without_none(
                {
                    "success_url": payment.checkout.success_url,
                    "cancel_url": payment.checkout.cancel_url,
                    "customer_email": payment.checkout.customer_email,
                    "locale": payment.checkout.locale,
                }
            ),
            "elements": payment.elements
            and _without_none(
                {
                    "receipt_email": payment.elements.receipt_email,
                    "description": payment.elements.description,
                }
            ),
            "stripe_payment_intent_id": payment.stripe_payment_intent_id,
            "stripe_checkout_session_id": payment.stripe_checkout_session_id,
            "confirmation_id": payment.confirmation_id,
            "attempt": payment.stripe_attempt_id,
            "failed_attempts": list(payment.failed_attempts),
            "failure": payment.failure
            and _without_none(
                {
                    "code": payment.failure.code,
                    "message": payment.failure.message,
                    "decline_code": payment.failure.decline_code,
                }
            ),
            "succeeded_at": payment.succeeded_at,
            "refundable_amount": payment.refundable_amount,
            "refundable_credits": payment.refundable_credits,
            "refunds": [_refund_to_document(refund) for refund in payment.refunds],
            "disputes": [
                {
                    "stripe_dispute_id": dispute.stripe_dispute_id,
                    "status": dispute.status,
                    "reason": dispute.reason,
                    "amount": dispute.amount,
                    "created_at": dispute.created_at,
                    "updated_at": dispute.updated_at,
                }
                for dispute in payment.disputes
            ],
            "fraud_warnings": [
                {
                    "stripe_fraud_warning_id": warning.stripe_fraud_warning_id,
                    "fraud_type": warning.fraud_type,
                    "actionable": warning.actionable,
                    "created_at": warning.created_at,
                    "updated_at": warning.updated_at,
                }
                for warning in payment.fraud_warnings
            ],
            "open_marks": list(payment.open_marks),
            "order_status": payment.order_status and payment.order_status.value,
            "review": payment.review
            and {
                "reason": payment.review.reason.value,
                "detail": payment.review.detail,
                "at": payment.review.at,
            },
            "history": [
                {
                    "at": change.at,
                    "from": change.from_status.value,
                    "to": change.to_status.value,
                    "cause": change.cause,
                }
                for change in payment.history
            ],
            "created_at": payment.created_at,
            "updated_at": payment.updated_at,
            "revision": payment.revision,
            "reconcile_at": payment.reconcile_at,
            "reconcile_attempts": payment.reconcile_attempts,
        }
    )


def payment_from_document(document: Document) -> Payment:
    """Raises UnreadableDocument."""
    try:
        return _payment_from_document(document)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableDocument(
            f"The payment {document.get('_id')} cannot be read ({type(error).__name__}: {error})."
        ) from error


def _payment_from_document(document: Document) -> Payment:
    checkout = document.get("checkout")
    elements = document.get("elements")
    failure = document.get("failure")
    review = document.get("review")
    order_status = document.get("order_status")
    return Payment(
        payment_id=document["_id"],
        user_id=document["user_id"],
        flow=PaymentFlow(document["flow"]),
        status=PaymentStatus(document["status"]),
        amount=document["amount"],
        currency=document["currency"],
        credits=document["credits"],
        items=tuple(_item_from_document(item) for item in document["items"]),
        metadata={entry["key"]: entry["value"] for entry in document["metadata"]},
        checkout=checkout
        and CheckoutDetails(
            success_url=checkout["success_url"],
            cancel_url=checkout["cancel_url"],
            customer_email=checkout.get("customer_email"),
            locale=checkout.get("locale"),
        ),
        elements=elements
        and ElementsDetails(
            receipt_email=elements.get("receipt_email"), description=elements.get("description")
        ),
        stripe_payment_intent_id=document.get("stripe_payment_intent_id"),
        stripe_checkout_session_id=document.get("stripe_checkout_session_id"),
        confirmation_id=document.get("confirmation_id"),
        stripe_attempt_id=document.get("attempt"),
        failed_attempts=tuple(document["failed_attempts"]),
        failure=failure
        and Failure(
            code=failure["code"],
            message=failure["message"],
            decline_code=failure.get("decline_code"),
        ),
        succeeded_at=document.get("succeeded_at"),
        refundable_amount=document["refundable_amount"],
        refundable_credits=document["refundable_credits"],
        refunds=tuple(_refund_from_document(refund) for refund in document["refunds"]),
        disputes=tuple(Dispute(**dispute) for dispute in document["disputes"]),
        # Documents of older versions do not have it.
        fraud_warnings=tuple(
            FraudWarning(**warning) for warning in document.get("fraud_warnings", ())
        ),
        open_marks=tuple(document["open_marks"]),
        order_status=OrderStatus(order_status) if order_status else None,
        review=review and Review(ReviewReason(review["reason"]), review["detail"], review["at"]),
        history=tuple(
            Change(
                line["at"], PaymentStatus(line["from"]), PaymentStatus(line["to"]), line["cause"]
            )
            for line in document["history"]
        ),
        created_at=document["created_at"],
        updated_at=document["updated_at"],
        revision=document["revision"],
        reconcile_at=document.get("reconcile_at"),
        reconcile_attempts=document["reconcile_attempts"],
    )


def order_to_document(order: Order) -> Document:
    return {
        "_id": order.order_id,
        "payment_id": order.payment_id,
        "user_id": order.user_id,
        "items": [_item_to_document(item) for item in order.items],
        "total_amount": order.total_amount,
        "total_credits": order.total_credits,
        "currency": order.currency,
        "status": order.status.value,
        "payment_method": order.payment_method.value,
        "created_at": order.created_at,
        "payment_revision": order.payment_revision,
    }


def order_from_document(document: Document) -> Order:
    return Order(
        order_id=document["_id"],
        payment_id=document["payment_id"],
        user_id=document["user_id"],
        items=tuple(_item_from_document(item) for item in document["items"]),
        total_amount=document["total_amount"],
        total_credits=document["total_credits"],
        currency=document["currency"],
        status=OrderStatus(document["status"]),
        payment_method=PaymentMethod(document["payment_method"]),
        created_at=document["created_at"],
        payment_revision=document["payment_revision"],
    )


def event_to_document(event: WebhookEvent) -> Document:
    return _without_none(
        {
            "_id": event.stripe_event_id,
            "type": event.type,
            # A string: Stripe's keys may hold dots and dollars.
            "payload": event.payload,
            "status": event.status.value,
            "created_at": event.created_at,
            "received_at": event.received_at,
            "attempts": event.attempts,
            "next_attempt_at": event.next_attempt_at,
            "last_error": event.last_error,
            "processed_at": event.processed_at,
        }
    )


def event_from_document(document: Document) -> WebhookEvent:
    return WebhookEvent(
        stripe_event_id=document["_id"],
        type=document["type"],
        payload=document["payload"],
        status=EventStatus(document["status"]),
        created_at=document["created_at"],
        received_at=document["received_at"],
        attempts=document["attempts"],
        next_attempt_at=document.get("next_attempt_at"),
        last_error=document.get("last_error"),
        processed_at=document.get("processed_at"),
    )
