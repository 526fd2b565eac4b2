"""However events come, a payment ends the same."""

from random import Random

import pytest

from tests.faults import orders
from tests.faults.conftest import report

SAMPLE = 30

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("life", orders.LIVES)
async def test_payment_ends_the_same_in_whatever_order_its_events_come(life: str) -> None:
    cases = list(await orders.every(life))
    cases = cases[:1] + Random(life).sample(cases, min(SAMPLE, len(cases)))
    await report([await orders.run(case) for case in cases])


@pytest.mark.parametrize("life", orders.LIVES)
async def test_events_may_be_lost_and_repeated_at_random(life: str) -> None:
    await report([await orders.run(case) for case in await orders.sample(life, 12, seed=7)])
