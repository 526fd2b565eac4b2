"""However events come, a payment ends the same."""

from random import Random

import pytest

from tests.faults import orders
from tests.faults.conftest import report, sampled
from tests.support.store import SERVER_URL

pytestmark = pytest.mark.timeout(600)


@sampled(16, 30, on_a_server=6)
@pytest.mark.parametrize("life", orders.LIVES)
async def test_payment_ends_the_same_in_whatever_order_its_events_come(
    life: str, sample: slice
) -> None:
    first, *others = [case for case in await orders.every(life) if can_be_run(case)]
    Random(life).shuffle(others)
    await report([await orders.run(case) for case in [first, *others[sample]]])


def can_be_run(case: orders.Order) -> bool:
    """A request is held in flight step by step, which only the embedded store allows."""
    return SERVER_URL is None or case.stops_after is None


@pytest.mark.parametrize("life", orders.LIVES)
async def test_events_may_be_lost_and_repeated_at_random(life: str) -> None:
    random, count = Random(life), await orders.count_events(life)
    cases = [orders.by_chance(life, count, random) for _ in range(8)]
    await report([await orders.run(case) for case in cases if can_be_run(case)])
