"""Every case by its name: how a failure is run alone."""

from collections.abc import AsyncIterator
from random import Random

from tests.faults import crashes, histories, orders, races
from tests.faults.crashes import Outcome
from tests.faults.flows import FLOWS
from tests.faults.steps import ANY, DEATHS


async def run(name: str) -> Outcome:
    """``crash:...``, ``race:...``, ``order:...`` or ``history:...``."""
    match name.partition(":")[0]:
        case "crash":
            return await crashes.run(crashes.Case.parse(name))
        case "race":
            return await races.run(races.Run.parse(name))
        case "order":
            return await orders.run(orders.Order.parse(name))
        case "history":
            return await histories.run(histories.Told.parse(name))
        case kind:
            raise ValueError(f"no such kind of case: {kind}")


async def shortest(outcome: Outcome) -> Outcome:
    """The same failure with as little before it as possible."""
    name, promises = outcome.name, outcome.promises
    match name.partition(":")[0]:
        case "history":
            told = histories.Told.parse(name)
            return await histories.run(await histories.shortest(told, promises))
        case "race":
            return await races.run(await races.shortest(outcome))
        case "order":
            return await orders.run(await orders.shortest(orders.Order.parse(name), promises))
        case _:
            return await crashes.run(await crashes.shortest(crashes.Case.parse(name), promises))


async def exhaustive() -> AsyncIterator[str]:
    """All crash points, all faults and all orders of events. (All schedules of the short races are
    found only by running them: ``races.every``.)
    """
    for flow in FLOWS:
        for case in await crashes.deaths(flow):
            yield str(case)
        for case in await crashes.faults(flow):
            yield str(case)
    for life in orders.LIVES:
        for order in await orders.every(life):
            yield str(order)


class ByChance:
    """The n-th case of a seed, always the same one."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, int]] = {}
        self._events: dict[str, int] = {}

    async def measure(self) -> None:
        """How many places each flow and its recovery have, and how many events each life."""
        for flow in FLOWS:
            outcome = await crashes.run(crashes.Case(flow))
            self._places[flow] = len(outcome.act), len(outcome.recovery)
        for life in orders.LIVES:
            self._events[life] = await orders.count_events(life)

    def name(self, seed: int, number: int) -> str:
        random = Random(f"{seed}:{number}")
        match random.choices(("recovery", "race", "order", "history"), (3, 3, 1, 3))[0]:
            case "recovery":
                return str(self._trouble_twice(random))
            case "race":
                race = random.choice(list(races.RACES))
                return str(races.Run.by_seed(race, random.randrange(10**6)))
            case "order":
                life = random.choice(list(orders.LIVES))
                return str(orders.by_chance(life, self._events[life], random))
            case _:
                return str(histories.Told(random.randrange(10**9)))

    def _trouble_twice(self, random: Random) -> crashes.Case:
        """Deaths and faults: one in the flow, one in what comes after it, mostly deaths."""

        def trouble(places: int) -> crashes.Place:
            fault = random.choice((*DEATHS, f"{ANY}{random.randrange(1_000)}"))
            return crashes.Place(random.randrange(places), fault)

        flow = random.choice(list(FLOWS))
        act, recovery = self._places[flow]
        after = random.choice(crashes.AFTERWARDS)
        return crashes.Case(flow, trouble(act), trouble(recovery * 3 // 2), after)
