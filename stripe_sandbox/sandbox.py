"""The sandbox itself: every part wired together, and what a person could do in a dashboard."""

import asyncio
import contextlib
from typing import Literal, get_args

import httpx

from stripe_sandbox.core.api_objects import StripeObject
from stripe_sandbox.core.clock import Clock
from stripe_sandbox.core.config import DEFAULT_HOST, DEFAULT_PORT, SandboxConfig
from stripe_sandbox.core.ids import IdFactory
from stripe_sandbox.core.spread import Spread, seeded
from stripe_sandbox.core.store import R
from stripe_sandbox.objects import instruments
from stripe_sandbox.objects.charges import ChargeRecord, Charges
from stripe_sandbox.objects.checkout_sessions import CheckoutSessions, PagePayment
from stripe_sandbox.objects.customers import Customers
from stripe_sandbox.objects.disputes import Disputes
from stripe_sandbox.objects.early_fraud_warnings import EarlyFraudWarnings
from stripe_sandbox.objects.events import EventLog
from stripe_sandbox.objects.ledger import Ledger
from stripe_sandbox.objects.payment_attempts import Outcome, PaymentAttempts
from stripe_sandbox.objects.payment_intents import PaymentIntents
from stripe_sandbox.objects.payment_methods import PaymentMethods
from stripe_sandbox.objects.refunds import Refunds
from stripe_sandbox.objects.resource import Account, Resource
from stripe_sandbox.protocol.errors import ApiError, no_such
from stripe_sandbox.protocol.expansion import Expander, Resolver
from stripe_sandbox.protocol.idempotency import IdempotencyKeys
from stripe_sandbox.protocol.rate_limit import RateLimiter
from stripe_sandbox.protocol.requests import RequestLog
from stripe_sandbox.trouble.faults import FaultPlan
from stripe_sandbox.trouble.syntax import add_trouble
from stripe_sandbox.webhooks.dispatcher import WebhookDispatcher
from stripe_sandbox.webhooks.endpoints import WebhookEndpoints


class Sandbox:
    """One Stripe account in test mode, in memory. Use from one event loop only.

    Its methods stand for what happens outside the API: customers, banks, the dashboard, time.
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        *,
        webhook_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.config = config = config or SandboxConfig()
        self.public_url = config.public_url or f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"
        self.clock = clock = Clock()
        self.ids = ids = IdFactory(config.seed)
        self.events = EventLog(config, clock, ids)
        account = Account(config, clock, ids, self.events)
        self.webhooks = WebhookDispatcher(account, webhook_transport)
        self.webhook_endpoints = WebhookEndpoints(account, self.webhooks)
        self.faults = FaultPlan(seeded(config.seed, "faults"))
        self.limiter = RateLimiter(config.rate_limit)
        self._latency = Spread.of(config.latency)
        self._chance = seeded(config.seed, "latency")
        self.requests = RequestLog(config.request_capacity)
        self.idempotency = IdempotencyKeys(clock, config.capacity)
        self.ledger = ledger = Ledger(account)
        self.payment_methods = methods = PaymentMethods(account)
        self.customers = customers = Customers(account, methods)
        self.charges = charges = Charges(account, ledger)
        self._attempts = attempts = PaymentAttempts(account, methods, charges, self.page_url)
        self.payment_intents = intents = PaymentIntents(account, methods, customers, attempts)
        self.disputes = disputes = Disputes(account, ledger, charges)
        self.early_fraud_warnings = EarlyFraudWarnings(account, charges)
        self.refunds = Refunds(account, ledger, charges, intents, disputes)
        self.checkout_sessions = CheckoutSessions(
            account, customers, intents, attempts, self.page_url
        )
        self.expander = Expander(self._resolvers())
        self._timers: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Sandbox":
        self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def start(self) -> None:
        """Begin delivering webhooks and running timers. ``serve`` and the app's lifespan do it."""
        if self._timers is None:
            self._timers = asyncio.create_task(self.clock.run(), name="sandbox-timers")
            self.webhooks.start()

    async def aclose(self) -> None:
        if self._timers is None:
            return
        timers, self._timers = self._timers, None
        timers.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await timers
        await self.webhooks.aclose()

    def latency(self) -> float:
        """Seconds that the next API request takes longer than its work."""
        return self._latency.draw(self._chance)

    def add_trouble(self, text: str) -> None:
        """Trouble by chance, as ``--trouble`` takes it: see ``stripe_sandbox.trouble.syntax``."""
        add_trouble(text, self.faults, self.webhooks.faults)

    def page_url(self, path: str) -> str:
        return self.public_url.rstrip("/") + path

    # Customers

    def pay_session(
        self,
        session_id: str,
        payment_method: str = "pm_card_visa",
        *,
        email: str | None = None,
        name: str | None = None,
    ) -> PagePayment:
        """Pay the hosted page with a test PaymentMethod, delayed ones included."""
        self.clock.run_due()
        session = self.checkout_sessions.named(session_id).data
        if session["status"] != "open":
            raise ApiError(400, f"This Checkout Session has a status of `{session['status']}`.")
        known = (session["customer_details"] or {}).get("email")
        address = email or session["customer_email"] or known or "customer@example.com"
        instrument = instruments.by_id(payment_method)
        if instrument is None:
            raise no_such("PaymentMethod", payment_method, "payment_method", status=400)
        billing = {"email": address, "name": name, "address": {"country": "US"}}
        method = self.payment_methods.mint(instrument, billing=billing)
        return self.checkout_sessions.pay(session_id, method, email=address, name=name)

    def authenticate(self, payment_intent_id: str, *, approve: bool = True) -> StripeObject:
        """Approve or refuse on the bank's 3-D Secure page."""
        record = self.payment_intents.named(payment_intent_id)
        self._attempts.authenticate(record, approve=approve)
        return record.data

    # Banks

    def settle(self, payment_intent_id: str, outcome: Outcome = "succeeded") -> StripeObject:
        """What becomes of a bank debit, a voucher, a bank transfer or microdeposits.

        ``succeeded``: the money came; ``failed``: the bank refused, the voucher expired or the
        account could not be verified; ``processing``: microdeposits were verified.
        """
        if outcome not in get_args(Outcome):
            raise ApiError(400, f"Invalid outcome: must be one of {', '.join(get_args(Outcome))}")
        record = self.payment_intents.named(payment_intent_id)
        self._attempts.settle(record, outcome)
        return record.data

    def succeed_refund(self, refund_id: str) -> StripeObject:
        """A pending refund arrives."""
        return self.refunds.succeed(refund_id)

    def fail_refund(self, refund_id: str, reason: str = "expired_or_canceled_card") -> StripeObject:
        """A pending or even succeeded refund comes back."""
        return self.refunds.fail(refund_id, reason)

    def require_refund_details(self, refund_id: str) -> StripeObject:
        """A pending refund waits for the customer to say where the money should go."""
        return self.refunds.require_action(refund_id)

    def open_dispute(
        self,
        *,
        charge: str | None = None,
        payment_intent: str | None = None,
        reason: str = "fraudulent",
        amount: int | None = None,
        inquiry: bool = False,
    ) -> StripeObject:
        record = self._paid_charge(charge, payment_intent)
        return self.disputes.open(record, reason=reason, amount=amount, inquiry=inquiry)

    def escalate_dispute(self, dispute_id: str) -> StripeObject:
        """An inquiry becomes a dispute, and the money is withdrawn."""
        return self.disputes.escalate(dispute_id)

    def close_dispute(self, dispute_id: str, status: Literal["won", "lost"]) -> StripeObject:
        return self.disputes.close(dispute_id, status)

    def warn_of_fraud(
        self,
        *,
        charge: str | None = None,
        payment_intent: str | None = None,
        fraud_type: str = "misc",
    ) -> StripeObject:
        """The issuer sends an early fraud warning."""
        record = self._paid_charge(charge, payment_intent)
        return self.early_fraud_warnings.warn(record, fraud_type)

    # The dashboard

    def dashboard_refund(
        self,
        *,
        charge: str | None = None,
        payment_intent: str | None = None,
        amount: int | None = None,
        reason: str | None = None,
    ) -> StripeObject:
        """A refund made by hand: no API request, no metadata."""
        params = {
            key: value
            for key, value in {
                "charge": charge,
                "payment_intent": payment_intent,
                "amount": amount,
                "reason": reason,
            }.items()
            if value is not None
        }
        self.refunds.check_create(params)
        return self.refunds.create(params)

    def expire_session(self, session_id: str) -> StripeObject:
        return self.checkout_sessions.expire({}, session_id)

    def _paid_charge(self, charge: str | None, payment_intent: str | None) -> ChargeRecord:
        if charge is None and payment_intent is not None:
            charge = self.payment_intents.named(payment_intent).data["latest_charge"]
        if charge is None:
            raise ApiError(400, "A charge, or a payment_intent with a charge, is needed.")
        return self.charges.named(charge, "charge")

    def _resolvers(self) -> dict[tuple[str, str], Resolver]:
        def line_items(holder: StripeObject) -> StripeObject | None:
            return self.checkout_sessions.line_items({}, holder["id"])

        def product(holder: StripeObject) -> StripeObject | None:
            return self.checkout_sessions.product(holder["product"])

        def source(holder: StripeObject) -> StripeObject | None:
            id: str = holder["source"] or ""
            found = self.charges.find(id) or self.refunds.find(id) or self.disputes.find(id)
            return None if found is None else found.data

        intent = _named_in(self.payment_intents, "payment_intent")
        charge = _named_in(self.charges, "charge")
        method = _named_in(self.payment_methods, "payment_method")
        customer = _named_in(self.customers, "customer")

        def transaction_in(name: str) -> Resolver:
            return lambda holder: self.ledger.find(holder.get(name) or "")

        return {
            ("payment_intent", "latest_charge"): _named_in(self.charges, "latest_charge"),
            ("payment_intent", "payment_method"): method,
            ("payment_intent", "customer"): customer,
            ("payment_intent", "review"): lambda _: None,
            ("charge", "payment_intent"): intent,
            ("charge", "balance_transaction"): transaction_in("balance_transaction"),
            ("charge", "customer"): customer,
            ("charge", "refunds"): lambda holder: self.refunds.of_charge(holder["id"]),
            ("refund", "charge"): charge,
            ("refund", "payment_intent"): intent,
            ("refund", "balance_transaction"): transaction_in("balance_transaction"),
            ("refund", "failure_balance_transaction"): transaction_in(
                "failure_balance_transaction"
            ),
            ("checkout.session", "payment_intent"): intent,
            ("checkout.session", "customer"): customer,
            ("refund", "customer"): customer,
            ("refund", "payment_method"): method,
            ("payment_method", "customer"): customer,
            ("radar.early_fraud_warning", "charge"): charge,
            ("radar.early_fraud_warning", "payment_intent"): intent,
            ("checkout.session", "line_items"): line_items,
            ("price", "product"): product,
            ("dispute", "charge"): charge,
            ("dispute", "payment_intent"): intent,
            ("balance_transaction", "source"): source,
        }


def _named_in(resource: Resource[R], name: str) -> Resolver:
    """The object whose id stands in the property ``name``."""

    def resolve(holder: StripeObject) -> StripeObject | None:
        record = resource.find(holder[name] or "")
        return None if record is None else record.data

    return resolve
