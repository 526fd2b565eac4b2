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


@dataclass(frozen=True, slots=True)
class Route:
    spec: Mapping[str, Kind]
    handle: Callable[[Call], StripeObject]
    check: Callable[[Params], None] | None = None
    publishable: bool = False
    """Whether a publishable key may do this."""


class RouteTable:
    """Routes by method and path, where ``*`` stands for an id."""

    def __init__(self, routes: Mapping[tuple[str, str], Route]) -> None:
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
    intents = s.payment_intents
    sessions = s.checkout_sessions
    return RouteTable(
        {
            ("POST", "/v1/payment_intents"): Route(
                payment_intent_params.CREATE,
                lambda c: intents.create(c.params),
                intents.check_create,
            ),
            ("GET", "/v1/payment_intents"): Route(
                payment_intent_params.LIST, lambda c: intents.list(c.params)
            ),
            ("GET", "/v1/payment_intents/*"): Route(
                payment_intent_params.RETRIEVE,
                lambda c: intents.retrieve(c.params, c.id, publishable=c.publishable),
                publishable=True,
            ),
            ("POST", "/v1/payment_intents/*"): Route(
                payment_intent_params.UPDATE,
                lambda c: intents.update(c.params, c.id),
                intents.check_update,
            ),
            ("POST", "/v1/payment_intents/*/confirm"): Route(
                payment_intent_params.CONFIRM,
                lambda c: intents.confirm(c.params, c.id, publishable=c.publishable),
                publishable=True,
            ),
            ("POST", "/v1/payment_intents/*/capture"): Route(
                payment_intent_params.CAPTURE, lambda c: intents.capture(c.params, c.id)
            ),
            ("POST", "/v1/payment_intents/*/cancel"): Route(
                payment_intent_params.CANCEL, lambda c: intents.cancel(c.params, c.id)
            ),
            ("GET", "/v1/charges"): Route(charges.LIST, lambda c: s.charges.list(c.params)),
            ("GET", "/v1/charges/*"): Route(
                charges.RETRIEVE, lambda c: s.charges.retrieve(c.params, c.id)
            ),
            ("POST", "/v1/charges/*"): Route(
                charges.UPDATE, lambda c: s.charges.update(c.params, c.id)
            ),
            ("POST", "/v1/refunds"): Route(
                refunds.CREATE, lambda c: s.refunds.create(c.params), s.refunds.check_create
            ),
            ("GET", "/v1/refunds"): Route(refunds.LIST, lambda c: s.refunds.list(c.params)),
            ("GET", "/v1/refunds/*"): Route(
                refunds.RETRIEVE, lambda c: s.refunds.retrieve(c.params, c.id)
            ),
            ("POST", "/v1/refunds/*"): Route(
                refunds.UPDATE, lambda c: s.refunds.update(c.params, c.id)
            ),
            ("POST", "/v1/refunds/*/cancel"): Route(
                refunds.CANCEL, lambda c: s.refunds.cancel(c.params, c.id)
            ),
            ("POST", "/v1/checkout/sessions"): Route(
                checkout_session_params.CREATE,
                lambda c: sessions.create(c.params),
                sessions.check_create,
            ),
            ("GET", "/v1/checkout/sessions"): Route(
                checkout_session_params.LIST, lambda c: sessions.list(c.params)
            ),
            ("GET", "/v1/checkout/sessions/*"): Route(
                checkout_session_params.RETRIEVE, lambda c: sessions.retrieve(c.params, c.id)
            ),
            ("POST", "/v1/checkout/sessions/*"): Route(
                checkout_session_params.UPDATE, lambda c: sessions.update(c.params, c.id)
            ),
            ("POST", "/v1/checkout/sessions/*/expire"): Route(
                checkout_session_params.EXPIRE, lambda c: sessions.expire(c.params, c.id)
            ),
            ("GET", "/v1/checkout/sessions/*/line_items"): Route(
                checkout_session_params.LINE_ITEMS, lambda c: sessions.line_items(c.params, c.id)
            ),
            ("POST", "/v1/payment_methods"): Route(
                payment_methods.CREATE,
                lambda c: s.payment_methods.create(c.params, publishable=c.publishable),
                publishable=True,
            ),
            ("GET", "/v1/payment_methods/*"): Route(
                payment_methods.RETRIEVE, lambda c: s.payment_methods.retrieve(c.params, c.id)
            ),
            ("POST", "/v1/payment_methods/*"): Route(
                payment_methods.UPDATE, lambda c: s.payment_methods.update(c.params, c.id)
            ),
            ("GET", "/v1/payment_methods"): Route(
                customers.METHODS_BY_PARAM, lambda c: s.customers.list_methods(c.params)
            ),
            ("POST", "/v1/payment_methods/*/attach"): Route(
                customers.ATTACH, lambda c: s.customers.attach_method(c.params, c.id)
            ),
            ("POST", "/v1/payment_methods/*/detach"): Route(
                payment_methods.DETACH, lambda c: s.payment_methods.detach(c.params, c.id)
            ),
            ("POST", "/v1/customers"): Route(
                customers.CREATE, lambda c: s.customers.create(c.params)
            ),
            ("GET", "/v1/customers"): Route(customers.LIST, lambda c: s.customers.list(c.params)),
            ("GET", "/v1/customers/*"): Route(
                customers.RETRIEVE, lambda c: s.customers.retrieve(c.params, c.id)
            ),
            ("POST", "/v1/customers/*"): Route(
                customers.UPDATE, lambda c: s.customers.update(c.params, c.id)
            ),
            ("DELETE", "/v1/customers/*"): Route(
                customers.DELETE, lambda c: s.customers.delete(c.params, c.id)
            ),
            ("GET", "/v1/customers/*/payment_methods"): Route(
                customers.METHODS, lambda c: s.customers.list_methods(c.params, c.id)
            ),
            ("POST", "/v1/webhook_endpoints"): Route(
                webhook_endpoints.CREATE, lambda c: s.webhook_endpoints.create(c.params)
            ),
            ("GET", "/v1/webhook_endpoints"): Route(
                webhook_endpoints.LIST, lambda c: s.webhook_endpoints.list(c.params)
            ),
            ("GET", "/v1/webhook_endpoints/*"): Route(
                webhook_endpoints.RETRIEVE, lambda c: s.webhook_endpoints.retrieve(c.params, c.id)
            ),
            ("POST", "/v1/webhook_endpoints/*"): Route(
                webhook_endpoints.UPDATE, lambda c: s.webhook_endpoints.update(c.params, c.id)
            ),
            ("DELETE", "/v1/webhook_endpoints/*"): Route(
                webhook_endpoints.DELETE, lambda c: s.webhook_endpoints.delete(c.params, c.id)
            ),
            ("GET", "/v1/events"): Route(events.LIST, lambda c: s.events.list(c.params)),
            ("GET", "/v1/events/*"): Route(
                events.RETRIEVE, lambda c: s.events.retrieve(c.params, c.id)
            ),
            ("GET", "/v1/disputes"): Route(disputes.LIST, lambda c: s.disputes.list(c.params)),
            ("GET", "/v1/disputes/*"): Route(
                disputes.RETRIEVE, lambda c: s.disputes.retrieve(c.params, c.id)
            ),
            ("POST", "/v1/disputes/*"): Route(
                disputes.UPDATE, lambda c: s.disputes.update(c.params, c.id)
            ),
            ("POST", "/v1/disputes/*/close"): Route(
                disputes.CLOSE, lambda c: s.disputes.accept(c.params, c.id)
            ),
            ("GET", "/v1/radar/early_fraud_warnings"): Route(
                early_fraud_warnings.LIST, lambda c: s.early_fraud_warnings.list(c.params)
            ),
            ("GET", "/v1/radar/early_fraud_warnings/*"): Route(
                early_fraud_warnings.RETRIEVE,
                lambda c: s.early_fraud_warnings.retrieve(c.params, c.id),
            ),
            ("GET", "/v1/balance"): Route(
                ledger.RETRIEVE, lambda c: s.ledger.retrieve_balance(c.params)
            ),
            ("GET", "/v1/balance_transactions"): Route(
                ledger.LIST, lambda c: s.ledger.list_transactions(c.params)
            ),
            ("GET", "/v1/balance_transactions/*"): Route(
                ledger.RETRIEVE, lambda c: s.ledger.retrieve_transaction(c.params, c.id)
            ),
        }
    )
