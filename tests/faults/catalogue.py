"""Every case by its name: how a failure is run alone."""

from collections.abc import AsyncIterator
from random import Random

from tests.faults import crashes, histories, orders, races
from tests.faults.crashes import Outcome
from tests.faults.flows import FLOWS
from tests.faults.steps import DEATHS


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
    if not outcome.name.startswith("history:"):
        return outcome
    told = histories.Told.parse(outcome.name)
    return await histories.run(await histories.shortest(told, outcome.promises))


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

    async def measure(self) -> None:
        """How many places each flow and its recovery have."""
        for flow in FLOWS:
            outcome = await crashes.run(crashes.Case(flow))
            self._places[flow] = len(outcome.act), len(outcome.recovery)

    def name(self, seed: int, number: int) -> str:
        random = Random(f"{seed}:{number}")
        match random.choices(("recovery", "race", "order", "history"), (3, 3, 1, 3))[0]:
            case "recovery":
                return str(self._death_in_recovery(random))
            case "race":
                race = random.choice(list(races.RACES))
                return str(races.Run.by_seed(race, random.randrange(10**6)))
            case "order":
                return str(self._order(random))
            case _:
                return str(histories.Told(random.randrange(10**9)))

    def _death_in_recovery(self, random: Random) -> crashes.Case:
        """Two deaths: one in the flow, one in what comes after it."""
        flow = random.choice(list(FLOWS))
        act, recovery = self._places[flow]
        return crashes.Case(
            flow,
            crashes.Place(random.randrange(act), random.choice(DEATHS)),
            crashes.Place(random.randrange(recovery * 3 // 2), random.choice(DEATHS)),
            random.random() < 0.5,
            random.random() < 0.5,
        )

    def _order(self, random: Random) -> orders.Order:
        life = random.choice(list(orders.LIVES))
        events = [number for number in range(6) if random.random() > 0.1]
        events += [number for number in events if random.random() < 0.25]
        random.shuffle(events)
        at = random.randrange(len(events) + 1) if random.random() < 0.7 else None
        return orders.Order(life, tuple(events), at)
