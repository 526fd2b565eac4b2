"""The only file that talks to Stripe: requests, translation of objects, translation of errors."""

import asyncio
import json
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import stripe
from stripe import StripeClient

from app.domain.payments import Dispute, Failure, FraudWarning, Payment
from app.domain.refunds import Refund, RefundStatus
from app.errors import (
    AmountTooLarge,
    AmountTooSmall,
    InvalidSignature,
    NotAStripeEvent,
    StripeFailed,
    StripeNotConfigured,
    StripeTimeout,
    StripeUnavailable,
    UnsupportedEventPayload,
)
from app.gateways.payments import (
    CancellationReason,
    CardDeclined,
    ChargeSnapshot,
    DisputeSnapshot,
    EventObject,
    EventSnapshot,
    FraudWarningSnapshot,
    IntentSnapshot,
    OtherObject,
    RefundSnapshot,
    SessionSnapshot,
    StripeObjectMissing,
    StripeRefused,
    UnreadableObject,
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

PAYMENT_ID_KEY: Final = "payment_id"
REFUND_ID_KEY: Final = "refund_id"
USER_ID_KEY: Final = "user_id"
REASON_KEY: Final = "reason"
DEPLOYMENT_KEY: Final = "deployment"
SIGNATURE_TOLERANCE_SECONDS: Final = 300
"""https://docs.stripe.com/webhooks#replay-attacks"""

_CLIENT_SECRET: Final = re.compile(r"\b(?:pi|seti|cs)_(?:test_|live_)?[A-Za-z0-9]+_secret_[\w%]+")
"""Events carry them, also inside URLs (of 3-D Secure), but nobody may store them:
https://docs.stripe.com/api/payment_intents/object#payment_intent_object-client_secret
"""

_LIMIT: Final = re.compile(
    r"Amount must be (?:at least|no more than) \D*(?P<figure>\d[\d,]*\.\d{2,3}|\d+(?= cents))\b"
)

_SPECIAL_REFUSALS: Final = (CardDeclined, AmountTooSmall, AmountTooLarge)

_THIN_OBJECT: Final = "v2.core.event"
_THIN_TYPES: Final = ("v1.", "v2.")
"""How the types of thin events begin: https://docs.stripe.com/event-destinations#thin-events"""

_ID_LENGTH: Final = 255
"""https://docs.stripe.com/upgrades#what-changes-does-stripe-consider-to-be-backward-compatible"""
_SECONDS_LIMIT: Final = 2**32
_AMOUNT_LIMIT: Final = 2**63
"""More than any store can keep."""

_SDK_RETRIES: Final = 2
_RATE_LIMIT_RETRIES: Final = 3
_RATE_LIMIT_WAIT_SECONDS: Final = 0.5
_PAGE: Final = 100

Object = Mapping[str, Any]
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
                expected=(CardDeclined,),
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
        try:
            event = json.loads(
                payload, parse_constant=_refuse_constant, object_pairs_hook=_without_duplicates
            )
        except (ValueError, RecursionError) as error:
            raise NotAStripeEvent(
                "The body is signed, but it is not JSON that can be read."
            ) from error
        return event_snapshot(event, payload)

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
            return CardDeclined(_failure_of(error), _intent_of(error))
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


# Stripe's objects in our words


class Unreadable(ValueError):
    """An object is not as Stripe's API version has it. The message repeats no value of it."""


def intent_snapshot(intent: Object) -> IntentSnapshot:
    """Works for the SDK's objects (as dicts) and for the objects in events. Like the others, it
    raises Unreadable.
    """
    error = _optional_object(intent, "last_payment_error")
    failed_attempt = None
    if error:
        failed_attempt = _reference(error, "charge") or _reference(error, "payment_method")
    next_action = _optional_object(intent, "next_action") or {}
    return IntentSnapshot(
        stripe_payment_intent_id=_text(intent, "id"),
        status=_text(intent, "status"),
        amount=_amount(intent, "amount"),
        amount_received=_optional_amount(intent, "amount_received") or 0,
        currency=_text(intent, "currency"),
        payment_id=_metadata_value(intent, PAYMENT_ID_KEY),
        deployment=_metadata_value(intent, DEPLOYMENT_KEY),
        attempt=_reference(intent, "latest_charge"),
        failure=_failure(error) if error else None,
        failed_attempt=failed_attempt,
        next_action=_optional_text(next_action, "type"),
        action_expires_at=_expiry_of(next_action),
        client_secret=_optional_text(intent, "client_secret"),
    )


def _expiry_of(next_action: Object) -> datetime | None:
    """The details stand under the action's own type; a QR code's are a level deeper."""
    details = _optional_object(next_action, next_action.get("type") or "") or {}
    for named in (details, _optional_object(details, "qr_code") or {}):
        for name in ("expires_at", "expires_after"):
            if named.get(name) is not None:
                return _instant(named, name)
    return None


def session_snapshot(session: Object) -> SessionSnapshot:
    return SessionSnapshot(
        stripe_checkout_session_id=_text(session, "id"),
        status=_text(session, "status"),
        payment_status=_text(session, "payment_status"),
        amount_total=_amount(session, "amount_total"),
        currency=_text(session, "currency"),
        payment_id=_metadata_value(session, PAYMENT_ID_KEY),
        deployment=_metadata_value(session, DEPLOYMENT_KEY),
        stripe_payment_intent_id=_reference(session, "payment_intent"),
        url=_optional_text(session, "url"),
    )


def refund_snapshot(refund: Object) -> RefundSnapshot:
    return RefundSnapshot(
        stripe_refund_id=_text(refund, "id"),
        status=RefundStatus.from_stripe(_text(refund, "status")),
        amount=_amount(refund, "amount"),
        stripe_payment_intent_id=_reference(refund, "payment_intent"),
        refund_id=_metadata_value(refund, REFUND_ID_KEY),
        payment_id=_metadata_value(refund, PAYMENT_ID_KEY),
        deployment=_metadata_value(refund, DEPLOYMENT_KEY),
        reason=_optional_text(refund, "reason"),
        failure_reason=_optional_text(refund, "failure_reason"),
    )


def charge_snapshot(charge: Object) -> ChargeSnapshot:
    return ChargeSnapshot(
        stripe_charge_id=_text(charge, "id"),
        amount_refunded=_amount(charge, "amount_refunded"),
        stripe_payment_intent_id=_reference(charge, "payment_intent"),
        payment_id=_metadata_value(charge, PAYMENT_ID_KEY),
        deployment=_metadata_value(charge, DEPLOYMENT_KEY),
    )


def dispute_snapshot(dispute: Object) -> DisputeSnapshot:
    opened_at = _instant(dispute, "created")
    return DisputeSnapshot(
        Dispute(
            stripe_dispute_id=_text(dispute, "id"),
            status=_text(dispute, "status"),
            reason=_text(dispute, "reason"),
            amount=_amount(dispute, "amount"),
            created_at=opened_at,
            updated_at=opened_at,
        ),
        stripe_payment_intent_id=_reference(dispute, "payment_intent"),
    )


def fraud_warning_snapshot(warning: Object) -> FraudWarningSnapshot:
    warned_at = _instant(warning, "created")
    return FraudWarningSnapshot(
        FraudWarning(
            stripe_fraud_warning_id=_text(warning, "id"),
            fraud_type=_text(warning, "fraud_type"),
            actionable=_flag(warning, "actionable"),
            created_at=warned_at,
            updated_at=warned_at,
        ),
        stripe_payment_intent_id=_reference(warning, "payment_intent"),
    )


def event_snapshot(event: Any, payload: str) -> EventSnapshot:
    """Raises NotAStripeEvent for what has no envelope that can be read, UnsupportedEventPayload for
    a thin event. An object inside that cannot be read is an UnreadableObject.
    """
    if not isinstance(event, Mapping):
        raise NotAStripeEvent("The body is signed, but it is not a JSON object.")
    if event.get("object") == _THIN_OBJECT or str(event.get("type")).startswith(_THIN_TYPES):
        raise UnsupportedEventPayload(
            "Stripe sends thin events to this endpoint. Make a new event destination in Stripe "
            "with the payload style snapshot, and delete this one."
        )
    try:
        data = _optional_object(event, "data")
        if data is None:
            raise Unreadable("data is missing")
        return EventSnapshot(
            stripe_event_id=_text(event, "id", longest=_ID_LENGTH),
            type=_text(event, "type", longest=_ID_LENGTH),
            livemode=_flag(event, "livemode"),
            created_at=_instant(event, "created"),
            object=_event_object(data.get("object")),
            payload=_CLIENT_SECRET.sub("elided", payload),
        )
    except Unreadable as error:
        raise NotAStripeEvent(
            f"The body is signed, but it is not a Stripe event: {error}."
        ) from error


def _event_object(data: Any) -> EventObject:
    if not isinstance(data, Mapping):
        return UnreadableObject("data.object is not an object")
    try:
        kind = _text(data, "object", longest=_ID_LENGTH)
        if kind == "checkout.session" and _text(data, "mode") != "payment":
            return OtherObject(kind)
        read = _READERS.get(kind)
        return read(data) if read is not None else OtherObject(kind)
    except Unreadable as error:
        return UnreadableObject(f"data.object: {error}")


_READERS: Final[Mapping[str, Callable[[Object], EventObject]]] = {
    "payment_intent": intent_snapshot,
    "checkout.session": session_snapshot,
    "refund": refund_snapshot,
    "charge": charge_snapshot,
    "dispute": dispute_snapshot,
    "radar.early_fraud_warning": fraud_warning_snapshot,
}


def _failure(error: Object) -> Failure:
    return Failure(
        code=_optional_text(error, "code") or _optional_text(error, "type") or "payment_failed",
        message=_optional_text(error, "message") or "The payment failed.",
        decline_code=_optional_text(error, "decline_code"),
    )


def _metadata_value(data: Object, key: str) -> str | None:
    return _optional_text(_optional_object(data, "metadata") or {}, key)


# One field, of the kind that Stripe's API reference says; each raises Unreadable


def _optional_text(data: Object, name: str, *, longest: int | None = None) -> str | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Unreadable(f"{name} is not a text")
    if longest is not None and len(value) > longest:
        raise Unreadable(f"{name} has more than {longest} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair is JSON, but no text that can be stored: RFC 8259, 8.2.
        raise Unreadable(f"{name} is not Unicode") from None
    return value


def _text(data: Object, name: str, *, longest: int | None = None) -> str:
    value = _optional_text(data, name, longest=longest)
    if not value:
        raise Unreadable(f"{name} is missing")
    return value


def _optional_amount(data: Object, name: str) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    # True is an int in Python.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _AMOUNT_LIMIT:
        raise Unreadable(f"{name} is not an amount")
    return value


def _amount(data: Object, name: str) -> int:
    """In minor units."""
    value = _optional_amount(data, name)
    if value is None:
        raise Unreadable(f"{name} is missing")
    return value


def _instant(data: Object, name: str) -> datetime:
    """From seconds since the epoch."""
    seconds = _amount(data, name)
    if seconds >= _SECONDS_LIMIT:
        raise Unreadable(f"{name} is not a time")
    return datetime.fromtimestamp(seconds, UTC)


def _flag(data: Object, name: str) -> bool:
    value = data.get(name)
    if not isinstance(value, bool):
        raise Unreadable(f"{name} is not true or false")
    return value


def _optional_object(data: Object, name: str) -> Object | None:
    value = data.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise Unreadable(f"{name} is not an object")
    return value


def _reference(data: Object, name: str) -> str | None:
    """An id, whether the reference is expanded or not."""
    value = data.get(name)
    if isinstance(value, Mapping):
        return _text(value, "id")
    return _optional_text(data, name)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses an object that says two things of one name, of which each reader may take another."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _without_placeholder(url: str) -> str:
    """The success URL without Checkout's ``{CHECKOUT_SESSION_ID}``, which nobody fills in here."""
    parts = urlsplit(url.replace("{CHECKOUT_SESSION_ID}", ""))
    return urlunsplit(parts._replace(query="", fragment=""))
