"""Every query of the service walks an index, and not far: counted among a hundred thousand
payments.

The servers that can be had offline do not use secondary indexes (FerretDB on SQLite scans, and so
does mongo-java-server but for unique ones), so their times would tell about them, not about us.
Counted instead is what MongoDB reports as totalKeysExamined: how many entries of the best index lie
within the query's bounds until its limit is reached, by MongoDB's rules: equality on the index's
first fields, one range on the next, the order of what is left. MongoDB itself, when the tests run
on it, is asked to explain each query as well.
"""

import contextlib
import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from mongomock.filtering import filter_applies
from pymongo.errors import DuplicateKeyError, OperationFailure

from app import repositories
from app.domain.cart import CartItem
from app.domain.orders import Order, OrderStatus
from app.domain.pages import PagePosition
from app.domain.payments import Payment, PaymentFlow, PaymentMethod, PaymentStatus
from app.domain.webhook_events import EventStatus, WebhookEvent
from app.errors import PaymentServiceError
from app.repositories.database import AUTH_DATABASE, PAYMENTS_DATABASE, Commands
from app.repositories.idempotency_keys import IdempotencyKeyRepository, IdempotencyRecord
from app.repositories.indexes import INDEXES
from app.repositories.locks import LockRepository
from app.repositories.orders import OrderRepository
from app.repositories.payments import PaymentRepository
from app.repositories.users import UserRepository
from app.repositories.webhook_events import WebhookEventRepository
from tests.support.shop import Shop

Document = Mapping[str, Any]

MANY: Final = 100_000
FEW: Final = 10
LIMIT: Final = 50
NOW: Final = datetime(2026, 11, 23, tzinfo=UTC)
DUE: Final = NOW - timedelta(days=1)


def stored(number: int) -> dict[str, Any]:
    """One of many: nearly all are one user's, ten are another's, and a handful is unfinished."""
    document: dict[str, Any] = {
        "_id": f"id_{number:08}",
        "user_id": "few" if number % (MANY // FEW) == 7 else "busy",
        "status": "failed" if number % 2 else "succeeded",
        "created_at": NOW - timedelta(seconds=number),
        "stripe_payment_intent_id": f"pi_{number}",
        "payment_id": f"pay_{number}",
        "revision": 1,
    }
    if number % 3 == 0:
        document["stripe_checkout_session_id"] = f"cs_{number}"
    if number < 2 * LIMIT:
        document["reconcile_at"] = document["next_attempt_at"] = DUE - timedelta(seconds=number)
    return document


@pytest.fixture(scope="module")
def many() -> list[dict[str, Any]]:
    return [stored(number) for number in range(MANY)]


# What the service asks -------------------------------------------------------------------------


@dataclass
class Query:
    collection: str
    filter: Document
    sort: list[tuple[str, int]] = field(default_factory=list)
    limit: int | None = None

    @property
    def budget(self) -> int:
        """Entries that may be looked at: those asked for, and the one that a page begins after."""
        listed = self.filter.get("_id")
        if isinstance(listed, Mapping) and "$in" in listed:
            return len(listed["$in"])
        return (self.limit or 1) + 1


class Recorder:
    """A collection that notes the queries and finds nothing; what is inserted was there before, and
    what is upserted is there now.
    """

    def __init__(self, name: str, queries: list[Query]) -> None:
        self._name = name
        self._queries = queries

    def find(self, query: Document, **_options: Any) -> "RecordedCursor":
        self._queries.append(Query(self._name, query))
        return RecordedCursor(self._queries[-1])

    async def find_one(
        self, query: Document, *, sort: Iterable[tuple[str, int]] = (), projection: Any = None
    ) -> None:
        self._queries.append(Query(self._name, query, list(sort), limit=1))

    async def insert_one(self, _document: Document) -> None:
        raise DuplicateKeyError("it was there before")

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        assert name in {"update_one", "replace_one", "delete_one", "find_one_and_update"}, name

        async def run(query: Document, *_args: Any, upsert: bool = False, **_options: Any) -> Any:
            self._queries.append(Query(self._name, query, limit=1))
            if upsert:
                return {"name": "dep_7"}
            return None if name == "find_one_and_update" else Unmatched()

        return run


class RecordedCursor:
    def __init__(self, query: Query) -> None:
        self._query = query

    def sort(self, keys: Iterable[tuple[str, int]]) -> "RecordedCursor":
        self._query.sort = list(keys)
        return self

    def limit(self, limit: int) -> "RecordedCursor":
        self._query.limit = limit
        return self

    async def to_list(self, _length: int | None) -> list[Document]:
        return []


class Unmatched:
    matched_count = 0


@dataclass
class Repositories:
    payments: PaymentRepository
    orders: OrderRepository
    webhook_events: WebhookEventRepository
    idempotency_keys: IdempotencyKeyRepository
    locks: LockRepository
    users: UserRepository


Call = Callable[[Repositories], Coroutine[Any, Any, Any]]

PAYMENT: Final = Payment(
    payment_id="id_00000007",
    user_id="few",
    flow=PaymentFlow.PAYMENT_INTENT,
    status=PaymentStatus.PENDING,
    amount=999,
    currency="usd",
    items=(CartItem("dune", 1, 999, 1, "Dune"),),
    created_at=NOW,
    updated_at=NOW,
)
ORDER: Final = Order(
    order_id="id_00000007",
    payment_id="pay_7",
    user_id="few",
    items=PAYMENT.items,
    total_amount=999,
    total_credits=1,
    currency="usd",
    status=OrderStatus.PAID,
    payment_method=PaymentMethod.CARD,
    created_at=NOW,
    payment_revision=1,
)
EVENT: Final = WebhookEvent(
    stripe_event_id="id_00000007",
    type="payment_intent.succeeded",
    payload="{}",
    status=EventStatus.PROCESSING,
    created_at=NOW,
    received_at=NOW,
)
RECORD: Final = IdempotencyRecord("id_00000007", "print", "id_00000007", NOW, NOW)
MIDDLE: Final = PagePosition(NOW - timedelta(seconds=MANY // 2), f"id_{MANY // 2:08}")
AT: Final[dict[str, Any]] = {"now": NOW}
LEASE: Final[dict[str, Any]] = {"now": NOW, "lease_until": NOW}

CALLS: Final[Mapping[str, Call]] = {
    "payments.add": lambda r: r.payments.add(PAYMENT),
    "payments.save": lambda r: r.payments.save(PAYMENT, PAYMENT),
    "payments.get": lambda r: r.payments.get("id_00000007"),
    "payments.find": lambda r: r.payments.find("id_00000007"),
    "payments.find_by_payment_intent": lambda r: r.payments.find_by_payment_intent("pi_7"),
    "payments.find_by_checkout_session": lambda r: r.payments.find_by_checkout_session("cs_9"),
    "payments.find_first_creation": lambda r: r.payments.find_first_creation(),
    "payments.list_by_user": lambda r: r.payments.list_by_user("busy", limit=LIMIT),
    "payments.list_by_user, few": lambda r: r.payments.list_by_user("few", limit=LIMIT),
    "payments.list_by_user, far down": lambda r: r.payments.list_by_user(
        "busy", limit=LIMIT, after=MIDDLE
    ),
    "payments.list_by_user, by status": lambda r: r.payments.list_by_user(
        "busy", limit=LIMIT, status=PaymentStatus.FAILED
    ),
    "payments.list_by_user, by status, far down": lambda r: r.payments.list_by_user(
        "busy", limit=LIMIT, status=PaymentStatus.FAILED, after=MIDDLE
    ),
    "payments.list_by_user, a status without any": lambda r: r.payments.list_by_user(
        "busy", limit=LIMIT, status=PaymentStatus.REFUNDED
    ),
    "payments.postpone_unreadable": lambda r: r.payments.postpone_unreadable(
        "id_00000007", until=NOW, **AT
    ),
    "payments.list_due": lambda r: r.payments.list_due(NOW, limit=LIMIT),
    "payments.list_due, none": lambda r: r.payments.list_due(NOW - timedelta(days=9), limit=LIMIT),
    "orders.put": lambda r: r.orders.put(ORDER),
    "orders.list_by_user": lambda r: r.orders.list_by_user("busy", limit=LIMIT),
    "orders.list_by_user, few": lambda r: r.orders.list_by_user("few", limit=LIMIT),
    "orders.list_by_user, far down": lambda r: r.orders.list_by_user(
        "busy", limit=LIMIT, after=MIDDLE
    ),
    "webhook_events.add": lambda r: r.webhook_events.add(EVENT),
    "webhook_events.claim": lambda r: r.webhook_events.claim(
        "id_00000007", only_due=False, **LEASE
    ),
    "webhook_events.claim, only when due": lambda r: r.webhook_events.claim(
        "id_00000007", only_due=True, **LEASE
    ),
    "webhook_events.find": lambda r: r.webhook_events.find("id_00000007"),
    "webhook_events.mark_finished": lambda r: r.webhook_events.mark_finished(
        "id_00000007", EventStatus.PROCESSED, **AT
    ),
    "webhook_events.mark_failed": lambda r: r.webhook_events.mark_failed(
        "id_00000007", error="away", next_attempt_at=NOW
    ),
    "webhook_events.list_due": lambda r: r.webhook_events.list_due(NOW, limit=LIMIT),
    "webhook_events.list_unknown": lambda r: r.webhook_events.list_unknown(
        [f"id_{number:08}" for number in range(0, MANY, MANY // LIMIT)]
    ),
    "idempotency_keys.add": lambda r: r.idempotency_keys.add(RECORD),
    "idempotency_keys.find": lambda r: r.idempotency_keys.find("id_00000007"),
    "idempotency_keys.take_over": lambda r: r.idempotency_keys.take_over(RECORD, RECORD),
    "idempotency_keys.store_answer": lambda r: r.idempotency_keys.store_answer(RECORD, 200, "{}"),
    "idempotency_keys.store_refusal": lambda r: r.idempotency_keys.store_refusal(RECORD, 402, "{}"),
    "idempotency_keys.release": lambda r: r.idempotency_keys.release(RECORD, **AT),
    "locks.acquire": lambda r: r.locks.acquire("reconciler", owner="me", until=NOW, **AT),
    "locks.release": lambda r: r.locks.release("reconciler", owner="me"),
    "locks.find_cursor": lambda r: r.locks.find_cursor("events"),
    "locks.move_cursor": lambda r: r.locks.move_cursor("events", NOW),
    "locks.deployment_name": lambda r: r.locks.deployment_name(),
    "users.get_credits": lambda r: r.users.get_credits("id_00000007"),
    "users.take_credits": lambda r: r.users.take_credits(
        "id_00000007", payment_id="pay_7", credits=1, as_of=NOW, **AT
    ),
    "users.cancel_debit": lambda r: r.users.cancel_debit(
        "id_00000007", payment_id="pay_7", as_of=NOW, **AT
    ),
    "users.give_back_credits": lambda r: r.users.give_back_credits(
        "id_00000007", refund_id="rfd_7", credits=1, as_of=NOW, **AT
    ),
    "users.remove_marks": lambda r: r.users.remove_marks(
        "id_00000007", frozenset({"pay_7"}), removed_until=NOW
    ),
}


async def queries_of(call: Call) -> list[Query]:
    queries: list[Query] = []
    at: dict[str, Any] = {
        name: Recorder(name, queries) for name in Repositories.__dataclass_fields__
    }
    own = Commands(PAYMENTS_DATABASE)
    asked = Repositories(
        payments=PaymentRepository(at["payments"], own),
        orders=OrderRepository(at["orders"], own),
        webhook_events=WebhookEventRepository(
            at["webhook_events"], own, retention=timedelta(days=30)
        ),
        idempotency_keys=IdempotencyKeyRepository(at["idempotency_keys"], own),
        locks=LockRepository(at["locks"], own),
        users=UserRepository(at["users"], Commands(AUTH_DATABASE), credits_field="credits"),
    )
    with contextlib.suppress(PaymentServiceError):  # nothing is ever found
        await call(asked)
    return queries


def test_every_method_of_every_repository_is_looked_at() -> None:
    modules = [
        importlib.import_module(f"{repositories.__name__}.{module.name}")
        for module in pkgutil.iter_modules(repositories.__path__)
    ]
    classes = {
        kind
        for module in modules
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if name.endswith("Repository")
    }
    assert {field.type for field in dataclasses.fields(Repositories)} == classes
    kinds = {name: field.type for name, field in Repositories.__dataclass_fields__.items()}
    methods = {
        f"{name}.{method}"
        for name, kind in kinds.items()
        for method, _ in inspect.getmembers(kind, inspect.iscoroutinefunction)
        if not method.startswith("_")
    }
    assert {call.partition(",")[0] for call in CALLS} == methods


# What it costs ---------------------------------------------------------------------------------


def keys_examined(query: Query, documents: Sequence[Document]) -> tuple[float, str]:
    """By the best index, and its name; infinite when none serves the query."""
    candidates: dict[str, list[tuple[str, int]]] = {"_id": [("_id", 1)]}
    for index in INDEXES.get(query.collection, ()):
        candidates[index.document["name"]] = list(index.document["key"].items())
    costs = {name: _examined(query, keys, documents) for name, keys in candidates.items()}
    best = min(costs, key=lambda name: costs[name])
    return costs[best], best


def _examined(query: Query, keys: list[tuple[str, int]], documents: Sequence[Document]) -> float:
    fixed = {name: value for name, value in query.filter.items() if name[0] != "$"}
    ranges = {name: fixed.pop(name) for name in list(fixed) if isinstance(fixed[name], Mapping)}
    first = 0
    while first < len(keys) and keys[first][0] in fixed:
        first += 1
    rest = keys[first:]
    bound = rest[0][0] if rest and rest[0][0] in ranges else None
    in_order = not query.sort or _runs(rest, query.sort)
    if not first and bound is None and not (query.sort and in_order):
        return float("inf")
    bounds = {name: fixed[name] for name, _ in keys[:first]}
    if bound is not None:
        bounds[bound] = ranges[bound]
    entries = [document for document in documents if _matches(bounds, document)]
    for name, direction in reversed(query.sort):
        entries.sort(key=lambda document: document[name], reverse=direction < 0)
    wanted = query.limit if in_order and query.limit else len(entries) + 1
    for looked_at, document in enumerate(entries, start=1):
        wanted -= filter_applies(query.filter, document)  # type: ignore[no-untyped-call]
        if not wanted:
            return looked_at
    return len(entries)


def _runs(keys: list[tuple[str, int]], sort: list[tuple[str, int]]) -> bool:
    """The index has the order, forwards or backwards."""
    backwards = [(name, -direction) for name, direction in sort]
    return keys[: len(sort)] in (sort, backwards)


def _matches(bounds: Mapping[str, Any], document: Document) -> bool:
    return all(_within(document.get(name), bound) for name, bound in bounds.items())


def _within(value: Any, bound: Any) -> bool:
    if not isinstance(bound, Mapping):
        return bool(value == bound)
    if value is None:
        return False
    ((operator, limit),) = bound.items()
    compare: dict[str, Callable[[], bool]] = {
        "$in": lambda: value in limit,
        "$lt": lambda: value < limit,
        "$lte": lambda: value <= limit,
    }
    return compare[operator]()


@pytest.mark.parametrize("name", CALLS)
async def test_query_looks_at_no_more_than_it_returns(name: str, many: Sequence[Document]) -> None:
    queries = await queries_of(CALLS[name])
    assert queries or name in {"webhook_events.add", "idempotency_keys.add"}, "they only insert"
    for query in queries:
        among_many, index = keys_examined(query, many)
        assert among_many <= query.budget, f"{query} by {index}"
        alone, _ = keys_examined(query, many[:1])
        assert alone <= query.budget


async def test_each_index_that_is_not_there_to_forbid_or_to_expire_is_the_best_for_some_query(
    many: Sequence[Document],
) -> None:
    """An index that serves nothing costs each write."""
    used = set()
    for call in CALLS.values():
        for query in await queries_of(call):
            used.add((query.collection, keys_examined(query, many[:2000])[1]))
    asked = {"payments", "orders", "webhook_events", "idempotency_keys", "locks"}
    unused = {
        (collection, index.document["name"])
        for collection in asked
        for index in INDEXES[collection]
        if not index.document.get("unique") and "expireAfterSeconds" not in index.document
    } - used
    assert not unused


def test_a_query_without_its_index_would_be_noticed(many: Sequence[Document]) -> None:
    assert keys_examined(Query("payments", {"amount": 999}), many)[0] == float("inf")
    by_time = Query("payments", {"user_id": "busy"}, [("updated_at", -1)], 50)
    dated = [{**document, "updated_at": document["created_at"]} for document in many[:1000]]
    assert keys_examined(by_time, dated)[0] > by_time.budget


@pytest.mark.mongodb
@pytest.mark.slow
async def test_mongodb_explains_each_query_the_same_way(
    shop: Shop, many: list[dict[str, Any]]
) -> None:
    """Asked of the server itself, with executionStats: keys and documents that it looked at."""
    database = shop.databases.payments
    find: dict[str, Any] = {"find": "payments", "filter": {"_id": "id_00000007"}}
    try:
        plan = await database.command({"explain": find, "verbosity": "executionStats"})
    except OperationFailure as error:
        pytest.skip(f"this server explains nothing: {error.code} {str(error)[:60]}")
    if "executionStats" not in plan:
        pytest.skip("this server's explain counts nothing")
    for collection in ("payments", "orders", "webhook_events", "users"):
        for start in range(0, len(many), 2000):  # each within the time-out of a query
            await database[collection].insert_many(many[start : start + 2000])
    for call in CALLS.values():
        for query in await queries_of(call):
            asked: dict[str, Any] = {"find": query.collection, "filter": query.filter}
            if query.sort:
                asked["sort"] = dict(query.sort)
            if query.limit:
                asked["limit"] = query.limit
            plan = await database.command({"explain": asked, "verbosity": "executionStats"})
            counted = plan["executionStats"]
            # One key more tells that a range is over; of several plans the best is counted.
            assert counted["totalKeysExamined"] <= 2 * query.budget + 2, (asked, plan)
            assert counted["totalDocsExamined"] <= query.budget + 1, (asked, plan)
