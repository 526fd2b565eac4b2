"""What the laboratory has found: each mistake as the few schedules that showed it."""

import pytest

from app.domain.callers import INTERNAL
from tests.faults import races
from tests.faults.conftest import report
from tests.faults.flows import Document, a_paid_card, open_intent, refund
from tests.faults.laboratory import Laboratory
from tests.faults.races import Run
from tests.faults.world import World, minutes
from tests.support.store import only_embedded

pytestmark = [
    pytest.mark.timeout(600),
    only_embedded("its schedules count on commands that never wait"),
]


async def test_refund_of_ours_is_not_taken_for_one_from_the_dashboard() -> None:
    """A worker read the payment, a colleague made a refund and died before he could write Stripe's
    id down, then the worker heard of it from Stripe.
    """
    lab, paid = Laboratory(), Document()
    try:
        await a_paid_card(lab, paid)
        services = (await lab.process()).services
        as_it_was = await services.lookup.get(INTERNAL, paid["payment_id"])
        await refund(lab, paid, amount_cents=300)
        unsettled = {"status": "pending"}
        stored = lab.world.collection("payments")
        (made,) = stored.find_one({"_id": paid["payment_id"]})["refunds"]
        made = {name: value for name, value in made.items() if name != "stripe_refund_id"}
        stored.update_one(
            {"_id": paid["payment_id"]},
            {"$set": {"refunds": [made | unsettled], "status": "succeeded"}},
        )

        payment = await services.refunds._outcomes.observe_all(as_it_was, cause="test")

        assert [(each.refund_id, each.status) for each in payment.refunds] == [
            (made["refund_id"], "succeeded")
        ]
        assert payment.refundable_amount == 699
    finally:
        await lab.close()


async def test_payment_is_not_given_up_while_its_page_is_handed_out() -> None:
    """The reconciler had read it without a page; the shopper paid on the page all the same."""
    await report(
        [
            await races.run(
                Run(
                    "a_page_is_made_while_it_is_given_up",
                    stops=(("buyer", 2), ("reconciler", step)),
                )
            )
            for step in range(1, 20)
        ]
    )


RETURNED = "refused_for_credits_that_come_back"


async def test_repeat_is_not_refused_for_what_the_first_try_has_taken() -> None:
    """And its refusal does not replace the first try's answer."""
    stops = [(("first", 1), ("retry", step)) for step in range(1, 12)]
    await report([await races.run(Run(RETURNED, stops=each)) for each in stops])


async def test_first_try_cannot_pay_once_its_repeat_was_refused() -> None:
    stops = [(("first", 1), ("another", step), ("retry", 99)) for step in range(1, 20)]
    await report([await races.run(Run(RETURNED, stops=each)) for each in stops])


async def test_payment_intent_is_not_made_again_once_stripe_may_have_forgotten_the_key() -> None:
    """Its answer was lost, and a day later the reconciler ran where the clock is a little slow."""
    lab = Laboratory(World(ahead={1: -120.0}))
    try:
        await lab.process()
        lab.play("p", {2: "error_after+"})
        await open_intent(lab)
        lab.pause()
        lab.world.pass_time(minutes(24 * 60))
        await lab.reconcile(on=1)
        await lab.recover(retries=False, redelivers=False)
        assert len(list(lab.world.stripe.payment_intents._records)) == 1
        assert not lab.broken
    finally:
        await lab.close()
