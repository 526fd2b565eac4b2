"""The routes of the control API, which ``stripe_sandbox.control`` lists."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stripe_sandbox.control.same_site import refuse_other_sites
from stripe_sandbox.objects.checkout_sessions import PagePayment
from stripe_sandbox.objects.instruments import every_id
from stripe_sandbox.protocol.errors import ApiError, invalid_param, no_such
from stripe_sandbox.sandbox import Sandbox

if TYPE_CHECKING:
    from stripe_sandbox.trouble.faults import FaultKind
    from stripe_sandbox.trouble.webhook_faults import WebhookFaultKind

_UNSET: Any = object()

Handler = Callable[["Control"], Awaitable[Any] | Any]


class Control:
    """One request of the control API, its body taken field by field."""

    def __init__(self, request: Request, body: dict[str, Any]) -> None:
        self.id: str = request.path_params.get("id", "")
        self.query = request.query_params
        self._body = body

    def take(self, name: str, kind: type | tuple[type, ...], default: Any = _UNSET) -> Any:
        value = self._body.pop(name, None)
        if value is None:
            if default is _UNSET:
                raise invalid_param(f"Missing required param: {name}.", name, "parameter_missing")
            return default
        allowed = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            names = " or ".join(k.__name__ for k in allowed)
            raise invalid_param(f"Invalid {name}: must be {names}", name)
        return value

    def take_nullable(self, name: str, kind: type, default: Any) -> Any:
        """Here an explicit null says something else than nothing at all."""
        if name in self._body and self._body[name] is None:
            return self._body.pop(name)
        return self.take(name, kind, default)

    def take_texts(self, name: str) -> dict[str, str]:
        """A JSON object of strings, empty by default."""
        texts: dict[str, str] = self.take(name, dict, {})
        if not all(isinstance(text, str) for text in texts.values()):
            raise invalid_param(f"Invalid {name}: every value must be a string", name)
        return texts

    def done(self) -> None:
        """Refuse what nobody took: a misspelled field must not pass for a setting."""
        if self._body:
            names = ", ".join(self._body)
            raise invalid_param(f"Received unknown parameters: {names}", next(iter(self._body)))


async def _read(request: Request) -> dict[str, Any]:
    raw = await request.body()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise ApiError(400, "The body is not valid JSON.") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The body is not a JSON object.")
    return body


def _route(sandbox: Sandbox, method: str, path: str, handler: Handler) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            if method != "GET":
                refuse_other_sites(request, sandbox.public_url)
            sandbox.clock.run_due()
            result = handler(Control(request, await _read(request)))
            if isinstance(result, Awaitable):
                result = await result
        except ApiError as refusal:
            return JSONResponse({"error": refusal.error}, refusal.status)
        return JSONResponse(result)

    return Route(path, endpoint, methods=[method])


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


def control_routes(sandbox: Sandbox) -> list[Route]:
    s = sandbox

    def status(c: Control) -> Any:
        return {
            "now": s.clock.timestamp(),
            "public_url": s.public_url,
            "webhook_endpoints": [{"id": e.id, "url": e.config.url} for e in s.webhooks.endpoints],
            "webhooks_paused": s.webhooks.paused,
            "webhooks_outstanding": s.webhooks.outstanding,
            "payment_methods": list(every_id()),
        }

    def list_requests(c: Control) -> Any:
        method, path = c.query.get("method"), c.query.get("path", "")
        try:
            found = s.requests.matching(method, path)
        except re.error as error:
            raise invalid_param(f"Invalid path: {error}", "path") from error
        return {"data": [record.as_json() for record in found]}

    def clear_requests(c: Control) -> Any:
        s.requests.clear()
        return {"data": []}

    def list_faults(c: Control) -> Any:
        return {"data": [fault.as_json() for fault in s.faults.all()]}

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
        return _added(lambda: s.faults.add(kind, times=times, **options))

    def clear_faults(c: Control) -> Any:
        s.faults.clear()
        return {"data": []}

    def list_webhook_faults(c: Control) -> Any:
        return {"data": [fault.as_json() for fault in s.webhooks.faults.all()]}

    def add_webhook_fault(c: Control) -> Any:
        times = c.take_nullable("times", int, 1)
        kind = cast("WebhookFaultKind", c.take("kind", str))
        options = {
            "type": c.take("type", str, ""),
            "chance": c.take("chance", (int, float), 1.0),
            "seconds": c.take("seconds", (int, float, str), 1.0),
        }
        c.done()
        return _added(lambda: s.webhooks.faults.add(kind, times=times, **options))

    def clear_webhook_faults(c: Control) -> Any:
        s.webhooks.faults.clear()
        return {"data": []}

    def list_deliveries(c: Control) -> Any:
        event = c.query.get("event")
        made = [a.as_json() for a in s.webhooks.attempts if event in (None, a.event_id)]
        return {"data": made, "pending": s.webhooks.pending(), "paused": s.webhooks.paused}

    def pause(c: Control) -> Any:
        c.done()
        s.webhooks.pause()
        return {"paused": True}

    def resume(c: Control) -> Any:
        c.done()
        s.webhooks.resume()
        return {"paused": False}

    def release(c: Control) -> Any:
        events = c.take("events", list)
        c.done()
        s.webhooks.release([str(event) for event in events])
        return {"paused": False}

    def drop(c: Control) -> Any:
        c.done()
        return {"dropped": s.webhooks.drop_pending()}

    async def drain(c: Control) -> Any:
        within = c.take("within", (int, float), 10.0)
        c.done()
        try:
            await s.webhooks.drain(within)
        except TimeoutError as error:
            raise ApiError(409, "Not drained: time ran out.") from error
        except RuntimeError as error:
            raise ApiError(409, f"Not drained: {error}.") from error
        return {"outstanding": s.webhooks.outstanding}

    def resend(c: Control) -> Any:
        c.done()
        try:
            return {"queued": s.webhooks.resend(c.id)}
        except KeyError as error:
            raise no_such("event", c.id, "id") from error

    def settle(c: Control) -> Any:
        outcome = c.take("outcome", str, "succeeded")
        c.done()
        return s.settle(c.id, outcome)

    def authenticate(c: Control) -> Any:
        approve = c.take("approve", bool, True)
        c.done()
        return s.authenticate(c.id, approve=approve)

    def refund(c: Control) -> Any:
        options = {
            "charge": c.take("charge", str, None),
            "payment_intent": c.take("payment_intent", str, None),
            "amount": c.take("amount", int, None),
            "reason": c.take("reason", str, None),
        }
        c.done()
        return s.dashboard_refund(**options)

    def fail_refund(c: Control) -> Any:
        reason = c.take("reason", str, "expired_or_canceled_card")
        c.done()
        return s.fail_refund(c.id, reason)

    def succeed_refund(c: Control) -> Any:
        c.done()
        return s.succeed_refund(c.id)

    def require_refund_details(c: Control) -> Any:
        c.done()
        return s.require_refund_details(c.id)

    def open_dispute(c: Control) -> Any:
        options = {
            "charge": c.take("charge", str, None),
            "payment_intent": c.take("payment_intent", str, None),
            "reason": c.take("reason", str, "fraudulent"),
            "amount": c.take("amount", int, None),
            "inquiry": c.take("inquiry", bool, False),
        }
        c.done()
        return s.open_dispute(**options)

    def escalate_dispute(c: Control) -> Any:
        c.done()
        return s.escalate_dispute(c.id)

    def warn_of_fraud(c: Control) -> Any:
        options = {
            "charge": c.take("charge", str, None),
            "payment_intent": c.take("payment_intent", str, None),
            "fraud_type": c.take("fraud_type", str, "misc"),
        }
        c.done()
        return s.warn_of_fraud(**options)

    def close_dispute(c: Control) -> Any:
        outcome = c.take("status", str)
        c.done()
        return s.close_dispute(c.id, outcome)

    def complete_session(c: Control) -> Any:
        method = c.take("payment_method", str, "pm_card_visa")
        email = c.take("email", str, None)
        name = c.take("name", str, None)
        c.done()
        return _payment(s.pay_session(c.id, method, email=email, name=name))

    def expire_session(c: Control) -> Any:
        c.done()
        return s.expire_session(c.id)

    def advance(c: Control) -> Any:
        seconds = c.take("seconds", (int, float))
        c.done()
        try:
            s.clock.advance(float(seconds))
        except (ValueError, OverflowError) as error:
            raise invalid_param(f"Invalid seconds: {error}", "seconds") from error
        return {"now": s.clock.timestamp()}

    table: list[tuple[str, str, Handler]] = [
        ("GET", "/", status),
        ("GET", "/requests", list_requests),
        ("DELETE", "/requests", clear_requests),
        ("GET", "/faults", list_faults),
        ("POST", "/faults", add_fault),
        ("DELETE", "/faults", clear_faults),
        ("GET", "/webhooks/faults", list_webhook_faults),
        ("POST", "/webhooks/faults", add_webhook_fault),
        ("DELETE", "/webhooks/faults", clear_webhook_faults),
        ("GET", "/webhooks/deliveries", list_deliveries),
        ("POST", "/webhooks/pause", pause),
        ("POST", "/webhooks/resume", resume),
        ("POST", "/webhooks/release", release),
        ("POST", "/webhooks/drop", drop),
        ("POST", "/webhooks/drain", drain),
        ("POST", "/events/{id}/resend", resend),
        ("POST", "/payment_intents/{id}/settle", settle),
        ("POST", "/payment_intents/{id}/3ds", authenticate),
        ("POST", "/refunds", refund),
        ("POST", "/refunds/{id}/fail", fail_refund),
        ("POST", "/refunds/{id}/succeed", succeed_refund),
        ("POST", "/refunds/{id}/require_action", require_refund_details),
        ("POST", "/disputes", open_dispute),
        ("POST", "/disputes/{id}/escalate", escalate_dispute),
        ("POST", "/disputes/{id}/close", close_dispute),
        ("POST", "/early_fraud_warnings", warn_of_fraud),
        ("POST", "/checkout/sessions/{id}/complete", complete_session),
        ("POST", "/checkout/sessions/{id}/expire", expire_session),
        ("POST", "/clock/advance", advance),
    ]
    return [_route(sandbox, method, path, handler) for method, path, handler in table]
