"""Everything that can be chosen about a sandbox, in one frozen place."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from stripe_sandbox.core.spread import Spread

DEFAULT_API_VERSION = "2026-10-28.endive"
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8005


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpointConfig:
    """Where events are delivered, and the secret that signs them.

    ``rolled_secrets`` are further secrets still valid while one is being rolled: each adds one
    ``v1`` signature (https://docs.stripe.com/webhooks#roll-endpoint-secrets).
    """

    url: str
    secret: str = field(repr=False)
    rolled_secrets: Sequence[str] = field(default=(), repr=False)
    enabled_events: Sequence[str] = ("*",)
    api_version: str | None = None
    """What ``api_version`` the events delivered here carry; by default the account's."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"a webhook URL starts with http:// or https://, got {self.url!r}")
        if not self.secret.startswith("whsec_") or len(self.secret) <= len("whsec_"):
            raise ValueError("a webhook secret starts with whsec_ and goes on")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """Durations are seconds. A delay of ``None`` means: only when told to by the control API."""

    webhook_endpoints: Sequence[WebhookEndpointConfig] = ()
    retry_schedule: Sequence[float] = (1.0, 2.0, 4.0, 8.0, 16.0)
    """Waits before the 2nd, 3rd, ... try of a delivery; its length bounds the number of tries."""
    webhook_timeout: float = 10.0
    webhook_concurrency: int = 1
    """Deliveries in flight per endpoint. 1 keeps the order of events."""
    shutdown_drain_seconds: float = 0.0
    """How long closing waits for deliveries that are queued (not for those awaiting a retry)."""
    public_url: str | None = None
    """Base of the hosted pages' addresses; by default the address that is listened on."""
    delayed_payment_seconds: float | None = 5.0
    """How long a bank debit stays ``processing``. Vouchers and the like are never paid by time."""
    refund_settle_seconds: float | None = 5.0
    """When the refunds of the asynchronous-refund test cards change their mind."""
    dispute_settle_seconds: float | None = 5.0
    """How long the bank looks at evidence that decides a dispute."""
    balance_transaction_seconds: float = 2.4
    """With ``automatic_async`` capture the balance transaction follows the charge by this much."""
    latency: Spread | float | str = 0.0
    """Added to each API request: fixed, ``"0.2..1.5"``, or samples as ``"0.2,0.3,2"``."""
    rate_limit: int | None = None
    """API requests per second beyond which the answer is a 429. Stripe's test mode allows 25."""
    capacity: int = 10_000
    """Objects kept of each kind; the oldest leave first."""
    request_capacity: int = 1_000
    """API requests remembered for assertions."""
    max_amount: int | None = None
    """The largest charge in any currency; by default Stripe's, 8 digits in most."""
    api_version: str = DEFAULT_API_VERSION
    seed: int | None = None
    """Makes generated ids, and whatever happens by chance, reproducible."""
