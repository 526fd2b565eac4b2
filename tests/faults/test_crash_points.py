"""The process dies at every step of every flow, and everything that can fail fails."""

from random import Random

import pytest

from tests.faults import crashes
from tests.faults.conftest import report, sampled
from tests.faults.crashes import Case
from tests.faults.flows import FLOWS
from tests.support.store import only_embedded

OF_EACH_KIND = sampled(16, 32, on_a_server=5)

pytestmark = pytest.mark.timeout(600)

AT_ONCE = only_embedded("it looks after several payments at once, so its steps come in any order")
NUMBERED = [pytest.param(flow, marks=AT_ONCE if flow == "reconcile" else ()) for flow in FLOWS]
"""A fault is chosen by the step's number and for its kind."""


@pytest.mark.parametrize("flow", FLOWS)
async def test_undisturbed_flow_keeps_every_promise(flow: str) -> None:
    outcome = await crashes.run(Case(flow))
    await report([outcome])
    assert outcome.act, "a flow without a step proves nothing"


@OF_EACH_KIND
@pytest.mark.parametrize("flow", FLOWS)
async def test_process_may_die_at_any_step(flow: str, sample: slice) -> None:
    cases = list(await crashes.deaths(flow))
    Random(flow).shuffle(cases)
    await report([await crashes.run(case) for case in cases[sample]])


@pytest.mark.parametrize("flow", FLOWS)
async def test_process_may_die_again_while_it_recovers(flow: str) -> None:
    random = Random(flow)
    deaths = list(await crashes.deaths(flow))
    outcomes = []
    for case in random.sample(deaths, min(2, len(deaths))):
        first = await crashes.run(case)
        again = list(crashes.deaths_of_recovery(first, case))
        outcomes += [await crashes.run(each) for each in random.sample(again, min(3, len(again)))]
    await report(outcomes)


@OF_EACH_KIND
@pytest.mark.parametrize("flow", NUMBERED)
async def test_any_step_may_fail(flow: str, sample: slice) -> None:
    cases = list(await crashes.faults(flow))
    Random(flow).shuffle(cases)
    await report([await crashes.run(case) for case in cases[sample]])


async def test_steps_of_every_kind_are_found_by_recording() -> None:
    """A wire that no longer sees what the application sends would make every test here pass."""
    steps: set[str] = set()
    for flow in FLOWS:
        steps |= {str(step) for step in (await crashes.run(Case(flow))).act}
    assert {
        "db find_one payments.payments",
        "db insert_one payments.payments",
        "db update_one payments.payments",
        "db insert_one payments.orders",
        "db insert_one payments.idempotency_keys",
        "db insert_one payments.webhook_events",
        "db find_one_and_update auth.users",
        "db find payments.payments",
        "stripe POST /v1/payment_intents",
        "stripe POST /v1/checkout/sessions",
        "stripe POST /v1/refunds",
        "stripe GET /v1/events",
    } <= steps
