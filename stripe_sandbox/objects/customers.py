"""Customers (https://docs.stripe.com/api/customers)."""

from collections import deque

from stripe_sandbox.core.api_objects import StripeObject, build, changes
from stripe_sandbox.core.store import Record
from stripe_sandbox.objects.payment_methods import PaymentMethods
from stripe_sandbox.objects.resource import Account, Resource
from stripe_sandbox.protocol.errors import ApiError
from stripe_sandbox.protocol.params import (
    ADDRESS,
    EXPAND,
    LIST_PARAMS,
    SHIPPING,
    Array,
    Email,
    Hash,
    Integer,
    Kind,
    Metadata,
    NotSimulated,
    OneOf,
    Params,
    Range,
    Text,
    merge_metadata,
    whole_address,
    whole_shipping,
)

_SHARED: dict[str, Kind] = {
    "address": Hash(ADDRESS.fields, unsettable=True),
    "balance": Integer(),
    "business_name": NotSimulated(),
    "cash_balance": NotSimulated(),
    "description": Text(unsettable=True),
    "email": Email(unsettable=True),
    "expand": EXPAND,
    "individual_name": NotSimulated(),
    "invoice_prefix": Text(max_length=12),
    "invoice_settings": Hash(
        {
            "custom_fields": NotSimulated(("",)),
            "default_payment_method": Text(unsettable=True),
            "footer": Text(unsettable=True),
            "rendering_options": NotSimulated(("",)),
        }
    ),
    "metadata": Metadata(),
    "name": Text(unsettable=True),
    "next_invoice_sequence": Integer(minimum=1),
    "phone": Text(unsettable=True),
    "preferred_locales": Array(Text()),
    "shipping": SHIPPING,
    "source": NotSimulated(),
    "tax": NotSimulated(),
    "tax_exempt": OneOf(("exempt", "none", "reverse"), unsettable=True),
    "validate": NotSimulated(("false",)),
}
CREATE: dict[str, Kind] = {
    **_SHARED,
    "payment_method": Text(),
    "tax_id_data": NotSimulated(("",)),
    "test_clock": NotSimulated(),
}
UPDATE: dict[str, Kind] = {**_SHARED, "default_source": NotSimulated()}
RETRIEVE: dict[str, Kind] = {"expand": EXPAND}
DELETE: dict[str, Kind] = {}
LIST: dict[str, Kind] = {
    **LIST_PARAMS,
    "created": Range(),
    "email": Text(),
    "test_clock": NotSimulated(),
}
ATTACH: dict[str, Kind] = {
    "customer": Text(),
    "customer_account": NotSimulated(),
    "expand": EXPAND,
}
METHODS: dict[str, Kind] = {
    **LIST_PARAMS,
    "allow_redisplay": OneOf(("always", "limited", "unspecified")),
    "type": Text(),
}
METHODS_BY_PARAM: dict[str, Kind] = {
    **METHODS,
    "customer": Text(),
    "customer_account": NotSimulated(),
}
_PLAIN = (
    "balance",
    "description",
    "email",
    "invoice_prefix",
    "name",
    "next_invoice_sequence",
    "phone",
    "preferred_locales",
)


class Customers(Resource[Record]):
    url = "/v1/customers"
    noun = "customer"
    listed_by = ("email",)

    def __init__(self, account: Account, methods: PaymentMethods) -> None:
        super().__init__(account)
        self._methods = methods
        self._deleted: deque[str] = deque(maxlen=account.config.capacity)
        """A deleted customer is still told to have been one; nothing can be done with it."""

    def create(self, params: Params) -> StripeObject:
        customer = build(
            "customer",
            id=f"cus_{self._ids.token(14)}",
            created=self._clock.timestamp(),
            invoice_prefix=self._ids.token(8).upper(),
        )
        self._apply(customer, params)
        # Before it exists: a card that cannot be attached leaves no customer behind.
        named = params.get("payment_method")
        method = None if named is None else self._methods.attachable(named)
        record = self._records.add(Record(customer))
        self._events.emit("customer.created", customer)
        if method is not None:
            self._methods.attach_to(method, record.id)
        return customer

    def retrieve(self, params: Params, id: str) -> StripeObject:
        if self._records.find(id) is None and id in self._deleted:
            return _tombstone(id)
        return self.named(id).data

    def update(self, params: Params, id: str) -> StripeObject:
        customer = self.named(id).data
        changed = {**customer, "invoice_settings": dict(customer["invoice_settings"])}
        self._apply(changed, params)
        before = changes(customer, changed)
        if before:
            customer.update(changed)
            self._events.emit("customer.updated", customer, previous=before)
        return customer

    def delete(self, params: Params, id: str) -> StripeObject:
        record = self.named(id)
        self._methods.detach_all(id)
        self._records.remove(record)
        self._deleted.append(id)
        self._events.emit("customer.deleted", record.data)
        return _tombstone(id)

    # Their PaymentMethods (https://docs.stripe.com/api/payment_methods/attach)

    def attach_method(self, params: Params, method_id: str) -> StripeObject:
        if "customer" not in params:
            raise ApiError(
                400,
                "Must provide customer or customer_account.",
                code="parameter_missing",
                executed=False,
            )
        customer = self.by_param(params["customer"])
        method = self._methods.attachable(method_id)
        self._methods.attach_to(method, customer["id"])
        return method.data

    def list_methods(self, params: Params, id: str | None = None) -> StripeObject:
        """Of the customer in the path, or of the one a parameter names; of nobody otherwise."""
        if id is not None:
            url = f"/v1/customers/{self.named(id).id}/payment_methods"
            return self._methods.list_of(id, params, url)
        if "customer" in params:
            self.by_param(params["customer"])
        return self._methods.list_of(params.get("customer"), params, "/v1/payment_methods")

    def by_param(self, id: str, param: str = "customer") -> StripeObject:
        """The customer a parameter names; an unknown or deleted one is the caller's mistake."""
        return self.named(id, param, status=400).data

    def _apply(self, customer: StripeObject, params: Params) -> None:
        for name in _PLAIN:
            if name in params:
                customer[name] = params[name]
        if "address" in params:
            customer["address"] = whole_address(params["address"], customer["address"])
        if "shipping" in params:
            customer["shipping"] = whole_shipping(params["shipping"])
        if "tax_exempt" in params:
            customer["tax_exempt"] = params["tax_exempt"] or "none"
        if customer["balance"] and customer["currency"] is None:
            customer["currency"] = "usd"
        customer["metadata"] = merge_metadata(customer["metadata"], params.get("metadata"))
        settings = params.get("invoice_settings") or {}
        default = settings.get("default_payment_method")
        if default is not None:
            self._methods.check_owner(
                default, customer["id"], "invoice_settings[default_payment_method]"
            )
        for name in ("default_payment_method", "footer"):
            if name in settings:
                customer["invoice_settings"][name] = settings[name]


def _tombstone(id: str) -> StripeObject:
    return {"id": id, "object": "customer", "deleted": True}
