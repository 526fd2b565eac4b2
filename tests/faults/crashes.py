"""A flow, broken at one place (and its recovery at another), then brought to rest and checked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tests.faults.checker import Broken
from tests.faults.flows import FLOWS
from tests.faults.laboratory import Laboratory
from tests.faults.steps import DEATHS, Step, faults_of
from tests.faults.world import World, minutes

A_DAY_LATER: Final = minutes(25 * 60)
"""Longer than anybody keeps an idempotency key."""


@dataclass(frozen=True, slots=True)
class Place:
    """The number of a step and what befalls it."""

    number: int
    fault: str

    def __str__(self) -> str:
        return f"{self.number}={self.fault}"


@dataclass(frozen=True, slots=True)
class After:
    """What callers and Stripe do after trouble. ``is_late``: the service is away for a day."""

    retries: bool = True
    redelivers: bool = True
    is_late: bool = False

    def __str__(self) -> str:
        words = [
            "retry" if self.retries else "no-retry",
            "redeliver" if self.redelivers else "no-redeliver",
        ]
        return ":".join([*words, "late"] if self.is_late else words)

    @classmethod
    def parse(cls, words: Sequence[str]) -> "After":
        return cls("retry" in words, "redeliver" in words, "late" in words)


AFTERWARDS: Final = (
    After(),
    After(redelivers=False),
    After(retries=False),
    After(retries=False, redelivers=False),
    After(retries=False, redelivers=False, is_late=True),
)


@dataclass(frozen=True, slots=True)
class Case:
    """Its text is its name, by which it is run alone."""

    flow: str
    act: Place | None = None
    recovery: Place | None = None
    after: After = AFTERWARDS[0]

    def __str__(self) -> str:
        return f"crash:{self.flow}:{self.act or '-'}:{self.recovery or '-'}:{self.after}"

    @classmethod
    def parse(cls, text: str) -> "Case":
        _, flow, act, recovery, *after = text.split(":")
        return cls(flow, _place(act), _place(recovery), After.parse(after))


@dataclass(slots=True)
class Outcome:
    name: str
    broken: list[Broken]
    trace: list[str]
    act: list[Step] = field(default_factory=list)
    recovery: list[Step] = field(default_factory=list)
    choices: list[int] = field(default_factory=list)
    """Who went on, of those that waited, where several ran at once."""

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
        after = case.after
        if after.is_late:
            lab.world.pass_time(A_DAY_LATER)
        recovery = await lab.recover(
            retries=after.retries, redelivers=after.redelivers, faults=_faults(case.recovery)
        )
    finally:
        await lab.close()
    return Outcome(str(case), lab.broken, lab.trace, act.steps, recovery.steps)


async def deaths(flow: str) -> Iterator[Case]:
    """Every place of the flow, before and after, with whatever may come afterwards."""
    steps = (await run(Case(flow))).act
    return (
        Case(flow, Place(number, death), None, after)
        for number in range(len(steps))
        for death in DEATHS
        for after in AFTERWARDS
    )


async def faults(flow: str) -> Iterator[Case]:
    """Every place of the flow with everything that can go wrong there but death."""
    steps = (await run(Case(flow))).act
    return (
        Case(flow, Place(number, fault), None, after)
        for number, step in enumerate(steps)
        for fault in faults_of(step)
        for after in AFTERWARDS
    )


async def shortest(case: Case, promises: set[str]) -> Case:
    """With one trouble rather than two, if that is enough to break one of the promises."""
    for simpler in (replace(case, recovery=None), replace(case, act=None)):
        if simpler != case and (await run(simpler)).promises & promises:
            return simpler
    return case


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
