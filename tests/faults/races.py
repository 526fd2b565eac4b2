"""Operations on the same payment or user at once, under every schedule or many by seed."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.faults.crashes import Outcome
from tests.faults.flows import (
    a_paid_card,
    an_open_intent,
    an_open_session,
    confirm,
    nothing,
    open_intent,
    paid_credits,
    pay_by_credits,
    pay_in_browser,
    pay_page,
    refund,
)
from tests.faults.laboratory import Laboratory
from tests.faults.schedules import (
    EverySchedule,
    FixedSchedule,
    Gatekeeper,
    Operation,
    RandomSchedule,
    Schedule,
)
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


def _opening(lab: Laboratory, path: str, body: Document) -> Request:
    request = Request("POST", path, body, lab.new_key(), lab.world.now)
    lab.world.requests.append(request)
    return request


@race(nothing, is_short=True)
def first_try_and_retry_of_credits(lab: Laboratory, given: Document) -> dict[str, Operation]:
    """The caller gave up waiting: the key's lease is over while its first try still runs."""
    body = {"user_id": "ada", "amount": 300, "metadata": {"request": "open once"}}
    request = _opening(lab, "/pay-with-credits", body)

    async def ask_again() -> None:
        await lab.wait(31)
        await lab.send(request, on=1)

    return {"first": lambda: lab.send(request), "retry": ask_again}


@race(nothing, is_short=True)
def first_try_and_retry_of_an_intent(lab: Laboratory, given: Document) -> dict[str, Operation]:
    body = {"user_id": "ada", "amount": 300, "metadata": {"request": "open once"}}
    request = _opening(lab, "/create-payment-intent", body)

    async def ask_again() -> None:
        await lab.wait(31)
        await lab.send(request, on=1)

    return {"first": lambda: lab.send(request), "retry": ask_again}


@race(a_paid_card, is_short=True)
def first_try_and_retry_of_a_refund(lab: Laboratory, given: Document) -> dict[str, Operation]:
    body = {"payment_id": given["payment_id"], "reason": "refund once"}
    request = _opening(lab, "/refund", body)

    async def ask_again() -> None:
        await lab.wait(31)
        await lab.send(request, on=1)

    return {"first": lambda: lab.send(request), "retry": ask_again}


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


@race(an_open_intent, is_short=True)
def webhook_and_confirmation(lab: Laboratory, given: Document) -> dict[str, Operation]:
    pay_in_browser(lab, given)
    (event,) = lab.event_ids("payment_intent.succeeded")
    return {
        "webhook": lambda: lab.deliver(event, on=1),
        "confirm": lambda: confirm(lab, given, None),
    }


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
    lab.world.stripe.fail_refund(made["id"])
    failed = [id for id in lab.undelivered if id not in created]
    return {
        "refund": lambda: lab.deliver_all(created),
        "failure": lambda: lab.deliver_all(failed),
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


# Running them


@dataclass(frozen=True, slots=True)
class Run:
    """By seed, or by its choices. ``dies_at``: the first instance dies at that step."""

    race: str
    seed: int | None = None
    choices: tuple[int, ...] = ()
    dies_at: int | None = None

    def __str__(self) -> str:
        how = ".".join(map(str, self.choices)) if self.seed is None else f"seed={self.seed}"
        return f"race:{self.race}:{how}:{'' if self.dies_at is None else self.dies_at}"

    @classmethod
    def parse(cls, text: str) -> "Run":
        _, name, how, dies_at = text.split(":")
        death = int(dies_at) if dies_at else None
        if how.startswith("seed="):
            return cls(name, int(how.removeprefix("seed=")), (), death)
        return cls(name, None, tuple(int(n) for n in how.split(".") if n), death)

    @classmethod
    def by_seed(cls, race: str, seed: int) -> "Run":
        """Every third one with a death in its midst."""
        return cls(race, seed, (), Random(seed).randrange(30) if seed % 3 == 2 else None)


async def run(case: Run) -> Outcome:
    schedule: Schedule
    schedule = FixedSchedule(case.choices) if case.seed is None else RandomSchedule(case.seed)
    return await _run(case, schedule, redelivers=(case.seed or 0) % 5 != 4)


async def every(race: str) -> AsyncIterator[Outcome]:
    """All schedules of a short race that differ in more than the order of commuting steps."""
    schedule = EverySchedule()
    while True:
        outcome = await _run(Run(race), schedule, redelivers=True)
        if not schedule.is_redundant:
            outcome.name = str(Run(race, None, tuple(schedule.choices)))
            yield outcome
        if not schedule.advance():
            return


async def _run(case: Run, schedule: Schedule, *, redelivers: bool) -> Outcome:
    race = RACES[case.race]
    lab = Laboratory(World())
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
        await lab.recover(retries=True, redelivers=redelivers)
    finally:
        lab.gate = None
        await lab.close()
    return Outcome(str(case), lab.broken, lab.trace, script.steps)
