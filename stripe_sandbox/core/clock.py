"""The sandbox's time: real time plus whatever was skipped, and the timers that hang on it."""

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

logger = logging.getLogger("stripe_sandbox.clock")

_COMPACT_ABOVE = 128
_FAR_ENOUGH = 100 * 365 * 24 * 3600


@dataclass(order=True, slots=True)
class Timer:
    due_at: float
    order: int
    action: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)


class Clock:
    """Session expiry, delayed payments, event retention and idempotency keys follow this clock."""

    def __init__(self) -> None:
        self._skipped = 0.0
        self._timers: list[Timer] = []
        self._cancelled = 0
        self._order = itertools.count()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """How many timers are held, cancelled ones included."""
        return len(self._timers)

    def now(self) -> float:
        return time.time() + self._skipped

    def timestamp(self) -> int:
        """Whole seconds since the epoch, as Stripe writes every ``created``."""
        return int(self.now())

    def today(self) -> date:
        return datetime.fromtimestamp(self.now(), UTC).date()

    def call_at(self, due_at: float, action: Callable[[], None]) -> Timer:
        timer = Timer(due_at, next(self._order), action)
        heapq.heappush(self._timers, timer)
        if self._timers[0] is timer:
            self._changed.set()
        return timer

    def call_later(self, seconds: float, action: Callable[[], None]) -> Timer:
        return self.call_at(self.now() + seconds, action)

    def cancel(self, timer: Timer | None) -> None:
        """Forget a timer. Memory is given back once cancelled ones are the majority."""
        if timer is None or timer.cancelled:
            return
        timer.cancelled = True
        self._cancelled += 1
        if len(self._timers) > _COMPACT_ABOVE and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if not entry.cancelled]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def run_due(self) -> None:
        """Run what is due, oldest first."""
        while self._timers and self._timers[0].due_at <= self.now():
            self._run(heapq.heappop(self._timers))

    def advance(self, seconds: float) -> None:
        """Skip time. Each timer on the way runs at its own moment, not at the end of the jump."""
        target = self._skipped + seconds
        if not self._skipped <= target <= _FAR_ENOUGH:
            raise ValueError("the clock only goes forward, and a hundred years at most")
        while self._timers and self._timers[0].due_at <= time.time() + target:
            timer = heapq.heappop(self._timers)
            self._skipped = max(self._skipped, min(target, timer.due_at - time.time()))
            self._run(timer)
        self._skipped = target
        self._changed.set()

    async def run(self) -> None:
        """Run timers as they fall due, until cancelled."""
        while True:
            self.run_due()
            self._changed.clear()
            wait = max(0.0, self._timers[0].due_at - self.now()) if self._timers else None
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _run(self, timer: Timer) -> None:
        if timer.cancelled:
            self._cancelled -= 1
            return
        timer.cancelled = True
        try:
            timer.action()
        except Exception:
            # The request or the loop that happens to run the timers is not to blame.
            logger.exception("clock.timer_failed")
