"""Operations at once, decided step by step."""

import asyncio

import pytest

from tests.faults import races
from tests.faults.conftest import report
from tests.faults.races import RACES, Run
from tests.faults.schedules import EverySchedule, Gatekeeper
from tests.faults.steps import Step
from tests.support.store import only_embedded

LIMIT = 24
SEEDS = 10

pytestmark = [
    pytest.mark.timeout(600),
    only_embedded("its schedules count on commands that never wait"),
]

SHORT = [name for name, race in RACES.items() if race.is_short]


@pytest.mark.parametrize("race", SHORT)
async def test_short_race_is_right_under_its_first_schedules(race: str) -> None:
    """Some have no more than these; the deep set runs all of all."""
    outcomes = []
    async for outcome in races.every(race):
        outcomes.append(outcome)
        if len(outcomes) == LIMIT:
            break
    await report(outcomes)


@pytest.mark.parametrize("race", RACES)
async def test_race_is_right_under_schedules_by_chance(race: str) -> None:
    await report([await races.run(Run.by_seed(race, seed)) for seed in range(SEEDS)])


async def test_same_seed_gives_the_same_schedule() -> None:
    first, second = [await races.run(Run.by_seed("two_confirmations", 5)) for _ in range(2)]
    assert [str(step) for step in first.act] == [str(step) for step in second.act]


async def test_every_schedule_is_every_order_of_what_does_not_commute() -> None:
    """Two tasks of two steps each: 6 orders, of which 3 look alike when only one pair collides."""
    assert len(await _orders(same="x", mine="x")) == 6
    assert len(await _orders(same="x", mine="own")) == 2


async def _orders(*, same: str, mine: str) -> set[tuple[str, ...]]:
    schedule, found = EverySchedule(), set[tuple[str, ...]]()
    while True:
        done: list[str] = []
        keeper = Gatekeeper(schedule)

        async def operation(name: str, done: list[str] = done, keeper: Gatekeeper = keeper) -> None:
            for number, target in enumerate((same, mine if mine == same else f"{mine} {name}")):
                await keeper.gate(name, Step("db", "update_one", target))
                done.append(f"{name}{number}")
                await asyncio.sleep(0)

        await keeper.run({"a": lambda: operation("a"), "b": lambda: operation("b")})
        if not schedule.is_redundant:
            found.add(tuple(done))
        if not schedule.advance():
            return found
