"""Events: a record of every change, as it was at that moment (https://docs.stripe.com/api/events)."""

import fnmatch
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stripe_sandbox.core.api_objects import StripeObject, build, copy_json
from stripe_sandbox.core.clock import Clock
from stripe_sandbox.core.config import SandboxConfig
from stripe_sandbox.core.ids import IdFactory
from stripe_sandbox.core.store import Collection, Record
from stripe_sandbox.protocol.errors import invalid_param, no_such
from stripe_sandbox.protocol.lists import Filter, list_page
from stripe_sandbox.protocol.params import (
    EXPAND,
    LIST_PARAMS,
    Array,
    Boolean,
    Kind,
    Params,
    Range,
    Text,
)

RETENTION_SECONDS = 30 * 24 * 3600
_PAYMENT_FAMILY = ("payment_intent.", "charge.", "refund.")

RETRIEVE: dict[str, Kind] = {"expand": EXPAND}
LIST: dict[str, Kind] = {
    **LIST_PARAMS,
    "created": Range(),
    "delivery_success": Boolean(),
    "type": Text(),
    "types": Array(Text(), max_items=20),
}


@dataclass(frozen=True, slots=True)
class Cause:
    """The API request that led to an event. Both are None for what happens outside the API."""

    request_id: str | None = None
    idempotency_key: str | None = None


_NOBODY = Cause()


class EventLog:
    """Kept for 30 days of the sandbox's clock, and no more than the capacity."""

    def __init__(self, config: SandboxConfig, clock: Clock, ids: IdFactory) -> None:
        self._config = config
        self._clock = clock
        self._ids = ids
        self._cause = _NOBODY
        self._subscribers: list[Callable[[StripeObject], None]] = []
        self._records: Collection[Record] = Collection(
            capacity=config.capacity, indexes={"type": lambda event: event["type"]}
        )

    def subscribe(self, receiver: Callable[[StripeObject], None]) -> None:
        self._subscribers.append(receiver)

    @contextmanager
    def caused_by(self, cause: Cause) -> Iterator[None]:
        """Events emitted inside carry this request. No await may happen inside."""
        previous, self._cause = self._cause, cause
        try:
            yield
        finally:
            self._cause = previous

    def emit(
        self, type: str, snapshot: StripeObject, previous: StripeObject | None = None
    ) -> StripeObject:
        data: StripeObject = {"object": copy_json(snapshot)}
        if previous is not None:
            data["previous_attributes"] = copy_json(previous)
        event = build(
            "event",
            id=self._ids.new("evt", family="3" if type.startswith(_PAYMENT_FAMILY) else "1"),
            api_version=self._config.api_version,
            created=self._clock.timestamp(),
            data=data,
            request={
                "id": self._cause.request_id,
                "idempotency_key": self._cause.idempotency_key,
            },
            type=type,
        )
        self._announce(event)
        return event

    def tell_again(self, event: StripeObject) -> StripeObject:
        """The same change as a second event of its own id, as Stripe may do.

        https://docs.stripe.com/webhooks#handle-duplicate-events
        """
        family = event["id"].removeprefix("evt_")[0]
        twin = {**copy_json(event), "id": self._ids.new("evt", family=family)}
        self._announce(twin)
        return twin

    def _announce(self, event: StripeObject) -> None:
        self._forget_old()
        self._records.add(Record(event))
        for receiver in self._subscribers:
            receiver(event)

    def find(self, id: str) -> StripeObject | None:
        self._forget_old()
        record = self._records.find(id)
        return None if record is None else record.data

    def all(self, type: str | None = None) -> list[StripeObject]:
        """Every event kept, oldest first, for assertions."""
        self._forget_old()
        records = self._records if type is None else self._records.by("type", type)
        return [record.data for record in records]

    def types(self) -> list[str]:
        """The types of every event kept, oldest first, for assertions."""
        return [event["type"] for event in self.all()]

    def retrieve(self, params: Params, id: str) -> StripeObject:
        event = self.find(id)
        if event is None:
            raise no_such("event", id, "id")
        return event

    def list(self, params: Params) -> StripeObject:
        if "type" in params and "types" in params:
            raise invalid_param(
                "You may only specify one of these parameters: type, types.", "type"
            )
        self._forget_old()
        within = None
        filters: list[Filter] = []
        wanted: list[str] = params.get("types") or []
        if "type" in params and "*" not in params["type"]:
            within = self._records.by("type", params["type"])
        elif "type" in params:
            wanted = [params["type"]]
        if wanted:
            filters.append(lambda event: any(fnmatch.fnmatchcase(event["type"], w) for w in wanted))
        if "delivery_success" in params:
            delivered: bool = params["delivery_success"]
            filters.append(lambda event: (event["pending_webhooks"] == 0) == delivered)
        return list_page(
            self._records, params, "/v1/events", noun="event", within=within, filters=filters
        )

    def _forget_old(self) -> None:
        horizon = self._clock.timestamp() - RETENTION_SECONDS
        while (oldest := self._records.oldest()) is not None and oldest.data["created"] < horizon:
            self._records.evict_oldest()
