"""Long histories, by seed and by hypothesis."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.faults import histories
from tests.faults.conftest import report
from tests.faults.histories import ACTS, Act, History, Told
from tests.support.store import as_many, only_embedded

pytestmark = pytest.mark.timeout(600)

NUMBERS = st.integers(min_value=0, max_value=999)


async def test_histories_by_seed_keep_every_promise() -> None:
    await report([await histories.run(Told(seed)) for seed in range(as_many(80, on_a_server=10))])


async def test_same_seed_tells_the_same_history() -> None:
    first, second = await histories.run(Told(11)), await histories.run(Told(11))
    assert _without_ids(first.trace) == _without_ids(second.trace)


async def test_part_of_a_history_is_a_history_by_name() -> None:
    told = Told.parse("history:11:0.2.4")
    assert str(told) == "history:11:0.2.4"
    assert told.acts() == [Told(11).acts()[number] for number in (0, 2, 4)]


def _without_ids(trace: list[str]) -> list[str]:
    return [line.partition("{")[0] for line in trace]


class Shop(RuleBasedStateMachine):
    """Hypothesis chooses what happens, and finds the shortest history that breaks a promise."""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.history = History()
        self.runner.run(self.history.begin())

    @rule(kind=st.sampled_from(sorted(ACTS)), which=NUMBERS, what=NUMBERS)
    def something_happens(self, kind: str, which: int, what: int) -> None:
        self.runner.run(self.history.do(Act(kind, which, what)))

    def teardown(self) -> None:
        history: Any = getattr(self, "history", None)
        if history is None:
            return
        try:
            broken = self.runner.run(history.end())
        finally:
            self.runner.close()
        assert not broken, "\n".join([*history.lab.trace, *map(str, broken)])


TestShop = only_embedded("a history of hypothesis begins outside the event loop")(Shop.TestCase)
TestShop.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
