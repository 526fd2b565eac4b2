"""The events of a payment's life in every order, each twice, each missing, and with a request of
the shop's own between them or in flight. However they came, the payment must end the same.
"""

import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from tests.faults.checker import Broken
from tests.faults.crashes import Outcome
from tests.faults.flows import (
    a_paid_card,
    a_voucher,
    an_open_intent,
    an_open_session,
    confirm,
    intent_of,
    open_intent,
    pay_in_browser,
    pay_page,
    refund,
    submit_evidence,
)
from tests.faults.laboratory import Laboratory
from tests.faults.schedules import Gatekeeper, StoppedSchedule
from tests.faults.world import World

Document = dict[str, Any]
Happening = Callable[[Laboratory, Document], Awaitable[None]]
Request = Callable[[Laboratory, Document], Awaitable[Any]]
LONGEST: Final = 6
STOPS: Final = 9
"""A request in flight is stopped after none to eight of its steps."""


@dataclass(frozen=True, slots=True)
class Life:
    """``happens`` makes the events while the webhook is switched off; ``request`` is what the shop
    asks between deliveries.
    """

    name: str
    prepare: Happening
    happens: Happening
    request: Request


LIVES: Final[dict[str, Life]] = {}


def life(prepare: Happening, request: Request) -> Callable[[Happening], Happening]:
    def register(happens: Happening) -> Happening:
        name = happens.__name__
        LIVES[name] = Life(name, prepare, happens, request)
        return happens

    return register


async def look_at_intent(lab: Laboratory, given: Document) -> None:
    await confirm(lab, given, None)


async def look_at_session(lab: Laboratory, given: Document) -> None:
    await lab.get(f"/checkout-session/{given['session_id']}")


async def refund_a_part(lab: Laboratory, given: Document) -> None:
    await refund(lab, given, amount_cents=100)


async def an_intent_without_record(lab: Laboratory, given: Document) -> None:
    """Our process died before it could write Stripe's id down; the shopper's browser has it all the
    same, from a retry.
    """
    await open_intent(lab)
    payment = lab.world.collection("payments").find_one({})
    given.update(payment_id=payment["_id"], payment_intent_id=payment["stripe_payment_intent_id"])
    lab.world.collection("payments").update_one(
        {"_id": payment["_id"]}, {"$unset": {"stripe_payment_intent_id": ""}}
    )


@life(an_open_intent, look_at_intent)
async def declined_then_paid(lab: Laboratory, given: Document) -> None:
    pay_in_browser(lab, given, "pm_card_visa_chargeDeclined")
    pay_in_browser(lab, given, "pm_card_chargeDeclinedInsufficientFunds")
    pay_in_browser(lab, given)


@life(an_open_intent, refund_a_part)
async def paid_refunded_disputed(lab: Laboratory, given: Document) -> None:
    stripe = lab.world.stripe
    pay_in_browser(lab, given)
    stripe.dashboard_refund(payment_intent=given["payment_intent_id"], amount=300)
    inquiry = stripe.open_dispute(payment_intent=given["payment_intent_id"], inquiry=True)
    stripe.close_dispute(inquiry["id"], "won")


@life(a_paid_card, look_at_intent)
async def disputed_from_inquiry_to_verdict(lab: Laboratory, given: Document) -> None:
    intent_id = given["payment_intent_id"]
    dispute = lab.world.stripe.open_dispute(payment_intent=intent_id, inquiry=True)
    submit_evidence(lab, dispute["id"], "escalate_inquiry_evidence")
    submit_evidence(lab, dispute["id"], "a receipt")
    lab.world.stripe.close_dispute(dispute["id"], "won")


@life(an_open_intent, look_at_intent)
async def warned_of_fraud_and_disputed(lab: Laboratory, given: Document) -> None:
    pay_in_browser(lab, given, "pm_card_createIssuerFraudRecord")
    dispute = lab.world.stripe.open_dispute(payment_intent=given["payment_intent_id"])
    lab.world.stripe.close_dispute(dispute["id"], "lost")


@life(an_open_intent, look_at_intent)
async def paid_and_the_refund_came_back(lab: Laboratory, given: Document) -> None:
    pay_in_browser(lab, given)
    made = lab.world.stripe.dashboard_refund(payment_intent=given["payment_intent_id"])
    lab.world.stripe.fail_refund(made["id"])


@life(an_open_session, look_at_session)
async def bank_debit_of_a_page(lab: Laboratory, given: Document) -> None:
    pay_page(lab, given, "pm_usBankAccount")
    lab.world.stripe.settle(intent_of(lab, given), "succeeded")
    lab.world.stripe.dashboard_refund(payment_intent=intent_of(lab, given), amount=200)


@life(an_open_session, look_at_session)
async def bank_debit_that_bounced(lab: Laboratory, given: Document) -> None:
    pay_page(lab, given, "pm_usBankAccount")
    lab.world.stripe.settle(intent_of(lab, given), "failed")


@life(an_open_session, look_at_session)
async def page_declined_then_paid(lab: Laboratory, given: Document) -> None:
    pay_page(lab, given, "pm_card_visa_chargeDeclined")
    pay_page(lab, given)
    lab.world.stripe.dashboard_refund(payment_intent=intent_of(lab, given))


@life(an_open_session, look_at_session)
async def page_declined_then_expired(lab: Laboratory, given: Document) -> None:
    pay_page(lab, given, "pm_card_visa_chargeDeclined")
    lab.world.stripe.expire_session(given["session_id"])


@life(an_intent_without_record, look_at_intent)
async def paid_before_we_knew_the_intent(lab: Laboratory, given: Document) -> None:
    pay_in_browser(lab, given)
    lab.world.stripe.dashboard_refund(payment_intent=given["payment_intent_id"], amount=100)


def reword(lab: Laboratory, type: str, **words: Any) -> None:
    """Events of the type say it as an endpoint of another API version would."""
    for event in lab.world.events.values():
        if event["type"] == type:
            event["data"]["object"].update(words)


@life(an_open_intent, look_at_intent)
async def bank_debit_bounced_in_other_words(lab: Laboratory, given: Document) -> None:
    pay_in_browser(lab, given, "pm_usBankAccount")
    lab.world.stripe.settle(given["payment_intent_id"], "failed")
    reword(lab, "payment_intent.processing", latest_charge=None)


@life(an_open_intent, look_at_intent)
async def paid_in_the_shoppers_currency(lab: Laboratory, given: Document) -> None:
    pay_in_browser(lab, given)
    lab.world.stripe.dashboard_refund(payment_intent=given["payment_intent_id"], amount=300)
    reword(lab, "payment_intent.succeeded", currency="eur", amount=929, amount_received=929)
    reword(lab, "refund.created", currency="eur", amount=279)


@life(an_open_session, look_at_session)
async def page_paid_in_the_shoppers_currency(lab: Laboratory, given: Document) -> None:
    pay_page(lab, given)
    reword(lab, "checkout.session.completed", currency="eur", amount_total=929)


@life(a_voucher, look_at_intent)
async def voucher_then_card(lab: Laboratory, given: Document) -> None:
    pay_in_browser(lab, given, "pm_card_visa_chargeDeclined")
    pay_in_browser(lab, given)


@dataclass(frozen=True, slots=True)
class Order:
    """``events`` by their place in the true order, the same twice for a duplicate; ``request_at``
    is before which of them the shop's own request comes (None: not at all); ``stops_after`` so many
    of its steps until all events are delivered. An event that is not delivered is found in Stripe's
    list.
    """

    life: str
    events: tuple[int, ...]
    request_at: int | None = None
    stops_after: int | None = None

    def __str__(self) -> str:
        asked = "" if self.request_at is None else str(self.request_at)
        if self.stops_after is not None:
            asked += f"/{self.stops_after}"
        return f"order:{self.life}:{'.'.join(map(str, self.events))}:{asked}"

    @classmethod
    def parse(cls, text: str) -> "Order":
        _, name, events, asked = text.split(":")
        numbers = tuple(int(number) for number in events.split(".") if number)
        at, _, stop = asked.partition("/")
        return cls(name, numbers, int(at) if at else None, int(stop) if stop else None)

    def with_events(self, events: Sequence[int]) -> "Order":
        at = None if self.request_at is None else min(self.request_at, len(events))
        return replace(self, events=tuple(events), request_at=at)


async def run(case: Order) -> Outcome:
    life = LIVES[case.life]
    lab = Laboratory(World())
    try:
        given: Document = {}
        await life.prepare(lab, given)
        await life.happens(lab, given)
        ids = lab.undelivered
        events = [ids[number] for number in case.events if number < len(ids)]
        script = lab.play("o")
        if case.request_at is None:
            await lab.deliver_all(events)
        else:
            await lab.deliver_all(events[: case.request_at])
            rest = events[case.request_at :]
            if case.stops_after is None:
                await life.request(lab, given)
                await lab.deliver_all(rest)
            else:
                gatekeeper = Gatekeeper(StoppedSchedule([("request", case.stops_after)]))
                lab.gate = gatekeeper.gate
                await gatekeeper.run(
                    {
                        "request": lambda: life.request(lab, given),
                        "events": lambda: lab.deliver_all(rest),
                    }
                )
                lab.gate = None
        lab.pause()
        if not lab.undelivered:
            lab.broken.extend(_as_stripe_says(lab))
        await lab.recover(retries=True, redelivers=False)
        lab.broken.extend(_as_always(lab, life))
    finally:
        lab.gate = None
        await lab.close()
    return Outcome(str(case), lab.broken, lab.trace, script.steps)


def _as_stripe_says(lab: Laboratory) -> list[Broken]:
    """All events have come: no payment is taken for one whose money is under way, by an old one."""
    (payment,) = lab.world.collection("payments").find({})
    (intent,) = lab.world.stripe.payment_intents._records
    if payment["status"] == "processing" and intent.status == "requires_payment_method":
        return [Broken("6", "after all events a payment is processing, at Stripe it failed")]
    return []


_ENDS: dict[str, Document] = {}


def _as_always(lab: Laboratory, life: Life) -> list[Broken]:
    """Everything that money depends on is the same, in whatever order it was heard of."""
    (payment,) = lab.world.collection("payments").find({})
    if life.request is refund_a_part:
        return []
    end = {
        "status": payment["status"],
        "refundable": payment["refundable_amount"],
        "refunds": sorted((r["amount"], r["status"]) for r in payment["refunds"]),
        "held": "review" in payment,
        "disputes": [(d["status"], d["amount"]) for d in payment["disputes"]],
        "warnings": [w["actionable"] for w in payment["fraud_warnings"]],
        "orders": lab.world.collection("orders").count_documents({}),
    }
    first = _ENDS.setdefault(life.name, end)
    return [] if end == first else [Broken("6", f"ended as {end}, in another order as {first}")]


async def count_events(name: str) -> int:
    lab = Laboratory(World())
    try:
        given: Document = {}
        await LIVES[name].prepare(lab, given)
        await LIVES[name].happens(lab, given)
        return len(lab.undelivered)
    finally:
        await lab.close()


async def every(name: str) -> Iterator[Order]:
    """Every order of up to six events: of all of them, and with each missing. Each order plain,
    with the request between two events, with the request in flight, and with one event twice; which
    place, step and event goes by turns.
    """
    count = await count_events(name)
    return itertools.chain(*(_orders(name, events) for events in _choices(count)))


def _choices(count: int) -> Iterator[Sequence[int]]:
    """The events to be delivered: six at most at a time, all of them in turn."""
    everything = range(count)
    if count <= LONGEST:
        yield everything
    for left_out in range(count):
        rest = [number for number in everything if number != left_out]
        yield rest[-LONGEST:] if left_out % 2 else rest[:LONGEST]


def _orders(name: str, events: Sequence[int]) -> Iterator[Order]:
    for turn, order in enumerate(itertools.permutations(events)):
        at, stop = turn % (len(order) + 1), turn % STOPS
        yield Order(name, order)
        yield Order(name, order, at)
        yield Order(name, order, turn // STOPS % len(order), stop)
        twice = order[turn % len(order)]
        again = 1 + order.index(twice) + turn % (len(order) - order.index(twice))
        yield Order(name, (*order[:again], twice, *order[again:]), at, stop if turn % 2 else None)


async def shortest(case: Order, promises: set[str]) -> Order:
    """With as few deliveries as still break one of the promises."""
    place = 0
    while place < len(case.events):
        shorter = case.with_events((*case.events[:place], *case.events[place + 1 :]))
        if (await run(shorter)).promises & promises:
            case = shorter
        else:
            place += 1
    return case


def by_chance(name: str, count: int, random: Random) -> Order:
    """Of ``count`` events: some missing, some twice, the request anywhere or in flight."""
    events = [number for number in range(count) if random.random() > 0.1]
    events += [number for number in events if random.random() < 0.2]
    random.shuffle(events)
    if random.random() < 0.3:
        return Order(name, tuple(events))
    at = random.randrange(len(events) + 1)
    stop = random.randrange(STOPS) if random.random() < 0.5 else None
    return Order(name, tuple(events), at, stop)
