"""What the resources of the API have in common: found by id, retrieved, listed, bounded."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import ClassVar, Generic

from stripe_sandbox.core.api_objects import StripeObject
from stripe_sandbox.core.clock import Clock
from stripe_sandbox.core.config import SandboxConfig
from stripe_sandbox.core.ids import IdFactory
from stripe_sandbox.core.store import Collection, R
from stripe_sandbox.objects.events import EventLog
from stripe_sandbox.protocol.errors import no_such
from stripe_sandbox.protocol.lists import list_page
from stripe_sandbox.protocol.params import Params


@dataclass(frozen=True, slots=True)
class Account:
    """What the resources of one account share."""

    config: SandboxConfig
    clock: Clock
    ids: IdFactory
    events: EventLog


class Resource(Generic[R]):
    """One kind of object. A record that leaves at capacity takes its timer with it."""

    url: ClassVar[str]
    noun: ClassVar[str]
    """What Stripe calls the object where it refuses an id: ``No such charge: 'ch_1'``."""
    id_param: ClassVar[str] = "id"
    """The parameter that such a refusal names when the id stood in the path."""
    indexes: ClassVar[Sequence[str]] = ()
    """Properties by which objects are found without looking at each."""
    listed_by: ClassVar[Sequence[str]] = ()
    """Parameters that filter lists on the property of their name, an indexed one first."""

    def __init__(self, account: Account, records: Collection[R] | None = None) -> None:
        """``records`` are given where another part of the sandbox keeps them."""
        self._config = account.config
        self._clock = clock = account.clock
        self._ids = account.ids
        self._events = account.events
        self._records: Collection[R] = (
            records
            if records is not None
            else Collection(
                capacity=account.config.capacity,
                indexes={name: itemgetter(name) for name in self.indexes},
                on_evict=lambda record: clock.cancel(record.timer),
            )
        )

    def find(self, id: str) -> R | None:
        return self._records.find(id)

    def named(self, id: str, param: str | None = None, *, status: int = 404) -> R:
        """The record of an id that a caller gave, in ``param`` if not in the path.

        Raises ApiError ``resource_missing``, with that status.
        """
        record = self._records.find(id)
        if record is None:
            raise no_such(self.noun, id, param or self.id_param, status=status)
        return record

    def retrieve(self, params: Params, id: str) -> StripeObject:
        return self.named(id).data

    def list(self, params: Params) -> StripeObject:
        return list_page(self._records, params, self.url, noun=self.noun, by=self.listed_by)
