"""The only file that talks to Stripe: requests, and translation of errors."""

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import stripe
from stripe import StripeClient

from app.domain.issuer_reports import Dispute, FraudWarning
from app.domain.payments import Failure, Payment
from app.domain.refunds import Refund
from app.errors import (
    AmountTooLarge,
    AmountTooSmall,
    InvalidSignature,
    StripeFailed,
    StripeNotConfigured,
    StripeTimeout,
    StripeUnavailable,
)
from app.gateways.payments import (
    AttemptDeclined,
    CancellationReason,
    EventSnapshot,
    IntentSnapshot,
    RefundSnapshot,
    SessionSnapshot,
    StripeObjectMissing,
    StripeRefused,
)
from app.gateways.stripe_objects import (
    DEPLOYMENT_KEY,
    PAYMENT_ID_KEY,
    REASON_KEY,
    REFUND_ID_KEY,
    USER_ID_KEY,
    Object,
    dispute_snapshot,
    event_snapshot,
    fraud_warning_snapshot,
    intent_snapshot,
    read_event,
    refund_snapshot,
    session_snapshot,
)
from app.metrics import Metrics
from app.observability import get_logger
from app.settings import Settings

if TYPE_CHECKING:
    from stripe.params import (
        EventListParams,
        PaymentIntentConfirmParams,
        PaymentIntentCreateParams,
        RefundCreateParams,
        RefundListParams,
    )
    from stripe.params.checkout import SessionCreateParams

SIGNATURE_TOLERANCE_SECONDS: Final = 300
"""https://docs.stripe.com/webhooks#replay-attacks"""

_LIMIT: Final = re.compile(
    r"Amount must be (?:at least|no more than) \D*(?P<figure>\d[\d,]*\.\d{2,3}|\d+(?= cents))\b"
)

_SPECIAL_REFUSALS: Final = (AttemptDeclined, AmountTooSmall, AmountTooLarge)

_SDK_RETRIES: Final = 2
_RATE_LIMIT_RETRIES: Final = 3
_RATE_LIMIT_WAIT_SECONDS: Final = 0.5
_PAGE: Final = 100

Answer = TypeVar("Answer")
log = get_logger(__name__)


@asynccontextmanager
async def connect_stripe(settings: Settings) -> AsyncIterator[stripe.HTTPClient]:
    """One pooled HTTP client for the process, bound to the running event loop.

    aiohttp rather than the SDK's default httpx: it carries several times the load when many calls
    are in flight (https://github.com/encode/httpx/issues/3215).
    """
    timeout = aiohttp.ClientTimeout(total=settings.stripe_timeout_seconds)
    http_client = stripe.AIOHTTPClient(timeout=timeout)
    try:
        yield http_client
    finally:
        await http_client.close_async()  # type: ignore[no-untyped-call]  # the SDK left it untyped


StripeConnector = Callable[[Settings], AbstractAsyncContextManager[stripe.HTTPClient]]


@asynccontextmanager
async def open_stripe_gateway(
    settings: Settings,
    metrics: Metrics,
    connect: StripeConnector = connect_stripe,
    *,
    deployment: str,
) -> AsyncIterator["StripeGateway"]:
    """``deployment`` goes into the metadata of all that is made, for telling our events from those
    of other environments on the same account.
    """
    # Off: it writes a file to the home directory, and the root file system may be read-only.
    stripe.enable_telemetry = False
    async with connect(settings) as http_client:
        yield StripeGateway(settings, http_client, metrics, deployment)


class StripeGateway:
    """Implements PaymentGateway."""

    def __init__(
        self,
        settings: Settings,
        http_client: stripe.HTTPClient,
        metrics: Metrics,
        deployment: str,
    ) -> None:
        self._deployment = deployment
        self._secrets = settings.webhook_secrets
        self._return_url = _without_placeholder(settings.payment_success_url)
        self._deadline_seconds = settings.stripe_timeout_seconds * 1.5
        self._slots = asyncio.Semaphore(settings.stripe_max_concurrency)
        self._metrics = metrics
        self._sleep = http_client.sleep_async
        key = settings.stripe_secret_key.get_secret_value()
        self._client = (
            StripeClient(
                key,
                http_client=http_client,
                # Unset means no retry at all for a StripeClient, whatever the module-level default.
                max_network_retries=_SDK_RETRIES,
                base_addresses={"api": settings.stripe_api_base.rstrip("/")}
                if settings.stripe_api_base
                else {},
            )
            if key
            else None
        )

    def require_configured(self) -> None:
        self._configured_client()

    # PaymentIntents: https://docs.stripe.com/api/payment_intents

    async def create_payment_intent(self, payment: Payment) -> IntentSnapshot:
        # Payment methods are chosen in the Dashboard: `payment_method_types` is no longer accepted.
        params: PaymentIntentCreateParams = {
            "amount": payment.amount,
            "currency": payment.currency,
            "automatic_payment_methods": {"enabled": True},
            "metadata": self._metadata(payment),
        }
        if payment.elements is not None:
            if payment.elements.receipt_email is not None:
                params["receipt_email"] = payment.elements.receipt_email
            if payment.elements.description is not None:
                params["description"] = payment.elements.description
        return intent_snapshot(
            await self._post(
                "payment_intents.create",
                lambda client, options: client.v1.payment_intents.create_async(params, options),
                key=f"payment_intent:{payment.payment_id}",
                expected=(AmountTooSmall, AmountTooLarge),
            )
        )

    async def retrieve_payment_intent(self, stripe_payment_intent_id: str) -> IntentSnapshot:
        return intent_snapshot(
            await self._get(
                "payment_intents.retrieve",
                lambda client: client.v1.payment_intents.retrieve_async(stripe_payment_intent_id),
            )
        )

    async def confirm_payment_intent(
        self, stripe_payment_intent_id: str, *, payment_method: str | None, confirmation_id: str
    ) -> IntentSnapshot:
        # Some payment methods redirect, so a confirmation from a server must say where to come back
        # to: https://docs.stripe.com/changelog/2023-08-16/automatic-payment-methods
        params: PaymentIntentConfirmParams = {"return_url": self._return_url}
        if payment_method is not None:
            params["payment_method"] = payment_method
        return intent_snapshot(
            await self._post(
                "payment_intents.confirm",
                lambda client, options: client.v1.payment_intents.confirm_async(
                    stripe_payment_intent_id, params, options
                ),
                # One key for each attempt: Stripe replays a decline to the same key for a day.
                key=f"confirm:{confirmation_id}",
                expected=(AttemptDeclined,),
            )
        )

    async def cancel_payment_intent(
        self, stripe_payment_intent_id: str, *, reason: CancellationReason
    ) -> IntentSnapshot:
        return intent_snapshot(
            await self._post(
                "payment_intents.cancel",
                lambda client, options: client.v1.payment_intents.cancel_async(
                    stripe_payment_intent_id, {"cancellation_reason": reason}, options
                ),
            )
        )

    # Checkout Sessions: https://docs.stripe.com/api/checkout/sessions

    async def create_checkout_session(self, payment: Payment) -> SessionSnapshot:
        if payment.checkout is None:
            raise ValueError(f"{payment.payment_id} was not made for Checkout")
        metadata = self._metadata(payment)
        params: SessionCreateParams = {
            "mode": "payment",
            "line_items": [
                {
                    "quantity": item.quantity,
                    "price_data": {
                        "currency": payment.currency,
                        "unit_amount": item.price_cents,
                        "product_data": {"name": item.title or item.book_id},
                    },
                }
                for item in payment.items
            ],
            "success_url": payment.checkout.success_url,
            "cancel_url": payment.checkout.cancel_url,
            "client_reference_id": payment.payment_id,
            # A session's metadata is not copied to its PaymentIntent, so both get it.
            "metadata": metadata,
            "payment_intent_data": {"metadata": metadata},
        }
        if payment.checkout.customer_email is not None:
            params["customer_email"] = payment.checkout.customer_email
        if payment.checkout.locale is not None:
            params["locale"] = payment.checkout.locale
        return session_snapshot(
            await self._post(
                "checkout.sessions.create",
                lambda client, options: client.v1.checkout.sessions.create_async(params, options),
                key=f"checkout_session:{payment.payment_id}",
                expected=(AmountTooSmall, AmountTooLarge),
            )
        )

    async def retrieve_checkout_session(self, stripe_checkout_session_id: str) -> SessionSnapshot:
        return session_snapshot(
            await self._get(
                "checkout.sessions.retrieve",
                lambda client: client.v1.checkout.sessions.retrieve_async(
                    stripe_checkout_session_id
                ),
            )
        )

    async def expire_checkout_session(self, stripe_checkout_session_id: str) -> SessionSnapshot:
        return session_snapshot(
            await self._post(
                "checkout.sessions.expire",
                lambda client, options: client.v1.checkout.sessions.expire_async(
                    stripe_checkout_session_id, {}, options
                ),
            )
        )

    # Refunds: https://docs.stripe.com/api/refunds

    async def create_refund(self, payment: Payment, refund: Refund) -> RefundSnapshot:
        metadata = {
            PAYMENT_ID_KEY: payment.payment_id,
            REFUND_ID_KEY: refund.refund_id,
            DEPLOYMENT_KEY: self._deployment,
        }
        if payment.stripe_payment_intent_id is None:
            raise ValueError(f"{payment.payment_id} has no PaymentIntent to refund")
        params: RefundCreateParams = {
            "payment_intent": payment.stripe_payment_intent_id,
            "amount": refund.amount,
            "metadata": metadata,
        }
        match refund.reason:
            case "duplicate" | "fraudulent" | "requested_by_customer" as reason:
                params["reason"] = reason
            case str() as free_text:
                metadata[REASON_KEY] = free_text
        return refund_snapshot(
            await self._post(
                "refunds.create",
                lambda client, options: client.v1.refunds.create_async(params, options),
                key=f"refund:{refund.refund_id}",
            )
        )

    async def retrieve_refund(self, stripe_refund_id: str) -> RefundSnapshot:
        return refund_snapshot(
            await self._get(
                "refunds.retrieve",
                lambda client: client.v1.refunds.retrieve_async(stripe_refund_id),
            )
        )

    async def list_refunds(self, stripe_payment_intent_id: str) -> Sequence[RefundSnapshot]:
        params: RefundListParams = {"payment_intent": stripe_payment_intent_id, "limit": _PAGE}
        pages = self._pages(
            "refunds.list", lambda client, page: client.v1.refunds.list_async({**params, **page})
        )
        return [refund_snapshot(refund) async for page in pages for refund in page]

    # Disputes and early fraud warnings: https://docs.stripe.com/api/disputes

    async def retrieve_dispute(self, stripe_dispute_id: str) -> Dispute:
        return dispute_snapshot(
            await self._get(
                "disputes.retrieve",
                lambda client: client.v1.disputes.retrieve_async(stripe_dispute_id),
            )
        ).dispute

    async def retrieve_early_fraud_warning(self, stripe_fraud_warning_id: str) -> FraudWarning:
        return fraud_warning_snapshot(
            await self._get(
                "radar.early_fraud_warnings.retrieve",
                lambda client: client.v1.radar.early_fraud_warnings.retrieve_async(
                    stripe_fraud_warning_id
                ),
            )
        ).warning

    # Events: https://docs.stripe.com/api/events

    async def list_events(
        self, types: Sequence[str], *, since: datetime
    ) -> AsyncIterator[Sequence[EventSnapshot]]:
        params: EventListParams = {
            "types": list(types),
            "created": {"gte": int(since.timestamp())},
            "limit": _PAGE,
        }
        pages = self._pages(
            "events.list", lambda client, page: client.v1.events.list_async({**params, **page})
        )
        async for page in pages:
            yield [event_snapshot(event, json.dumps(event)) for event in page]

    def verify_event(self, payload: bytes, signature: str | None) -> EventSnapshot:
        if not self._secrets:
            raise StripeNotConfigured(
                "No webhook secret is configured, so no event can be verified.", retry_after=60
            )
        if not signature:
            raise InvalidSignature("The Stripe-Signature header is missing.")
        # Verified apart from parsing: the SDK's construct_event costs twenty times as much, and the
        # event is stored as it came.
        try:
            text = payload.decode()
            verified = any(_is_signed(text, signature, secret) for secret in self._secrets)
        except (UnicodeDecodeError, TypeError, ValueError):
            verified = False
        if not verified:
            raise InvalidSignature("The Stripe-Signature header does not match the body.")
        return self.parse_event(text)

    def parse_event(self, payload: str) -> EventSnapshot:
        return read_event(payload)

    def _metadata(self, payment: Payment) -> dict[str, str]:
        """The same for each repeat: Stripe refuses a known idempotency key with other parameters.
        A deployment that was renamed in between is refused so, for a day.
        """
        return {
            **payment.metadata,
            PAYMENT_ID_KEY: payment.payment_id,
            USER_ID_KEY: payment.user_id,
            DEPLOYMENT_KEY: self._deployment,
        }

    # How a call is made

    async def _post(
        self,
        operation: str,
        send: Callable[[StripeClient, Any], Awaitable[Any]],
        *,
        key: str | None = None,
        expected: tuple[type[Exception], ...] = (),
    ) -> Object:
        """Without a ``key`` the SDK's random one covers its own retries: enough for calls that are
        refused when they were done before. ``expected`` are the refusals with a class of their own
        that the call may end with; elsewhere they are a StripeRefused like any other.
        """
        options = {"idempotency_key": key} if key else {}
        return await self._call(operation, lambda client: send(client, options), expected)

    async def _get(self, operation: str, send: Callable[[StripeClient], Awaitable[Any]]) -> Object:
        return await self._call(operation, send)

    def _configured_client(self) -> StripeClient:
        if self._client is None:
            raise StripeNotConfigured("STRIPE_SECRET_KEY is not set.")
        return self._client

    async def _pages(
        self, operation: str, list_page: Callable[[StripeClient, Any], Awaitable[Any]]
    ) -> AsyncIterator[Sequence[Object]]:
        """https://docs.stripe.com/api/pagination"""
        page: dict[str, str] = {}

        async def list_this_page(client: StripeClient) -> Any:
            return await list_page(client, page)

        while True:
            answer = await self._call(operation, list_this_page)
            if answer["data"]:
                yield answer["data"]
            if not answer["has_more"]:
                return
            page = {"starting_after": answer["data"][-1]["id"]}

    async def _call(
        self,
        operation: str,
        send: Callable[[StripeClient], Awaitable[Any]],
        expected: tuple[type[Exception], ...] = (),
    ) -> Object:
        client = self._configured_client()
        started = time.perf_counter()
        outcome = "ok"
        try:
            async with asyncio.timeout(self._deadline_seconds), self._slots:
                answer: Object = (await self._retrying_rate_limits(client, send)).to_dict(
                    for_json=True
                )
                return answer
        except BaseException as error:
            # Cancellations too: the metric counts how every call ended. What is not Stripe's doing
            # is raised again as it is.
            outcome = type(error).__name__
            translated = translate_error(error)
            if translated is None:
                raise
            if isinstance(translated, _SPECIAL_REFUSALS) and not isinstance(translated, expected):
                translated = StripeRefused(
                    str(translated),
                    stripe_code=_code_of(error),
                    param=getattr(error, "param", None),
                )
            if not isinstance(translated, _SPECIAL_REFUSALS):
                log.warning(
                    "stripe.request_failed",
                    operation=operation,
                    error=outcome,
                    stripe_code=_code_of(error),
                    stripe_request_id=getattr(error, "request_id", None),
                )
            raise translated from error
        finally:
            self._metrics.observe_stripe_request(operation, outcome, time.perf_counter() - started)

    async def _retrying_rate_limits(
        self, client: StripeClient, send: Callable[[StripeClient], Awaitable[Any]]
    ) -> Any:
        """The SDK retries lost connections, 409 and 5xx, but not 429, which Stripe did not execute.

        https://docs.stripe.com/rate-limits
        """
        for retry in range(_RATE_LIMIT_RETRIES):
            try:
                return await send(client)
            except stripe.RateLimitError:
                longest = _RATE_LIMIT_WAIT_SECONDS * 2**retry
                await self._sleep(longest * random.uniform(0.5, 1))  # noqa: S311 - jitter
        return await send(client)


def translate_error(error: BaseException) -> Exception | None:
    """What the services are told; None for what is not Stripe's doing.

    By the caller's next move, most specific class first: https://docs.stripe.com/error-low-level
    """
    match error:
        case stripe.CardError():
            return AttemptDeclined(_failure_of(error), _intent_of(error))
        case stripe.RateLimitError():
            return StripeUnavailable("Stripe is busy; please try again.", retry_after=5)
        case stripe.IdempotencyError():
            return StripeFailed("Stripe knows this request under other parameters.")
        case stripe.AuthenticationError() | stripe.PermissionError():
            return StripeFailed("Stripe does not accept this service's key.")
        case stripe.InvalidRequestError(code="amount_too_small"):
            return AmountTooSmall(
                "The amount is below Stripe's minimum charge.", minimum=_limit_in(error)
            )
        case stripe.InvalidRequestError(code="amount_too_large"):
            return AmountTooLarge(
                "The amount is above Stripe's maximum charge.", maximum=_limit_in(error)
            )
        case stripe.InvalidRequestError():
            missing = error.code == "resource_missing" or error.http_status == 404
            kind = StripeObjectMissing if missing else StripeRefused
            return kind(
                error.user_message or "",
                stripe_code=error.code,
                param=getattr(error, "param", None),
            )
        case stripe.APIConnectionError() if isinstance(error.__cause__, TimeoutError):
            return _timed_out()
        case stripe.StripeError():
            return StripeFailed("Stripe could not be reached or failed.", retry_after=5)
        # The SDK's aiohttp client lets these through when the body cannot be read.
        case TimeoutError():
            return _timed_out()
        case aiohttp.ClientError():
            return StripeFailed("The connection to Stripe broke.", retry_after=5)
        case _:
            return None


def _timed_out() -> StripeTimeout:
    return StripeTimeout(
        "Stripe did not answer in time. The outcome is not known yet and will be settled; "
        "look the payment up before paying again.",
        retry_after=10,
    )


def _limit_in(error: stripe.InvalidRequestError) -> int | None:
    """In minor units, from "Amount must be at least $0.50 usd" or "... no more than $999,999.99".

    None where Stripe words it otherwise, a limit in the settlement currency say.
    """
    found = _LIMIT.match(error.user_message or "")
    return int(re.sub("[,.]", "", found["figure"])) if found else None


def _failure_of(error: stripe.CardError) -> Failure:
    details = error.error
    return Failure(
        code=error.code or "card_declined",
        message=error.user_message or "Your card was declined.",
        decline_code=getattr(details, "decline_code", None),
    )


def _intent_of(error: stripe.CardError) -> IntentSnapshot | None:
    body = error.json_body
    intent = body.get("error", {}).get("payment_intent") if isinstance(body, Mapping) else None
    return intent_snapshot(intent) if intent else None


def _code_of(error: BaseException) -> str | None:
    details = getattr(error, "error", None)
    return getattr(details, "code", None)


def _is_signed(text: str, signature: str, secret: str) -> bool:
    try:
        stripe.WebhookSignature.verify_header(
            text, signature, secret, tolerance=SIGNATURE_TOLERANCE_SECONDS
        )
    except stripe.SignatureVerificationError:
        return False
    # The SDK refuses only old timestamps.
    timestamp = next(part for part in signature.split(",") if part.startswith("t="))
    return int(timestamp[2:]) <= time.time() + SIGNATURE_TOLERANCE_SECONDS


def _without_placeholder(url: str) -> str:
    """The success URL without ``{CHECKOUT_SESSION_ID}``, which only Checkout fills in."""
    parts = urlsplit(url.replace("{CHECKOUT_SESSION_ID}", ""))
    return urlunsplit(parts._replace(query="", fragment=""))
