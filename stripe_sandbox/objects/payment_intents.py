"""PaymentIntents: what a caller asks of them (https://docs.stripe.com/api/payment_intents)."""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from stripe_sandbox.core.api_objects import StripeObject, build, copy_json
from stripe_sandbox.objects.customers import Customers
from stripe_sandbox.objects.instruments import types_on_offer
from stripe_sandbox.objects.payment_attempts import Attempt, PaymentAttempts, PaymentIntentRecord
from stripe_sandbox.objects.payment_intent_errors import (
    customer_already_set,
    error_on_action_refused,
    method_missing,
    not_cancelable,
    not_capturable,
    not_confirmable,
    return_url_needed,
)
from stripe_sandbox.objects.payment_methods import PaymentMethods
from stripe_sandbox.objects.resource import Account, Resource
from stripe_sandbox.protocol.errors import ApiError, invalid_param, unexpected_state
from stripe_sandbox.protocol.money import check_charge, check_currency, check_decimals
from stripe_sandbox.protocol.params import Params, merge_metadata, whole_shipping

_CONFIRM_ONLY = (
    "error_on_requires_action",
    "mandate_data",
    "off_session",
    "return_url",
)
_EDITABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
_CANCELABLE = (
    "requires_payment_method",
    "requires_capture",
    "requires_reauthorization",
    "requires_confirmation",
    "requires_action",
    "processing",
)


class PaymentIntents(Resource[PaymentIntentRecord]):
    url = "/v1/payment_intents"
    noun = "payment_intent"
    id_param = "intent"
    indexes = ("customer",)
    listed_by = ("customer", "customer_account")

    def __init__(
        self,
        account: Account,
        methods: PaymentMethods,
        customers: Customers,
        attempts: PaymentAttempts,
    ) -> None:
        super().__init__(account)
        self._methods = methods
        self._customers = customers
        self._attempts = attempts

    def check_create(self, params: Params) -> None:
        """Validation that Stripe does before an idempotency key takes notice of a request."""
        params["currency"] = check_currency(params["currency"])
        self._check_amount(params["amount"], params["currency"])
        if not params.get("confirm"):
            for name in _CONFIRM_ONLY:
                if name in params:
                    raise invalid_param(
                        f"The parameter `{name}` can only be passed when `confirm` is true.", name
                    )

    def create(self, params: Params) -> StripeObject:
        record = self.open(params)
        if params.get("confirm"):
            attached = {k: v for k, v in params.items() if k != "payment_method"}
            self._confirm(record, attached)
        else:
            self._attempts.announce(record)
        return record.data

    def open(self, params: Params, *, session_id: str | None = None) -> PaymentIntentRecord:
        """A new intent, before any attempt to pay it."""
        if "customer" in params:
            self._customers.by_param(params["customer"])
        automatic = params.get("automatic_payment_methods")
        redirects = (automatic or {}).get("allow_redirects", "always")
        enabled = (automatic or {}).get("enabled", True)
        id = self._ids.new("pi", family="3")
        intent = build(
            "payment_intent",
            id=id,
            amount=params["amount"],
            automatic_payment_methods=(
                {"allow_redirects": redirects, "enabled": True} if enabled else None
            ),
            capture_method=params.get("capture_method", "automatic_async"),
            client_secret=self._ids.client_secret(id),
            confirmation_method=params.get("confirmation_method", "automatic"),
            created=self._clock.timestamp(),
            currency=params["currency"],
            customer=params.get("customer"),
            metadata=merge_metadata({}, params.get("metadata")),
            payment_method_configuration_details={"id": "pmc_1SandboxDefault", "parent": None},
            status="requires_payment_method",
        )
        self._apply_shared(intent, params)
        record = PaymentIntentRecord(intent, session_id)
        if "payment_method" in params:
            self._attempts.attach(record, self._methods.use(params["payment_method"]))
        record.at_creation = copy_json(intent)
        return self._records.add(record)

    def retrieve(self, params: Params, id: str, *, publishable: bool = False) -> StripeObject:
        record = self.named(id)
        self._check_secret(record, params, publishable)
        return record.data

    def check_update(self, params: Params) -> None:
        if "currency" in params:
            params["currency"] = check_currency(params["currency"])

    def update(self, params: Params, id: str) -> StripeObject:
        record = self.named(id)
        intent = record.data
        self._check_editable(record, params)
        wanted = {**intent, **params}
        amount, currency = wanted["amount"], wanted["currency"]
        if "amount" in params or "currency" in params:
            self._check_amount(amount, currency)
        if "customer" in params:
            self._set_customer(record, params["customer"])
        method = self._methods.use(params["payment_method"]) if "payment_method" in params else None
        metadata = merge_metadata(intent["metadata"], params.get("metadata"))
        intent.update(amount=amount, currency=currency, metadata=metadata, last_payment_error=None)
        if "capture_method" in params:
            intent["capture_method"] = params["capture_method"]
        self._apply_shared(intent, params)
        if method is not None:
            self._attempts.attach(record, method)
        return intent

    def confirm(self, params: Params, id: str, *, publishable: bool = False) -> StripeObject:
        record = self.named(id)
        self._check_secret(record, params, publishable)
        self._refuse_if_of_session(record, "confirm")
        self._confirm(record, params, from_browser=publishable)
        return record.data

    def capture(self, params: Params, id: str) -> StripeObject:
        record = self.named(id)
        intent = record.data
        if record.status != "requires_capture":
            raise not_capturable(intent)
        capturable = intent["amount_capturable"]
        amount = {"amount_to_capture": capturable, **params}["amount_to_capture"]
        check_decimals(amount, intent["currency"], "amount_to_capture")
        if amount > capturable:
            raise ApiError(
                400,
                f"The amount to capture ({amount}) is greater than the amount that can be captured "
                f"({capturable}).",
                code="amount_too_large",
                param="amount_to_capture",
            )
        if "metadata" in params:
            intent["metadata"] = merge_metadata(intent["metadata"], params["metadata"])
        self._attempts.capture(record, amount)
        return intent

    def cancel(self, params: Params, id: str) -> StripeObject:
        record = self.named(id)
        self._refuse_if_of_session(record, "cancel")
        if record.status not in _CANCELABLE:
            raise not_cancelable(record.data, _CANCELABLE)
        self._attempts.cancel(record, params.get("cancellation_reason"))
        return record.data

    def return_address(self, record: PaymentIntentRecord, return_url: str) -> str:
        """``return_url`` with what Stripe appends to it after a redirect."""
        status = {
            "succeeded": "succeeded",
            "requires_capture": "succeeded",
            "processing": "pending",
        }.get(record.status, "failed")
        parts = urlsplit(return_url)
        query = [
            *parse_qsl(parts.query, keep_blank_values=True),
            ("payment_intent", record.id),
            ("payment_intent_client_secret", record.data["client_secret"]),
            ("redirect_status", status),
        ]
        return urlunsplit(parts._replace(query=urlencode(query)))

    def _check_amount(self, amount: int, currency: str) -> None:
        check_charge(amount, currency, self._config.max_amount)
        check_decimals(amount, currency, "amount")

    def _apply_shared(self, intent: StripeObject, params: Params) -> None:
        for name in (
            "description",
            "receipt_email",
            "setup_future_usage",
            "statement_descriptor_suffix",
            "transfer_group",
            "allowed_payment_method_types",
            "excluded_payment_method_types",
        ):
            if name in params:
                intent[name] = params[name]
        if "shipping" in params:
            intent["shipping"] = whole_shipping(params["shipping"])
        intent["payment_method_types"] = types_on_offer(
            intent["currency"],
            intent["allowed_payment_method_types"],
            intent["excluded_payment_method_types"],
            has_customer=intent["customer"] is not None,
        )

    def _set_customer(self, record: PaymentIntentRecord, id: str) -> None:
        intent = record.data
        if intent["customer"] not in (None, id):
            raise customer_already_set(intent)
        intent["customer"] = self._customers.by_param(id)["id"]
        self._records.reindex(record)

    def _check_editable(self, record: PaymentIntentRecord, params: Params) -> None:
        locked = ("amount", "currency", "payment_method", "capture_method", "setup_future_usage")
        for name in locked:
            if name in params and record.status not in _EDITABLE:
                raise unexpected_state(
                    f"This PaymentIntent's {name} could not be updated because it has a status of "
                    f"{record.status}. You may only update the {name} of a PaymentIntent with one "
                    f"of the following statuses: {', '.join(_EDITABLE)}.",
                    record.data,
                )
        if record.session_id is not None:
            for name in locked:
                if name in params:
                    raise unexpected_state(
                        f"You cannot update the {name} of this PaymentIntent because it belongs to "
                        "a Checkout Session.",
                        record.data,
                    )

    def _check_secret(self, record: PaymentIntentRecord, params: Params, publishable: bool) -> None:
        """A publishable key only sees the intent whose secret it shows."""
        secret = params.get("client_secret")
        if secret is None and not publishable:
            return
        if secret != record.data["client_secret"]:
            raise ApiError(
                400,
                "The client_secret provided does not match the client_secret associated with this "
                "PaymentIntent.",
                code="payment_intent_invalid_parameter",
                param="client_secret",
            )

    def _refuse_if_of_session(self, record: PaymentIntentRecord, verb: str) -> None:
        """https://docs.stripe.com/payments/checkout: expire the session instead."""
        if record.session_id is not None:
            raise unexpected_state(
                f"You cannot {verb} this PaymentIntent because it belongs to a Checkout Session. "
                "Expire the Checkout Session instead.",
                record.data,
            )

    def _confirm(
        self, record: PaymentIntentRecord, params: Params, *, from_browser: bool = False
    ) -> None:
        intent = record.data
        if record.status not in _EDITABLE:
            raise not_confirmable(intent)
        return_url = params.get("return_url")
        off_session = params.get("off_session", False)
        error_on_action = params.get("error_on_requires_action", False)
        automatic = intent["automatic_payment_methods"]
        if automatic is not None and automatic["allow_redirects"] == "always":
            if error_on_action:
                raise self._announced(record, error_on_action_refused(intent))
            waived = off_session or (from_browser and params.get("use_stripe_sdk"))
            if return_url is None and not waived:
                raise self._announced(record, return_url_needed(intent))
        named = params.get("payment_method")
        if named is None and intent["payment_method"] is None:
            raise self._announced(record, method_missing(intent))
        method = self._methods.use(named or intent["payment_method"])
        if "capture_method" in params:
            intent["capture_method"] = params["capture_method"]
        self._apply_shared(intent, params)
        self._attempts.attach(record, method)
        self._attempts.start(record, Attempt(method, return_url, off_session, error_on_action))

    def _announced(self, record: PaymentIntentRecord, error: ApiError) -> ApiError:
        """An intent that could not be confirmed exists all the same."""
        self._attempts.announce(record)
        return error
