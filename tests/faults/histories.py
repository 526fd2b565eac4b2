"""Long histories: shoppers, clerks, banks, Stripe, time and trouble, by chance and by seed.

A history is a list of small acts, each of them numbers only, so that any part of it is a history
too: that is how the shortest one that still fails is found.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from stripe_sandbox import ApiError
from tests.faults.checker import Broken
from tests.faults.crashes import Outcome
from tests.faults.flows import (
    BOOK,
    confirm,
    intent_of,
    open_intent,
    open_session,
    pay_by_credits,
    pay_in_browser,
    pay_page,
    refund,
)
from tests.faults.laboratory import WEBHOOK_SECRET, Laboratory
from tests.faults.steps import ANY
from tests.faults.world import Request, World, minutes

Document = dict[str, Any]

CARDS: Final = (
    "pm_card_visa",
    "pm_card_visa",
    "pm_card_visa_chargeDeclined",
    "pm_card_chargeDeclinedInsufficientFunds",
    "pm_card_pendingRefund",
    "pm_usBankAccount",
    "pm_card_threeDSecure2Required",
)
USERS: Final = ("ada", "bob")


@dataclass(frozen=True, slots=True)
class Act:
    """``which`` picks the actor, payment or event among those that there are; ``what`` the rest."""

    kind: str
    which: int = 0
    what: int = 0

    def __str__(self) -> str:
        return f"{self.kind}({self.which}, {self.what})"


@dataclass(slots=True)
class History:
    """A world in which acts happen, and what its shoppers know."""

    lab: Laboratory = field(default_factory=lambda: Laboratory(World()))
    intents: list[Document] = field(default_factory=list)
    sessions: list[Document] = field(default_factory=list)
    paid_by_credits: list[Document] = field(default_factory=list)

    async def begin(self) -> None:
        """The reconciler ran before, so it knows from when on Stripe's events are to be read."""
        await self.lab.reconcile()

    async def do(self, act: Act) -> None:
        self.lab.note(f"act: {act}")
        try:
            await ACTS[act.kind](self, act)
        except ApiError as refused:
            # Stripe's page or dashboard says no to a person: nothing happens.
            self.lab.note(f"Stripe refused: {refused.message}")

    async def end(self) -> list[Broken]:
        """All callers ask until they know, Stripe delivers, all comes to rest and is checked."""
        lab = self.lab
        try:
            lab.pause()
            lab.note("the end begins")
            await lab.recover(retries=True, redelivers=len(lab.world.requests) % 2 == 0)
            return [*lab.broken, *balances_as_told(lab.world), *orders_as_paid(lab.world)]
        finally:
            await lab.close()

    @property
    def cards(self) -> list[Document]:
        return [*self.intents, *self.sessions]


# The plain model: what callers were told and what Stripe took, added up


def orders_as_paid(world: World) -> list[Broken]:
    """One order for each purchase that was paid for. It never looks at the status of a payment."""
    broken = []
    for user in world.first_balances:
        intents = [each.data for each in world.stripe.payment_intents._records]
        least = most = sum(
            each["status"] == "succeeded" and each["metadata"].get("user_id") == user
            for each in intents
        )
        for request in world.requests:
            if request.path == "/pay-with-credits" and request.body["user_id"] == user:
                most += not request.is_answered
                if request.reply is not None and request.reply.status == 200:
                    least, most = least + 1, most + 1
        made = world.collection("orders").count_documents({"user_id": user})
        if not least <= made <= most:
            broken.append(Broken("1", f"{user} paid {least} to {most} times and has {made} orders"))
    return broken


def balances_as_told(world: World) -> list[Broken]:
    """It never looks at the status of a payment."""
    broken = []
    for user, first in world.first_balances.items():
        least = most = first
        owners: dict[str, str] = {}
        for request in world.requests:
            reply = request.reply
            if request.path == "/pay-with-credits" and request.body["user_id"] == user:
                credits = sum(item["credits"] for item in request.body["items"])
                if reply is not None and reply.status == 200:
                    least, most = least - credits, most - credits
                    owners[reply.body["payment_id"]] = user
                elif not request.is_answered:
                    least -= credits
        for request in world.requests:
            if request.path == "/refund" and "credits" in request.body:
                payment = world.collection("payments").find_one({"_id": request.body["payment_id"]})
                if payment is None or payment["user_id"] != user or payment["flow"] != "credits":
                    continue
                reply = request.reply
                if reply is not None and reply.status == 200:
                    least += request.body["credits"]
                    most += request.body["credits"]
                elif not request.is_answered:
                    most += request.body["credits"]
        balance = world.users.find_one({"_id": user})["credits"]
        if not least <= balance <= most:
            broken.append(
                Broken(
                    "2", f"by what callers were told {user} has {least} to {most}, not {balance}"
                )
            )
    return broken


# The acts

Doing = Callable[[History, Act], Awaitable[None]]
ACTS: Final[dict[str, Doing]] = {}
WEIGHTS: Final[dict[str, int]] = {}


def act(weight: int) -> Callable[[Doing], Doing]:
    def register(doing: Doing) -> Doing:
        ACTS[doing.__name__] = doing
        WEIGHTS[doing.__name__] = weight
        return doing

    return register


def _pick(choices: Sequence[Any], number: int) -> Any:
    return choices[number % len(choices)] if choices else None


@act(6)
async def shopper_opens(history: History, act: Act) -> None:
    user = _pick(USERS, act.which)
    opened = await open_intent(history.lab, user, 500 + 100 * (act.what % 5))
    if opened is not None:
        history.intents.append(opened)


@act(4)
async def shopper_goes_to_the_page(history: History, act: Act) -> None:
    opened = await open_session(history.lab, _pick(USERS, act.which))
    if opened is not None:
        history.sessions.append(opened)


@act(6)
async def shopper_confirms(history: History, act: Act) -> None:
    opened = _pick(history.intents, act.which)
    if opened is not None:
        card = _pick((*CARDS, None), act.what)
        await confirm(history.lab, opened, card)


@act(4)
async def shopper_pays_in_the_browser(history: History, act: Act) -> None:
    opened = _pick(history.intents, act.which)
    if opened is not None:
        pay_in_browser(history.lab, opened, _pick(CARDS, act.what))


@act(4)
async def shopper_pays_on_the_page(history: History, act: Act) -> None:
    opened = _pick(history.sessions, act.which)
    if opened is not None:
        pay_page(history.lab, opened, _pick(CARDS, act.what))


@act(2)
async def shopper_comes_back(history: History, act: Act) -> None:
    opened = _pick(history.sessions, act.which)
    if opened is not None:
        await history.lab.get(f"/checkout-session/{opened['session_id']}")


@act(6)
async def shopper_pays_with_credits(history: History, act: Act) -> None:
    paid = await pay_by_credits(history.lab, _pick(USERS, act.which), 1 + act.what % 5)
    if paid is not None:
        history.paid_by_credits.append(paid)


@act(1)
async def shopper_asks_without_a_key(history: History, act: Act) -> None:
    """And so can never ask again."""
    body = {
        "user_id": _pick(USERS, act.which),
        "items": [{**BOOK, "credits": 1 + act.what % 3}],
        "metadata": {"request": f"open {history.lab.new_key()}"},
    }
    await history.lab.post("/pay-with-credits", body, key=None)


@act(1)
async def caller_uses_a_key_again(history: History, act: Act) -> None:
    """For another request: it must not be taken for the first one."""
    lab = history.lab
    answered = [each for each in lab.world.requests if each.is_answered and each.key]
    paid = [each for each in answered if each.path == "/pay-with-credits" and lab.is_young(each)]
    first = _pick(paid, act.which)
    if first is not None:
        body = {**first.body, "metadata": {"request": f"open {lab.new_key()}"}}
        reply = await lab.send(Request("POST", first.path, body, first.key, lab.world.now))
        if reply is not None and reply.status < 300:
            lab.broken.append(Broken("7", "another request was answered under the same key"))


@act(3)
async def shopper_authenticates(history: History, act: Act) -> None:
    opened = _pick(history.cards, act.which)
    if opened is not None and intent_of(history.lab, opened):
        history.lab.world.stripe.authenticate(
            intent_of(history.lab, opened), approve=act.what % 3 > 0
        )


@act(5)
async def clerk_refunds(history: History, act: Act) -> None:
    opened = _pick(history.cards, act.which)
    if opened is not None:
        what = {} if act.what % 3 == 0 else {"amount_cents": 100 * (act.what % 7) or 1}
        await refund(history.lab, {"payment_id": opened["payment_id"]}, **what)


@act(4)
async def clerk_gives_credits_back(history: History, act: Act) -> None:
    paid = _pick(history.paid_by_credits, act.which)
    if paid is not None:
        await refund(history.lab, {"payment_id": paid["payment_id"]}, credits=1 + act.what % 3)


@act(3)
async def clerk_refunds_in_the_dashboard(history: History, act: Act) -> None:
    opened = _pick(history.cards, act.which)
    if opened is not None and intent_of(history.lab, opened):
        history.lab.world.stripe.dashboard_refund(
            payment_intent=intent_of(history.lab, opened), amount=50 * (1 + act.what % 9)
        )


@act(2)
async def bank_returns_a_refund(history: History, act: Act) -> None:
    record = _pick(list(history.lab.world.stripe.refunds._records), act.which)
    if record is not None:
        history.lab.world.stripe.fail_refund(record.id)


@act(2)
async def bank_decides(history: History, act: Act) -> None:
    opened = _pick(history.cards, act.which)
    if opened is not None and intent_of(history.lab, opened):
        history.lab.world.stripe.settle(
            intent_of(history.lab, opened), "succeeded" if act.what % 2 else "failed"
        )


@act(2)
async def shopper_disputes(history: History, act: Act) -> None:
    opened = _pick(history.cards, act.which)
    if opened is not None and intent_of(history.lab, opened):
        history.lab.world.stripe.open_dispute(payment_intent=intent_of(history.lab, opened))


@act(2)
async def bank_closes_a_dispute(history: History, act: Act) -> None:
    record = _pick(list(history.lab.world.stripe.disputes._records), act.which)
    if record is not None:
        history.lab.world.stripe.close_dispute(record.data["id"], "won" if act.what % 2 else "lost")


@act(1)
async def page_expires(history: History, act: Act) -> None:
    opened = _pick(history.sessions, act.which)
    if opened is not None:
        history.lab.world.stripe.expire_session(opened["session_id"])


@act(5)
async def stripe_delivers(history: History, act: Act) -> None:
    event = _pick(history.lab.undelivered, act.which)
    if event is not None:
        await history.lab.deliver(event)


@act(3)
async def stripe_delivers_everything(history: History, act: Act) -> None:
    await history.lab.deliver_all()


@act(2)
async def stripe_repeats_itself(history: History, act: Act) -> None:
    event = _pick(history.lab.event_ids(), act.which)
    if event is not None:
        await history.lab.deliver(event)


@act(1)
async def somebody_forges_an_event(history: History, act: Act) -> None:
    """With a signature that is not Stripe's, or from live mode, where money is real."""
    opened = _pick(history.intents, act.which)
    if opened is None:
        return
    intent = history.lab.world.stripe.payment_intents.retrieve({}, opened["payment_intent_id"])
    paid = {**intent, "status": "succeeded", "amount_received": intent["amount"]}
    is_live = act.what % 2 == 0
    event = {
        "id": f"evt_forged{act.what}",
        "object": "event",
        "type": "payment_intent.succeeded",
        "created": int(history.lab.world.now),
        "livemode": is_live,
        "data": {"object": paid},
    }
    await history.lab.forge(event, secret=WEBHOOK_SECRET if is_live else "whsec_of_somebody_else")


@act(1)
async def webhooks_are_lost_for_a_day(history: History, act: Act) -> None:
    """Stripe gave up on all that it could not deliver."""
    lab = history.lab
    lab.world.pass_time(minutes(24 * 60))
    lab.world.lost.update(lab.undelivered)


@act(4)
async def time_passes(history: History, act: Act) -> None:
    history.lab.world.pass_time(_pick((5, 31, 61, 300, 1_000, 4_000, 40_000, 90_000), act.what))


@act(4)
async def reconciler_runs(history: History, act: Act) -> None:
    await history.lab.reconcile(on=act.which % 2)


@act(2)
async def callers_ask_again(history: History, act: Act) -> None:
    for request in history.lab.world.requests:
        if not request.is_answered and request.key and history.lab.is_young(request):
            await history.lab.send(request, on=act.which % 2)


@act(8)
async def trouble_ahead(history: History, act: Act) -> None:
    """One of the next steps fails, or the process dies at it."""
    history.lab.play("h", {act.which % 12: f"{ANY}{act.what}"})


# By seed


@dataclass(frozen=True, slots=True)
class Told:
    """A history by its seed, or only those of its acts whose numbers are given."""

    seed: int
    kept: tuple[int, ...] | None = None

    def __str__(self) -> str:
        kept = "" if self.kept is None else ".".join(map(str, self.kept))
        return f"history:{self.seed}:{kept}"

    @classmethod
    def parse(cls, text: str) -> "Told":
        _, seed, kept = text.split(":")
        numbers = tuple(int(number) for number in kept.split(".")) if kept else None
        return cls(int(seed), numbers)

    def acts(self) -> list[Act]:
        random = Random(self.seed)
        kinds = random.choices(
            list(WEIGHTS), weights=list(WEIGHTS.values()), k=random.randrange(8, 36)
        )
        acts = [Act(kind, random.randrange(1_000), random.randrange(1_000)) for kind in kinds]
        return acts if self.kept is None else [acts[number] for number in self.kept]


async def run(case: Told) -> Outcome:
    ahead = (0.0, 120.0, -120.0)[case.seed % 3]
    history = History(Laboratory(World(ahead={1: ahead})))
    await history.begin()
    for each in case.acts():
        await history.do(each)
    broken = await history.end()
    return Outcome(str(case), broken, history.lab.trace)


async def shortest(case: Told, promises: set[str]) -> Told:
    """Leaves out what is not needed to break one of the promises: halves, then single acts."""
    kept = list(case.kept if case.kept is not None else range(len(case.acts())))
    size = max(1, len(kept) // 2)
    while True:
        start, shorter = 0, False
        while start < len(kept):
            rest = kept[:start] + kept[start + size :]
            if rest and (await run(Told(case.seed, tuple(rest)))).promises & promises:
                kept, shorter = rest, True
            else:
                start += size
        if size == 1 and not shorter:
            return Told(case.seed, tuple(kept))
        size = max(1, size // 2)
