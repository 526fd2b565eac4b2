"""Operations on the same payment or user at once, under every schedule or many by seed."""

import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.faults.crashes import Outcome
from tests.faults.flows import (
    BOOK,
    a_paid_card,
    an_open_intent,
    an_open_session,
    cancel,
    confirm,
    nothing,
    open_intent,
    open_session,
    paid_credits,
    pay_by_credits,
    pay_in_browser,
    pay_page,
    refund,
)
from tests.faults.laboratory import LEASE_SECONDS, Laboratory
from tests.faults.schedules import (
    EverySchedule,
    FixedSchedule,
    Gatekeeper,
    Operation,
    RandomSchedule,
    Schedule,
    Stop,
    StoppedSchedule,
)
from tests.faults.steps import Step
from tests.faults.world import Request, World, minutes

Document = dict[str, Any]
Operations = Callable[[Laboratory, Document], dict[str, Operation]]


@dataclass(frozen=True, slots=True)
class Race:
    """``is_short``: two operations with few enough steps to try every schedule."""

    name: str
    prepare: Any
    operations: Operations
    is_short: bool


RACES: Final[dict[str, Race]] = {}


def race(prepare: Any, *, is_short: bool = False) -> Callable[[Operations], Operations]:
    def register(operations: Operations) -> Operations:
        name = operations.__name__
        RACES[name] = Race(name, prepare, operations, is_short)
        return operations

    return register


# Who runs at once. Two machines: two instances of the service, as behind a load balancer.


@race(nothing, is_short=True)
def two_credits_payments(lab: Laboratory, given: Document) -> dict[str, Operation]:
    """Ada has 10: one of the two must be refused."""
    return {
        "first": lambda: pay_by_credits(lab, credits=6),
        "second": lambda: pay_by_credits(lab, credits=6, on=1),
    }


@race(nothing)
def four_credits_payments(lab: Laboratory, given: Document) -> dict[str, Operation]:
    def payer(number: int) -> Operation:
        return lambda: pay_by_credits(lab, credits=4, on=number % 2)

    return {f"payer {number}": payer(number) for number in range(4)}


@race(paid_credits, is_short=True)
def two_refunds_of_credits(lab: Laboratory, given: Document) -> dict[str, Operation]:
    return {
        "first": lambda: refund(lab, given, credits=3),
        "second": lambda: refund(lab, given, credits=3, on=1),
    }


@race(a_paid_card, is_short=True)
def two_refunds_of_a_card(lab: Laboratory, given: Document) -> dict[str, Operation]:
    return {
        "first": lambda: refund(lab, given, amount_cents=600),
        "second": lambda: refund(lab, given, amount_cents=600, on=1),
    }


@race(paid_credits, is_short=True)
def credits_payment_and_refund(lab: Laboratory, given: Document) -> dict[str, Operation]:
    return {
        "payer": lambda: pay_by_credits(lab, credits=8),
        "refund": lambda: refund(lab, given, on=1),
    }


def _request(lab: Laboratory, path: str, body: Document) -> Request:
    request = Request("POST", path, body, lab.new_key(), lab.world.now)
    lab.world.requests.append(request)
    return request


def _twice(lab: Laboratory, request: Request) -> dict[str, Operation]:
    """The caller gave up waiting: the key's lease is over while its first try still runs."""

    async def ask_again() -> None:
        await lab.wait(LEASE_SECONDS)
        await lab.send(request, on=1)

    return {"first": lambda: lab.send(request), "retry": ask_again}


@race(nothing, is_short=True)
def first_try_and_retry_of_credits(lab: Laboratory, given: Document) -> dict[str, Operation]:
    body = {"user_id": "ada", "amount": 300, "metadata": {"request": "open once"}}
    return _twice(lab, _request(lab, "/pay-with-credits", body))


@race(nothing, is_short=True)
def first_try_and_retry_of_an_intent(lab: Laboratory, given: Document) -> dict[str, Operation]:
    body = {"user_id": "ada", "amount": 300, "metadata": {"request": "open once"}}
    return _twice(lab, _request(lab, "/create-payment-intent", body))


@race(nothing, is_short=True)
def first_try_and_retry_of_a_session(lab: Laboratory, given: Document) -> dict[str, Operation]:
    body = {"user_id": "ada", "items": [BOOK], "metadata": {"request": "open once"}}
    return _twice(lab, _request(lab, "/create-checkout-session", body))


@race(an_open_intent, is_short=True)
def first_try_and_retry_of_a_confirmation(lab: Laboratory, given: Document) -> dict[str, Operation]:
    body = {
        "payment_intent_id": given["payment_intent_id"],
        "payment_method_id": "pm_card_visa_chargeDeclined",
    }
    return _twice(lab, _request(lab, "/confirm-payment", body))


@race(a_paid_card, is_short=True)
def first_try_and_retry_of_a_refund(lab: Laboratory, given: Document) -> dict[str, Operation]:
    body = {"payment_id": given["payment_id"], "reason": "refund once"}
    return _twice(lab, _request(lab, "/refund", body))


@race(nothing)
def refused_for_credits_that_come_back(lab: Laboratory, given: Document) -> dict[str, Operation]:
    """One try finds too few credits; before it can say so, the retry finds enough."""
    body = {"user_id": "ada", "amount": 800, "metadata": {"request": "open once"}}
    operations = _twice(lab, _request(lab, "/pay-with-credits", body))

    async def buy_and_return() -> None:
        paid = await pay_by_credits(lab, credits=5, on=1)
        if paid is not None:
            await refund(lab, paid, on=1)

    return {**operations, "another": buy_and_return}


@race(nothing, is_short=True)
def slow_debit_and_reconciler(lab: Laboratory, given: Document) -> dict[str, Operation]:
    """A request that hangs for minutes while the reconciler gives its payment up."""

    async def reconcile() -> None:
        await lab.wait(minutes(2))
        await lab.reconcile(on=1)

    return {"payer": lambda: pay_by_credits(lab), "reconciler": reconcile}


@race(nothing)
def very_slow_debit(lab: Laboratory, given: Document) -> dict[str, Operation]:
    """A request that sleeps, its machine suspended say, for longer than marks are kept."""

    async def reconcile() -> None:
        for _ in range(5):
            await lab.wait(minutes(8))
            await lab.reconcile(on=1)

    return {"payer": lambda: pay_by_credits(lab), "reconciler": reconcile}


@race(paid_credits)
def very_slow_refund_of_credits(lab: Laboratory, given: Document) -> dict[str, Operation]:
    async def reconcile() -> None:
        for _ in range(5):
            await lab.wait(minutes(8))
            await lab.reconcile(on=1)

    return {"refund": lambda: refund(lab, given, credits=2), "reconciler": reconcile}


async def a_refund_of_credits_cut_short(lab: Laboratory, given: Document) -> None:
    """The process died between the reservation and the credits."""
    await paid_credits(lab, given)
    whole = lab.play("p")
    await refund(lab, given, credits=1)
    giving = next(n for n, step in enumerate(whole.steps) if _changes_balance(step))
    body = {"payment_id": given["payment_id"], "credits": 2, "reason": "refund once"}
    given["request"] = request = _request(lab, "/refund", body)
    lab.play("p", {giving: "die_before"})
    await lab.send(request)
    lab.pause()
    lab.world.pass_time(LEASE_SECONDS)


def _changes_balance(step: Step) -> bool:
    return step.writes and step.target == "auth.users"


@race(a_refund_of_credits_cut_short)
def very_slow_repeat_of_a_refund(lab: Laboratory, given: Document) -> dict[str, Operation]:
    async def reconcile() -> None:
        for _ in range(5):
            await lab.wait(minutes(8))
            await lab.reconcile(on=1)

    return {"repeat": lambda: lab.send(given["request"]), "reconciler": reconcile}


@race(an_open_intent, is_short=True)
def webhook_and_confirmation(lab: Laboratory, given: Document) -> dict[str, Operation]:
    pay_in_browser(lab, given)
    (event,) = lab.event_ids("payment_intent.succeeded")
    return {
        "webhook": lambda: lab.deliver(event, on=1),
        "confirm": lambda: confirm(lab, given, None),
    }


@race(an_open_intent, is_short=True)
def payment_and_refund(lab: Laboratory, given: Document) -> dict[str, Operation]:
    """A clerk refunds what is only being written down as paid."""
    pay_in_browser(lab, given)
    (event,) = lab.event_ids("payment_intent.succeeded")
    return {
        "webhook": lambda: lab.deliver(event, on=1),
        "refund": lambda: refund(lab, given, amount_cents=400),
    }


@race(nothing)
def an_intent_is_made_while_it_is_given_up(
    lab: Laboratory, given: Document
) -> dict[str, Operation]:
    async def buy() -> None:
        opened = await open_intent(lab)
        if opened is not None:
            pay_in_browser(lab, opened)

    return {"buyer": buy, "reconciler": lambda: _reconcile_a_day_later(lab)}


@race(nothing)
def a_page_is_made_while_it_is_given_up(lab: Laboratory, given: Document) -> dict[str, Operation]:
    async def buy() -> None:
        opened = await open_session(lab)
        if opened is not None:
            pay_page(lab, opened)

    return {"buyer": buy, "reconciler": lambda: _reconcile_a_day_later(lab)}


async def _reconcile_a_day_later(lab: Laboratory) -> None:
    await lab.wait(minutes(24 * 60 + 1))
    await lab.reconcile(on=1)


@race(an_open_intent)
def a_shopper_pays_what_is_canceled(lab: Laboratory, given: Document) -> dict[str, Operation]:
    async def pay() -> None:
        await lab.wait(1)
        pay_in_browser(lab, given)
        for event_id in lab.undelivered:
            await lab.deliver(event_id, on=1)

    return {"owner": lambda: cancel(lab, given), "shopper": pay}


@race(an_open_session)
def a_page_is_paid_and_canceled(lab: Laboratory, given: Document) -> dict[str, Operation]:
    async def pay() -> None:
        await lab.wait(1)
        pay_page(lab, given)
        for event_id in lab.undelivered:
            await lab.deliver(event_id, on=1)

    return {"owner": lambda: cancel(lab, given), "shopper": pay}


@race(nothing)
def an_intent_is_made_while_it_is_canceled(
    lab: Laboratory, given: Document
) -> dict[str, Operation]:
    async def cancel_what_is_there() -> None:
        await lab.wait(1)
        for payment in lab.world.collection("payments").find({}):
            await cancel(lab, {"payment_id": payment["_id"]}, on=1)

    return {"buyer": lambda: open_intent(lab), "owner": cancel_what_is_there}


@race(an_open_intent)
def two_confirmations(lab: Laboratory, given: Document) -> dict[str, Operation]:
    """One card is declined, the other is not."""

    async def webhooks() -> None:
        for _ in range(3):
            await lab.deliver_all()

    return {
        "declined": lambda: confirm(lab, given, "pm_card_visa_chargeDeclined"),
        "good": lambda: confirm(lab, given),
        "webhooks": webhooks,
    }


@race(an_open_intent, is_short=True)
def the_same_event_twice(lab: Laboratory, given: Document) -> dict[str, Operation]:
    pay_in_browser(lab, given)
    (event,) = lab.event_ids("payment_intent.succeeded")
    return {"one": lambda: lab.deliver(event), "two": lambda: lab.deliver(event, on=1)}


@race(an_open_intent)
def webhook_and_reconciler(lab: Laboratory, given: Document) -> dict[str, Operation]:
    pay_in_browser(lab, given)
    lab.world.pass_time(minutes(2))
    events = lab.undelivered
    return {
        "webhook": lambda: lab.deliver_all(events),
        "reconciler": lambda: lab.reconcile(on=1),
    }


@race(an_open_session)
def page_events_and_look_up(lab: Laboratory, given: Document) -> dict[str, Operation]:
    pay_page(lab, given)
    events = lab.undelivered

    def delivery(number: int, event: str) -> Operation:
        return lambda: lab.deliver(event, on=number % 2)

    operations = {f"event {number}": delivery(number, id) for number, id in enumerate(events)}
    operations["look up"] = lambda: lab.get(f"/checkout-session/{given['session_id']}")
    return operations


@race(an_open_intent)
def two_reconcilers(lab: Laboratory, given: Document) -> dict[str, Operation]:
    """The second starts when the lease of the first is over and the first still runs."""
    pay_in_browser(lab, given)
    lab.world.pass_time(minutes(2))

    async def second() -> None:
        await lab.wait(minutes(11))
        await lab.reconcile(on=1)

    return {"first": lambda: lab.reconcile(), "second": second}


@race(a_paid_card)
def refund_and_dashboard_refund(lab: Laboratory, given: Document) -> dict[str, Operation]:
    lab.world.stripe.dashboard_refund(payment_intent=given["payment_intent_id"], amount=600)
    events = lab.undelivered
    return {
        "refund": lambda: refund(lab, given),
        "part": lambda: refund(lab, given, amount_cents=399, on=1),
        "webhooks": lambda: lab.deliver_all(events),
    }


@race(a_paid_card)
def refund_its_webhooks_and_reconciler(lab: Laboratory, given: Document) -> dict[str, Operation]:
    """The refund's own events may overtake its answer."""

    async def webhooks() -> None:
        for _ in range(4):
            await lab.deliver_all()
            await lab.get(f"/payment/{given['payment_id']}")

    async def reconcile() -> None:
        await lab.wait(minutes(2))
        await lab.reconcile(on=1)

    return {
        "refund": lambda: refund(lab, given, amount_cents=500),
        "webhooks": webhooks,
        "reconciler": reconcile,
    }


@race(a_paid_card)
def a_refund_comes_back_while_it_is_noted(lab: Laboratory, given: Document) -> dict[str, Operation]:
    """The order may be half-way to a status that the payment has left again."""
    made = lab.world.stripe.dashboard_refund(payment_intent=given["payment_intent_id"], amount=300)
    created = lab.undelivered

    async def fail() -> None:
        await lab.wait(1)
        lab.world.stripe.fail_refund(made["id"])
        await lab.deliver_all([id for id in lab.undelivered if id not in created])

    return {
        "refund": lambda: lab.deliver_all(created),
        "failure": fail,
        "reconciler": lambda: lab.reconcile(on=1),
    }


@race(nothing)
def payment_and_its_webhooks(lab: Laboratory, given: Document) -> dict[str, Operation]:
    """The news of a payment may overtake the payment's own record of Stripe's id."""

    async def pay() -> None:
        opened = await open_intent(lab)
        if opened is not None:
            await confirm(lab, opened)

    async def webhooks() -> None:
        for _ in range(6):
            await lab.deliver_all()
            await lab.get("/user/ada/payments")

    return {"payer": pay, "webhooks": webhooks, "reconciler": lambda: lab.reconcile(on=1)}


async def a_disputed_card(lab: Laboratory, given: Document) -> None:
    await a_paid_card(lab, given)
    opened = lab.world.stripe.open_dispute(payment_intent=given["payment_intent_id"], inquiry=True)
    given["dispute_id"] = opened["id"]


@race(a_disputed_card, is_short=True)
def a_dispute_is_decided_while_it_is_recorded(
    lab: Laboratory, given: Document
) -> dict[str, Operation]:
    """One worker has heard from Stripe, and is slow to write it down."""
    (opened,) = lab.undelivered

    async def decide() -> None:
        await lab.wait(1)
        lab.world.stripe.close_dispute(given["dispute_id"], "lost")
        for event_id in lab.event_ids("charge.dispute.closed"):
            await lab.deliver(event_id, on=1)

    return {"opened": lambda: lab.deliver(opened), "decided": decide}


# Running them


@dataclass(frozen=True, slots=True)
class Run:
    """By seed, by who is stopped where, or by its choices. ``dies_at``: the instance dies whose
    step that is.

    By some seeds Stripe does not redeliver, and by some the instances' clocks differ.
    """

    race: str
    seed: int | None = None
    choices: tuple[int, ...] = ()
    dies_at: int | None = None
    stops: tuple[Stop, ...] = ()

    def __str__(self) -> str:
        if self.seed is not None:
            how = f"seed={self.seed}"
        elif self.stops:
            how = "stop=" + ",".join(f"{name}={steps}" for name, steps in self.stops)
        else:
            how = ".".join(map(str, self.choices))
        return f"race:{self.race}:{how}:{'' if self.dies_at is None else self.dies_at}"

    @classmethod
    def parse(cls, text: str) -> "Run":
        _, name, how, dies_at = text.split(":")
        death = int(dies_at) if dies_at else None
        if how.startswith("seed="):
            return cls(name, int(how.removeprefix("seed=")), (), death)
        if how.startswith("stop="):
            pairs = [stop.partition("=") for stop in how.removeprefix("stop=").split(",")]
            return cls(name, None, (), death, tuple((who, int(n)) for who, _, n in pairs))
        return cls(name, None, tuple(int(n) for n in how.split(".") if n), death)

    @classmethod
    def by_seed(cls, race: str, seed: int) -> "Run":
        """Every third one with a death in its midst."""
        return cls(race, seed, (), Random(seed).randrange(30) if seed % 3 == 2 else None)

    @property
    def redelivers(self) -> bool:
        return self.seed is None or self.seed % 5 != 4

    @property
    def seconds_ahead(self) -> float:
        """The second instance's clock."""
        return 0.0 if self.seed is None else {3: 120.0, 5: -120.0}.get(self.seed % 7, 0.0)


async def run(case: Run) -> Outcome:
    return await _run(case, _schedule(case))


def _schedule(case: Run) -> Schedule:
    if case.seed is not None:
        return RandomSchedule(case.seed)
    return StoppedSchedule(case.stops) if case.stops else FixedSchedule(case.choices)


async def shortest(found: Outcome) -> Run:
    """With as few choices as still break one of its promises: after them the first goes on."""
    case = Run.parse(found.name)
    for count in range(len(found.choices)):
        shorter = Run(case.race, None, tuple(found.choices[:count]), case.dies_at)
        if (await run(shorter)).promises & found.promises:
            return shorter
    return case


async def every(race: str) -> AsyncIterator[Outcome]:
    """All schedules of a short race that differ in more than the order of commuting steps."""
    schedule = EverySchedule()
    while True:
        outcome = await _run(Run(race), schedule)
        if not schedule.is_redundant:
            outcome.name = str(Run(race, None, tuple(outcome.choices)))
            yield outcome
        if not schedule.advance():
            return


async def stops(race: str) -> AsyncIterator[Outcome]:
    """All schedules in which one operation is stopped anywhere, then another anywhere, until all
    others are over.
    """
    for first, second in itertools.permutations(await _names(race), 2):
        for before in itertools.count():
            was_stopped = False
            for after in itertools.count(1):
                case = Run(race, stops=((first, before), (second, after)))
                schedule = StoppedSchedule(case.stops)
                yield await _run(case, schedule)
                was_stopped |= first in schedule.stopped
                if second not in schedule.stopped:
                    break
            if not was_stopped:
                break


async def _names(race: str) -> list[str]:
    lab = Laboratory(World())
    try:
        given: Document = {}
        await RACES[race].prepare(lab, given)
        return list(RACES[race].operations(lab, given))
    finally:
        await lab.close()


async def _run(case: Run, schedule: Schedule) -> Outcome:
    race = RACES[case.race]
    lab = Laboratory(World(ahead={1: case.seconds_ahead}))
    try:
        given: Document = {}
        await lab.process()
        await lab.process(1)
        await race.prepare(lab, given)
        operations = race.operations(lab, given)
        lab.note(f"{race.name} begins")
        script = lab.play("s", {} if case.dies_at is None else {case.dies_at: "die_before"})
        gatekeeper = Gatekeeper(schedule)
        lab.gate = gatekeeper.gate
        await gatekeeper.run(operations)
        lab.gate = None
        lab.pause()
        lab.note("recovery begins")
        await lab.recover(retries=True, redelivers=case.redelivers)
    finally:
        lab.gate = None
        await lab.close()
    return Outcome(str(case), lab.broken, lab.trace, script.steps, choices=gatekeeper.choices)
