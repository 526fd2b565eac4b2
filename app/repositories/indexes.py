"""Every collection and index of ours, made at start-up; failing to make one stops the start."""

from collections.abc import Mapping, Sequence
from typing import Final

from pymongo import ASCENDING, DESCENDING, IndexModel

from app.repositories.database import PAYMENTS_DATABASE, Database, DatabaseErrors

PAYMENTS: Final = "payments"
ORDERS: Final = "orders"
WEBHOOK_EVENTS: Final = "webhook_events"
IDEMPOTENCY_KEYS: Final = "idempotency_keys"
SUBSCRIPTIONS: Final = "subscriptions"
LOCKS: Final = "locks"

INDEXES: Final[Mapping[str, Sequence[IndexModel]]] = {
    PAYMENTS: (
        IndexModel(
            [("user_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
            name="user_history",
        ),
        IndexModel(
            [
                ("user_id", ASCENDING),
                ("status", ASCENDING),
                ("created_at", DESCENDING),
                ("_id", DESCENDING),
            ],
            name="user_history_by_status",
        ),
        IndexModel(
            [("stripe_payment_intent_id", ASCENDING)],
            name="stripe_payment_intent_id",
            unique=True,
            sparse=True,
        ),
        IndexModel(
            [("stripe_checkout_session_id", ASCENDING)],
            name="stripe_checkout_session_id",
            unique=True,
            sparse=True,
        ),
        IndexModel([("reconcile_at", ASCENDING)], name="unfinished_work", sparse=True),
    ),
    ORDERS: (
        IndexModel([("payment_id", ASCENDING)], name="payment_id", unique=True),
        IndexModel(
            [("user_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
            name="user_history",
        ),
    ),
    WEBHOOK_EVENTS: (
        IndexModel([("next_attempt_at", ASCENDING)], name="unfinished_work", sparse=True),
        IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0),
    ),
    IDEMPOTENCY_KEYS: (
        IndexModel([("expires_at", ASCENDING)], name="expiry", expireAfterSeconds=0),
    ),
    # Reserved for subscriptions: the collection and its indexes exist, no flow writes to it.
    SUBSCRIPTIONS: (
        IndexModel([("user_id", ASCENDING), ("status", ASCENDING)], name="user_status"),
        IndexModel(
            [("stripe_subscription_id", ASCENDING)],
            name="stripe_subscription_id",
            unique=True,
            sparse=True,
        ),
    ),
    # Looked up by _id only.
    LOCKS: (),
}


async def create_indexes(database: Database) -> None:
    """Safe to repeat; an index that exists with other options raises OperationFailure."""
    with DatabaseErrors(PAYMENTS_DATABASE):
        for collection, indexes in INDEXES.items():
            # One by one: a command of several, repeated, breaks FerretDB's connection.
            for index in indexes:
                await database[collection].create_indexes([index])
