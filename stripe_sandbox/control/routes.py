"""What each route of the control API does; ``stripe_sandbox.control`` lists them."""

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stripe_sandbox.control.request import Control, read_body
from stripe_sandbox.control.same_site import refuse_other_sites
from stripe_sandbox.objects.checkout_sessions import PagePayment
from stripe_sandbox.objects.instruments import every_id
from stripe_sandbox.protocol.errors import ApiError, invalid_param, no_such
from stripe_sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from stripe_sandbox.trouble.faults import FaultKind
    from stripe_sandbox.trouble.webhook_faults import WebhookFaultKind

Handler = Callable[[Control], Awaitable[Any] | Any]
"""Answers what is sent as JSON. An ApiError is answered in the shape of Stripe's errors."""

_HANDLERS: list[tuple[str, str, Handler]] = []


def _on(method: str, path: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        _HANDLERS.append((method, path, handler))
        return handler

    return register


@_on("GET", "/")
def status(c: Control) -> Any:
    return {
        "now": c.sandbox.clock.timestamp(),
        "public_url": c.sandbox.public_url,
        "webhook_endpoints": [
            {"id": e.id, "url": e.config.url} for e in c.sandbox.webhooks.endpoints
        ],
        "webhooks_paused": c.sandbox.webhooks.paused,
        "webhooks_outstanding": c.sandbox.webhooks.outstanding,
        "payment_methods": list(every_id()),
    }


@_on("GET", "/requests")
def list_requests(c: Control) -> Any:
    method, path = c.query.get("method"), c.query.get("path", "")
    try:
        found = c.sandbox.requests.matching(method, path)
    except re.error as error:
        raise invalid_param(f"Invalid path: {error}", "path") from error
    return {"data": [record.as_json() for record in found]}


@_on("DELETE", "/requests")
def clear_requests(c: Control) -> Any:
    c.sandbox.requests.clear()
    return {"data": []}


@_on("GET", "/faults")
def list_faults(c: Control) -> Any:
    return {"data": [fault.as_json() for fault in c.sandbox.faults.all()]}


@_on("POST", "/faults")
def add_fault(c: Control) -> Any:
    times = c.take_nullable("times", int, 1)
    kind = cast("FaultKind", c.take("kind", str))
    options = {
        "path": c.take("path", str, ""),
        "method": c.take("method", str, None),
        "chance": c.take("chance", (int, float), 1.0),
        "seconds": c.take("seconds", (int, float, str), 1.0),
        "status": c.take("status", int, 500),
        "code": c.take("code", str, None),
        "param": c.take("param", str, None),
        "reason": c.take("reason", str, "global-rate"),
        "headers": c.take_texts("headers"),
    }
    c.done()
    return _added(lambda: c.sandbox.faults.add(kind, times=times, **options))


@_on("DELETE", "/faults")
def clear_faults(c: Control) -> Any:
    c.sandbox.faults.clear()
    return {"data": []}


@_on("GET", "/webhooks/faults")
def list_webhook_faults(c: Control) -> Any:
    return {"data": [fault.as_json() for fault in c.sandbox.webhooks.faults.all()]}


@_on("POST", "/webhooks/faults")
def add_webhook_fault(c: Control) -> Any:
    times = c.take_nullable("times", int, 1)
    kind = cast("WebhookFaultKind", c.take("kind", str))
    options = {
        "type": c.take("type", str, ""),
        "chance": c.take("chance", (int, float), 1.0),
        "seconds": c.take("seconds", (int, float, str), 1.0),
    }
    c.done()
    return _added(lambda: c.sandbox.webhooks.faults.add(kind, times=times, **options))


@_on("DELETE", "/webhooks/faults")
def clear_webhook_faults(c: Control) -> Any:
    c.sandbox.webhooks.faults.clear()
    return {"data": []}


@_on("GET", "/webhooks/deliveries")
def list_deliveries(c: Control) -> Any:
    event = c.query.get("event")
    made = [a.as_json() for a in c.sandbox.webhooks.attempts if event in (None, a.event_id)]
    return {
        "data": made,
        "pending": c.sandbox.webhooks.pending(),
        "paused": c.sandbox.webhooks.paused,
    }


@_on("POST", "/webhooks/pause")
def pause(c: Control) -> Any:
    c.done()
    c.sandbox.webhooks.pause()
    return {"paused": True}


@_on("POST", "/webhooks/resume")
def resume(c: Control) -> Any:
    c.done()
    c.sandbox.webhooks.resume()
    return {"paused": False}


@_on("POST", "/webhooks/release")
def release(c: Control) -> Any:
    events = c.take("events", list)
    c.done()
    c.sandbox.webhooks.release([str(event) for event in events])
    return {"paused": False}


@_on("POST", "/webhooks/drop")
def drop(c: Control) -> Any:
    c.done()
    return {"dropped": c.sandbox.webhooks.drop_pending()}


@_on("POST", "/webhooks/drain")
async def drain(c: Control) -> Any:
    within = c.take("within", (int, float), 10.0)
    c.done()
    try:
        await c.sandbox.webhooks.drain(within)
    except TimeoutError as error:
        raise ApiError(409, "Not drained: time ran out.") from error
    except RuntimeError as error:
        raise ApiError(409, f"Not drained: {error}.") from error
    return {"outstanding": c.sandbox.webhooks.outstanding}


@_on("POST", "/events/{id}/resend")
def resend(c: Control) -> Any:
    c.done()
    try:
        return {"queued": c.sandbox.webhooks.resend(c.id)}
    except KeyError as error:
        raise no_such("event", c.id, "id") from error


@_on("POST", "/payment_intents/{id}/settle")
def settle(c: Control) -> Any:
    outcome = c.take("outcome", str, "succeeded")
    c.done()
    return c.sandbox.settle(c.id, outcome)


@_on("POST", "/payment_intents/{id}/3ds")
def authenticate(c: Control) -> Any:
    approve = c.take("approve", bool, True)
    c.done()
    return c.sandbox.authenticate(c.id, approve=approve)


@_on("POST", "/refunds")
def refund(c: Control) -> Any:
    options = {
        "charge": c.take("charge", str, None),
        "payment_intent": c.take("payment_intent", str, None),
        "amount": c.take("amount", int, None),
        "reason": c.take("reason", str, None),
    }
    c.done()
    return c.sandbox.dashboard_refund(**options)


@_on("POST", "/refunds/{id}/fail")
def fail_refund(c: Control) -> Any:
    reason = c.take("reason", str, "expired_or_canceled_card")
    c.done()
    return c.sandbox.fail_refund(c.id, reason)


@_on("POST", "/refunds/{id}/succeed")
def succeed_refund(c: Control) -> Any:
    c.done()
    return c.sandbox.succeed_refund(c.id)


@_on("POST", "/refunds/{id}/require_action")
def require_refund_details(c: Control) -> Any:
    c.done()
    return c.sandbox.require_refund_details(c.id)


@_on("POST", "/disputes")
def open_dispute(c: Control) -> Any:
    options = {
        "charge": c.take("charge", str, None),
        "payment_intent": c.take("payment_intent", str, None),
        "reason": c.take("reason", str, "fraudulent"),
        "amount": c.take("amount", int, None),
        "inquiry": c.take("inquiry", bool, False),
    }
    c.done()
    return c.sandbox.open_dispute(**options)


@_on("POST", "/disputes/{id}/escalate")
def escalate_dispute(c: Control) -> Any:
    c.done()
    return c.sandbox.escalate_dispute(c.id)


@_on("POST", "/disputes/{id}/close")
def close_dispute(c: Control) -> Any:
    outcome = c.take("status", str)
    c.done()
    return c.sandbox.close_dispute(c.id, outcome)


@_on("POST", "/early_fraud_warnings")
def warn_of_fraud(c: Control) -> Any:
    options = {
        "charge": c.take("charge", str, None),
        "payment_intent": c.take("payment_intent", str, None),
        "fraud_type": c.take("fraud_type", str, "misc"),
    }
    c.done()
    return c.sandbox.warn_of_fraud(**options)


@_on("POST", "/checkout/sessions/{id}/complete")
def complete_session(c: Control) -> Any:
    method = c.take("payment_method", str, "pm_card_visa")
    email = c.take("email", str, None)
    name = c.take("name", str, None)
    c.done()
    return _payment(c.sandbox.pay_session(c.id, method, email=email, name=name))


@_on("POST", "/checkout/sessions/{id}/expire")
def expire_session(c: Control) -> Any:
    c.done()
    return c.sandbox.expire_session(c.id)


@_on("POST", "/clock/advance")
def advance(c: Control) -> Any:
    seconds = c.take("seconds", (int, float))
    c.done()
    try:
        c.sandbox.clock.advance(float(seconds))
    except (ValueError, OverflowError) as error:
        raise invalid_param(f"Invalid seconds: {error}", "seconds") from error
    return {"now": c.sandbox.clock.timestamp()}


class _Fault(Protocol):
    def as_json(self) -> dict[str, Any]: ...


def _added(add: Callable[[], _Fault]) -> dict[str, Any]:
    """The fault as it now waits, or a refusal that says what is wrong with it."""
    try:
        return add().as_json()
    except (ValueError, re.error) as error:
        raise invalid_param(f"Invalid fault: {error}", "kind") from error


def _payment(payment: PagePayment) -> dict[str, Any]:
    return {
        "outcome": payment.outcome,
        "session": payment.session,
        "payment_intent": payment.payment_intent,
        "error": payment.error,
        "redirect_url": payment.redirect_url,
    }


def _route(sandbox: Sandbox, method: str, path: str, handler: Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            if method != "GET":
                refuse_other_sites(request, sandbox.public_url)
            sandbox.clock.run_due()
            result = handler(Control(sandbox, request, await read_body(request)))
            if isinstance(result, Awaitable):
                result = await result
        except ApiError as refusal:
            return JSONResponse({"error": refusal.error}, refusal.status)
        return JSONResponse(result)

    return Route(path, endpoint, methods=[method])


def control_routes(sandbox: Sandbox) -> list[Route]:
    """The routes above, bound to one sandbox."""
    return [_route(sandbox, method, path, handler) for method, path, handler in _HANDLERS]
