"""What the Stripe SDK raises, in the words of our services: nothing is unclassified."""

import inspect
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
import pytest
import stripe

from app.errors import (
    AmountTooLarge,
    AmountTooSmall,
    StripeFailed,
    StripeTimeout,
    StripeUnavailable,
)
from app.gateways.payments import AttemptDeclined, StripeObjectMissing, StripeRefused
from app.gateways.stripe import translate_error

# What the SDK has for API v2 and for verifying signatures cannot come from a call of ours. Such a
# class still must not pass as something else: it is a failure at Stripe, and may be repeated.
NEVER_OURS: Final = (
    stripe.AlreadyCanceledError,
    stripe.BlockedByStripeError,
    stripe.CannotProceedError,
    stripe.CapabilityNotEnabledError,
    stripe.ControlledByAlternateResourceError,
    stripe.FeatureNotEnabledError,
    stripe.FinancialAccountNotOpenError,
    stripe.FxQuoteNeedsRefreshError,
    stripe.InsufficientFundsError,
    stripe.InvalidPaymentMethodError,
    stripe.InvalidPayoutMethodError,
    stripe.InvalidVaultedCredentialError,
    stripe.NotCancelableError,
    stripe.QuotaExceededError,
    stripe.RecipientNotNotifiableError,
    stripe.SignatureVerificationError,
    stripe.TemporarySessionExpiredError,
    stripe.VerificationAttemptFailedError,
    stripe.VerificationExpiredError,
    stripe.VerificationNotInitiatedError,
)
CLASSIFIED: Final[dict[type[stripe.StripeError], type[Exception]]] = {
    stripe.APIConnectionError: StripeFailed,
    stripe.APIError: StripeFailed,
    stripe.AuthenticationError: StripeFailed,
    stripe.CardError: AttemptDeclined,
    stripe.IdempotencyError: StripeFailed,
    stripe.InvalidRequestError: StripeRefused,
    stripe.PermissionError: StripeFailed,
    stripe.RateLimitError: StripeUnavailable,
    stripe.StripeError: StripeFailed,
    stripe.StripeErrorWithParamCode: StripeFailed,
    **dict.fromkeys(NEVER_OURS, StripeFailed),
}


def exported() -> Iterator[type[BaseException]]:
    for name in sorted(set(dir(stripe)) | set(stripe._import_map)):
        value = getattr(stripe, name)
        if inspect.isclass(value) and issubclass(value, BaseException):
            yield value


def instance(kind: type[Any], **fields: Any) -> Exception:
    """With whatever its constructor insists on."""
    required = {
        name: None
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.default is parameter.empty
    }
    error: Exception = kind(**{**required, "message": "told", **fields})
    return error


def test_every_exception_of_the_sdk_is_classified_here() -> None:
    assert set(exported()) - {Warning} == set(CLASSIFIED), "a class is new (or gone): classify it"


@pytest.mark.parametrize("kind", CLASSIFIED, ids=lambda kind: kind.__name__)
def test_exception_of_the_sdk_is_translated(kind: type[stripe.StripeError]) -> None:
    assert type(translate_error(instance(kind))) is CLASSIFIED[kind]


@pytest.mark.parametrize("kind", CLASSIFIED, ids=lambda kind: kind.__name__)
def test_what_callers_are_told_never_holds_stripes_own_words(
    kind: type[stripe.StripeError],
) -> None:
    translated = translate_error(instance(kind, message="sk_test_told"))
    if isinstance(translated, StripeFailed | StripeUnavailable):
        assert "told" not in translated.detail


@pytest.mark.parametrize(
    "kind",
    [
        stripe.APIConnectionError,
        stripe.APIError,
        stripe.RateLimitError,
    ],
)
def test_failure_that_may_pass_says_when_to_try_again(kind: type[stripe.StripeError]) -> None:
    translated = translate_error(instance(kind))
    assert isinstance(translated, StripeFailed | StripeUnavailable)
    assert translated.retry_after


@pytest.mark.parametrize(
    "kind", [stripe.AuthenticationError, stripe.PermissionError, stripe.IdempotencyError]
)
def test_failure_that_somebody_must_mend_does_not_ask_for_a_retry(
    kind: type[stripe.StripeError],
) -> None:
    translated = translate_error(instance(kind))
    assert isinstance(translated, StripeFailed)
    assert translated.retry_after is None


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"code": "amount_too_small"}, AmountTooSmall),
        ({"code": "amount_too_large"}, AmountTooLarge),
        ({"code": "resource_missing", "http_status": 404}, StripeObjectMissing),
        ({"code": "resource_missing", "http_status": 400}, StripeObjectMissing),
        ({"http_status": 404}, StripeObjectMissing),
        ({"code": "charge_already_refunded", "http_status": 400}, StripeRefused),
        ({"code": "payment_intent_unexpected_state"}, StripeRefused),
        ({"param": "amount", "http_status": 400}, StripeRefused),
    ],
    ids=str,
)
def test_refused_request_is_told_by_its_code(fields: dict[str, Any], kind: type) -> None:
    translated = translate_error(instance(stripe.InvalidRequestError, **fields))
    assert type(translated) is kind
    if isinstance(translated, StripeRefused):
        assert translated.stripe_code == fields.get("code")
        assert translated.param == fields.get("param")
        assert translated.stripe_message == "told"


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("Amount must be at least $0.50 usd", 50),
        ("Amount must be at least 50 cents", 50),
        ("Amount must be at least CZK 15.00 czk", 1500),
        ("Amount must be no more than $999,999.99", 99_999_999),
        ("Amount must be at least $10 mxn", None),
        ("The total amount must convert to at least 50 cents.", None),
        (None, None),
    ],
)
def test_limit_of_an_amount_is_passed_on_where_stripe_names_it_in_the_currency_charged(
    message: str | None, limit: int | None
) -> None:
    for code, fact in (("amount_too_small", "minimum"), ("amount_too_large", "maximum")):
        error = instance(stripe.InvalidRequestError, code=code, message=message)
        translated = translate_error(error)
        assert isinstance(translated, AmountTooSmall | AmountTooLarge)
        assert translated.facts == ({} if limit is None else {fact: limit})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), StripeTimeout),
        (aiohttp.ServerTimeoutError(), StripeTimeout),
        (aiohttp.ClientPayloadError("cut"), StripeFailed),
        (aiohttp.ServerDisconnectedError(), StripeFailed),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_sdk_lets_through_is_translated_too(error: Exception, kind: type) -> None:
    translated = translate_error(error)
    assert type(translated) is kind
    assert isinstance(translated, StripeTimeout | StripeFailed)
    assert translated.retry_after


def test_connection_error_that_was_a_time_out_is_one() -> None:
    error = instance(stripe.APIConnectionError)
    error.__cause__ = TimeoutError()
    assert type(translate_error(error)) is StripeTimeout


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), KeyError("id"), KeyboardInterrupt(), AssertionError()]
)
def test_what_is_not_stripes_doing_is_left_alone(error: BaseException) -> None:
    assert translate_error(error) is None


def test_decline_keeps_code_decline_code_message_and_intent() -> None:
    intent = {"id": "pi_1", "status": "requires_payment_method", "amount": 5, "currency": "usd"}
    details = {"code": "card_declined", "decline_code": "insufficient_funds"}
    error = instance(
        stripe.CardError,
        message="Your card has insufficient funds.",
        code="card_declined",
        http_status=402,
        json_body={"error": {**details, "payment_intent": intent}},
    )
    declined = translate_error(error)
    assert isinstance(declined, AttemptDeclined)
    assert declined.failure.code == "card_declined"
    assert declined.failure.decline_code == "insufficient_funds"
    assert declined.failure.message == "Your card has insufficient funds."
    assert declined.intent is not None
    assert declined.intent.stripe_payment_intent_id == "pi_1"


@pytest.mark.parametrize("body", [None, "not JSON", [], {}, {"error": {}}, {"error": {"code": 1}}])
def test_decline_with_a_body_of_another_shape_is_still_a_decline(body: Any) -> None:
    error = instance(stripe.CardError, message=None, http_status=402, json_body=body)
    declined = translate_error(error)
    assert isinstance(declined, AttemptDeclined)
    assert declined.intent is None
    assert declined.failure.code == "card_declined"
    assert declined.failure.message == "Your card was declined."
