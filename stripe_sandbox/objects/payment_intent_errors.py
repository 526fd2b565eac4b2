"""How PaymentIntents refuse, with the bodies Stripe gives (https://docs.stripe.com/error-codes)."""

from collections.abc import Sequence

from stripe_sandbox.core.api_objects import StripeObject, copy_json
from stripe_sandbox.objects.instruments import Decline
from stripe_sandbox.protocol.errors import ApiError, doc_url, unexpected_state

_ENDED = {
    "payment_intent_authentication_failure": (
        "The provided PaymentMethod has failed authentication. You can provide payment_method_data "
        "or a new PaymentMethod to attempt to fulfill this PaymentIntent again."
    ),
    "payment_intent_payment_attempt_expired": (
        "The latest payment attempt for the PaymentIntent has expired. Provide a new payment "
        "method to attempt to fulfill this PaymentIntent again."
    ),
    "payment_intent_payment_attempt_failed": (
        "The latest payment attempt for the PaymentIntent has failed. Provide a new payment "
        "method to attempt to fulfill this PaymentIntent again."
    ),
    "payment_method_microdeposit_verification_attempts_exceeded": (
        "You have exceeded the number of allowed verification attempts."
    ),
    "payment_method_microdeposit_verification_timeout": (
        "The bank account was not verified within 10 days of sending the microdeposits."
    ),
}
"""Why an attempt ended before there was a charge, by code."""


def not_confirmable(intent: StripeObject) -> ApiError:
    status = intent["status"]
    reason = (
        "it has already succeeded after being previously confirmed."
        if status == "succeeded"
        else f"it has a status of {status}. Only a PaymentIntent with one of the following "
        "statuses may be confirmed: requires_confirmation, requires_action."
    )
    return unexpected_state(f"You cannot confirm this PaymentIntent because {reason}", intent)


def not_capturable(intent: StripeObject) -> ApiError:
    return unexpected_state(
        "This PaymentIntent could not be captured because it has a status of "
        f"{intent['status']}. Only a PaymentIntent with one of the following statuses may be "
        "captured: requires_capture.",
        intent,
    )


def not_cancelable(intent: StripeObject, cancelable: Sequence[str]) -> ApiError:
    return unexpected_state(
        "You cannot cancel this PaymentIntent because it has a status of "
        f"{intent['status']}. Only a PaymentIntent with one of the following statuses may be "
        f"canceled: {', '.join(cancelable)}.",
        intent,
    )


def method_missing(intent: StripeObject) -> ApiError:
    customer = intent["customer"]
    remedy = (
        "You can either update the PaymentIntent with a payment method and then confirm it again, "
        "or confirm it again directly with a payment method or ConfirmationToken."
        if customer is None
        else f"To confirm the PaymentIntent with {customer}, specify a payment method attached to "
        "this customer along with the customer ID."
    )
    return unexpected_state(
        "You cannot confirm this PaymentIntent because it's missing a payment method. " + remedy,
        intent,
    )


def customer_already_set(intent: StripeObject) -> ApiError:
    return ApiError(
        400,
        "You cannot modify `customer` on a PaymentIntent once it already has been set. To fulfill "
        "a payment with a different Customer, cancel this PaymentIntent and create a new one.",
        param="customer",
        payment_intent=intent,
    )


def check_owner(intent: StripeObject, method: StripeObject) -> None:
    """A saved method pays for its own customer only."""
    owner, customer = method["customer"], intent["customer"]
    if owner is None or owner == customer:
        return
    if customer is None:
        raise ApiError(
            400,
            f"The `payment_method` parameter supplied {method['id']} belongs to the Customer "
            f"{owner}. Please include the Customer in the `customer` parameter on the "
            "PaymentIntent.",
            code="parameter_missing",
            param="source",
            payment_intent=intent,
        )
    raise ApiError(
        400,
        f"The PaymentMethod {method['id']} does not belong to the Customer you supplied "
        f"{customer}. Please use this PaymentMethod with the Customer that it belongs to instead.",
        param="payment_method",
        payment_intent=intent,
    )


def payment_error(decline: Decline, charge_id: str, method: StripeObject) -> StripeObject:
    """``last_payment_error``, and the ``error`` of the 402 answer."""
    error: StripeObject = {
        "advice_code": decline.advice_code,
        "charge": charge_id,
        "code": decline.code,
        "decline_code": decline.decline_code,
        "doc_url": doc_url(decline.code),
        "message": decline.message,
        "network_decline_code": decline.network_decline_code,
        "payment_method": copy_json(method),
        "type": "card_error",
    }
    return {key: value for key, value in error.items() if value is not None}


def uncharged_error(code: str, method: StripeObject) -> StripeObject:
    """``last_payment_error`` of an attempt that ended before there was a charge."""
    return {
        "code": code,
        "doc_url": doc_url(code),
        "message": _ENDED[code],
        "payment_method": copy_json(method),
        "type": "invalid_request_error",
    }


def return_url_needed(intent: StripeObject) -> ApiError:
    """https://docs.stripe.com/changelog/2023-08-16/automatic-payment-methods"""
    return ApiError(
        400,
        "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. "
        "Because some of these payment methods might redirect your customer off of your page, you "
        "must provide a `return_url`. If you don't want to accept redirect-based payment methods, "
        "set `automatic_payment_methods[enabled]` to `true` and "
        "`automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and "
        "Payment Intents.",
        payment_intent=intent,
    )


def error_on_action_refused(intent: StripeObject) -> ApiError:
    return ApiError(
        400,
        "`error_on_requires_action` cannot be used together with `automatic_payment_methods` that "
        "may redirect. Set `automatic_payment_methods[allow_redirects]` to `never`.",
        param="error_on_requires_action",
        payment_intent=intent,
    )
