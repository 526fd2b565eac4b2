"""Work over many items: a few at a time, and one that fails stops no other."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol, TypeVar

from app.errors import PaymentServiceError
from app.metrics import Metrics
from app.observability import cause_of, get_logger

BATCH: Final = 100
AT_ONCE: Final = 10

log = get_logger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


class LeaseLost(Exception):
    """The run took so long that another instance took over."""


@dataclass(slots=True)
class Report:
    """What one run did, by kind of work: how many were looked at, moved on, and failed."""

    ran: bool = True
    looked_at: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    def as_fields(self) -> dict[str, dict[str, int]]:
        return {
            "looked_at": dict(self.looked_at),
            "moved": dict(self.moved),
            "failed": dict(self.failed),
        }


async def attempt(work: Awaitable[Result], failure: str, **fields: str) -> Result | None:
    """The result, or None when the work failed, which is logged as ``failure``.

    Raises LeaseLost.
    """
    try:
        return await work
    except LeaseLost:
        raise
    except PaymentServiceError as error:
        log.warning(failure, **fields, error=error.code, detail=error.detail, cause=cause_of(error))
    except Exception:
        # A bug in one item or step must not hold up all that come after it.
        log.exception(failure, **fields)
    return None


class ListDue(Protocol):
    async def __call__(self, now: datetime, *, limit: int) -> Sequence[str]:
        """The ids of what is due at ``now``, the oldest first."""
        ...


class Batches:
    """One run's work. ``prolong`` is called after each batch and raises LeaseLost."""

    def __init__(
        self, report: Report, metrics: Metrics, prolong: Callable[[], Awaitable[None]]
    ) -> None:
        self._report = report
        self._metrics = metrics
        self._prolong = prolong

    async def step(self, name: str, work: Awaitable[None]) -> bool:
        """Whether the step came to its end; single items may have failed."""

        async def run() -> bool:
            await work
            return True

        if await attempt(run(), "reconciler.step_failed", step=name):
            return True
        self._report.failed[name] += 1
        self._metrics.count_reconciler_item(name, "failed")
        return False

    async def all_due(
        self,
        kind: str,
        list_due: ListDue,
        work: Callable[[str], Awaitable[bool]],
        *,
        now: datetime,
        on_failure: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """Each item that was due at ``now``, once. ``work`` says whether it moved the item on."""
        seen: set[str] = set()
        while fresh := [item for item in await list_due(now, limit=BATCH) if item not in seen]:
            seen.update(fresh)
            await self.each(kind, fresh, work, on_failure=on_failure)

    async def each(
        self,
        kind: str,
        items: Sequence[Item],
        work: Callable[[Item], Awaitable[bool]],
        *,
        id_of: Callable[[Item], str] = str,
        on_failure: Callable[[Item], Awaitable[None]] | None = None,
    ) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def run(item: Item) -> None:
            about = {"kind": kind, "item": id_of(item)}
            async with slots:
                moved = await attempt(work(item), "reconciler.item_failed", **about)
                if moved is None and on_failure is not None:
                    await attempt(on_failure(item), "reconciler.item_failed", **about)
            outcome = "failed" if moved is None else "moved" if moved else "unchanged"
            self._report.looked_at[kind] += 1
            if outcome != "unchanged":
                (self._report.moved if moved else self._report.failed)[kind] += 1
            self._metrics.count_reconciler_item(kind, outcome)

        await asyncio.gather(*(run(item) for item in items))
        await self._prolong()
