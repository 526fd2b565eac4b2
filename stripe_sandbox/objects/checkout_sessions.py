"""Checkout Sessions (https://docs.stripe.com/api/checkout/sessions)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stripe_sandbox.core.api_objects import StripeObject, build
from stripe_sandbox.core.store import Collection, Record
from stripe_sandbox.objects.customers import Customers
from stripe_sandbox.objects.instruments import types_on_offer
from stripe_sandbox.objects.payment_attempts import Attempt, PaymentAttempts, PaymentIntentRecord
from stripe_sandbox.objects.payment_intents import PaymentIntents
from stripe_sandbox.objects.payment_methods import PaymentMethodRecord
from stripe_sandbox.objects.resource import Account, Resource
from stripe_sandbox.protocol.errors import ApiError, invalid_param, missing_param, no_such
from stripe_sandbox.protocol.lists import Filter, list_page
from stripe_sandbox.protocol.money import (
    MINIMUM_CHARGE,
    check_charge,
    check_currency,
    check_decimals,
    display,
)
from stripe_sandbox.protocol.params import (
    Params,
    merge_metadata,
)

_MIN_LIFETIME = 30 * 60
_MAX_LIFETIME = 24 * 3600

_DECIMAL = re.compile(r"[0-9]{1,12}(\.0{1,12})?")
Outcome = Literal["complete", "declined", "requires_action"]


@dataclass(frozen=True, slots=True)
class PagePayment:
    """What came of paying on the hosted page."""

    outcome: Outcome
    session: StripeObject
    payment_intent: StripeObject | None
    error: StripeObject | None
    redirect_url: str | None
    """Where the browser goes next: the success page, or the bank's authentication page."""


class SessionRecord(Record):
    def __init__(
        self,
        data: StripeObject,
        items: Sequence[StripeObject],
        intent_params: Params,
    ) -> None:
        super().__init__(data)
        self.items = items
        self.intent_params = intent_params
        self.customer_details: StripeObject | None = None
        """What the customer last submitted; the session shows it once it is complete."""


class CheckoutSessions(Resource[SessionRecord]):
    url = "/v1/checkout/sessions"
    noun = "checkout.session"
    id_param = "session"
    indexes = ("payment_intent", "customer")
    listed_by = (
        "payment_intent",
        "customer",
        "status",
        "customer_account",
        "payment_link",
        "subscription",
    )

    def __init__(
        self,
        account: Account,
        customers: Customers,
        intents: PaymentIntents,
        attempts: PaymentAttempts,
        page_url: Callable[[str], str],
    ) -> None:
        super().__init__(account)
        self._customers = customers
        self._intents = intents
        self._attempts = attempts
        self._page_url = page_url
        self._products: Collection[Record] = Collection(capacity=account.config.capacity)
        attempts.on_paid.append(self._on_paid)
        attempts.on_failed.append(self._on_failed)

    # The API

    def check_create(self, params: Params) -> None:
        mode = params.get("mode", "payment")
        if mode != "payment":
            raise invalid_param("The sandbox only simulates `mode: payment`.", "mode")
        if params.get("ui_mode", "hosted_page") != "hosted_page":
            raise invalid_param("The sandbox only simulates `ui_mode: hosted_page`.", "ui_mode")
        if "success_url" not in params:
            raise missing_param("success_url")
        if not params.get("line_items"):
            raise missing_param("line_items")
        if "customer" in params and "customer_email" in params:
            raise invalid_param(
                "You may only specify one of these parameters: customer, customer_email.",
                "customer",
            )
        if "customer" in params and "customer_creation" in params:
            raise invalid_param(
                "You may only specify one of these parameters: customer, customer_creation.",
                "customer_creation",
            )
        currencies = set()
        for index, item in enumerate(params["line_items"]):
            self._check_item(item, f"line_items[{index}]")
            if "price_data" in item:
                currencies.add(item["price_data"]["currency"])
        if "currency" in params:
            currencies.add(check_currency(params["currency"]))
        if len(currencies) > 1:
            raise invalid_param(
                "All prices on a Checkout session must have the same currency, got "
                f"{', '.join(sorted(currencies))}.",
                "line_items",
            )

    def create(self, params: Params) -> StripeObject:
        # Here, not in check_create: an answer that is replayed later is not to be checked again.
        self._check_lifetime(params)
        known = self._customers.by_param(params["customer"]) if "customer" in params else None
        now = self._clock.timestamp()
        items = self._items(params["line_items"], now)
        currency = items[0]["currency"]
        total = sum(item["amount_total"] for item in items)
        self._check_total(total, currency)
        id = self._ids.session()
        allowed = params.get("allowed_payment_method_types")
        excluded = params.get("excluded_payment_method_types")
        types = types_on_offer(currency, allowed, excluded, has_customer=known is not None)
        if not types:
            raise ApiError(
                400,
                "No valid payment method types for this Checkout Session.",
                param="allowed_payment_method_types",
            )
        intent_params: Params = {
            **(params.get("payment_intent_data") or {}),
            "amount": total,
            "currency": currency,
            "allowed_payment_method_types": types,
        }
        session = build(
            "checkout.session",
            id=id,
            allowed_payment_method_types=allowed,
            amount_subtotal=total,
            amount_total=total,
            billing_address_collection=params.get("billing_address_collection"),
            cancel_url=params.get("cancel_url"),
            client_reference_id=params.get("client_reference_id"),
            created=now,
            currency=currency,
            customer=None if known is None else known["id"],
            customer_creation=(
                params.get("customer_creation", "if_required") if known is None else None
            ),
            customer_email=params.get("customer_email"),
            expires_at=params.get("expires_at", now + _MAX_LIFETIME),
            integration_identifier=params.get("integration_identifier"),
            locale=params.get("locale"),
            metadata=merge_metadata({}, params.get("metadata")),
            mode="payment",
            origin_context=params.get("origin_context"),
            payment_method_collection=params.get("payment_method_collection", "if_required"),
            payment_method_configuration_details={"id": "pmc_1SandboxDefault", "parent": None},
            payment_method_types=types,
            submit_type=params.get("submit_type"),
            success_url=params["success_url"],
            url=self._page_url(f"/c/pay/{id}"),
        )
        if known is not None:
            intent_params["customer"] = known["id"]
            session["customer_details"] = build(
                "customer_details", email=known["email"], name=known["name"], phone=known["phone"]
            )
        elif session["customer_email"] is not None:
            session["customer_details"] = build("customer_details", email=session["customer_email"])
        record = self._records.add(SessionRecord(session, items, intent_params))
        record.timer = self._clock.call_at(session["expires_at"], lambda: self._expire_by_timer(id))
        return session

    def update(self, params: Params, id: str) -> StripeObject:
        session = self.named(id).data
        session["metadata"] = merge_metadata(session["metadata"], params.get("metadata"))
        return session

    def list(self, params: Params) -> StripeObject:
        filters: list[Filter] = []
        if "customer_details" in params:
            email = params["customer_details"]["email"]
            filters.append(
                lambda session: (session["customer_details"] or {}).get("email") == email
            )
        return list_page(
            self._records,
            params,
            self.url,
            noun=self.noun,
            by=self.listed_by,
            filters=filters,
        )

    def expire(self, params: Params, id: str) -> StripeObject:
        record = self.named(id)
        if record.data["status"] != "open":
            raise ApiError(
                400,
                'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout '
                f"Session has a status of `{record.data['status']}`.",
            )
        self._expire(record)
        return record.data

    def line_items(self, params: Params, id: str) -> StripeObject:
        record = self.named(id)
        limit = params.get("limit", 10)
        items = record.items
        position = {item["id"]: index for index, item in enumerate(items)}
        for name in ("starting_after", "ending_before"):
            if name in params and params[name] not in position:
                raise no_such("line item", params[name], name, status=400)
        if "ending_before" in params:
            stop = position[params["ending_before"]]
            start = max(0, stop - limit)
            has_more = start > 0
        else:
            start = position[params["starting_after"]] + 1 if "starting_after" in params else 0
            stop = start + limit
            has_more = stop < len(items)
        return {
            "object": "list",
            "data": items[start:stop],
            "has_more": has_more,
            "url": f"/v1/checkout/sessions/{id}/line_items",
        }

    def product(self, id: str) -> StripeObject | None:
        record = self._products.find(id)
        return None if record is None else record.data

    # The hosted page

    def pay(
        self, id: str, method: PaymentMethodRecord | None, *, email: str, name: str | None = None
    ) -> PagePayment:
        """Submit the hosted page. A session of nothing to pay needs no method."""
        record = self.named(id)
        session = record.data
        if session["status"] != "open":
            raise ApiError(400, f"This Checkout Session has a status of `{session['status']}`.")
        details = build("customer_details", email=email, name=name)
        if method is not None:
            details["address"] = dict(method.data["billing_details"]["address"])
        record.customer_details = details
        self._create_customer(record)
        if session["amount_total"] == 0:
            session["payment_status"] = "no_payment_required"
            self._complete(record)
            return self._result("complete", record, None, None)
        if method is None:
            raise invalid_param("A payment method is needed.", "payment_method")
        intent = self._intent_of(record)
        try:
            self._attempts.attach(intent, method)
            self._attempts.start(intent, Attempt(method, session["success_url"]))
        except ApiError as declined:
            if declined.error["type"] != "card_error":
                raise
            return self._result("declined", record, intent, declined.error)
        if session["status"] == "open":
            return self._result("requires_action", record, intent, None)
        return self._result("complete", record, intent, None)

    def success_address(self, record: SessionRecord) -> str:
        """The template is filled in at the redirect only; the object keeps it."""
        address: str = record.data["success_url"]
        return address.replace("{CHECKOUT_SESSION_ID}", record.id)

    def _result(
        self,
        outcome: Outcome,
        record: SessionRecord,
        intent: PaymentIntentRecord | None,
        error: StripeObject | None,
    ) -> PagePayment:
        redirect = None
        if outcome == "complete":
            redirect = self.success_address(record)
        elif outcome == "requires_action" and intent is not None:
            redirect = self._attempts.authentication_page(intent)
        data = None if intent is None else intent.data
        return PagePayment(outcome, record.data, data, error, redirect)

    def _intent_of(self, record: SessionRecord) -> PaymentIntentRecord:
        """The session's PaymentIntent, which exists from the first submission on.

        https://docs.stripe.com/changelog/2022-08-01/deferred-paymentintent-checkout-session
        """
        existing = record.data["payment_intent"]
        if existing is not None:
            return self._intents.named(existing)
        intent = self._intents.open(record.intent_params, session_id=record.id)
        record.data["payment_intent"] = intent.id
        self._records.reindex(record)
        return intent

    def _create_customer(self, record: SessionRecord) -> None:
        """https://docs.stripe.com/api/checkout/sessions/create: ``customer_creation=always``"""
        session, details = record.data, record.customer_details
        if session["customer_creation"] != "always" or session["customer"] or details is None:
            return
        given = {name: details[name] for name in ("email", "name") if details[name]}
        session["customer"] = self._customers.create(given)["id"]
        record.intent_params["customer"] = session["customer"]
        self._records.reindex(record)

    def _on_paid(self, intent: PaymentIntentRecord) -> None:
        record = self._session_of(intent)
        if record is None:
            return
        session = record.data
        settled = intent.status in ("succeeded", "requires_capture")
        if session["status"] == "open":
            session["payment_status"] = "paid" if intent.status == "succeeded" else "unpaid"
            self._complete(record)
        elif settled and session["payment_status"] == "unpaid":
            session["payment_status"] = "paid"
            if intent.data["capture_method"] != "manual":
                self._events.emit("checkout.session.async_payment_succeeded", session)

    def _on_failed(self, intent: PaymentIntentRecord) -> None:
        record = self._session_of(intent)
        if record is not None and record.data["status"] == "complete":
            self._events.emit("checkout.session.async_payment_failed", record.data)

    def _session_of(self, intent: PaymentIntentRecord) -> SessionRecord | None:
        return None if intent.session_id is None else self._records.find(intent.session_id)

    def _complete(self, record: SessionRecord) -> None:
        self._clock.cancel(record.timer)
        details = record.customer_details or record.data["customer_details"]
        record.data.update(status="complete", url=None, customer_details=details)
        self._events.emit("checkout.session.completed", record.data)

    def _expire(self, record: SessionRecord) -> None:
        self._clock.cancel(record.timer)
        record.data.update(status="expired", url=None)
        intent_id = record.data["payment_intent"]
        intent = None if intent_id is None else self._intents.find(intent_id)
        if intent is not None and intent.status not in ("succeeded", "canceled"):
            self._attempts.cancel(intent, "automatic")
        self._events.emit("checkout.session.expired", record.data)

    def _expire_by_timer(self, id: str) -> None:
        record = self._records.find(id)
        if record is not None and record.data["status"] == "open":
            self._expire(record)

    # Parameters

    def _check_lifetime(self, params: Params) -> None:
        if "expires_at" not in params:
            return
        lifetime = params["expires_at"] - self._clock.now()
        # A second's grace each way: callers compute it from their own clock.
        if lifetime > _MAX_LIFETIME + 1:
            raise invalid_param(
                "The `expires_at` timestamp must be less than 24 hours from Checkout Session "
                "creation.",
                "expires_at",
            )
        if lifetime < _MIN_LIFETIME - 2:
            raise invalid_param(
                "The `expires_at` timestamp must be at least 30 minutes from Checkout Session "
                "creation.",
                "expires_at",
            )

    def _check_item(self, item: dict[str, Any], param: str) -> None:
        if "price" in item:
            raise ApiError(
                400,
                f"No such price: '{item['price']}'",
                code="resource_missing",
                param=f"{param}[price]",
            )
        price = item.get("price_data")
        if price is None:
            raise missing_param(f"{param}[price_data]")
        if "quantity" not in item:
            raise missing_param(f"{param}[quantity]")
        price["currency"] = check_currency(price["currency"], f"{param}[price_data][currency]")
        if "product" in price:
            raise ApiError(
                400,
                f"No such product: '{price['product']}'",
                code="resource_missing",
                param=f"{param}[price_data][product]",
            )
        if "product_data" not in price:
            raise missing_param(f"{param}[price_data][product_data]")
        decimal = price.pop("unit_amount_decimal", None)
        if decimal is not None:
            if "unit_amount" in price or not _DECIMAL.fullmatch(decimal):
                raise invalid_param(
                    "The sandbox takes `unit_amount`, or a `unit_amount_decimal` that is whole.",
                    f"{param}[price_data][unit_amount_decimal]",
                )
            price["unit_amount"] = int(decimal.partition(".")[0])
        if "unit_amount" not in price:
            raise missing_param(f"{param}[price_data][unit_amount]")
        unit_amount = f"{param}[price_data][unit_amount]"
        check_decimals(price["unit_amount"], price["currency"], unit_amount)

    def _check_total(self, total: int, currency: str) -> None:
        if total == 0:
            return
        minimum = MINIMUM_CHARGE.get(currency, 1)
        if total < minimum:
            raise ApiError(
                400,
                "The Checkout Session's total amount must convert to at least 50 cents. "
                f"{display(total, currency)} {currency} is less than "
                f"{display(minimum, currency)} {currency}.",
                code="amount_too_small",
                executed=False,
            )
        check_charge(total, currency, self._config.max_amount, param=None)

    def _items(self, lines: Sequence[Params], now: int) -> Sequence[StripeObject]:
        items = []
        for line in lines:
            price = line["price_data"]
            given = price["product_data"]
            product = build(
                "product",
                id=f"prod_{self._ids.token(14)}",
                active=False,
                created=now,
                description=given.get("description"),
                images=given.get("images", []),
                metadata=merge_metadata({}, given.get("metadata")),
                name=given["name"],
                tax_code=given.get("tax_code"),
                unit_label=given.get("unit_label"),
                updated=now,
            )
            self._products.add(Record(product))
            amount = price["unit_amount"] * line["quantity"]
            items.append(
                build(
                    "item",
                    id=self._ids.new("li"),
                    amount_subtotal=amount,
                    amount_total=amount,
                    currency=price["currency"],
                    description=given["name"],
                    metadata=merge_metadata({}, line.get("metadata")),
                    price=build(
                        "price",
                        id=self._ids.new("price"),
                        active=False,
                        created=now,
                        currency=price["currency"],
                        product=product["id"],
                        tax_behavior=price.get("tax_behavior", "unspecified"),
                        unit_amount=price["unit_amount"],
                        unit_amount_decimal=str(price["unit_amount"]),
                    ),
                    quantity=line["quantity"],
                )
            )
        return items
