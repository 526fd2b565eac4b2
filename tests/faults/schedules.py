"""Who goes on at each step: operations that run at once, one step at a time.

Every step waits at a gate; when all that run have come to one, the schedule chooses whose turn it
is. Between two gates a single task runs, so a run is decided by its choices and can be repeated.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from tests.faults.laboratory import operation
from tests.faults.steps import Step

Operation = Callable[[], Awaitable[Any]]
CHANGES: Final = 3
"""How often, at most, a schedule by priorities changes its mind."""
HORIZONS: Final = (8, 20, 40)
"""Within how many steps it does."""


@dataclass(slots=True, eq=False)
class Waiting:
    """``lane`` is one task of an operation: an operation may do several things at once."""

    lane: str
    step: Step
    turn: asyncio.Future[None]

    @property
    def operation(self) -> str:
        return self.lane.rpartition("/")[0]


class Schedule(Protocol):
    def choose(self, waiting: Sequence[Waiting]) -> Waiting: ...


class Gatekeeper:
    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self.choices: list[int] = []
        self._waiting: list[Waiting] = []
        self._lanes: dict[asyncio.Task[Any] | None, str] = {}

    async def gate(self, name: str, step: Step) -> None:
        task = asyncio.current_task()
        if task not in self._lanes:
            siblings = sum(lane.rpartition("/")[0] == name for lane in self._lanes.values())
            self._lanes[task] = f"{name}/{siblings}"
        waiting = Waiting(self._lanes[task], step, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        await waiting.turn

    async def run(self, operations: Mapping[str, Operation]) -> None:
        """Until all operations are over. What they raise is raised."""
        tasks = [asyncio.create_task(_named(name, run)) for name, run in operations.items()]
        while True:
            await _quiet()
            if not self._waiting:
                break
            waiting = sorted(self._waiting, key=lambda each: each.lane)
            chosen = self._schedule.choose(waiting)
            self.choices.append(waiting.index(chosen))
            self._waiting.remove(chosen)
            chosen.turn.set_result(None)
        assert all(task.done() for task in tasks), "an operation waits for something else"
        for task in tasks:
            task.result()


async def _named(name: str, run: Operation) -> None:
    operation.set(name)
    await run()


async def _quiet() -> None:
    """Until nobody can run: all are at a gate or at their end."""
    loop: Any = asyncio.get_running_loop()
    while loop._ready:  # noqa: ASYNC110 - no event tells that nobody is ready
        await asyncio.sleep(0)


class RandomSchedule:
    """By seed: even seeds choose evenly at each step; odd ones give priorities and change them
    a few times, which finds what needs one operation to overtake another at the right moment.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._evenly = seed % 2 == 0
        self._priorities: dict[str, float] = {}
        horizon = self._random.choice(HORIZONS)
        changes = self._random.randint(1, CHANGES)
        self._changes = {self._random.randrange(horizon) for _ in range(changes)}
        self._turns = 0

    def choose(self, waiting: Sequence[Waiting]) -> Waiting:
        if self._evenly:
            return self._random.choice(waiting)
        for each in waiting:
            self._priorities.setdefault(each.lane, 1 + self._random.random())
        chosen = max(waiting, key=lambda each: self._priorities[each.lane])
        if self._turns in self._changes:
            self._priorities[chosen.lane] = self._random.random() - self._turns
            chosen = max(waiting, key=lambda each: self._priorities[each.lane])
        self._turns += 1
        return chosen


Stop = tuple[str, int]
"""An operation, and after how many of its steps it is stopped."""


class StoppedSchedule:
    """Each operation that is named goes on until its stop; then the others to their ends; the one
    that was stopped last comes last. ``stopped``: those that had not ended before their stop.
    """

    def __init__(self, stops: Sequence[Stop]) -> None:
        self._stops = list(stops)
        self._last = stops[-1][0]
        self._taken = 0
        self.stopped: set[str] = set()

    def choose(self, waiting: Sequence[Waiting]) -> Waiting:
        while self._stops:
            name, steps = self._stops[0]
            lanes = [each for each in waiting if each.operation == name]
            if lanes and self._taken < steps:
                self._taken += 1
                return lanes[0]
            if lanes:
                self.stopped.add(name)
            self._stops.pop(0)
            self._taken = 0
        others = [each for each in waiting if each.operation != self._last]
        return (others or waiting)[0]


@dataclass(slots=True)
class FixedSchedule:
    """The choices of an earlier run, by their place among the lanes; then the first lane."""

    choices: Sequence[int]
    _turns: int = 0

    def choose(self, waiting: Sequence[Waiting]) -> Waiting:
        number = self.choices[self._turns] if self._turns < len(self.choices) else 0
        self._turns += 1
        return waiting[min(number, len(waiting) - 1)]


@dataclass(slots=True)
class _Node:
    """A choice: which lanes could go, which were tried, and which need not be tried (``asleep``)
    because their step commutes with all that happened since they were tried elsewhere.
    """

    lanes: tuple[str, ...]
    asleep: frozenset[str]
    tried: set[str] = field(default_factory=set)
    chosen: str = ""

    def next_lane(self) -> str | None:
        return next(
            (lane for lane in self.lanes if lane not in self.tried and lane not in self.asleep),
            None,
        )


class EverySchedule:
    """All schedules, depth first, but for those that differ only in the order of steps that
    commute (sleep sets). One ``choose`` after the other is one run; then ``advance``.
    """

    def __init__(self) -> None:
        self._path: list[_Node] = []
        self._depth = 0
        self._last: Step | None = None
        self.is_redundant = False

    def choose(self, waiting: Sequence[Waiting]) -> Waiting:
        if self.is_redundant:
            return waiting[0]
        lanes = tuple(each.lane for each in waiting)
        if self._depth == len(self._path):
            node = _Node(lanes, self._asleep({each.lane: each.step for each in waiting}))
            first = node.next_lane()
            if first is None:
                self.is_redundant = True
                return waiting[0]
            node.chosen = first
            self._path.append(node)
        node = self._path[self._depth]
        assert node.lanes == lanes, "the same choices led elsewhere: a run is not repeatable"
        self._depth += 1
        chosen = waiting[lanes.index(node.chosen)]
        self._last = chosen.step
        return chosen

    def advance(self) -> bool:
        """Prepares the next run; False when there is none."""
        self._depth, self._last, self.is_redundant = 0, None, False
        while self._path:
            node = self._path[-1]
            node.tried.add(node.chosen)
            following = node.next_lane()
            if following is not None:
                node.chosen = following
                return True
            self._path.pop()
        return False

    def _asleep(self, steps: Mapping[str, Step]) -> frozenset[str]:
        """Ids differ from run to run, so steps are compared as they are in this one."""
        if not self._path or self._last is None:
            return frozenset()
        before, last = self._path[-1], self._last
        return frozenset(
            lane
            for lane in before.asleep | before.tried
            if lane in steps and steps[lane].commutes_with(last)
        )
