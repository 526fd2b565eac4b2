"""What becomes of an attempt to pay a PaymentIntent: the state machine.

https://docs.stripe.com/payments/paymentintents/lifecycle
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from stripe_sandbox.core.api_objects import StripeObject
from stripe_sandbox.core.store import Record
from stripe_sandbox.objects.charges import ChargeRecord, Charges
from stripe_sandbox.objects.instructions import acts_elsewhere, instructions
from stripe_sandbox.objects.instruments import (
    AUTHENTICATION_REQUIRED,
    BANK_DEBIT,
    BANK_TRANSFER,
    Decline,
)
from stripe_sandbox.objects.payment_intent_errors import (
    check_owner,
    payment_error,
    uncharged_error,
)
from stripe_sandbox.objects.payment_methods import PaymentMethodRecord, PaymentMethods
from stripe_sandbox.objects.resource import Account
from stripe_sandbox.protocol.errors import ApiError, unexpected_state

Outcome = Literal["succeeded", "failed", "processing"]


@dataclass(slots=True)
class Attempt:
    """A confirmation in the making."""

    method: PaymentMethodRecord
    return_url: str | None
    off_session: bool = False
    error_on_action: bool = False


class PaymentIntentRecord(Record):
    def __init__(self, data: StripeObject, session_id: str | None) -> None:
        super().__init__(data)
        self.session_id = session_id
        self.attempt: Attempt | None = None
        """The confirmation that waits for the shopper or for the bank."""
        self.announced = False
        """Whether payment_intent.created has been emitted."""
        self.at_creation: StripeObject = {}

    @property
    def status(self) -> str:
        status: str = self.data["status"]
        return status


class PaymentAttempts:
    """Moves a PaymentIntent from one status to the next, with the charges and events due."""

    def __init__(
        self,
        account: Account,
        methods: PaymentMethods,
        charges: Charges,
        page_url: Callable[[str], str],
    ) -> None:
        self._config = account.config
        self._clock = account.clock
        self._ids = account.ids
        self._events = account.events
        self._methods = methods
        self._charges = charges
        self._page_url = page_url
        self.on_paid: list[Callable[[PaymentIntentRecord], None]] = []
        """Called when an intent has succeeded, is authorized, or the shopper has submitted a
        delayed payment: it is processing, or waits for what the shopper does elsewhere."""
        self.on_failed: list[Callable[[PaymentIntentRecord], None]] = []

    def attach(self, record: PaymentIntentRecord, method: PaymentMethodRecord) -> None:
        """Choose what to pay with, which gives up an earlier attempt that still waits."""
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

    def start(self, record: PaymentIntentRecord, attempt: Attempt) -> None:
        """Pay with the attached method. A decline is recorded, and raised as an ApiError 402."""
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

    def announce(self, record: PaymentIntentRecord) -> None:
        """Emit payment_intent.created once, as the intent was when it was made.

        With ``confirm=true`` it really comes after the events of the confirmation.
        """
        if not record.announced:
            record.announced = True
            self._events.emit("payment_intent.created", record.at_creation)

    def authentication_page(self, record: PaymentIntentRecord) -> str:
        return self._page_url(f"/3ds/{record.id}")

    def authenticate(self, record: PaymentIntentRecord, *, approve: bool) -> None:
        """What the bank's 3-D Secure page concludes. A decline after it is not raised: look."""
        attempt = record.attempt
        elsewhere = acts_elsewhere(record.data)
        if record.status != "requires_action" or attempt is None or elsewhere:
            raise unexpected_state(
                f"There is nothing to authenticate: the status is {record.status}.", record.data
            )
        record.data["next_action"] = None
        if not approve:
            self._end_uncharged(record, attempt, "payment_intent_authentication_failure")
            return
        try:
            self._charge(record, attempt, authenticated=True)
        except ApiError as declined:
            if declined.error["type"] != "card_error":
                raise

    def settle(self, record: PaymentIntentRecord, outcome: Outcome) -> None:
        """What becomes of a delayed payment: the bank's answer, or what the shopper did elsewhere.

        ``processing`` is for microdeposits: the account is verified, and debited now.
        """
        attempt = record.attempt
        if attempt is not None and acts_elsewhere(record.data):
            self._settle_elsewhere(record, attempt, outcome)
            return
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

    def capture(self, record: PaymentIntentRecord, amount: int) -> None:
        """Take the money that is held, or part of it."""
        charge = self._charges.named(record.data["latest_charge"])
        self._charges.capture(charge, amount)
        record.data.update(status="succeeded", amount_capturable=0, amount_received=amount)
        self._events.emit("payment_intent.succeeded", record.data)
        self._notify(self.on_paid, record)

    def cancel(self, record: PaymentIntentRecord, reason: str | None) -> None:
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

    def _settle_elsewhere(
        self, record: PaymentIntentRecord, attempt: Attempt, outcome: Outcome
    ) -> None:
        instrument = attempt.method.instrument
        if outcome == "failed":
            if instrument.microdeposits:
                code = "payment_method_microdeposit_verification_attempts_exceeded"
            elif instrument.type == BANK_TRANSFER:
                code = "payment_intent_payment_attempt_failed"
            else:
                code = "payment_intent_payment_attempt_expired"
            self._end_uncharged(record, attempt, code)
        elif instrument.microdeposits:
            self._start_debit(record, attempt)
            if outcome == "succeeded":
                self.settle(record, outcome)
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

    def _require_action(self, record: PaymentIntentRecord, attempt: Attempt) -> None:
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
        self, record: PaymentIntentRecord, attempt: Attempt, action: StripeObject
    ) -> None:
        record.attempt = attempt
        record.data.update(status="requires_action", next_action=action)
        if record.session_id is not None:
            self.announce(record)
        self._events.emit("payment_intent.requires_action", record.data)
        self.announce(record)

    def _instruct(self, record: PaymentIntentRecord, attempt: Attempt) -> None:
        """A voucher, a bank transfer or microdeposits: the shopper acts elsewhere, or never."""
        action, expires_at = instructions(
            attempt.method.instrument.type,
            record.data,
            self._clock.timestamp(),
            self._ids,
            self._page_url(f"/dashboard/payments/{record.id}"),
        )
        self._await_shopper(record, attempt, action)
        if expires_at is not None:
            record.timer = self._clock.call_at(expires_at, lambda: self._expire_by_timer(record))
        self._notify(self.on_paid, record)

    def _expire_by_timer(self, record: PaymentIntentRecord) -> None:
        if record.attempt is None or not acts_elsewhere(record.data):
            return
        code = (
            "payment_method_microdeposit_verification_timeout"
            if record.attempt.method.instrument.microdeposits
            else "payment_intent_payment_attempt_expired"
        )
        self._end_uncharged(record, record.attempt, code)

    def _end_uncharged(self, record: PaymentIntentRecord, attempt: Attempt, code: str) -> None:
        """The attempt has ended before there was a charge."""
        self._forget_attempt(record)
        self._fail(record, uncharged_error(code, attempt.method.data))

    def _start_debit(self, record: PaymentIntentRecord, attempt: Attempt) -> None:
        self._forget_attempt(record)
        charge = self._charges.attempt(record.data, attempt.method, authenticated=False)
        record.attempt = attempt
        record.data.update(
            status="processing",
            latest_charge=charge.id,
            next_action=None,
            processing=None,
        )
        self.announce(record)
        self._charges.hold_pending(charge)
        self._events.emit("payment_intent.processing", record.data)
        if self._config.delayed_payment_seconds is not None:
            fails = attempt.method.instrument.decline is not None
            outcome: Outcome = "failed" if fails else "succeeded"
            record.timer = self._clock.call_later(
                self._config.delayed_payment_seconds, lambda: self._settle_by_timer(record, outcome)
            )
        self._notify(self.on_paid, record)

    def _settle_by_timer(self, record: PaymentIntentRecord, outcome: Outcome) -> None:
        if record.status == "processing":
            self.settle(record, outcome)

    def _charge(
        self, record: PaymentIntentRecord, attempt: Attempt, *, authenticated: bool
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
            self.announce(record)
        if intent["capture_method"] == "manual":
            intent.update(status="requires_capture", amount_capturable=intent["amount"])
            self._charges.authorize(charge)
            self._events.emit("payment_intent.amount_capturable_updated", intent)
            self.announce(record)
            self._notify(self.on_paid, record)
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
        self.announce(record)
        self._notify(self.on_paid, record)

    def _decline(
        self,
        record: PaymentIntentRecord,
        attempt: Attempt,
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
        self.announce(record)
        self._events.emit("payment_intent.payment_failed", record.data)
        self._notify(self.on_failed, record)

    def _forget_attempt(self, record: PaymentIntentRecord) -> None:
        self._clock.cancel(record.timer)
        record.timer = None
        record.attempt = None

    def _latest_charge(self, record: PaymentIntentRecord) -> ChargeRecord | None:
        id = record.data["latest_charge"]
        return None if id is None else self._charges.find(id)

    def _notify(
        self,
        listeners: Sequence[Callable[[PaymentIntentRecord], None]],
        record: PaymentIntentRecord,
    ) -> None:
        for listener in listeners:
            listener(record)
