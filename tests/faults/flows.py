"""Every flow of money, as what a shopper, a shop's clerk, Stripe and time do to the service.

``prepare`` runs undisturbed; ``act`` is what gets broken. An act goes on after trouble as its
actors would: a shopper who got no answer does not know what to do next, Stripe delivers what
it can.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from stripe_sandbox import ApiError
from tests.faults.laboratory import Laboratory
from tests.faults.world import Reply, minutes

Document = dict[str, Any]
Act = Callable[[Laboratory, Document], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Flow:
    """``prepare`` leaves in the document what ``act`` needs."""

    name: str
    prepare: Act
    act: Act


FLOWS: Final[dict[str, Flow]] = {}
BOOK: Final = {"book_id": "dune", "title": "Dune", "price_cents": 999, "credits": 2}


def flow(prepare: Act) -> Callable[[Act], Act]:
    def register(act: Act) -> Act:
        name = act.__name__
        FLOWS[name] = Flow(name, prepare, act)
        return act

    return register


# What actors do


def ok(reply: Reply | None) -> Document | None:
    return reply.body if reply is not None and reply.status == 200 else None


async def open_intent(
    lab: Laboratory, user: str = "ada", amount: int = 999, currency: str = "usd"
) -> Document | None:
    body = {
        "user_id": user,
        "amount": amount,
        "currency": currency,
        "metadata": {"request": f"open {lab.new_key()}"},
    }
    return ok(await lab.post("/create-payment-intent", body))


async def open_session(lab: Laboratory, user: str = "ada") -> Document | None:
    body = {"user_id": user, "items": [BOOK], "metadata": {"request": f"open {lab.new_key()}"}}
    return ok(await lab.post("/create-checkout-session", body))


async def confirm(
    lab: Laboratory, opened: Document, payment_method: str | None = "pm_card_visa"
) -> Document | None:
    body = {"payment_intent_id": opened["payment_intent_id"]}
    if payment_method is not None:
        body["payment_method_id"] = payment_method
    return ok(await lab.post("/confirm-payment", body))


async def cancel(lab: Laboratory, opened: Document, *, on: int = 0) -> Document | None:
    return ok(await lab.post(f"/payment/{opened['payment_id']}/cancel", {}, on=on))


async def pay_by_credits(
    lab: Laboratory, user: str = "ada", credits: int = 3, *, on: int = 0
) -> Document | None:
    body = {
        "user_id": user,
        "items": [{**BOOK, "credits": credits}],
        "metadata": {"request": f"open {lab.new_key()}"},
    }
    return ok(await lab.post("/pay-with-credits", body, on=on))


async def refund(lab: Laboratory, paid: Document, *, on: int = 0, **what: int) -> Document | None:
    body = {"payment_id": paid["payment_id"], "reason": f"refund {lab.new_key()}", **what}
    return ok(await lab.post("/refund", body, on=on))


def pay_in_browser(lab: Laboratory, opened: Document, card: str = "pm_card_visa") -> None:
    """Stripe.js asks Stripe, not us."""
    try:
        lab.world.stripe.payment_intents.confirm(
            {"payment_method": card, "return_url": "http://localhost/"}, opened["payment_intent_id"]
        )
    except ApiError as refused:
        lab.note(f"the browser was refused: {refused.code}")


def pay_page(lab: Laboratory, opened: Document, card: str = "pm_card_visa") -> None:
    """Stripe's hosted page."""
    try:
        lab.world.stripe.pay_session(opened["session_id"], card)
    except ApiError as refused:
        lab.note(f"the page refused: {refused.code}")


def settle(lab: Laboratory, opened: Document, outcome: Literal["succeeded", "failed"]) -> None:
    """The money of a delayed method came, or did not."""
    try:
        lab.world.stripe.settle(opened["payment_intent_id"], outcome)
    except ApiError as refused:
        lab.note(f"nothing to settle: {refused.code}")


def submit_evidence(lab: Laboratory, dispute_id: str, text: str) -> None:
    """In Stripe's Dashboard."""
    try:
        lab.world.stripe.disputes.update({"evidence": {"uncategorized_text": text}}, dispute_id)
    except ApiError as refused:
        lab.note(f"the evidence was refused: {refused.code}")


def intent_of(lab: Laboratory, opened: Document) -> str:
    """The PaymentIntent, also of a session."""
    if "payment_intent_id" in opened:
        intent_id: str = opened["payment_intent_id"]
        return intent_id
    session = lab.world.stripe.checkout_sessions.named(opened["session_id"]).data
    found: str = session["payment_intent"]
    return found


# How a flow is prepared


async def nothing(lab: Laboratory, given: Document) -> None:
    """The first request is part of the act."""


async def an_open_intent(lab: Laboratory, given: Document) -> None:
    given.update(await open_intent(lab) or {})


async def an_open_session(lab: Laboratory, given: Document) -> None:
    given.update(await open_session(lab) or {})


async def a_voucher(lab: Laboratory, given: Document) -> None:
    given.update(await open_intent(lab, amount=2000, currency="mxn") or {})
    pay_in_browser(lab, given, "pm_oxxo")


async def a_paid_card(lab: Laboratory, given: Document) -> None:
    await an_open_intent(lab, given)
    await confirm(lab, given)
    await lab.deliver_all()


async def a_paid_page(lab: Laboratory, given: Document) -> None:
    await an_open_session(lab, given)
    pay_page(lab, given)
    await lab.deliver_all()


async def paid_credits(lab: Laboratory, given: Document) -> None:
    given.update(await pay_by_credits(lab, credits=5) or {})


# The flows


@flow(nothing)
async def create_intent(lab: Laboratory, given: Document) -> None:
    await open_intent(lab)


@flow(nothing)
async def create_session(lab: Laboratory, given: Document) -> None:
    await open_session(lab)


@flow(an_open_intent)
async def confirm_card(lab: Laboratory, given: Document) -> None:
    await confirm(lab, given)


@flow(an_open_intent)
async def decline_then_pay(lab: Laboratory, given: Document) -> None:
    await confirm(lab, given, "pm_card_visa_chargeDeclined")
    await lab.deliver_all()
    await confirm(lab, given)
    await lab.deliver_all()


@flow(an_open_intent)
async def three_d_secure(lab: Laboratory, given: Document) -> None:
    await confirm(lab, given, "pm_card_threeDSecure2Required")
    intent = lab.world.stripe.payment_intents.named(given["payment_intent_id"])
    if intent.status == "requires_action":
        lab.world.stripe.authenticate(intent.id)
    await lab.deliver_all()
    await confirm(lab, given, None)


@flow(an_open_intent)
async def paid_by_webhook(lab: Laboratory, given: Document) -> None:
    pay_in_browser(lab, given)
    await lab.deliver_all()


@flow(an_open_intent)
async def paid_by_look_up(lab: Laboratory, given: Document) -> None:
    pay_in_browser(lab, given)
    await confirm(lab, given, None)


@flow(an_open_session)
async def page_paid_by_webhook(lab: Laboratory, given: Document) -> None:
    pay_page(lab, given)
    await lab.deliver_all()


@flow(an_open_session)
async def page_paid_by_look_up(lab: Laboratory, given: Document) -> None:
    pay_page(lab, given)
    await lab.get(f"/checkout-session/{given['session_id']}")


@flow(an_open_session)
async def bank_debit_arrives(lab: Laboratory, given: Document) -> None:
    pay_page(lab, given, "pm_usBankAccount")
    await lab.deliver_all()
    lab.world.stripe.settle(intent_of(lab, given), "succeeded")
    await lab.deliver_all()


@flow(an_open_session)
async def bank_debit_bounces(lab: Laboratory, given: Document) -> None:
    pay_page(lab, given, "pm_usBankAccount")
    await lab.deliver_all()
    lab.world.stripe.settle(intent_of(lab, given), "failed")
    await lab.deliver_all()


@flow(a_voucher)
async def voucher_is_paid_after_a_day(lab: Laboratory, given: Document) -> None:
    await lab.deliver_all()
    lab.world.pass_time(minutes(25 * 60))
    await lab.reconcile()
    settle(lab, given, "succeeded")
    await lab.deliver_all()


@flow(a_voucher)
async def voucher_expires(lab: Laboratory, given: Document) -> None:
    lab.world.pass_time(minutes(25 * 60))
    await lab.reconcile()
    settle(lab, given, "failed")
    await lab.deliver_all()


@flow(an_open_intent)
async def cancel_intent(lab: Laboratory, given: Document) -> None:
    await cancel(lab, given)
    await lab.deliver_all()
    pay_in_browser(lab, given)


@flow(an_open_session)
async def cancel_page(lab: Laboratory, given: Document) -> None:
    await cancel(lab, given)
    pay_page(lab, given)
    await lab.deliver_all()


@flow(nothing)
async def pay_with_credits(lab: Laboratory, given: Document) -> None:
    await pay_by_credits(lab)


@flow(nothing)
async def too_few_credits(lab: Laboratory, given: Document) -> None:
    await pay_by_credits(lab, "bob", 3)
    await pay_by_credits(lab, "bob", 1)


@flow(a_paid_card)
async def refund_card(lab: Laboratory, given: Document) -> None:
    await refund(lab, given)
    await lab.deliver_all()


@flow(a_paid_card)
async def refund_card_in_parts(lab: Laboratory, given: Document) -> None:
    await refund(lab, given, amount_cents=400)
    await refund(lab, given, amount_cents=599)
    await refund(lab, given, amount_cents=1)
    await lab.deliver_all()


@flow(a_paid_card)
async def two_refunds_alike(lab: Laboratory, given: Document) -> None:
    """Only their ids tell them apart."""
    await refund(lab, given, amount_cents=300)
    await refund(lab, given, amount_cents=300)


@flow(a_paid_page)
async def refund_page_in_part(lab: Laboratory, given: Document) -> None:
    await refund(lab, given, amount_cents=250)


@flow(paid_credits)
async def refund_credits(lab: Laboratory, given: Document) -> None:
    await refund(lab, given)


@flow(paid_credits)
async def refund_credits_in_parts(lab: Laboratory, given: Document) -> None:
    await refund(lab, given, credits=2)
    await refund(lab, given, credits=3)
    await refund(lab, given, credits=1)


@flow(a_paid_card)
async def dashboard_refund(lab: Laboratory, given: Document) -> None:
    lab.world.stripe.dashboard_refund(payment_intent=given["payment_intent_id"], amount=300)
    await lab.deliver_all()
    await refund(lab, given)
    await lab.deliver_all()


@flow(a_paid_card)
async def refund_fails_later(lab: Laboratory, given: Document) -> None:
    made = await refund(lab, given, amount_cents=999)
    await lab.deliver_all()
    for record in list(lab.world.stripe.refunds._records):
        lab.world.stripe.fail_refund(record.id)
    await lab.deliver_all()
    if made is not None:
        await refund(lab, given, amount_cents=500)


@flow(nothing)
async def refund_waits_at_the_bank(lab: Laboratory, given: Document) -> None:
    opened = await open_intent(lab)
    if opened is None or await confirm(lab, opened, "pm_card_pendingRefund") is None:
        return
    await refund(lab, opened)
    await lab.deliver_all()
    for record in list(lab.world.stripe.refunds._records):
        if record.data["status"] == "pending":
            lab.world.stripe.succeed_refund(record.id)
    await lab.deliver_all()


@flow(an_open_session)
async def session_expires(lab: Laboratory, given: Document) -> None:
    lab.world.stripe.expire_session(given["session_id"])
    await lab.deliver_all()


@flow(a_paid_card)
async def dispute_lost(lab: Laboratory, given: Document) -> None:
    dispute = lab.world.stripe.open_dispute(payment_intent=given["payment_intent_id"], inquiry=True)
    await lab.deliver_all()
    submit_evidence(lab, dispute["id"], "escalate_inquiry_evidence")
    await lab.deliver_all()
    await refund(lab, given)
    lab.world.stripe.close_dispute(dispute["id"], "lost")
    await lab.deliver_all()


@flow(a_paid_page)
async def dispute_won(lab: Laboratory, given: Document) -> None:
    dispute = lab.world.stripe.open_dispute(payment_intent=intent_of(lab, given))
    lab.world.stripe.close_dispute(dispute["id"], "won")
    await lab.deliver_all()
    await refund(lab, given, amount_cents=100)


@flow(an_open_intent)
async def currency_changed_at_stripe(lab: Laboratory, given: Document) -> None:
    lab.world.stripe.payment_intents.update({"currency": "eur"}, given["payment_intent_id"])
    pay_in_browser(lab, given)
    await lab.deliver_all()


@flow(an_open_intent)
async def amount_changed_at_stripe(lab: Laboratory, given: Document) -> None:
    lab.world.stripe.payment_intents.update({"amount": 500}, given["payment_intent_id"])
    pay_in_browser(lab, given)
    await lab.deliver_all()
    await confirm(lab, given, None)


@flow(nothing)
async def abandoned(lab: Laboratory, given: Document) -> None:
    await open_intent(lab)
    await open_session(lab)
    lab.world.pass_time(minutes(24 * 60 + 1))
    await lab.reconcile()


async def hours_without_webhooks(lab: Laboratory, given: Document) -> None:
    """Something unfinished of every kind, and the news of it older than what is always read."""
    paid = await open_intent(lab)
    page = await open_session(lab, "bob")
    refunded = await open_intent(lab)
    lost = await open_intent(lab)
    if paid is None or page is None or refunded is None or lost is None:
        raise AssertionError("nothing is broken yet")
    await confirm(lab, refunded)
    pay_in_browser(lab, paid)
    pay_page(lab, page)
    lab.world.stripe.dashboard_refund(payment_intent=refunded["payment_intent_id"], amount=99)
    await refund(lab, {"payment_id": refunded["payment_id"]}, amount_cents=100)
    credits = await pay_by_credits(lab)
    if credits is not None:
        await refund(lab, credits, credits=1)
    # One of each that stopped half-way: its process died.
    script = lab.play("p", {2: "die_after"})
    await pay_by_credits(lab, "bob", 2)
    script = lab.play("p", {len_of_start(script) + 3: "die_after"})
    await refund(lab, refunded, amount_cents=200)
    lab.pause()
    lab.world.pass_time(minutes(150))


def len_of_start(script: Any) -> int:
    return sum(step.verb == "create_indexes" or step.key == "deployment" for step in script.steps)


@flow(hours_without_webhooks)
async def reconcile(lab: Laboratory, given: Document) -> None:
    await lab.reconcile()
    lab.world.pass_time(minutes(5))
    await lab.reconcile()


@flow(nothing)
async def whole_life(lab: Laboratory, given: Document) -> None:
    opened = await open_intent(lab)
    if opened is None:
        return
    await confirm(lab, opened)
    await lab.deliver_all()
    await refund(lab, opened, amount_cents=400)
    await lab.deliver_all()
    lab.world.pass_time(120)
    await lab.reconcile()
    await refund(lab, opened)
    await lab.deliver_all()
