"""The dashboard: what has happened, live, and buttons for what a person can do about it.

The pages are rendered here. In the browser ``static/dashboard.js`` fetches a page again whenever
the stream under ``/dashboard/live`` says that something has changed, and sends what buttons do to
the control API.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from stripe_sandbox.core.api_objects import StripeObject
from stripe_sandbox.objects.disputes import CLOSED_STATUSES
from stripe_sandbox.objects.instructions import acts_elsewhere
from stripe_sandbox.pages.templating import PAGE_HEADERS, render
from stripe_sandbox.protocol.money import decimals, display
from stripe_sandbox.sandbox import Sandbox
from stripe_sandbox.trouble.faults import FAULT_KINDS

_HEADERS: Final = {
    **PAGE_HEADERS,
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}
_LOOKING_EVERY_SECONDS: Final = 0.2
_SIGN_OF_LIFE_SECONDS: Final = 15.0
_ON_OVERVIEW: Final = 6
_ON_PAGE: Final = 100

VIEWS: Final = {
    "payments": "Payments",
    "sessions": "Checkout sessions",
    "refunds": "Refunds",
    "disputes": "Disputes",
    "events": "Events",
    "requests": "API requests",
}

_VOUCHER_ENDINGS: Final = [("Voucher is paid", "succeeded"), ("Voucher expires", "failed")]
_ENDINGS: Final = {
    "display_bank_transfer_instructions": [
        ("Transfer arrives", "succeeded"),
        ("Transfer fails", "failed"),
    ],
    "verify_with_microdeposits": [
        ("Account is verified", "processing"),
        ("Verification fails", "failed"),
    ],
}
"""By what the shopper was told to do: the buttons for what comes of it."""


@dataclass(frozen=True, slots=True)
class Status:
    """A word and its tone: good, bad, wait or calm. The colour never says more than the word."""

    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class Action:
    """A button that posts to the control API. ``inputs`` names what the person may fill in."""

    label: str
    path: str
    fixed: StripeObject = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    amount: str = ""
    decimals: int = 2


@dataclass(frozen=True, slots=True)
class Fact:
    label: str
    value: str
    href: str | None = None
    external: bool = False


@dataclass(frozen=True, slots=True)
class Detail:
    """The page of one object."""

    heading: str
    status: Status
    facts: list[Fact]
    actions: list[Action]
    related: set[str]
    """The ids whose events belong on this page."""
    objects: list[tuple[str, StripeObject]]


class Dashboard:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._stopping = asyncio.Event()
        self._details: dict[str, Callable[[str], Detail | None]] = {
            "payments": self._payment,
            "sessions": self._session,
            "refunds": self._refund,
            "disputes": self._dispute,
            "events": self._event,
        }

    def stop_streams(self) -> None:
        """A server that stops waits for its connections, and these would never end."""
        self._stopping.set()

    # The pages

    async def overview(self, request: Request) -> Response:
        self._sandbox.clock.run_due()
        return self._page(
            "dashboard.html",
            view=None,
            title="Overview",
            limited=True,
            **{name: self._rows(name, _ON_OVERVIEW) for name in VIEWS if name != "requests"},
        )

    async def listing(self, request: Request) -> Response:
        view = request.path_params["view"]
        if view not in VIEWS:
            return render("not_found.html", status=404)
        self._sandbox.clock.run_due()
        return self._page(
            "dashboard.html",
            view=view,
            title=VIEWS[view],
            limited=False,
            **{view: self._rows(view, _ON_PAGE)},
        )

    async def detail(self, request: Request) -> Response:
        view, id = request.path_params["view"], request.path_params["id"]
        self._sandbox.clock.run_due()
        found = self._details[view](id) if view in self._details else None
        if found is None:
            return render("not_found.html", status=404)
        about = [
            event
            for event in reversed(self._sandbox.events.all())
            if event["data"]["object"].get("id") in found.related
        ]
        return self._page(
            "dashboard_detail.html",
            view=view,
            title=found.heading,
            detail=found,
            id=id,
            events=self._event_rows(about[:_ON_PAGE]),
            attempts=self._attempts().get(id, []) if view == "events" else None,
        )

    async def live(self, request: Request) -> Response:
        """Says that something has changed; what, the page asks for itself."""
        return StreamingResponse(
            self._changes(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
        )

    async def _changes(self) -> AsyncIterator[str]:
        # At once: whatever happened before this connection stood.
        yield "retry: 1000\ndata: changed\n\n"
        seen = self._fingerprint()
        quiet_since = time.monotonic()
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(_LOOKING_EVERY_SECONDS):
                    await self._stopping.wait()
            except TimeoutError:
                now = self._fingerprint()
            else:
                return
            if now != seen:
                seen, quiet_since = now, time.monotonic()
                yield "data: changed\n\n"
            elif time.monotonic() - quiet_since > _SIGN_OF_LIFE_SECONDS:
                quiet_since = time.monotonic()
                yield ": still here\n\n"

    def _fingerprint(self) -> tuple[object, ...]:
        """Differs whenever a page would: every change is a request, an event or a delivery."""
        s = self._sandbox
        request = s.requests[-1] if len(s.requests) else None
        return (
            None if request is None else (request.request_id, request.status),
            [event["id"] for event in s.events.list({"limit": 1})["data"]],
            s.webhooks.attempts[-1] if s.webhooks.attempts else None,
            s.webhooks.outstanding,
            s.webhooks.paused,
            [(fault.id, fault.hits) for fault in s.faults.all()],
            round(s.clock.now() - time.time()),
        )

    def _page(self, template: str, **context: Any) -> Response:
        s = self._sandbox
        return render(
            template,
            headers=_HEADERS,
            views=VIEWS,
            now=s.clock.timestamp(),
            skipped=round(s.clock.now() - time.time()),
            paused=s.webhooks.paused,
            outstanding=s.webhooks.outstanding,
            endpoints=[endpoint.config.url for endpoint in s.webhooks.endpoints],
            faults=[fault.as_json() for fault in s.faults.all()],
            fault_kinds=FAULT_KINDS,
            **context,
        )

    # Rows

    def _rows(self, view: str, limit: int) -> list[dict[str, Any]]:
        s = self._sandbox
        if view == "requests":
            return [record.as_json() for record in reversed(list(s.requests))][:limit]
        if view == "events":
            newest: list[StripeObject] = s.events.list({"limit": limit})["data"]
            return self._event_rows(newest)
        listed, row = {
            "payments": (s.payment_intents.list, self._payment_row),
            "sessions": (s.checkout_sessions.list, self._session_row),
            "refunds": (s.refunds.list, self._refund_row),
            "disputes": (s.disputes.list, self._dispute_row),
        }[view]
        return [row(data) for data in listed({"limit": limit})["data"]]

    def _payment_row(self, intent: StripeObject) -> dict[str, Any]:
        charge = self._charge(intent["latest_charge"])
        return {
            "id": intent["id"],
            "amount": display(intent["amount"], intent["currency"]),
            "status": _payment_status(intent, charge),
            "method": _method(charge),
            "description": intent["description"] or "",
            "created": intent["created"],
        }

    def _session_row(self, session: StripeObject) -> dict[str, Any]:
        return {
            "id": session["id"],
            "amount": display(session["amount_total"], session["currency"]),
            "status": _session_status(session),
            "email": (session["customer_details"] or {}).get("email")
            or session["customer_email"]
            or "",
            "created": session["created"],
        }

    def _refund_row(self, refund: StripeObject) -> dict[str, Any]:
        return {
            "id": refund["id"],
            "amount": display(refund["amount"], refund["currency"]),
            "status": _refund_status(refund),
            "payment": refund["payment_intent"],
            "reason": refund["reason"] or "",
            "created": refund["created"],
        }

    def _dispute_row(self, dispute: StripeObject) -> dict[str, Any]:
        return {
            "id": dispute["id"],
            "amount": display(dispute["amount"], dispute["currency"]),
            "status": _dispute_status(dispute),
            "payment": dispute["payment_intent"],
            "reason": dispute["reason"].replace("_", " "),
            "created": dispute["created"],
        }

    def _event_rows(self, events: list[StripeObject]) -> list[dict[str, Any]]:
        attempts = self._attempts()
        return [self._event_row(event, attempts.get(event["id"], [])) for event in events]

    def _event_row(self, event: StripeObject, attempts: list[StripeObject]) -> dict[str, Any]:
        about = event["data"]["object"]
        return {
            "id": event["id"],
            "type": event["type"],
            "about": about.get("id", ""),
            "about_href": _href(about),
            "created": event["created"],
            "delivery": self._delivery(event, attempts),
            "attempts": len(attempts),
        }

    def _attempts(self) -> dict[str, list[StripeObject]]:
        """Those of each event, newest first."""
        found: dict[str, list[StripeObject]] = {}
        for attempt in reversed(self._sandbox.webhooks.attempts):
            found.setdefault(attempt.event_id, []).append(attempt.as_json())
        return found

    def _delivery(self, event: StripeObject, attempts: list[StripeObject]) -> Status:
        if not self._sandbox.webhooks.endpoints:
            return Status("No endpoint", "calm")
        if not attempts:
            return Status("Waiting" if event["pending_webhooks"] else "Not sent", "wait")
        answer = attempts[0]
        if answer["succeeded"]:
            return Status(f"{answer['status']} delivered", "good")
        if answer["status"] is None:
            return Status("No answer", "bad")
        return Status(f"{answer['status']} refused", "bad")

    # Details

    def _payment(self, id: str) -> Detail | None:
        record = self._sandbox.payment_intents.find(id)
        if record is None:
            return None
        intent = record.data
        charge = self._charge(intent["latest_charge"])
        refunds = self._sandbox.refunds.list({"limit": 100, "payment_intent": id})["data"]
        disputes = self._sandbox.disputes.list({"limit": 100, "payment_intent": id})["data"]
        facts = [
            Fact("PaymentIntent", id),
            Fact("Method", _method(charge)),
            Fact("Description", intent["description"] or "none"),
        ]
        error = intent["last_payment_error"]
        if error is not None:
            code = error.get("decline_code") or error.get("code") or ""
            facts.append(Fact("Last error", f"{error['message']} ({code})"))
        if record.session_id is not None:
            facts.append(
                Fact(
                    "Checkout session",
                    record.session_id,
                    f"/dashboard/sessions/{record.session_id}",
                )
            )
        if charge is not None and charge["amount_refunded"]:
            refunded = display(charge["amount_refunded"], charge["currency"])
            facts.append(Fact("Refunded", refunded))
        facts += [
            Fact("Refund", each["id"], f"/dashboard/refunds/{each['id']}") for each in refunds
        ]
        facts += [
            Fact("Dispute", each["id"], f"/dashboard/disputes/{each['id']}") for each in disputes
        ]
        warnings = self._sandbox.early_fraud_warnings.list({"limit": 100, "payment_intent": id})
        facts += [Fact("Early fraud warning", each["fraud_type"]) for each in warnings["data"]]
        related = {id} | {each["id"] for each in (*refunds, *disputes, *warnings["data"])}
        if record.session_id is not None:
            related.add(record.session_id)
        objects = [("PaymentIntent", intent)]
        if charge is not None:
            related.add(charge["id"])
            objects.append(("Charge", charge))
        return Detail(
            heading=display(intent["amount"], intent["currency"]),
            status=_payment_status(intent, charge),
            facts=facts,
            actions=self._payment_actions(intent, charge),
            related=related,
            objects=objects,
        )

    def _payment_actions(self, intent: StripeObject, charge: StripeObject | None) -> list[Action]:
        id, status = intent["id"], intent["status"]
        if status == "requires_action" and acts_elsewhere(intent):
            path = f"/_sandbox/payment_intents/{id}/settle"
            return [
                Action(label, path, {"outcome": outcome})
                for label, outcome in _ENDINGS.get(intent["next_action"]["type"], _VOUCHER_ENDINGS)
            ]
        if status == "requires_action":
            path = f"/_sandbox/payment_intents/{id}/3ds"
            return [
                Action("Approve 3-D Secure", path, {"approve": True}),
                Action("Refuse 3-D Secure", path, {"approve": False}),
            ]
        if status == "processing":
            path = f"/_sandbox/payment_intents/{id}/settle"
            return [
                Action("Bank debit succeeds", path, {"outcome": "succeeded"}),
                Action("Bank debit fails", path, {"outcome": "failed"}),
            ]
        actions = []
        if status == "succeeded" and charge is not None:
            remaining = charge["amount_captured"] - charge["amount_refunded"]
            places = decimals(charge["currency"])
            if remaining > 0:
                actions.append(
                    Action(
                        "Refund",
                        "/_sandbox/refunds",
                        {"payment_intent": id},
                        ("amount", "refund_reason"),
                        f"{remaining / 10**places:.{places}f}",
                        places,
                    )
                )
            if not charge["disputed"]:
                actions.append(
                    Action(
                        "Open dispute",
                        "/_sandbox/disputes",
                        {"payment_intent": id},
                        ("dispute_reason",),
                    )
                )
            actions.append(
                Action(
                    "Send early fraud warning",
                    "/_sandbox/early_fraud_warnings",
                    {"payment_intent": id},
                )
            )
        return actions

    def _session(self, id: str) -> Detail | None:
        record = self._sandbox.checkout_sessions.find(id)
        if record is None:
            return None
        session = record.data
        intent_id = session["payment_intent"]
        row = self._session_row(session)
        facts = [Fact("Session", id), Fact("E-mail", row["email"] or "none")]
        if session["url"]:
            facts.append(Fact("Page", "Open the checkout page", session["url"], external=True))
        if intent_id is not None:
            facts.append(Fact("Payment", intent_id, f"/dashboard/payments/{intent_id}"))
        actions = []
        if session["status"] == "open":
            path = f"/_sandbox/checkout/sessions/{id}"
            actions = [
                Action(
                    "Pay with Visa 4242", f"{path}/complete", {"payment_method": "pm_card_visa"}
                ),
                Action("Expire", f"{path}/expire"),
            ]
        return Detail(
            heading=row["amount"],
            status=row["status"],
            facts=facts,
            actions=actions,
            related={id} | ({intent_id} if intent_id else set()),
            objects=[
                ("Checkout Session", session),
                ("Line items", self._sandbox.checkout_sessions.line_items({}, id)),
            ],
        )

    def _refund(self, id: str) -> Detail | None:
        refund = self._sandbox.refunds.find(id)
        if refund is None:
            return None
        data = refund.data
        actions = []
        if data["status"] in ("pending", "requires_action"):
            actions.append(Action("Succeed", f"/_sandbox/refunds/{id}/succeed"))
        if data["status"] in ("pending", "requires_action", "succeeded"):
            actions.append(Action("Fail refund", f"/_sandbox/refunds/{id}/fail"))
        payment = data["payment_intent"]
        return Detail(
            heading=f"Refund of {display(data['amount'], data['currency'])}",
            status=_refund_status(data),
            facts=[
                Fact("Refund", id),
                Fact("Payment", payment, f"/dashboard/payments/{payment}"),
                Fact("Reason", (data["reason"] or "none").replace("_", " ")),
            ],
            actions=actions,
            related={id},
            objects=[("Refund", data)],
        )

    def _dispute(self, id: str) -> Detail | None:
        record = self._sandbox.disputes.find(id)
        if record is None:
            return None
        data = record.data
        actions = []
        if data["status"] not in CLOSED_STATUSES:
            path = f"/_sandbox/disputes/{id}/close"
            actions = [
                Action("Close as won", path, {"status": "won"}),
                Action("Close as lost", path, {"status": "lost"}),
            ]
        if data["status"] in ("warning_needs_response", "warning_under_review"):
            actions.append(Action("Escalate to a dispute", f"/_sandbox/disputes/{id}/escalate"))
        payment = data["payment_intent"]
        return Detail(
            heading=f"Dispute of {display(data['amount'], data['currency'])}",
            status=_dispute_status(data),
            facts=[
                Fact("Dispute", id),
                Fact("Payment", payment, f"/dashboard/payments/{payment}"),
                Fact("Reason", data["reason"].replace("_", " ")),
            ],
            actions=actions,
            related={id},
            objects=[("Dispute", data)],
        )

    def _event(self, id: str) -> Detail | None:
        event = self._sandbox.events.find(id)
        if event is None:
            return None
        about = event["data"]["object"]
        request = event["request"] or {}
        return Detail(
            heading=event["type"],
            status=self._delivery(event, self._attempts().get(id, [])),
            facts=[
                Fact("Event", id),
                Fact("About", about.get("id", "none"), _href(about)),
                Fact("Request", request.get("id") or "none: it happened outside the API"),
                Fact("Idempotency-Key", request.get("idempotency_key") or "none"),
            ],
            actions=[Action("Resend", f"/_sandbox/events/{id}/resend")],
            related=set(),
            objects=[("Event", event)],
        )

    def _charge(self, id: str | None) -> StripeObject | None:
        record = None if id is None else self._sandbox.charges.find(id)
        return None if record is None else record.data


def _method(charge: StripeObject | None) -> str:
    details = (charge or {}).get("payment_method_details") or {}
    kind = details.get("type")
    if kind == "card":
        return f"{details['card']['brand'].title()} {details['card']['last4']}"
    if kind is None:
        return "none yet"
    if kind == "us_bank_account":
        return f"Bank {details[kind]['last4']}"
    return str(kind).replace("_", " ").capitalize()


def _payment_status(intent: StripeObject, charge: StripeObject | None) -> Status:
    status = intent["status"]
    if status == "succeeded" and charge is not None:
        if charge["disputed"]:
            return Status("Disputed", "bad")
        if charge["refunded"]:
            return Status("Refunded", "calm")
        if charge["amount_refunded"]:
            return Status("Partly refunded", "calm")
    if status == "requires_payment_method":
        failed = intent["last_payment_error"] is not None
        return Status("Failed", "bad") if failed else Status("Incomplete", "calm")
    if status == "requires_action" and acts_elsewhere(intent):
        return Status("Awaiting shopper", "wait")
    return {
        "succeeded": Status("Succeeded", "good"),
        "processing": Status("Processing", "wait"),
        "requires_action": Status("3-D Secure", "wait"),
        "requires_capture": Status("Uncaptured", "wait"),
        "requires_confirmation": Status("Incomplete", "calm"),
    }.get(status, Status(status.replace("_", " ").capitalize(), "calm"))


def _session_status(session: StripeObject) -> Status:
    if session["status"] == "complete":
        paid = session["payment_status"] != "unpaid"
        return Status("Complete", "good") if paid else Status("Complete, unpaid", "wait")
    return Status("Open", "wait") if session["status"] == "open" else Status("Expired", "calm")


def _refund_status(refund: StripeObject) -> Status:
    tone = {"succeeded": "good", "failed": "bad", "canceled": "calm"}.get(refund["status"], "wait")
    return Status(refund["status"].replace("_", " ").capitalize(), tone)


def _dispute_status(dispute: StripeObject) -> Status:
    tone = {"won": "good", "lost": "bad", "warning_closed": "calm"}.get(dispute["status"], "wait")
    return Status(dispute["status"].replace("_", " ").capitalize(), tone)


def _href(data: StripeObject) -> str | None:
    """The page of an object, or of the one that it belongs to."""
    kind = data.get("object")
    view = {
        "payment_intent": "payments",
        "checkout.session": "sessions",
        "refund": "refunds",
        "dispute": "disputes",
    }.get(kind or "")
    if view is not None:
        return f"/dashboard/{view}/{data['id']}"
    if kind in ("charge", "radar.early_fraud_warning") and data["payment_intent"]:
        return f"/dashboard/payments/{data['payment_intent']}"
    return None


def dashboard_routes(dashboard: Dashboard) -> list[BaseRoute]:
    return [
        Route("/", dashboard.overview, methods=["GET"]),
        Route("/dashboard", dashboard.overview, methods=["GET"]),
        Route("/dashboard/live", dashboard.live, methods=["GET"]),
        Route("/dashboard/{view}", dashboard.listing, methods=["GET"]),
        Route("/dashboard/{view}/{id}", dashboard.detail, methods=["GET"]),
    ]
