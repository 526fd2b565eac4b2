"""A stateful, offline stand-in for Stripe, in one process and in memory.

As a program::

    python -m stripe_sandbox --port 8005 \\
        --webhook-url http://localhost:8004/api/v1/payment/webhook/stripe --webhook-secret whsec_...

and in the code under test ``StripeClient(key, base_addresses={"api": "http://127.0.0.1:8005"})``
with any key that is ``sk_test_`` (or ``rk_test_``) and then letters, digits and underscores.

In a test, in the running event loop::

    from stripe_sandbox import Sandbox, SandboxConfig, WebhookEndpointConfig, create_app, serve

    sandbox = Sandbox(
        SandboxConfig(
            webhook_endpoints=[WebhookEndpointConfig(url="http://app/webhook", secret="whsec_x")],
            retry_schedule=(0.05, 0.1),        # waits before the 2nd and 3rd try, then it gives up
            delayed_payment_seconds=None,      # bank debits settle only when told
            refund_settle_seconds=None,        # so do the asynchronous-refund cards
            balance_transaction_seconds=0.1,   # when charge.updated follows an async capture
            dispute_settle_seconds=0.1,        # how long the bank looks at deciding evidence
            latency="0.2..1.5",                # of each API request; also 0.5, or samples "0.2,3"
            seed=7,                            # the same ids and the same chance each time
        ),
        webhook_transport=httpx.ASGITransport(app=my_app),   # optional: deliver without a socket
    )
    async with serve(sandbox) as base_url:     # a free loopback port; also sets sandbox.public_url
        ...

``serve`` runs the workers (webhook delivery, timers). So does the lifespan of
``create_app(sandbox)``. With ``httpx.ASGITransport(app=create_app(sandbox))``, which runs no
lifespan, put ``async with sandbox:`` around. A dropped connection is then an exception
(``ConnectionDropped``) instead of a closed socket.

What a test can say, all synchronous unless marked ``await``. They raise ``ApiError``
(``.status``, ``.code``, ``.message``) when the state does not allow it:

    sandbox.pay_session(session_id, "pm_card_visa", email=None, name=None) -> PagePayment
        .outcome "complete" | "declined" | "requires_action", .session, .payment_intent, .error,
        .redirect_url; any test PaymentMethod, "pm_usBankAccount" and "pm_oxxo" included
    sandbox.expire_session(session_id)
    sandbox.authenticate(payment_intent_id, approve=True)          3-D Secure
    sandbox.settle(payment_intent_id, "succeeded" | "failed")      a bank debit, a voucher, a bank
        transfer; microdeposits also "processing": the account is verified, and debited now
    sandbox.dashboard_refund(charge=|payment_intent=, amount=None, reason=None)
    sandbox.succeed_refund(refund_id) / fail_refund(refund_id, reason=...)
    sandbox.require_refund_details(refund_id)                      then the API can cancel it
    sandbox.open_dispute(charge=|payment_intent=, reason=, amount=, inquiry=False)
    sandbox.escalate_dispute(dispute_id)                           an inquiry becomes a dispute
    sandbox.close_dispute(dispute_id, "won" | "lost")
    sandbox.warn_of_fraud(charge=|payment_intent=, fraud_type="misc")

    await sandbox.webhooks.drain(within=10)    until every delivery is acknowledged or given up
    sandbox.webhooks.pause() / resume() / release([event_id, ...])   hold, go on, go on reordered
    sandbox.webhooks.resend(event_id)           again, same id
    sandbox.webhooks.drop_pending()             an outage: what was queued is never sent
    sandbox.webhooks.add_endpoint(WebhookEndpointConfig(...)) -> Endpoint (.id)
    sandbox.webhooks.remove_endpoint(endpoint_id)
    sandbox.webhooks.attempts                   DeliveryAttempt records, .outstanding, .pending()

    sandbox.events.all(type=None), .types(), .find(event_id)        oldest first
    sandbox.requests                            RequestRecord per API request; .matching(method,
                                                path_regex), .clear(), len(), [-1]
    sandbox.faults.add(kind, path="regex", method=None, times=1 | None, chance=1.0, seconds=1.0,
                       status=500, reason="global-rate", headers=None, code=None, param=None)
                       -> Fault (.hits); .clear(); .all()
        kinds: latency, drop_before, drop_after, error_before, error_after, rate_limit,
        lock_timeout; a request suffers at most one latency and one other fault. aiohttp repeats
        a GET by itself when a reused connection breaks, so a dropped GET may need times=2.
    sandbox.webhooks.faults.add(kind, type="regex", times=1 | None, chance=1.0, seconds=1.0)
        kinds: drop, duplicate, twin (again under another id), delay, reorder
    sandbox.add_trouble("error_after=0.05@^/v1/refunds")           by chance, for ever, in one line
    sandbox.clock.advance(seconds), .now(), .timestamp()

    sandbox.payment_intents / charges / refunds / checkout_sessions / disputes / payment_methods /
    customers: .find(id) -> record or None; record.data is the object as the API shows it
        (``named`` raises instead).

The same over HTTP, in JSON, under ``/_sandbox``: see ``stripe_sandbox.control``.
"""

from stripe_sandbox.app import SandboxApp, create_app
from stripe_sandbox.core.config import SandboxConfig, WebhookEndpointConfig
from stripe_sandbox.objects.checkout_sessions import PagePayment
from stripe_sandbox.protocol.connection import ConnectionDropped
from stripe_sandbox.protocol.errors import ApiError
from stripe_sandbox.sandbox import Sandbox
from stripe_sandbox.server import serve
from stripe_sandbox.webhooks.dispatcher import DeliveryAttempt

__all__ = [
    "ApiError",
    "ConnectionDropped",
    "DeliveryAttempt",
    "PagePayment",
    "Sandbox",
    "SandboxApp",
    "SandboxConfig",
    "WebhookEndpointConfig",
    "create_app",
    "serve",
]
