"""Which request does what: the table of the API."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stripe_sandbox.core.api_objects import StripeObject
from stripe_sandbox.objects import (
    charges,
    checkout_session_params,
    customers,
    disputes,
    early_fraud_warnings,
    events,
    ledger,
    payment_intent_params,
    payment_methods,
    refunds,
)
from stripe_sandbox.protocol.params import Kind, Params
from stripe_sandbox.sandbox import Sandbox
from stripe_sandbox.webhooks import endpoints as webhook_endpoints


@dataclass(frozen=True, slots=True)
class Call:
    """One request to one route; ``id`` is the variable part of its path, if it has one."""

    params: Params
    id: str
    publishable: bool


Handler = Callable[[Call], StripeObject]


@dataclass(frozen=True, slots=True)
class Route:
    spec: Mapping[str, Kind]
    handle: Handler
    check: Callable[[Params], None] | None = None
    publishable: bool = False
    """Whether a publishable key may do this."""


Routes = dict[tuple[str, str], Route]
"""By method and path, where ``*`` stands for an id."""


class RouteTable:
    """Finds the route of a request, and the id in its path."""

    def __init__(self, routes: Routes) -> None:
        self._routes = {
            (method, tuple(path.split("/"))): route for (method, path), route in routes.items()
        }
        self._id_positions = sorted({parts.index("*") for _, parts in self._routes if "*" in parts})

    def find(self, method: str, path: str) -> tuple[Route, str] | None:
        parts = tuple(path.split("/"))
        route = self._routes.get((method, parts))
        if route is not None:
            return route, ""
        for position in self._id_positions:
            if position < len(parts) and parts[position]:
                wild = (*parts[:position], "*", *parts[position + 1 :])
                route = self._routes.get((method, wild))
                if route is not None:
                    return route, parts[position]
        return None


def build_routes(s: Sandbox) -> RouteTable:
    return RouteTable(
        {
            **_payment_intent_routes(s),
            **_checkout_routes(s),
            **_payment_method_routes(s),
            **_customer_routes(s),
            **_charge_routes(s),
            **_dispute_routes(s),
            **_balance_routes(s),
            **_event_routes(s),
        }
    )


def _of_all(method: Callable[[Params], StripeObject]) -> Handler:
    """For a path without an id."""
    return lambda call: method(call.params)


def _of_one(method: Callable[[Params, str], StripeObject]) -> Handler:
    """For a path with the id of one object."""
    return lambda call: method(call.params, call.id)


def _payment_intent_routes(s: Sandbox) -> Routes:
    spec, intents = payment_intent_params, s.payment_intents
    return {
        ("POST", "/v1/payment_intents"): Route(
            spec.CREATE, _of_all(intents.create), intents.check_create
        ),
        ("GET", "/v1/payment_intents"): Route(spec.LIST, _of_all(intents.list)),
        ("GET", "/v1/payment_intents/*"): Route(
            spec.RETRIEVE,
            lambda call: intents.retrieve(call.params, call.id, publishable=call.publishable),
            publishable=True,
        ),
        ("POST", "/v1/payment_intents/*"): Route(
            spec.UPDATE, _of_one(intents.update), intents.check_update
        ),
        ("POST", "/v1/payment_intents/*/confirm"): Route(
            spec.CONFIRM,
            lambda call: intents.confirm(call.params, call.id, publishable=call.publishable),
            publishable=True,
        ),
        ("POST", "/v1/payment_intents/*/capture"): Route(spec.CAPTURE, _of_one(intents.capture)),
        ("POST", "/v1/payment_intents/*/cancel"): Route(spec.CANCEL, _of_one(intents.cancel)),
    }


def _checkout_routes(s: Sandbox) -> Routes:
    spec, sessions = checkout_session_params, s.checkout_sessions
    return {
        ("POST", "/v1/checkout/sessions"): Route(
            spec.CREATE, _of_all(sessions.create), sessions.check_create
        ),
        ("GET", "/v1/checkout/sessions"): Route(spec.LIST, _of_all(sessions.list)),
        ("GET", "/v1/checkout/sessions/*"): Route(spec.RETRIEVE, _of_one(sessions.retrieve)),
        ("POST", "/v1/checkout/sessions/*"): Route(spec.UPDATE, _of_one(sessions.update)),
        ("POST", "/v1/checkout/sessions/*/expire"): Route(spec.EXPIRE, _of_one(sessions.expire)),
        ("GET", "/v1/checkout/sessions/*/line_items"): Route(
            spec.LINE_ITEMS, _of_one(sessions.line_items)
        ),
    }


def _payment_method_routes(s: Sandbox) -> Routes:
    spec = payment_methods
    return {
        ("POST", "/v1/payment_methods"): Route(
            spec.CREATE,
            lambda call: s.payment_methods.create(call.params, publishable=call.publishable),
            publishable=True,
        ),
        ("GET", "/v1/payment_methods"): Route(
            customers.METHODS_BY_PARAM, _of_all(s.customers.list_methods)
        ),
        ("GET", "/v1/payment_methods/*"): Route(spec.RETRIEVE, _of_one(s.payment_methods.retrieve)),
        ("POST", "/v1/payment_methods/*"): Route(spec.UPDATE, _of_one(s.payment_methods.update)),
        ("POST", "/v1/payment_methods/*/attach"): Route(
            customers.ATTACH, _of_one(s.customers.attach_method)
        ),
        ("POST", "/v1/payment_methods/*/detach"): Route(
            spec.DETACH, _of_one(s.payment_methods.detach)
        ),
    }


def _customer_routes(s: Sandbox) -> Routes:
    spec = customers
    return {
        ("POST", "/v1/customers"): Route(spec.CREATE, _of_all(s.customers.create)),
        ("GET", "/v1/customers"): Route(spec.LIST, _of_all(s.customers.list)),
        ("GET", "/v1/customers/*"): Route(spec.RETRIEVE, _of_one(s.customers.retrieve)),
        ("POST", "/v1/customers/*"): Route(spec.UPDATE, _of_one(s.customers.update)),
        ("DELETE", "/v1/customers/*"): Route(spec.DELETE, _of_one(s.customers.delete)),
        ("GET", "/v1/customers/*/payment_methods"): Route(
            spec.METHODS, _of_one(s.customers.list_methods)
        ),
    }


def _charge_routes(s: Sandbox) -> Routes:
    return {
        ("GET", "/v1/charges"): Route(charges.LIST, _of_all(s.charges.list)),
        ("GET", "/v1/charges/*"): Route(charges.RETRIEVE, _of_one(s.charges.retrieve)),
        ("POST", "/v1/charges/*"): Route(charges.UPDATE, _of_one(s.charges.update)),
        ("POST", "/v1/refunds"): Route(
            refunds.CREATE, _of_all(s.refunds.create), s.refunds.check_create
        ),
        ("GET", "/v1/refunds"): Route(refunds.LIST, _of_all(s.refunds.list)),
        ("GET", "/v1/refunds/*"): Route(refunds.RETRIEVE, _of_one(s.refunds.retrieve)),
        ("POST", "/v1/refunds/*"): Route(refunds.UPDATE, _of_one(s.refunds.update)),
        ("POST", "/v1/refunds/*/cancel"): Route(refunds.CANCEL, _of_one(s.refunds.cancel)),
    }


def _dispute_routes(s: Sandbox) -> Routes:
    return {
        ("GET", "/v1/disputes"): Route(disputes.LIST, _of_all(s.disputes.list)),
        ("GET", "/v1/disputes/*"): Route(disputes.RETRIEVE, _of_one(s.disputes.retrieve)),
        ("POST", "/v1/disputes/*"): Route(disputes.UPDATE, _of_one(s.disputes.update)),
        ("POST", "/v1/disputes/*/close"): Route(disputes.CLOSE, _of_one(s.disputes.accept)),
        ("GET", "/v1/radar/early_fraud_warnings"): Route(
            early_fraud_warnings.LIST, _of_all(s.early_fraud_warnings.list)
        ),
        ("GET", "/v1/radar/early_fraud_warnings/*"): Route(
            early_fraud_warnings.RETRIEVE, _of_one(s.early_fraud_warnings.retrieve)
        ),
    }


def _balance_routes(s: Sandbox) -> Routes:
    return {
        ("GET", "/v1/balance"): Route(ledger.RETRIEVE, _of_all(s.ledger.retrieve_balance)),
        ("GET", "/v1/balance_transactions"): Route(
            ledger.LIST, _of_all(s.ledger.list_transactions)
        ),
        ("GET", "/v1/balance_transactions/*"): Route(
            ledger.RETRIEVE, _of_one(s.ledger.retrieve_transaction)
        ),
    }


def _event_routes(s: Sandbox) -> Routes:
    spec = webhook_endpoints
    return {
        ("GET", "/v1/events"): Route(events.LIST, _of_all(s.events.list)),
        ("GET", "/v1/events/*"): Route(events.RETRIEVE, _of_one(s.events.retrieve)),
        ("POST", "/v1/webhook_endpoints"): Route(spec.CREATE, _of_all(s.webhook_endpoints.create)),
        ("GET", "/v1/webhook_endpoints"): Route(spec.LIST, _of_all(s.webhook_endpoints.list)),
        ("GET", "/v1/webhook_endpoints/*"): Route(
            spec.RETRIEVE, _of_one(s.webhook_endpoints.retrieve)
        ),
        ("POST", "/v1/webhook_endpoints/*"): Route(
            spec.UPDATE, _of_one(s.webhook_endpoints.update)
        ),
        ("DELETE", "/v1/webhook_endpoints/*"): Route(
            spec.DELETE, _of_one(s.webhook_endpoints.delete)
        ),
    }
