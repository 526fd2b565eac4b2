"""What survives the death of a process: the stores, Stripe, the time, what callers were told."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from app.repositories.database import Databases, Document
from stripe_sandbox import Sandbox, SandboxApp, SandboxConfig, create_app
from tests.support.store import OWN_STORES

START: Final = datetime(2040, 1, 1, tzinfo=UTC).timestamp()
"""Always the same, and later than any real day: the embedded store forgets by the real clock."""

STEP_SECONDS: Final = 0.001
FIRST_BALANCES: Final = {"ada": 10, "bob": 3}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: Document
    replayed: bool = False

    @property
    def is_definitive(self) -> bool:
        """Whether the caller has no reason to ask again."""
        if self.status < 400:
            return True
        code = self.body.get("code")
        return self.status < 500 and code not in ("idempotency_key_in_use", "rate_limited")


@dataclass(slots=True)
class Request:
    """A caller's request with its Idempotency-Key; ``reply`` is the last answer that arrived."""

    method: str
    path: str
    body: Document
    key: str | None
    at: float
    reply: Reply | None = None
    tries: int = 0
    is_stuck: bool = False
    """Asked again and again without an answer, while its key was good."""

    @property
    def is_answered(self) -> bool:
        return self.reply is not None and self.reply.is_definitive

    def __str__(self) -> str:
        return f"{self.method} {self.path} key={self.key}"


@dataclass(slots=True)
class World:
    """``events`` are what Stripe would deliver, the oldest first; ``acknowledged`` what it was
    answered 2xx for.
    """

    seed: int = 0
    now: float = START
    first_balances: Mapping[str, int] = field(default_factory=lambda: dict(FIRST_BALANCES))
    events: dict[str, Document] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    """Events that Stripe has given up delivering."""
    ahead: dict[int, float] = field(default_factory=dict)
    """By how many seconds the clock of a machine is ahead, by the machine's number."""
    requests: list[Request] = field(default_factory=list)
    seen: dict[str, list[str]] = field(default_factory=dict)
    """The statuses that each payment's record was seen in."""
    stripe: Sandbox = field(init=False)
    stripe_app: SandboxApp = field(init=False)
    databases: Databases = field(init=False)

    def __post_init__(self) -> None:
        self.stripe = sandbox = Sandbox(
            SandboxConfig(
                seed=self.seed,
                delayed_payment_seconds=None,
                refund_settle_seconds=None,
                balance_transaction_seconds=0,
            )
        )
        # The sandbox adds what was skipped to the real time; here all time is virtual.
        sandbox.clock.now = lambda: self.now  # type: ignore[method-assign]
        sandbox.events.subscribe(self._keep_event)
        self.stripe_app = create_app(sandbox)
        self.databases = OWN_STORES.open()
        users = [{"_id": name, "credits": credits} for name, credits in self.first_balances.items()]
        self.users.insert_many(users)

    def clock(self, machine: int = 0) -> datetime:
        """As the machine has it."""
        now = datetime.fromtimestamp(self.now + self.ahead.get(machine, 0), UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def pass_time(self, seconds: float) -> None:
        """Stripe's timers run at their own moments; the databases forget what expired."""
        clock, end = self.stripe.clock, self.now + seconds
        while clock._timers and clock._timers[0].due_at <= end:
            self.now = max(self.now, clock._timers[0].due_at)
            clock.run_due()
        self.now = end
        if seconds >= 60:
            for collection in ("webhook_events", "idempotency_keys"):
                self.collection(collection).delete_many({"expires_at": {"$lte": self.clock()}})

    # The raw stores, for the checker

    def collection(self, name: str) -> Any:
        """A collection of the payments database, read behind the application's back."""
        database: Any = self.databases.payments
        return database.delegate[name]

    @property
    def users(self) -> Any:
        database: Any = self.databases.auth
        return database.delegate["users"]

    def next_due(self) -> datetime | None:
        """When the application means to look at something again."""
        due = [
            document[name]
            for collection, name in (
                ("payments", "reconcile_at"),
                ("webhook_events", "next_attempt_at"),
            )
            for document in self.collection(collection).find({name: {"$ne": None}}, {name: 1})
        ]
        return min(due, default=None)

    # Stripe

    def _keep_event(self, event: Document) -> None:
        self.events[event["id"]] = json.loads(json.dumps(event))

    def settle_banks(self) -> None:
        """What banks owe an answer for is answered: delayed payments and refunds arrive, vouchers
        are paid.
        """
        for intent in list(self.stripe.payment_intents._records):
            action = (intent.data["next_action"] or {}).get("type", "")
            if intent.status == "processing" or action.endswith("_display_details"):
                self.stripe.settle(intent.id, "succeeded")
        for refund in list(self.stripe.refunds._records):
            if refund.data["status"] == "pending":
                self.stripe.succeed_refund(refund.id)


def minutes(count: float) -> float:
    return timedelta(minutes=count).total_seconds()
