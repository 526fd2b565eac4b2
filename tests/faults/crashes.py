"""A flow, broken at one place (and its recovery at another), then brought to rest and checked."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from tests.faults.checker import Broken
from tests.faults.flows import FLOWS
from tests.faults.laboratory import Laboratory
from tests.faults.steps import DEATHS, Step, faults_of
from tests.faults.world import World


@dataclass(frozen=True, slots=True)
class Place:
    """The number of a step and what befalls it."""

    number: int
    fault: str

    def __str__(self) -> str:
        return f"{self.number}={self.fault}"


@dataclass(frozen=True, slots=True)
class Case:
    """Its text is its name, by which it is run alone."""

    flow: str
    act: Place | None = None
    recovery: Place | None = None
    retries: bool = True
    redelivers: bool = True

    def __str__(self) -> str:
        callers = f"{'retry' if self.retries else 'no-retry'}"
        stripe = f"{'redeliver' if self.redelivers else 'no-redeliver'}"
        return f"crash:{self.flow}:{self.act or '-'}:{self.recovery or '-'}:{callers}:{stripe}"

    @classmethod
    def parse(cls, text: str) -> "Case":
        _, flow, act, recovery, callers, stripe = text.split(":")
        return cls(flow, _place(act), _place(recovery), callers == "retry", stripe == "redeliver")


@dataclass(slots=True)
class Outcome:
    name: str
    broken: list[Broken]
    trace: list[str]
    act: list[Step] = field(default_factory=list)
    recovery: list[Step] = field(default_factory=list)

    @property
    def promises(self) -> set[str]:
        return {broken.promise for broken in self.broken}


async def run(case: Case) -> Outcome:
    flow = FLOWS[case.flow]
    lab = Laboratory(World())
    try:
        given: dict[str, object] = {}
        await lab.process()
        await flow.prepare(lab, given)
        lab.note(f"{flow.name} begins")
        act = lab.play("a", _faults(case.act))
        await flow.act(lab, given)
        lab.pause()
        lab.note("recovery begins")
        recovery = await lab.recover(
            retries=case.retries, redelivers=case.redelivers, faults=_faults(case.recovery)
        )
    finally:
        await lab.close()
    return Outcome(str(case), lab.broken, lab.trace, act.steps, recovery.steps)


BEHAVIOURS = [(retries, redelivers) for retries in (True, False) for redelivers in (True, False)]
"""What callers and Stripe do after trouble."""


async def deaths(flow: str) -> Iterator[Case]:
    """Every place of the flow, before and after, with every behaviour."""
    steps = (await run(Case(flow))).act
    return (
        Case(flow, Place(number, death), None, retries, redelivers)
        for number in range(len(steps))
        for death in DEATHS
        for retries, redelivers in BEHAVIOURS
    )


async def faults(flow: str) -> Iterator[Case]:
    """Every place of the flow with everything that can go wrong there but death."""
    steps = (await run(Case(flow))).act
    return (
        Case(flow, Place(number, fault), None, retries, redelivers)
        for number, step in enumerate(steps)
        for fault in faults_of(step)
        for retries, redelivers in ((True, True), (False, False))
    )


def deaths_of_recovery(outcome: Outcome, case: Case) -> Iterator[Case]:
    """The same trouble again, and another death at every place of its recovery."""
    return (
        replace(case, recovery=Place(number, death))
        for number in range(len(outcome.recovery))
        for death in DEATHS
    )


def _faults(place: Place | None) -> dict[int, str]:
    return {} if place is None else {place.number: place.fault}


def _place(text: str) -> Place | None:
    if text == "-":
        return None
    number, _, fault = text.partition("=")
    return Place(int(number), fault)
