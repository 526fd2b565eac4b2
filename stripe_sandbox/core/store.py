"""Objects in memory: bounded, listed newest first, found by index rather than by scanning."""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from stripe_sandbox.core.api_objects import StripeObject
from stripe_sandbox.core.clock import Timer


class Record:
    """An API object and its place in creation order. Subclasses add what the API does not show."""

    timer: Timer | None = None
    """Runs what happens to the object by itself, if anything does."""

    def __init__(self, data: StripeObject) -> None:
        self.data = data
        self.position = 0

    @property
    def id(self) -> str:
        id_: str = self.data["id"]
        return id_


R = TypeVar("R", bound=Record)
IndexKey = Callable[[StripeObject], str | None]


def _position(record: Record) -> int:
    return record.position


class Collection(Generic[R]):
    """One kind of object. Past ``capacity`` the oldest leave, through ``on_evict``."""

    def __init__(
        self,
        *,
        capacity: int,
        indexes: Mapping[str, IndexKey] | None = None,
        on_evict: Callable[[R], None] | None = None,
    ) -> None:
        self._capacity = capacity
        self._by_id: dict[str, R] = {}
        self._order: list[R] = []
        self._keys = dict(indexes or {})
        self._buckets: dict[tuple[str, str], list[R]] = {}
        self._entries: dict[str, set[tuple[str, str]]] = {}
        self._on_evict = on_evict
        self._next_position = 1

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[R]:
        return iter(self._order)

    def add(self, record: R) -> R:
        record.position = self._next_position
        self._next_position += 1
        self._by_id[record.id] = record
        self._order.append(record)
        self.reindex(record)
        while len(self._order) > self._capacity:
            self.evict_oldest()
        return record

    def find(self, id: str) -> R | None:
        return self._by_id.get(id)

    def oldest(self) -> R | None:
        return self._order[0] if self._order else None

    def evict_oldest(self) -> None:
        self._forget(self._order.pop(0))

    def remove(self, record: R) -> None:
        del self._order[bisect_left(self._order, record.position, key=_position)]
        self._forget(record)

    def _forget(self, record: R) -> None:
        del self._by_id[record.id]
        for entry in self._entries.pop(record.id, ()):
            bucket = self._buckets[entry]
            del bucket[bisect_left(bucket, record.position, key=_position)]
            if not bucket:
                del self._buckets[entry]
        if self._on_evict is not None:
            self._on_evict(record)

    def reindex(self, record: R) -> None:
        """Put a record where an indexed key that it has gained says (keys are never lost)."""
        entries = self._entries.get(record.id)
        for name, key_of in self._keys.items():
            value = key_of(record.data)
            if value is None:
                continue
            entry = (name, value)
            if entries is None:
                entries = self._entries[record.id] = set()
            elif entry in entries:
                continue
            entries.add(entry)
            bucket = self._buckets.get(entry)
            if bucket is None:
                self._buckets[entry] = [record]
            else:
                insort(bucket, record, key=_position)

    def by(self, index: str, value: str) -> Sequence[R]:
        """Records that have (or once had) that key, oldest first: all of them without an index."""
        if index not in self._keys:
            return self._order
        return self._buckets.get((index, value), ())

    def page(
        self,
        *,
        limit: int,
        starting_after: R | None = None,
        ending_before: R | None = None,
        within: Sequence[R] | None = None,
        matches: Callable[[StripeObject], bool] | None = None,
    ) -> tuple[list[R], bool]:
        """A page, newest first, and whether there is more in the direction of travel."""
        records: Sequence[R] = self._order if within is None else within
        found: list[R] = []
        if ending_before is not None:
            start = bisect_left(records, ending_before.position + 1, key=_position)
            candidates = range(start, len(records))
        else:
            stop = len(records)
            if starting_after is not None:
                stop = bisect_left(records, starting_after.position, key=_position)
            candidates = range(stop - 1, -1, -1)
        for position in candidates:
            record = records[position]
            if matches is None or matches(record.data):
                if len(found) == limit:
                    return (found[::-1] if ending_before is not None else found), True
                found.append(record)
        return (found[::-1] if ending_before is not None else found), False
