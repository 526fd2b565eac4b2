"""PaymentIntents and their state machine (https://docs.stripe.com/payments/paymentintents/lifecycle)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from stripe_sandbox.core.api_objects import StripeObject, build, copy_json
from stripe_sandbox.core.store import Record
from stripe_sandbox.objects.charges import ChargeRecord, Charges
from stripe_sandbox.objects.customers import Customers
from stripe_sandbox.objects.instructions import acts_elsewhere, instructions
from stripe_sandbox.objects.instruments import (
    AUTHENTICATION_REQUIRED,
    BANK_DEBIT,
    BANK_TRANSFER,
    Decline,
    types_on_offer,
)
from stripe_sandbox.objects.payment_intent_errors import (
    check_owner,
    customer_already_set,
    error_on_action_refused,
    method_missing,
    not_cancelable,
    not_capturable,
    not_confirmable,
    payment_error,
    return_url_needed,
    uncharged_error,
)
from stripe_sandbox.objects.payment_methods import PaymentMethodRecord, PaymentMethods
from stripe_sandbox.objects.resource import Account, Resource
from stripe_sandbox.protocol.errors import (
    ApiError,
    invalid_param,
    no_such,
    unexpected_state,
)
from stripe_sandbox.protocol.money import check_charge, check_currency, check_decimals
from stripe_sandbox.protocol.params import (
    Params,
    merge_metadata,
    whole_shipping,
)

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
Outcome = Literal["succeeded", "failed", "processing"]


@dataclass(slots=True)
class _Attempt:
    """A confirmation in the making."""

    method: PaymentMethodRecord
    return_url: str | None
    off_session: bool = False
    error_on_action: bool = False


class PaymentIntentRecord(Record):
    def __init__(self, data: StripeObject, session_id: str | None) -> None:
        super().__init__(data)
        self.session_id = session_id
        self.attempt: _Attempt | None = None
        """The confirmation that waits for the shopper or for the bank."""
        self.announced = False
        """Whether payment_intent.created has been emitted."""
        self.at_creation: StripeObject = {}

    @property
    def status(self) -> str:
        status: str = self.data["status"]
        return status


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
        charges: Charges,
        page_url: Callable[[str], str],
    ) -> None:
        super().__init__(account)
        self._methods = methods
        self._customers = customers
        self._charges = charges
        self._page_url = page_url
        self.on_paid: list[Callable[[PaymentIntentRecord], None]] = []
        """Called when an intent has succeeded, is authorized, or the shopper has submitted a
        delayed payment: it is processing, or waits for what the shopper does elsewhere."""
        self.on_failed: list[Callable[[PaymentIntentRecord], None]] = []

    # The API

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
            self._announce(record)
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
            self._attach(record, self._methods.use(params["payment_method"]))
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
            self._attach(record, method)
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
        charge = self._latest_charge(record)
        if charge is None:
            raise no_such("charge", intent["latest_charge"], "id")
        self._charges.capture(charge, amount)
        intent.update(status="succeeded", amount_capturable=0, amount_received=amount)
        self._events.emit("payment_intent.succeeded", intent)
        self._tell(self.on_paid, record)
        return intent

    def cancel(self, params: Params, id: str) -> StripeObject:
        record = self.named(id)
        self._refuse_if_of_session(record, "cancel")
        if record.status not in _CANCELABLE:
            raise not_cancelable(record.data, _CANCELABLE)
        self.cancel_now(record, params.get("cancellation_reason"))
        return record.data

    # What happens outside the API

    def cancel_now(self, record: PaymentIntentRecord, reason: str | None) -> None:
        charge = self._latest_charge(record)
        if record.status == "requires_capture" and charge is not None:
            self._charges.release(charge)
        elif record.status == "processing" and charge is not None:
            self._charges.fail(
                charge, Decline("payment_intent_canceled", "The payment was canceled.")
            )
        self._forget_attempt(record)
        record.data.update(
            status="canceled",
            amount_capturable=0,
            canceled_at=self._clock.timestamp(),
            cancellation_reason=reason,
            next_action=None,
            processing=None,
        )
        self._events.emit("payment_intent.canceled", record.data)

    def pay(
        self, record: PaymentIntentRecord, method: PaymentMethodRecord, return_url: str
    ) -> None:
        """Pay from the hosted page, the customer being there. A decline is an ApiError."""
        self._attach(record, method)
        self._proceed(record, _Attempt(method, return_url))

    def authenticate(self, id: str, *, approve: bool) -> PaymentIntentRecord:
        """What the bank's 3-D Secure page concludes. A later decline is not raised: look."""
        record = self.named(id)
        attempt = record.attempt
        elsewhere = acts_elsewhere(record.data)
        if record.status != "requires_action" or attempt is None or elsewhere:
            raise unexpected_state(
                f"There is nothing to authenticate: the status is {record.status}.", record.data
            )
        record.data["next_action"] = None
        if not approve:
            self._give_up(record, attempt, "payment_intent_authentication_failure")
            return record
        try:
            self._charge(record, attempt, authenticated=True)
        except ApiError as declined:
            if declined.error["type"] != "card_error":
                raise
        return record

    def settle(self, id: str, outcome: Outcome) -> PaymentIntentRecord:
        """What becomes of a delayed payment: the bank's answer, or what the shopper did elsewhere.

        ``processing`` is for microdeposits: the account is verified, and debited now.
        """
        record = self.named(id)
        attempt = record.attempt
        if attempt is not None and acts_elsewhere(record.data):
            return self._settle_elsewhere(record, attempt, outcome)
        charge = self._latest_charge(record)
        settleable = record.status == "processing" and outcome != "processing"
        if not settleable or charge is None or attempt is None:
            raise unexpected_state(
                f"There is nothing to settle: the status is {record.status}.", record.data
            )
        self._forget_attempt(record)
        record.data["processing"] = None
        if outcome == "succeeded":
            attempt.method.spent = True
            self._charges.succeed(charge, capture_method="automatic")
            self._succeed(record)
        else:
            decline = attempt.method.instrument.decline or Decline(
                "insufficient_funds",
                "The customer's account has insufficient funds to cover this payment.",
            )
            self._charges.fail(charge, decline)
            self._fail(record, payment_error(decline, charge.id, attempt.method.data))
        return record

    def _settle_elsewhere(
        self, record: PaymentIntentRecord, attempt: _Attempt, outcome: Outcome
    ) -> PaymentIntentRecord:
        instrument = attempt.method.instrument
        if outcome == "failed":
            if instrument.microdeposits:
                code = "payment_method_microdeposit_verification_attempts_exceeded"
            elif instrument.type == BANK_TRANSFER:
                code = "payment_intent_payment_attempt_failed"
            else:
                code = "payment_intent_payment_attempt_expired"
            self._give_up(record, attempt, code)
        elif instrument.microdeposits:
            self._start_debit(record, attempt)
            if outcome == "succeeded":
                return self.settle(record.id, outcome)
        elif outcome == "processing":
            raise unexpected_state(
                "Only a bank debit is ever processing: this payment succeeds or fails.",
                record.data,
            )
        else:
            self._forget_attempt(record)
            attempt.method.spent = True
            charge = self._charges.attempt(record.data, attempt.method, authenticated=False)
            record.data.update(latest_charge=charge.id, next_action=None)
            self._charges.succeed(charge, capture_method="automatic")
            self._succeed(record)
        return record

    def authentication_page(self, record: PaymentIntentRecord) -> str:
        return self._page_url(f"/3ds/{record.id}")

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

    # Parameters

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

    # The state machine

    def _attach(self, record: PaymentIntentRecord, method: PaymentMethodRecord) -> None:
        intent = record.data
        check_owner(intent, method.data)
        if method.instrument.type not in intent["payment_method_types"]:
            raise ApiError(
                400,
                f"The PaymentMethod provided ({method.instrument.type}) is not allowed for this "
                "PaymentIntent. Please attach an allowed PaymentMethod or update the allowed "
                "PaymentMethod types for this PaymentIntent. Allowed types: "
                f"{', '.join(intent['payment_method_types'])}.",
                code="payment_intent_invalid_parameter",
                param="payment_method",
                payment_intent=intent,
            )
        self._forget_attempt(record)
        intent.update(
            payment_method=method.id,
            status="requires_confirmation",
            next_action=None,
            last_payment_error=None,
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
        self._attach(record, method)
        self._proceed(record, _Attempt(method, return_url, off_session, error_on_action))

    def _proceed(self, record: PaymentIntentRecord, attempt: _Attempt) -> None:
        instrument = attempt.method.instrument
        ready = instrument.once_set_up and attempt.method.set_up
        if attempt.off_session and instrument.off_session_decline is not None and not ready:
            self._decline(record, attempt, instrument.off_session_decline, authenticated=False)
        if instrument.instructs:
            self._instruct(record, attempt)
        elif instrument.type == BANK_DEBIT:
            self._start_debit(record, attempt)
        elif instrument.three_d_secure and not attempt.off_session and not ready:
            if attempt.error_on_action:
                self._decline(record, attempt, AUTHENTICATION_REQUIRED, authenticated=False)
            self._require_action(record, attempt)
        else:
            self._charge(record, attempt, authenticated=False)

    def _require_action(self, record: PaymentIntentRecord, attempt: _Attempt) -> None:
        """https://docs.stripe.com/payments/3d-secure"""
        page = self.authentication_page(record)
        action: dict[str, Any]
        if attempt.return_url is not None:
            action = {
                "redirect_to_url": {"return_url": attempt.return_url, "url": page},
                "type": "redirect_to_url",
            }
        else:
            action = {
                "type": "use_stripe_sdk",
                "use_stripe_sdk": {
                    "source": self._ids.new("payatt", family="3"),
                    "stripe_js": page,
                    "type": "three_d_secure_redirect",
                },
            }
        self._await_shopper(record, attempt, action)

    def _await_shopper(
        self, record: PaymentIntentRecord, attempt: _Attempt, action: StripeObject
    ) -> None:
        record.attempt = attempt
        record.data.update(status="requires_action", next_action=action)
        if record.session_id is not None:
            self._announce(record)
        self._events.emit("payment_intent.requires_action", record.data)
        self._announce(record)

    def _instruct(self, record: PaymentIntentRecord, attempt: _Attempt) -> None:
        """A voucher, a bank transfer or microdeposits: the shopper acts elsewhere, or never."""
        id = record.id
        action, expires_at = instructions(
            attempt.method.instrument.type,
            record.data,
            self._clock.timestamp(),
            self._ids,
            self._page_url(f"/dashboard/payments/{id}"),
        )
        self._await_shopper(record, attempt, action)
        if expires_at is not None:
            record.timer = self._clock.call_at(expires_at, lambda: self._expire_by_timer(id))
        self._tell(self.on_paid, record)

    def _expire_by_timer(self, id: str) -> None:
        record = self._records.find(id)
        if record is None or record.attempt is None or not acts_elsewhere(record.data):
            return
        code = (
            "payment_method_microdeposit_verification_timeout"
            if record.attempt.method.instrument.microdeposits
            else "payment_intent_payment_attempt_expired"
        )
        self._give_up(record, record.attempt, code)

    def _give_up(self, record: PaymentIntentRecord, attempt: _Attempt, code: str) -> None:
        """The attempt has ended before there was a charge."""
        self._forget_attempt(record)
        self._fail(record, uncharged_error(code, attempt.method.data))

    def _start_debit(self, record: PaymentIntentRecord, attempt: _Attempt) -> None:
        self._forget_attempt(record)
        charge = self._charges.attempt(record.data, attempt.method, authenticated=False)
        record.attempt = attempt
        record.data.update(
            status="processing",
            latest_charge=charge.id,
            next_action=None,
            processing=None,
        )
        self._announce(record)
        self._charges.hold_pending(charge)
        self._events.emit("payment_intent.processing", record.data)
        if self._config.delayed_payment_seconds is not None:
            fails = attempt.method.instrument.decline is not None
            outcome: Outcome = "failed" if fails else "succeeded"
            id = record.id
            record.timer = self._clock.call_later(
                self._config.delayed_payment_seconds, lambda: self._settle_by_timer(id, outcome)
            )
        self._tell(self.on_paid, record)

    def _settle_by_timer(self, id: str, outcome: Outcome) -> None:
        record = self._records.find(id)
        if record is not None and record.status == "processing":
            self.settle(id, outcome)

    def _charge(
        self, record: PaymentIntentRecord, attempt: _Attempt, *, authenticated: bool
    ) -> None:
        instrument = attempt.method.instrument
        if instrument.decline is not None:
            self._decline(record, attempt, instrument.decline, authenticated=authenticated)
        self._forget_attempt(record)
        attempt.method.spent = True
        intent = record.data
        self._save_method(intent, attempt.method, authenticated=authenticated)
        charge = self._charges.attempt(intent, attempt.method, authenticated=authenticated)
        intent.update(latest_charge=charge.id, next_action=None, last_payment_error=None)
        from_page = record.session_id is not None
        if from_page:
            self._announce(record)
        if intent["capture_method"] == "manual":
            intent.update(status="requires_capture", amount_capturable=intent["amount"])
            self._charges.authorize(charge)
            self._events.emit("payment_intent.amount_capturable_updated", intent)
            self._announce(record)
            self._tell(self.on_paid, record)
            return
        self._charges.succeed(charge, capture_method=intent["capture_method"])
        self._succeed(record)

    def _save_method(
        self, intent: StripeObject, method: PaymentMethodRecord, *, authenticated: bool
    ) -> None:
        """https://docs.stripe.com/payments/save-during-payment"""
        if intent["setup_future_usage"] is None:
            return
        if authenticated and intent["setup_future_usage"] == "off_session":
            method.set_up = True
        if intent["customer"] is not None and method.data["customer"] is None:
            method.spent = False
            self._methods.attach_to(method, intent["customer"])

    def _succeed(self, record: PaymentIntentRecord) -> None:
        intent = record.data
        intent.update(status="succeeded", amount_received=intent["amount"], last_payment_error=None)
        self._events.emit("payment_intent.succeeded", intent)
        self._announce(record)
        self._tell(self.on_paid, record)

    def _decline(
        self,
        record: PaymentIntentRecord,
        attempt: _Attempt,
        decline: Decline,
        *,
        authenticated: bool,
    ) -> NoReturn:
        """Record the failed charge, go back to ``requires_payment_method``, answer 402."""
        self._forget_attempt(record)
        charge = self._charges.attempt(record.data, attempt.method, authenticated=authenticated)
        record.data["latest_charge"] = charge.id
        self._charges.fail(charge, decline)
        error = payment_error(decline, charge.id, attempt.method.data)
        self._fail(record, error)
        details = {
            k: v for k, v in error.items() if k not in ("code", "doc_url", "message", "type")
        }
        raise ApiError(
            402,
            decline.message,
            type="card_error",
            code=decline.code,
            payment_intent=record.data,
            **details,
        )

    def _fail(self, record: PaymentIntentRecord, error: StripeObject) -> None:
        record.data.update(
            status="requires_payment_method",
            payment_method=None,
            last_payment_error=error,
            next_action=None,
        )
        self._announce(record)
        self._events.emit("payment_intent.payment_failed", record.data)
        self._tell(self.on_failed, record)

    def _announce(self, record: PaymentIntentRecord) -> None:
        """Emit payment_intent.created once, as the intent was when it was made.

        With ``confirm=true`` it really comes after the events of the confirmation.
        """
        if not record.announced:
            record.announced = True
            self._events.emit("payment_intent.created", record.at_creation)

    def _announced(self, record: PaymentIntentRecord, error: ApiError) -> ApiError:
        """An intent that could not be confirmed exists all the same."""
        self._announce(record)
        return error

    def _forget_attempt(self, record: PaymentIntentRecord) -> None:
        self._clock.cancel(record.timer)
        record.timer = None
        record.attempt = None

    def _latest_charge(self, record: PaymentIntentRecord) -> ChargeRecord | None:
        id = record.data["latest_charge"]
        return None if id is None else self._charges.find(id)

    def _tell(
        self,
        listeners: Sequence[Callable[[PaymentIntentRecord], None]],
        record: PaymentIntentRecord,
    ) -> None:
        for listener in listeners:
            listener(record)
