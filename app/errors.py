"""Every refusal and failure the service can answer with.

    PaymentServiceError
    ├── BadRequest (400)            InvalidJson, InvalidSignature, LivemodeMismatch,
    │                               NotAStripeEvent, UnsupportedEventPayload
    ├── Unauthenticated (401)
    ├── CardDeclined, InsufficientCredits (402)
    ├── Forbidden (403)
    ├── NotFound (404)              PaymentNotFound, UserNotFound, CheckoutSessionNotFound
    ├── Conflict (409)              IdempotencyKeyInUse, PaymentNotConfirmable,
    │                               PaymentNotCancelable, PaymentNotRefundable, RefundRefused,
    │                               RefundExceedsRemaining
    ├── BodyTooLarge (413)
    ├── Unprocessable (422)         ValidationFailed, TotalMismatch, AmountTooSmall, AmountTooLarge,
    │                               InvalidAmountForCurrency, UnsupportedCurrency,
    │                               RedirectNotAllowed, IdempotencyKeyReused
    └── DependencyFailure (5xx)     StripeFailed (502), StripeNotConfigured (503),
                                    StripeUnavailable (503), StripeTimeout (504),
                                    DatabaseUnavailable (503), EventNotYetApplicable (503),
                                    EventUnreadable (only in the log)

Services raise these knowing nothing of HTTP; ``problems.py`` is the only place that turns them into
``application/problem+json`` (RFC 9457). ``code`` is stable and meant for programs, ``detail`` is a
sentence a person can act on, ``facts`` are extension members such as ``remaining``.
"""

from typing import ClassVar


class PaymentServiceError(Exception):
    """The root. ``retry_after`` is in seconds and becomes the ``Retry-After`` header.

    ``replayed`` says that this refusal is the stored answer to an earlier request with the same
    Idempotency-Key.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        retry_after: int | None = None,
        **facts: str | int | list[dict[str, str]] | None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.replayed = False
        self.facts = {name: value for name, value in facts.items() if value is not None}


class BadRequest(PaymentServiceError):
    status = 400
    code = "bad_request"
    title = "Bad request"


class InvalidJson(BadRequest):
    code = "invalid_json"
    title = "The body is not valid JSON"


class InvalidSignature(BadRequest):
    """The webhook's ``Stripe-Signature`` is missing, malformed, too old or made with another
    secret.
    """

    code = "invalid_signature"
    title = "Invalid webhook signature"


class LivemodeMismatch(BadRequest):
    """A test event reached a live service, or the other way round."""

    code = "livemode_mismatch"
    title = "Event of the other mode"


class NotAStripeEvent(BadRequest):
    """The body is signed and yet no event: no version of this service could read it."""

    code = "not_a_stripe_event"
    title = "Not a Stripe event"


class UnsupportedEventPayload(BadRequest):
    """The endpoint was made with thin payloads: they name the object and leave it out.

    https://docs.stripe.com/event-destinations#thin-events
    """

    code = "unsupported_event_payload"
    title = "Thin event payload"


class Unauthenticated(PaymentServiceError):
    status = 401
    code = "unauthenticated"
    title = "Credentials required"


class Forbidden(PaymentServiceError):
    status = 403
    code = "forbidden"
    title = "Not allowed"


class CardDeclined(PaymentServiceError):
    """The card was declined. Facts: ``decline_code``, ``payment_id``. The payment may be tried
    again.
    """

    status = 402
    code = "card_declined"
    title = "Card declined"


class InsufficientCredits(PaymentServiceError):
    """Facts: ``required`` and ``available``, both in credits."""

    status = 402
    code = "insufficient_credits"
    title = "Not enough credits"


class NotFound(PaymentServiceError):
    status = 404
    code = "not_found"
    title = "Not found"


class PaymentNotFound(NotFound):
    code = "payment_not_found"
    title = "Payment not found"


class UserNotFound(NotFound):
    code = "user_not_found"
    title = "User not found"


class CheckoutSessionNotFound(NotFound):
    code = "checkout_session_not_found"
    title = "Checkout Session not found"


class Conflict(PaymentServiceError):
    status = 409
    code = "conflict"
    title = "Conflict"


class IdempotencyKeyInUse(Conflict):
    code = "idempotency_key_in_use"
    title = "A request with this Idempotency-Key is still running"


class PaymentNotConfirmable(Conflict):
    """The payment belongs to a Checkout Session, is paid with credits, or is over.

    Facts, where a payment is over: ``payment_id``, ``payment_status``, ``order_id`` once it is
    paid, ``held`` (true) while a person checks the money that came for it.
    """

    code = "payment_not_confirmable"
    title = "Payment cannot be confirmed"


class PaymentNotCancelable(Conflict):
    """It is paid, or Stripe can no longer cancel it. Facts as PaymentNotConfirmable."""

    code = "payment_not_cancelable"
    title = "Payment cannot be canceled"


class PaymentNotRefundable(Conflict):
    code = "payment_not_refundable"
    title = "Payment cannot be refunded"


class RefundExceedsRemaining(Conflict):
    """Fact: ``remaining``, in cents for a card payment and in credits for a credits payment."""

    code = "refund_exceeds_remaining"
    title = "Refund exceeds what remains"


class RefundRefused(Conflict):
    """Stripe refused the refund for good. Facts: ``reason``, a stable code; ``refund_id``."""

    code = "refund_refused"
    title = "Refund refused"


class BodyTooLarge(PaymentServiceError):
    status = 413
    code = "body_too_large"
    title = "Request body too large"


class Unprocessable(PaymentServiceError):
    status = 422
    code = "unprocessable"
    title = "Request refused"


class ValidationFailed(Unprocessable):
    """Fact: ``errors``, a list of ``{"field", "message"}``."""

    code = "validation_error"
    title = "Request validation failed"

    @classmethod
    def of_field(cls, field: str, message: str) -> "ValidationFailed":
        """``message`` is a sentence for a person, without its full stop."""
        return cls(f"{field}: {message}.", errors=[{"field": field, "message": message}])


class TotalMismatch(Unprocessable):
    code = "total_mismatch"
    title = "Total does not match the items"


class AmountTooSmall(Unprocessable):
    """Fact: ``minimum``, in minor units; for a credits payment in credits."""

    code = "amount_too_small"
    title = "Amount too small"


class AmountTooLarge(Unprocessable):
    """Facts: ``maximum``, in minor units or credits; ``errors`` where one item's price is at
    fault.
    """

    code = "amount_too_large"
    title = "Amount too large"


class InvalidAmountForCurrency(Unprocessable):
    """Facts: ``currency``; ``multiple_of``, in minor units; ``errors`` where one item's price is at
    fault.
    """

    code = "invalid_amount_for_currency"
    title = "Amount not possible in this currency"


class UnsupportedCurrency(Unprocessable):
    code = "unsupported_currency"
    title = "Unsupported currency"


class RedirectNotAllowed(Unprocessable):
    code = "redirect_not_allowed"
    title = "Redirect not allowed"


class IdempotencyKeyReused(Unprocessable):
    code = "idempotency_key_reused"
    title = "Idempotency-Key reused with another request"


class DependencyFailure(PaymentServiceError):
    """Stripe or a database failed us. Never stored as the answer to an idempotent request."""

    status = 503
    code = "dependency_failure"
    title = "A dependency failed"


class StripeFailed(DependencyFailure):
    """Stripe could not be reached, answered 5xx, or refused a request of ours as wrong."""

    status = 502
    code = "stripe_error"
    title = "Stripe failed"


class StripeUnavailable(DependencyFailure):
    """Stripe did not execute the request (rate limit, lock): the same request may be sent again."""

    status = 503
    code = "stripe_error"
    title = "Stripe failed"


class StripeTimeout(DependencyFailure):
    """Stripe did not answer in time. Whether it did the work is not known."""

    status = 504
    code = "stripe_timeout"
    title = "Stripe did not answer in time"


class StripeNotConfigured(DependencyFailure):
    status = 503
    code = "stripe_not_configured"
    title = "Stripe is not configured"


class DatabaseUnavailable(DependencyFailure):
    status = 503
    code = "database_unavailable"
    title = "Database unavailable"


class EventNotYetApplicable(DependencyFailure):
    """The event speaks of a record that we do not have yet; it is kept and tried again."""

    status = 503
    code = "event_not_yet_applicable"
    title = "Event not yet applicable"


class EventUnreadable(DependencyFailure):
    """The event's object is not as Stripe's API version has it. The event is kept and tried again,
    for a later version of this service may read it; the sender hears that it is stored.
    """

    code = "event_unreadable"
    title = "Event cannot be read"


class ConfigurationError(Exception):
    """The settings are unsafe or unreadable. ``problems`` has one line for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class StartupError(Exception):
    """The service cannot start; the message is one line for the person who started it."""


def error_of_code(code: str) -> type[PaymentServiceError]:
    """The class of a refusal (4xx), whose codes are all different. Raises KeyError."""
    pending = [PaymentServiceError]
    while pending:
        kind = pending.pop()
        if kind.code == code and kind.status < 500:
            return kind
        pending += kind.__subclasses__()
    raise KeyError(code)
