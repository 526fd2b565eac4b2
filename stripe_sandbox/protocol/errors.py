"""Refusals, with the bodies Stripe gives them (https://docs.stripe.com/api/errors)."""

from typing import Any

from stripe_sandbox.core.api_objects import StripeObject, copy_json


class ApiError(Exception):
    """An answer other than 200.

    ``executed`` tells whether the endpoint had begun its work: only then is the answer kept for
    the idempotency key (https://docs.stripe.com/api/idempotent_requests).
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        executed: bool = True,
        headers: dict[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.executed = executed
        self.headers = headers or {}
        error: StripeObject = {}
        if code is not None:
            error["code"] = code
            error["doc_url"] = doc_url(code)
        error["message"] = message
        if param is not None:
            error["param"] = param
        error["type"] = type
        for key, value in details.items():
            if value is not None:
                error[key] = copy_json(value)
        self.error = error

    @property
    def message(self) -> str:
        return str(self.error["message"])

    @property
    def code(self) -> str | None:
        code: str | None = self.error.get("code")
        return code

    def body(self, request_id: str) -> StripeObject:
        log_url = f"https://dashboard.stripe.com/test/logs/{request_id}"
        return {"error": {**self.error, "request_log_url": log_url}}


def doc_url(code: str) -> str:
    return f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"


def invalid_param(message: str, param: str, code: str | None = None) -> ApiError:
    """A parameter refused before anything is done: never kept for the idempotency key."""
    return ApiError(400, message, param=param, code=code, executed=False)


def missing_param(param: str) -> ApiError:
    return invalid_param(f"Missing required param: {param}.", param, "parameter_missing")


def unknown_params(params: list[str]) -> ApiError:
    noun = "parameter" if len(params) == 1 else "parameters"
    message = f"Received unknown {noun}: {', '.join(params)}"
    return invalid_param(message, params[0], "parameter_unknown")


def not_simulated(param: str) -> ApiError:
    """Stripe knows this parameter and the sandbox does not: said aloud rather than ignored."""
    return invalid_param(f"The sandbox does not simulate `{param}`.", param)


def no_such(noun: str, id: str, param: str, *, status: int = 404) -> ApiError:
    return ApiError(status, f"No such {noun}: '{id}'", code="resource_missing", param=param)


def unexpected_state(message: str, payment_intent: StripeObject) -> ApiError:
    return ApiError(
        400,
        message,
        code="payment_intent_unexpected_state",
        payment_intent=payment_intent,
    )


def unrecognized_url(method: str, path: str) -> ApiError:
    return ApiError(
        404,
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we "
        "can help at https://support.stripe.com/.",
        executed=False,
    )


def no_api_key() -> ApiError:
    return ApiError(
        401,
        "You did not provide an API key. You need to provide your API key in the Authorization "
        "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
        "https://stripe.com/docs/api#authentication for details, or we can help at "
        "https://support.stripe.com/.",
        executed=False,
        headers={"WWW-Authenticate": 'Bearer realm="Stripe"'},
    )


def invalid_api_key(key: str) -> ApiError:
    prefix = next(
        (p for p in ("sk_test_", "rk_test_", "sk_live_", "rk_live_") if key.startswith(p)), ""
    )
    tail = key[-4:] if len(key) > len(prefix) + 4 else ""
    return ApiError(
        401,
        f"Invalid API Key provided: {prefix}****{tail}",
        executed=False,
        headers={"WWW-Authenticate": 'Bearer realm="Stripe"'},
    )


def invalid_version(version: str) -> ApiError:
    """https://docs.stripe.com/api/versioning"""
    return ApiError(400, f"Invalid Stripe API version: {version}", executed=False)


def secret_key_required() -> ApiError:
    return ApiError(
        401,
        "This API call cannot be made with a publishable API key. Please use a secret API key. You "
        "can find a list of your API keys at https://dashboard.stripe.com/account/apikeys.",
        code="secret_key_required",
        executed=False,
    )


def rate_limited(reason: str) -> ApiError:
    """https://docs.stripe.com/rate-limits"""
    return ApiError(
        429,
        "Request rate limit exceeded. Learn more about rate limits at "
        "https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        executed=False,
        headers={"Stripe-Rate-Limited-Reason": reason},
    )


def lock_timeout() -> ApiError:
    """https://docs.stripe.com/rate-limits#object-lock-timeouts"""
    return ApiError(
        429,
        "This object cannot be accessed right now because another API request or Stripe process is "
        "currently accessing it. If you see this error intermittently, retry the request. If you "
        "see this error frequently and are making multiple concurrent requests to a single object, "
        "make your requests serially or at a lower rate.",
        code="lock_timeout",
        executed=False,
    )
