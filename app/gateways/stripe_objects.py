"""Stripe's objects in our words: from the SDK (as dicts) and from events, read field by field."""

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from app.domain.issuer_reports import Dispute, FraudWarning
from app.domain.payments import Failure
from app.domain.refunds import RefundStatus
from app.errors import NotAStripeEvent, UnsupportedEventPayload
from app.gateways.payments import (
    ChargeSnapshot,
    DisputeSnapshot,
    EventObject,
    EventSnapshot,
    FraudWarningSnapshot,
    IntentSnapshot,
    OtherObject,
    RefundSnapshot,
    SessionSnapshot,
    UnreadableObject,
)

Object = Mapping[str, Any]

PAYMENT_ID_KEY: Final = "payment_id"
REFUND_ID_KEY: Final = "refund_id"
USER_ID_KEY: Final = "user_id"
REASON_KEY: Final = "reason"
DEPLOYMENT_KEY: Final = "deployment"

_CLIENT_SECRET: Final = re.compile(r"\b(?:pi|seti|cs)_(?:test_|live_)?[A-Za-z0-9]+_secret_[\w%]+")
"""Events carry them, also inside URLs (of 3-D Secure), and they must not be stored:
https://docs.stripe.com/api/payment_intents/object#payment_intent_object-client_secret
"""

_THIN_OBJECT: Final = "v2.core.event"
_THIN_TYPES: Final = ("v1.", "v2.")
"""How the types of thin events begin: https://docs.stripe.com/event-destinations#thin-events"""

_ID_LENGTH: Final = 255
"""https://docs.stripe.com/upgrades#what-changes-does-stripe-consider-to-be-backward-compatible"""
_SECONDS_LIMIT: Final = 2**32
_AMOUNT_LIMIT: Final = 2**63
"""More than any store can keep."""


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
        stripe_attempt_id=_reference(intent, "latest_charge"),
        failure=_failure(error) if error else None,
        failed_attempt=failed_attempt,
        next_action=_optional_text(next_action, "type"),
        action_expires_at=_expiry_of(next_action),
        client_secret=_optional_text(intent, "client_secret"),
    )


def _expiry_of(next_action: Object) -> datetime | None:
    """The details stand under the action's own type; a QR code's are a level deeper."""
    details = next_action.get(str(next_action.get("type")))
    if not isinstance(details, Mapping):
        return None
    qr_code = details.get("qr_code")
    for named in (details, qr_code if isinstance(qr_code, Mapping) else {}):
        for name in ("expires_at", "expires_after"):
            # Some details are untyped (use_stripe_sdk): what is no time is no hint.
            with contextlib.suppress(Unreadable):
                return _instant(named, name)
    return None


def session_snapshot(session: Object) -> SessionSnapshot:
    return SessionSnapshot(
        stripe_checkout_session_id=_text(session, "id"),
        status=_text(session, "status"),
        payment_status=_text(session, "payment_status"),
        # Stripe's type says that both may be null; a session of a payment has them.
        amount_total=_optional_amount(session, "amount_total") or 0,
        currency=_optional_text(session, "currency") or "",
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


def read_event(payload: str) -> EventSnapshot:
    """Raises NotAStripeEvent, UnsupportedEventPayload."""
    try:
        event = json.loads(
            payload, parse_constant=_refuse_constant, object_pairs_hook=_without_duplicates
        )
    except (ValueError, RecursionError) as error:
        raise NotAStripeEvent("The body is signed, but it is not JSON that can be read.") from error
    return event_snapshot(event, payload)


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
        raise Unreadable(f"{name} is not a string")
    if longest is not None and len(value) > longest:
        raise Unreadable(f"{name} has more than {longest} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair is JSON, but no text that can be stored: RFC 8259, 8.2.
        raise Unreadable(f"{name} is not valid Unicode") from None
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
    seconds = data.get(name)
    if (
        not isinstance(seconds, int)
        or isinstance(seconds, bool)
        or not 0 <= seconds < _SECONDS_LIMIT
    ):
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
        raise ValueError("a field appears twice")
    return found
