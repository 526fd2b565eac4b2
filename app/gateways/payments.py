"""The payment provider as the services see it: snapshots of its objects, and the calls we make."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, Protocol

from app.domain.issuer_reports import Dispute, FraudWarning
from app.domain.payments import Failure, Payment
from app.domain.refunds import Refund, RefundStatus
from app.errors import PaymentServiceError, StripeFailed


class IntentStatus(StrEnum):
    """https://docs.stripe.com/payments/paymentintents/lifecycle"""

    REQUIRES_PAYMENT_METHOD = "requires_payment_method"
    REQUIRES_CONFIRMATION = "requires_confirmation"
    REQUIRES_ACTION = "requires_action"
    REQUIRES_CAPTURE = "requires_capture"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    CANCELED = "canceled"


_DELAYED_ACTIONS: Final = frozenset(
    {
        "boleto_display_details",
        "display_bank_transfer_instructions",
        "konbini_display_details",
        "multibanco_display_details",
        "oxxo_display_details",
        "pix_display_qr_code",
        "verify_with_microdeposits",
    }
)
"""What is left to do once a voucher, a bank transfer or a bank debit was submitted: it takes days.

https://docs.stripe.com/api/payment_intents/object#payment_intent_object-next_action
"""


@dataclass(frozen=True, slots=True)
class IntentSnapshot:
    """A PaymentIntent at one moment. ``status`` is Stripe's word, see IntentStatus.

    ``payment_id`` and ``deployment`` are ours, from the metadata. ``stripe_attempt_id`` is the
    latest charge; ``failure`` is the last payment error and ``failed_attempt`` the charge (or
    payment method) that it belongs to. ``next_action`` is the type of what the shopper has to do
    next, and ``action_expires_at`` until when, where Stripe names an end.
    """

    stripe_payment_intent_id: str
    status: str
    amount: int
    amount_received: int
    currency: str
    payment_id: str | None = None
    deployment: str | None = None
    stripe_attempt_id: str | None = None
    failure: Failure | None = None
    failed_attempt: str | None = None
    next_action: str | None = None
    action_expires_at: datetime | None = None
    client_secret: str | None = field(default=None, repr=False)

    @property
    def is_under_way(self) -> bool:
        """The shopper has submitted a delayed payment method: the money may still arrive in days,
        and Stripe says when it will not.
        """
        waits_for_shopper = self.status == IntentStatus.REQUIRES_ACTION
        return self.status == IntentStatus.PROCESSING or (
            waits_for_shopper and self.next_action in _DELAYED_ACTIONS
        )

    def may_be_abandoned(self, now: datetime) -> bool:
        """Whether canceling it takes nothing from a shopper who has tried to pay.

        A voucher is never abandoned at its expiry: the shop where it was paid reports a day later.
        """
        expires_at = self.action_expires_at
        return not self.is_under_way and (expires_at is None or expires_at <= now)


class SessionStatus(StrEnum):
    """https://docs.stripe.com/api/checkout/sessions/object#checkout_session_object-status"""

    OPEN = "open"
    COMPLETE = "complete"
    EXPIRED = "expired"


class SessionPaymentStatus(StrEnum):
    """https://docs.stripe.com/api/checkout/sessions/object#checkout_session_object-payment_status"""

    PAID = "paid"
    UNPAID = "unpaid"
    NO_PAYMENT_REQUIRED = "no_payment_required"


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """A Checkout Session at one moment. ``status`` and ``payment_status`` are Stripe's words, see
    SessionStatus and SessionPaymentStatus.
    """

    stripe_checkout_session_id: str
    status: str
    payment_status: str
    amount_total: int
    currency: str
    payment_id: str | None = None
    deployment: str | None = None
    stripe_payment_intent_id: str | None = None
    url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RefundSnapshot:
    """``refund_id``, ``payment_id`` and ``deployment`` are ours, from the metadata; None for a
    dashboard refund.
    """

    stripe_refund_id: str
    status: RefundStatus
    amount: int
    stripe_payment_intent_id: str | None
    refund_id: str | None = None
    payment_id: str | None = None
    deployment: str | None = None
    reason: str | None = None
    failure_reason: str | None = None


@dataclass(frozen=True, slots=True)
class ChargeSnapshot:
    """``amount_refunded`` is the sum of all refunds of the charge."""

    stripe_charge_id: str
    amount_refunded: int
    stripe_payment_intent_id: str | None
    payment_id: str | None = None
    deployment: str | None = None


@dataclass(frozen=True, slots=True)
class DisputeSnapshot:
    dispute: Dispute
    stripe_payment_intent_id: str | None


@dataclass(frozen=True, slots=True)
class FraudWarningSnapshot:
    """Without a PaymentIntent it is about a charge that no flow of ours makes."""

    warning: FraudWarning
    stripe_payment_intent_id: str | None


@dataclass(frozen=True, slots=True)
class OtherObject:
    """No flow of ours reads it. ``kind`` is Stripe's word, ``checkout.session`` for one that sells
    nothing (a set-up or a subscription).
    """

    kind: str


@dataclass(frozen=True, slots=True)
class UnreadableObject:
    """Not as Stripe's API version has it. ``reason`` names the field and what it should hold."""

    reason: str


EventObject = (
    IntentSnapshot
    | SessionSnapshot
    | RefundSnapshot
    | ChargeSnapshot
    | DisputeSnapshot
    | FraudWarningSnapshot
    | OtherObject
    | UnreadableObject
)


@dataclass(frozen=True, slots=True)
class EventSnapshot:
    """A verified or fetched event. ``payload`` is the event as JSON, without the client
    secrets in it: fit for the store.
    """

    stripe_event_id: str
    type: str
    livemode: bool
    created_at: datetime
    object: EventObject
    payload: str = field(repr=False)

    @property
    def cause(self) -> str:
        """What the audit trail says of a change that the event made."""
        return f"{self.type} {self.stripe_event_id}"


class AttemptDeclined(Exception):
    """A definitive decline of one attempt. ``intent`` is the PaymentIntent after it."""

    def __init__(self, failure: Failure, intent: IntentSnapshot | None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.intent = intent


class StripeRefused(PaymentServiceError):
    """Stripe understood the request and did not do it: definitive, repeating it changes nothing.

    No DependencyFailure: those (StripeFailed, StripeUnavailable, StripeTimeout) leave the outcome
    unknown or the request unexecuted, and may be repeated with the same idempotency key. A caller
    is told the same of both, unless a service has a better answer.
    """

    status = StripeFailed.status
    code = StripeFailed.code
    title = StripeFailed.title

    def __init__(self, message: str, *, stripe_code: str | None, param: str | None) -> None:
        super().__init__("Stripe refused the request.")
        self.stripe_message = message
        self.stripe_code = stripe_code
        self.param = param


class StripeObjectMissing(StripeRefused):
    """There is no such object at Stripe (any more, or in this mode)."""


CancellationReason = Literal["abandoned", "requested_by_customer"]
"""https://docs.stripe.com/api/payment_intents/cancel"""


class PaymentGateway(Protocol):
    """Every POST carries an idempotency key derived from our own records, so that it can be
    repeated after a crash. Raises AttemptDeclined, StripeRefused, or a DependencyFailure (outcome
    unknown).
    """

    def require_configured(self) -> None:
        """Raises StripeNotConfigured when there is no key to ask Stripe with."""
        ...

    async def create_payment_intent(self, payment: Payment) -> IntentSnapshot: ...

    async def retrieve_payment_intent(self, stripe_payment_intent_id: str) -> IntentSnapshot: ...

    async def confirm_payment_intent(
        self, stripe_payment_intent_id: str, *, payment_method: str | None, confirmation_id: str
    ) -> IntentSnapshot:
        """One attempt to pay; ``confirmation_id`` makes repeating the attempt harmless."""
        ...

    async def cancel_payment_intent(
        self, stripe_payment_intent_id: str, *, reason: CancellationReason
    ) -> IntentSnapshot: ...

    async def create_checkout_session(self, payment: Payment) -> SessionSnapshot: ...

    async def retrieve_checkout_session(
        self, stripe_checkout_session_id: str
    ) -> SessionSnapshot: ...

    async def expire_checkout_session(self, stripe_checkout_session_id: str) -> SessionSnapshot: ...

    async def create_refund(self, payment: Payment, refund: Refund) -> RefundSnapshot: ...

    async def retrieve_refund(self, stripe_refund_id: str) -> RefundSnapshot: ...

    async def list_refunds(self, stripe_payment_intent_id: str) -> Sequence[RefundSnapshot]: ...

    async def retrieve_dispute(self, stripe_dispute_id: str) -> Dispute: ...

    async def retrieve_early_fraud_warning(self, stripe_fraud_warning_id: str) -> FraudWarning: ...

    def verify_event(self, payload: bytes, signature: str | None) -> EventSnapshot:
        """Raises InvalidSignature unless a configured secret signed these very bytes recently,
        NotAStripeEvent or UnsupportedEventPayload for signed bytes that are no snapshot event.
        """
        ...

    def parse_event(self, payload: str) -> EventSnapshot:
        """For a payload that was verified before it was stored. Raises NotAStripeEvent."""
        ...

    def list_events(
        self, types: Sequence[str], *, since: datetime
    ) -> AsyncIterator[Sequence[EventSnapshot]]:
        """Pages of what happened since then, newest first; Stripe keeps 30 days."""
        ...
