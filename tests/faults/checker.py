"""The promises, checked from the raw collections and Stripe's own objects.

Nothing of the application is used to judge it: tables and sums are written down here once more, on
purpose. The numbers are those of the design: 1 one order for each paid payment, 2 credits are
conserved, 3 refunds never exceed, 4 acknowledged events are processed, 5 no charge without a
record, 6 statuses only move forward, 7 one effect for each key, 8 amounts equal Stripe's.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from tests.faults.steps import Step
from tests.faults.world import Reply, Request, World

Document = dict[str, Any]

PAID: Final = frozenset({"succeeded", "partially_refunded", "refunded"})
HOLDING: Final = frozenset({"pending", "succeeded"})
_REFUSED_AT_BANK: Final = frozenset({"failed", "canceled"})
FORWARD: Final = {
    "pending": {"processing", "succeeded", "failed", "canceled"},
    "processing": {"succeeded", "failed", "canceled"},
    "failed": {"pending", "processing", "succeeded", "canceled"},
    "succeeded": {"partially_refunded", "refunded"},
    "partially_refunded": {"refunded"},
    "refunded": set[str](),
    "canceled": set[str](),
}
_ORDER_STATUS: Final = {
    "succeeded": "paid",
    "partially_refunded": "partially_refunded",
    "refunded": "refunded",
}
_OPENING_PATHS: Final = frozenset(
    {"/create-payment-intent", "/create-checkout-session", "/pay-with-credits"}
)


@dataclass(frozen=True, slots=True)
class Broken:
    """``promise`` is a number of the design, ``rest`` (something is stuck), ``answer`` (what a
    caller was told is not true any more) or ``unforeseen`` (an error that nobody handles).
    """

    promise: str
    detail: str

    def __str__(self) -> str:
        return f"[{self.promise}] {self.detail}"


def tag_of(payment: Document) -> str | None:
    """Which request the payment belongs to."""
    sent = {entry["key"]: entry["value"] for entry in payment["metadata"]}
    return sent.get("request")


# At every moment


def check_moment(world: World, step: Step) -> Iterator[Broken]:
    """What must hold after every single write."""
    if step.kind == "stripe":
        if step.verb == "POST" and step.target == "/v1/payment_intents":
            yield from _recorded_before(world)
        return
    if step.target == "auth.users":
        for user in world.users.find({"credits": {"$lt": 0}}):
            yield Broken("2", f"{user['_id']} has {user['credits']} credits")
    elif step.target == "payments.payments" and step.key is not None:
        payment = world.collection("payments").find_one({"_id": step.key})
        if payment is not None:
            yield from _moved_forward(world, payment)
            yield from _refunds_fit(payment)
    elif step.target == "payments.orders":
        for order in world.collection("orders").find({"_id": step.key} if step.key else {}):
            payment = world.collection("payments").find_one({"_id": order["payment_id"]})
            if payment is None or payment["status"] not in PAID:
                yield Broken("1", "an order was made for a payment that is not paid")


def _recorded_before(world: World) -> Iterator[Broken]:
    for intent in world.stripe.payment_intents._records:
        payment_id = intent.data["metadata"].get("payment_id")
        if payment_id is not None and not world.collection("payments").find_one(
            {"_id": payment_id}
        ):
            yield Broken("5", "a PaymentIntent was made before there was a payment")


def _moved_forward(world: World, payment: Document) -> Iterator[Broken]:
    status = payment["status"]
    seen = world.seen.setdefault(payment["_id"], [])
    if seen and seen[-1] == status:
        return
    if seen and not _may_move(seen[-1], status, payment):
        yield Broken("6", f"a payment went from {seen[-1]} to {status}")
    if not seen and status != "pending":
        yield Broken("6", f"a payment began as {status}")
    seen.append(status)


def _may_move(before: str, after: str, payment: Document) -> bool:
    if after in FORWARD[before]:
        return True
    # The one way back: a refund that had succeeded failed after all.
    returned = any(r["status"] in _REFUSED_AT_BANK for r in payment["refunds"])
    order = ("succeeded", "partially_refunded", "refunded")
    return returned and {before, after} <= PAID and order.index(after) < order.index(before)


def _refunds_fit(payment: Document) -> Iterator[Broken]:
    held = [r for r in payment["refunds"] if r["status"] in HOLDING]
    if sum(r["amount"] for r in held) > payment["amount"]:
        yield Broken("3", f"refunds of {sum(r['amount'] for r in held)} of {payment['amount']}")
    if sum(r["credits"] for r in held) > payment["credits"]:
        yield Broken("3", "more credits are refunded than were paid")


# At a repeat


def may_be_paid_with(world: World, request: Request, reply: Reply) -> bool:
    """False when the answer led to a payment that cannot be paid any more: by Stripe's own objects,
    or because the payment is over or waits for a person.
    """
    hands_out = (
        request.path in ("/create-payment-intent", "/create-checkout-session")
        or reply.body.get("client_secret") is not None
    )
    is_refusal_of_it = reply.body.get("code") == "payment_not_confirmable"
    if "payment_id" not in reply.body or not (is_refusal_of_it or hands_out):
        return True
    payment = world.collection("payments").find_one({"_id": reply.body["payment_id"]})
    if payment is None or payment["flow"] == "credits":
        return True
    over = payment["status"] not in ("pending", "processing", "failed")
    if request.path == "/confirm-payment" and not over and payment.get("review") is None:
        intent_id = payment["stripe_payment_intent_id"]
        return world.stripe.payment_intents.named(intent_id).status == "requires_action"
    if payment["status"] not in ("pending", "failed") or payment.get("review") is not None:
        return False
    if payment["flow"] == "checkout_session":
        session_id = payment.get("stripe_checkout_session_id")
        sessions = [record.data for record in world.stripe.checkout_sessions._records]
        return any(s["id"] == session_id and s["status"] == "open" for s in sessions)
    return True


def status_of(world: World, reply: Reply) -> str:
    payment = world.collection("payments").find_one({"_id": reply.body["payment_id"]})
    status: str = payment["status"]
    return status


# At rest


def check_at_rest(world: World, *, retried: bool, subscribed: set[str]) -> list[Broken]:
    """Everything. ``retried``: callers asked until they had an answer, so each must have one."""
    payments = list(world.collection("payments").find({}))
    orders = list(world.collection("orders").find({}))
    broken: list[Broken] = []
    for payment in payments:
        broken += _payment(world, payment, orders)
    broken += _orders(payments, orders)
    broken += _credits(world, payments)
    broken += _stripe(world, payments)
    broken += _events(world, subscribed)
    broken += _requests(world, payments, orders, retried=retried)
    return broken


def _payment(world: World, payment: Document, orders: list[Document]) -> Iterator[Broken]:
    status, paid = payment["status"], payment["status"] in PAID
    held = payment.get("review") is not None
    mine = [order for order in orders if order["payment_id"] == payment["_id"]]
    if paid and len(mine) != 1:
        yield Broken("1", f"a {status} payment has {len(mine)} orders")
    if not paid and mine:
        yield Broken("1", f"a {status} payment has an order")
    for order in mine if paid else ():
        if order["status"] != _ORDER_STATUS[status]:
            yield Broken("1", f"the order says {order['status']}, the payment {status}")
        for name in ("user_id", "currency"):
            if order[name] != payment[name]:
                yield Broken("1", f"the order's {name} is not its payment's")
        if (order["total_amount"], order["total_credits"]) != (
            payment["amount"],
            payment["credits"],
        ):
            yield Broken("8", "the order's total is not its payment's")
    yield from _refunds_fit(payment)
    yield from _refund_sums(payment)
    yield from _history(payment)
    is_credits = payment["flow"] == "credits"
    final = paid or status == "canceled" or (status == "failed" and is_credits)
    if not final and not held:
        yield Broken("rest", f"a payment is still {status}")
    if any(refund["status"] == "pending" for refund in payment["refunds"]):
        yield Broken("rest", "a refund is still pending")
    if payment["open_marks"]:
        yield Broken("rest", "a payment still has open marks")
    if payment.get("reconcile_at") is not None:
        yield Broken("rest", "a payment still waits for the reconciler")
    if not is_credits:
        yield from _card(world, payment)


def _refund_sums(payment: Document) -> Iterator[Broken]:
    unit = "credits" if payment["flow"] == "credits" else "amount"
    if payment["status"] not in PAID:
        if payment["refunds"]:
            yield Broken("3", "an unpaid payment has refunds")
        return
    held = sum(r[unit] for r in payment["refunds"] if r["status"] in HOLDING)
    made = sum(r[unit] for r in payment["refunds"] if r["status"] == "succeeded")
    if payment[f"refundable_{unit}"] != payment[unit] - held:
        yield Broken("3", f"{payment[f'refundable_{unit}']} is refundable, {held} is refunded")
    expected = "succeeded"
    if made:
        expected = "refunded" if made >= payment[unit] else "partially_refunded"
    if payment["status"] != expected:
        yield Broken("3", f"the payment is {payment['status']}, its refunds say {expected}")


def _history(payment: Document) -> Iterator[Broken]:
    before = "pending"
    for line in payment["history"]:
        if line["from"] != before:
            yield Broken("6", f"the history jumps from {before} to {line['from']}")
        if not _may_move(line["from"], line["to"], payment):
            yield Broken("6", f"the history goes from {line['from']} to {line['to']}")
        before = line["to"]
    if before != payment["status"]:
        yield Broken("6", f"the history ends at {before}, the payment is {payment['status']}")


def _card(world: World, payment: Document) -> Iterator[Broken]:
    """Cent for cent as Stripe has it."""
    intents = [
        intent.data
        for intent in world.stripe.payment_intents._records
        if intent.data["metadata"].get("payment_id") == payment["_id"]
    ]
    charges = _charges_of(world, intents)
    captured = sum(charge["amount_captured"] for charge in charges)
    currencies = {charge["currency"] for charge in charges}
    held = payment.get("review") is not None
    if payment["status"] in PAID:
        if not held and (captured != payment["amount"] or currencies != {payment["currency"]}):
            yield Broken("8", f"paid {payment['amount']}, Stripe captured {captured} {currencies}")
        yield from _refunds_as_stripe_has_them(world, payment, charges)
    elif captured and not held:
        yield Broken("1", f"Stripe captured {captured} for a payment that is {payment['status']}")
    if held and captured == payment["amount"] and currencies == {payment["currency"]}:
        yield Broken("8", f"a {payment['status']} payment is held though it was paid as asked")
    yield from _claims(world, payment, charges)
    if payment["status"] == "canceled" and not held:
        yield from _cannot_be_paid(world, payment, intents)
    for intent in intents:
        yield from _not_abandoned_under_way(world, intent)
    if len(intents) > 1:
        yield Broken("7", f"{len(intents)} PaymentIntents were made for one payment")
    ids = {intent["id"] for intent in intents}
    if payment.get("stripe_payment_intent_id") not in ids | {None}:
        yield Broken("answer", "the payment names a PaymentIntent that is not its own")


def _cannot_be_paid(world: World, payment: Document, intents: list[Document]) -> Iterator[Broken]:
    """What was given up must be closed at Stripe too."""
    if payment["flow"] == "payment_intent":
        known = payment.get("stripe_payment_intent_id")
        statuses = [intent["status"] for intent in intents if intent["id"] == known]
    else:
        known = payment.get("stripe_checkout_session_id")
        sessions = [record.data for record in world.stripe.checkout_sessions._records]
        statuses = [session["status"] for session in sessions if session["id"] == known]
    for status in statuses:
        if status not in ("canceled", "expired", "complete"):
            yield Broken("1", f"a canceled payment is still {status} at Stripe")


def _not_abandoned_under_way(world: World, intent: Document) -> Iterator[Broken]:
    """The service cancels as abandoned; a shopper or an owner gives another reason."""
    under_way = False
    for event in world.events.values():
        then = event["data"]["object"]
        if not event["type"].startswith("payment_intent.") or then["id"] != intent["id"]:
            continue
        is_abandoned = then["cancellation_reason"] == "abandoned"
        if under_way and is_abandoned:
            yield Broken("9", "a PaymentIntent was abandoned while its money was under way")
        action = (then["next_action"] or {}).get("type", "")
        under_way = then["status"] == "processing" or action.endswith("_display_details")


def _charges_of(world: World, intents: Iterable[Document]) -> list[Document]:
    ids = {intent["id"] for intent in intents}
    return [
        charge.data
        for charge in world.stripe.charges._records
        if charge.data["payment_intent"] in ids
        and charge.data["status"] == "succeeded"
        and charge.data["captured"]
    ]


def _refunds_as_stripe_has_them(
    world: World, payment: Document, charges: list[Document]
) -> Iterator[Broken]:
    ids = {charge["id"] for charge in charges}
    theirs = Counter(
        (refund.data["id"], refund.data["amount"], refund.data["status"])
        for refund in world.stripe.refunds._records
        if refund.data["charge"] in ids and refund.data["status"] not in _REFUSED_AT_BANK
    )
    ours = Counter(
        (refund.get("stripe_refund_id"), refund["amount"], refund["status"])
        for refund in payment["refunds"]
        if refund["status"] in HOLDING
    )
    for _id, amount, status in theirs - ours:
        yield Broken("3", f"Stripe has a {status} refund of {amount} that the payment does not")
    for _id, amount, status in ours - theirs:
        yield Broken("3", f"the payment has a {status} refund of {amount} that Stripe does not")


def _claims(world: World, payment: Document, charges: list[Document]) -> Iterator[Broken]:
    """Disputes and early fraud warnings: as Stripe has them."""
    ids = {charge["id"] for charge in charges}
    theirs: dict[str, set[tuple[Any, ...]]] = {
        "dispute": {
            (d.data["id"], d.data["status"], d.data["reason"], d.data["amount"])
            for d in world.stripe.disputes._records
            if d.data["charge"] in ids
        },
        "fraud warning": {
            (w.data["id"], w.data["fraud_type"], w.data["actionable"])
            for w in world.stripe.early_fraud_warnings._records
            if w.data["charge"] in ids
        },
    }
    ours: dict[str, list[tuple[Any, ...]]] = {
        "dispute": [
            (d["stripe_dispute_id"], d["status"], d["reason"], d["amount"])
            for d in payment["disputes"]
        ],
        "fraud warning": [
            (w["stripe_fraud_warning_id"], w["fraud_type"], w["actionable"])
            for w in payment["fraud_warnings"]
        ],
    }
    for kind, recorded in ours.items():
        if len(recorded) != len({claim[0] for claim in recorded}):
            yield Broken("4", f"a {kind} is recorded twice")
        for claim in theirs[kind] - set(recorded):
            yield Broken("4", f"Stripe has a {kind} {claim[1:]} that the payment does not")
        for claim in set(recorded) - theirs[kind]:
            yield Broken("4", f"the payment has a {kind} {claim[1:]} that Stripe does not")


def _orders(payments: list[Document], orders: list[Document]) -> Iterator[Broken]:
    known = {payment["_id"] for payment in payments}
    for order in orders:
        if order["payment_id"] not in known:
            yield Broken("1", "an order has no payment")


def _credits(world: World, payments: list[Document]) -> Iterator[Broken]:
    for user in world.users.find({}):
        mine = [p for p in payments if p["flow"] == "credits" and p["user_id"] == user["_id"]]
        taken = sum(p["credits"] for p in mine if p["status"] in PAID)
        returned = sum(
            r["credits"] for p in mine for r in p["refunds"] if r["status"] == "succeeded"
        )
        expected = world.first_balances[user["_id"]] - taken + returned
        if user["credits"] != expected:
            yield Broken("2", f"{user['_id']} has {user['credits']} credits, not {expected}")
        if user.get("payment_marks"):
            kinds = sorted(mark["kind"] for mark in user["payment_marks"])
            yield Broken("rest", f"marks were never removed: {kinds}")


def _stripe(world: World, payments: list[Document]) -> Iterator[Broken]:
    known = {payment["_id"] for payment in payments}
    for intent in world.stripe.payment_intents._records:
        payment_id = intent.data["metadata"].get("payment_id")
        if payment_id not in known and "foreign" not in intent.data["metadata"]:
            yield Broken("5", f"a {intent.status} PaymentIntent has no payment")


def _events(world: World, subscribed: set[str]) -> Iterator[Broken]:
    inbox = {event["_id"]: event for event in world.collection("webhook_events").find({})}
    for event_id in subscribed:
        type = world.events[event_id]["type"]
        stored = inbox.get(event_id)
        told = "answered 2xx" if event_id in world.acknowledged else "not acknowledged"
        if stored is None:
            yield Broken("4", f"{type} ({told}) never reached the inbox")
        elif stored["status"] not in ("processed", "ignored"):
            yield Broken("4", f"{type} ({told}) is still {stored['status']}")


def _requests(
    world: World, payments: list[Document], orders: list[Document], *, retried: bool
) -> Iterator[Broken]:
    by_id = {payment["_id"]: payment for payment in payments}
    order_ids = {order["_id"] for order in orders}
    by_tag: dict[str | None, list[Document]] = {}
    for payment in payments:
        by_tag.setdefault(tag_of(payment), []).append(payment)
    for request in world.requests:
        if retried and request.is_stuck and not request.is_answered:
            yield Broken("rest", f"{request} never got an answer, in {request.tries} tries")
        if request.path in _OPENING_PATHS:
            made = by_tag.get(request.body["metadata"]["request"], [])
            yield from _opened(request, made)
        if request.path == "/refund":
            yield from _refunded(request, payments)
        if request.path.endswith("/cancel"):
            yield from _canceled(request, by_id)
        if request.reply is not None and request.reply.status == 200:
            yield from _still_true(request, by_id, order_ids)
    for record in world.collection("idempotency_keys").find({"status_code": None}):
        longest = timedelta(seconds=31 + max(world.ahead.values(), default=0))
        if record["lease_until"] > world.clock() + longest:
            yield Broken("rest", "an Idempotency-Key is leased for too long")


def _opened(request: Request, made: list[Document]) -> Iterator[Broken]:
    if len(made) > 1:
        yield Broken("7", f"{request} made {len(made)} payments")
    reply = request.reply
    if reply is None or not request.is_answered:
        return
    if reply.status == 200 and [p["_id"] for p in made] != [reply.body["payment_id"]]:
        yield Broken("answer", f"{request} was answered with another payment than it made")
    said_so = reply.body.get("payment_status") in {*PAID, "processing"}
    if reply.status >= 400 and any(p["status"] in PAID for p in made) and not said_so:
        yield Broken("answer", f"{request} was refused ({reply.body['code']}) but is paid")


def _canceled(request: Request, payments: dict[str, Document]) -> Iterator[Broken]:
    payment = payments.get(request.path.split("/")[2])
    if payment is None or request.reply is None or not request.is_answered:
        return
    told, status = request.reply.body, payment["status"]
    if request.reply.status == 200 and status != "canceled":
        yield Broken("answer", f"{request} said canceled, the payment is {status}")
    if told.get("payment_status") in PAID and status not in PAID:
        yield Broken("answer", f"{request} said paid, the payment is {status}")


def _refunded(request: Request, payments: list[Document]) -> Iterator[Broken]:
    made = [r for p in payments for r in p["refunds"] if r.get("reason") == request.body["reason"]]
    if len(made) > 1:
        yield Broken("7", f"{request} made {len(made)} refunds")
    reply = request.reply
    if reply is None or not request.is_answered:
        return
    if reply.status >= 400 and any(r["status"] in HOLDING for r in made):
        yield Broken("answer", f"{request} was refused ({reply.body['code']}) but was made")
    if reply.status == 200:
        told = reply.body
        if [r["refund_id"] for r in made] != [told["refund_id"]]:
            yield Broken("answer", f"{request}: the refund it was told of is not there")
        elif (made[0]["amount"], made[0]["credits"]) != (
            told["amount_cents"],
            told["credits_returned"] if told["status"] == "succeeded" else made[0]["credits"],
        ):
            yield Broken("answer", f"{request} was told another amount than was refunded")


def _still_true(
    request: Request, payments: dict[str, Document], order_ids: set[str]
) -> Iterator[Broken]:
    assert request.reply is not None
    told = request.reply.body
    if "payment_id" not in told:
        return
    payment = payments.get(told["payment_id"])
    if payment is None:
        yield Broken("answer", f"{request} named a payment that is not there")
        return
    if told.get("order_id") and told["order_id"] not in order_ids:
        yield Broken("answer", f"{request} named an order that is not there")
    said_paid = told.get("status") in PAID or told.get("payment_status") in {*PAID, "paid"}
    if said_paid and request.path != "/refund" and payment["status"] not in PAID:
        yield Broken("answer", f"{request} said paid, the payment is {payment['status']}")
    for name in ("payment_intent_id", "session_id"):
        stored = {
            "payment_intent_id": payment.get("stripe_payment_intent_id"),
            "session_id": payment.get("stripe_checkout_session_id"),
        }[name]
        if name in told and told[name] != stored:
            yield Broken("answer", f"{request} named another {name} than is recorded")
