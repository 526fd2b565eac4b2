"""Every collection and index of ours, made at start-up; failing to make one stops the start."""

from collections.abc import Mapping, Sequence
from typing import Final

import pymongo
from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.errors import OperationFailure

from app.errors import StartupError
from app.repositories.database import (
    PAYMENTS_DATABASE,
    Collection,
    Database,
    DatabaseErrors,
    passes,
    probe,
)

PAYMENTS: Final = "payments"
ORDERS: Final = "orders"
WEBHOOK_EVENTS: Final = "webhook_events"
IDEMPOTENCY_KEYS: Final = "idempotency_keys"
SUBSCRIPTIONS: Final = "subscriptions"
LOCKS: Final = "locks"

BUILD_SECONDS: Final = 600
"""How long the start waits for one index of a large collection."""

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
    """Safe to repeat. Raises DatabaseUnavailable, and StartupError naming the index that cannot be
    made.
    """
    # Whoever is away is so within the time-out of a query.
    await probe(database[PAYMENTS], PAYMENTS_DATABASE)
    with DatabaseErrors(PAYMENTS_DATABASE):
        for collection, indexes in INDEXES.items():
            # One by one: a command of several, repeated, breaks FerretDB's connection.
            for index in indexes:
                await _create_index(database[collection], index)


async def _create_index(collection: Collection, index: IndexModel) -> None:
    try:
        # Another time-out than a query's: a new index takes as long as its collection is large,
        # and a service that gave up would be started again, and again.
        with pymongo.timeout(BUILD_SECONDS):
            await collection.create_indexes([index])
    except OperationFailure as error:
        if passes(error):
            raise
        raise StartupError(
            f"the index {index.document['name']} of {collection.name} cannot be made: "
            f"{_reason(error)}"
        ) from error


def _reason(error: OperationFailure) -> str:
    match error.code:
        case 85 | 86:
            return "another with its name or its keys is there; compare the two, and drop that one"
        case 13:
            return "the user in MONGODB_URL has no right to make indexes"
        case 11000:
            return "there are documents that contradict it; see docs/operations.md"
        case _:
            named = (error.details or {}).get("codeName")
            return f"the database answers {named or error.code}"
