"""The pages a customer sees: hosted checkout and the bank's 3-D Secure page."""

from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from stripe_sandbox.objects.checkout_sessions import SessionRecord
from stripe_sandbox.objects.instructions import acts_elsewhere
from stripe_sandbox.objects.instruments import BANK_DEBIT, CARD
from stripe_sandbox.objects.payment_attempts import PaymentIntentRecord
from stripe_sandbox.pages.checkout_form import DELAYED, Submission, read_form
from stripe_sandbox.pages.templating import BANK_PAGE_HEADERS, render
from stripe_sandbox.protocol.connection import ClientLeft, read_body
from stripe_sandbox.protocol.errors import ApiError
from stripe_sandbox.protocol.money import display
from stripe_sandbox.sandbox import Sandbox

TEST_CARDS = (
    ("4242 4242 4242 4242", "succeeds"),
    ("4000 0000 0000 0002", "is declined"),
    ("4000 0000 0000 9995", "is declined: insufficient funds"),
    ("4000 0027 6000 3184", "asks for 3-D Secure"),
)


class Pages:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def show_checkout(self, request: Request) -> Response:
        record = self._session(request)
        if record is None:
            return self._no_such_page()
        if record.data["status"] != "open":
            return self._closed(record)
        submission = Submission({"method": "card", "email": record.data["customer_email"] or ""})
        return self._checkout(record, submission, self._last_failure(record))

    async def pay(self, request: Request) -> Response:
        record = self._session(request)
        if record is None:
            return self._no_such_page()
        sessions = self._sandbox.checkout_sessions
        session = record.data
        if session["status"] == "complete":
            # Submitted twice: the first one counted.
            return _redirect(sessions.success_address(record))
        if session["status"] != "open":
            return self._closed(record)
        form = await _form(request)
        if session["customer_email"]:
            form["email"] = session["customer_email"]
        submission = read_form(
            form,
            types=session["payment_method_types"],
            free=session["amount_total"] == 0,
            methods=self._sandbox.payment_methods,
        )
        if submission.errors:
            return self._checkout(record, submission, None, status=422)
        method = submission.mint(self._sandbox.payment_methods)
        try:
            payment = sessions.pay(
                record.id,
                method,
                email=submission.values["email"],
                name=submission.values["name"] or None,
            )
        except ApiError as refusal:
            return self._checkout(record, submission, refusal.message, status=refusal.status)
        if payment.redirect_url is not None:
            return _redirect(payment.redirect_url)
        message = (payment.error or {}).get("message", "The payment did not succeed.")
        return self._checkout(record, submission, message, status=402)

    async def show_authentication(self, request: Request) -> Response:
        record = self._intent(request)
        if record is None:
            return self._no_such_page()
        if record.status != "requires_action":
            return self._authenticated(record)
        return self._bank_page(record)

    async def authenticate(self, request: Request) -> Response:
        record = self._intent(request)
        if record is None:
            return self._no_such_page()
        attempt = record.attempt
        if record.status != "requires_action" or attempt is None:
            return self._authenticated(record)
        form = await _form(request)
        decision = form.get("decision")
        if decision not in ("approve", "refuse"):
            return self._bank_page(record, status=422)
        intents = self._sandbox.payment_intents
        self._sandbox.authenticate(record.id, approve=decision == "approve")
        if record.session_id is not None:
            return self._back_to_session(record)
        if attempt.return_url is not None:
            return _redirect(intents.return_address(record, attempt.return_url))
        return self._authenticated(record)

    def _back_to_session(self, intent: PaymentIntentRecord) -> Response:
        sessions = self._sandbox.checkout_sessions
        record = sessions.find(intent.session_id or "")
        if record is None:
            return self._no_such_page()
        if record.data["status"] == "complete":
            return _redirect(sessions.success_address(record))
        return _redirect(f"/c/pay/{record.id}")

    def _session(self, request: Request) -> SessionRecord | None:
        self._sandbox.clock.run_due()
        return self._sandbox.checkout_sessions.find(request.path_params["id"])

    def _intent(self, request: Request) -> PaymentIntentRecord | None:
        self._sandbox.clock.run_due()
        record = self._sandbox.payment_intents.find(request.path_params["id"])
        return None if record is None or acts_elsewhere(record.data) else record

    def _last_failure(self, record: SessionRecord) -> str | None:
        """Why the last attempt failed: shown to who comes back from the bank's page."""
        intent = self._sandbox.payment_intents.find(record.data["payment_intent"] or "")
        if intent is None or intent.data["last_payment_error"] is None:
            return None
        error = intent.data["last_payment_error"]
        if error["code"] == "payment_intent_authentication_failure":
            return (
                "We are unable to authenticate your payment method. Please choose a different "
                "payment method and try again."
            )
        message: str = error["message"]
        return message

    def _checkout(
        self,
        record: SessionRecord,
        submission: Submission,
        message: str | None,
        *,
        status: int = 200,
    ) -> Response:
        session = record.data
        types = session["payment_method_types"]
        items = [
            {
                "name": item["description"],
                "description": product["description"] if product else None,
                "image": product["images"][0] if product and product["images"] else None,
                "quantity": item["quantity"],
                "unit": display(item["price"]["unit_amount"], item["currency"]),
                "total": display(item["amount_total"], item["currency"]),
            }
            for item in record.items
            for product in [self._sandbox.checkout_sessions.product(item["price"]["product"])]
        ]
        values = {"method": "card", "bank_outcome": "succeeds", **submission.values}
        values["number"] = _grouped(values.get("number", ""))
        delayed = {type: label for type, (_, label) in DELAYED.items() if type in types}
        offered = ["card"] * (CARD in types) + ["bank"] * (BANK_DEBIT in types) + [*delayed]
        if values["method"] not in offered:
            values["method"] = offered[0]
        return render(
            "checkout.html",
            status=status,
            session=session,
            items=items,
            total=display(session["amount_total"], session["currency"]),
            free=session["amount_total"] == 0,
            values=values,
            errors=submission.errors,
            message=message,
            card=CARD in types,
            bank=BANK_DEBIT in types,
            delayed=delayed,
            test_cards=TEST_CARDS,
        )

    def _closed(self, record: SessionRecord) -> Response:
        session = record.data
        complete = session["status"] == "complete"
        link = (
            self._sandbox.checkout_sessions.success_address(record)
            if complete
            else session["cancel_url"]
        )
        return render("closed.html", complete=complete, link=link, session=session)

    def _bank_page(self, record: PaymentIntentRecord, *, status: int = 200) -> Response:
        attempt = record.attempt
        return render(
            "three_d_secure.html",
            status=status,
            headers=BANK_PAGE_HEADERS,
            intent=record.data,
            card=None if attempt is None else attempt.method.data.get("card"),
        )

    def _authenticated(self, record: PaymentIntentRecord) -> Response:
        return render(
            "authenticated.html",
            headers=BANK_PAGE_HEADERS,
            succeeded=record.status in ("succeeded", "requires_capture", "processing"),
            intent=record.data,
        )

    def _no_such_page(self) -> Response:
        return render("not_found.html", status=404)


async def _form(request: Request) -> dict[str, str]:
    try:
        body = await read_body(request.receive)
    except (ApiError, ClientLeft):
        return {}
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def _grouped(number: str) -> str:
    """As it is printed on the card; what is no card number is left as it was typed."""
    digits = number.replace(" ", "")
    if not digits.isascii() or not digits.isdigit():
        return number
    sizes = (4, 6, 5) if digits.startswith(("34", "37")) else (4, 4, 4, 4, 4)
    parts, rest = [], digits
    for size in sizes:
        parts.append(rest[:size])
        rest = rest[size:]
    return " ".join(filter(None, [*parts, rest]))


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 303, headers={"Cache-Control": "no-store"})


def page_routes(sandbox: Sandbox) -> list[Route]:
    pages = Pages(sandbox)
    return [
        Route("/c/pay/{id}", pages.show_checkout, methods=["GET"]),
        Route("/c/pay/{id}", pages.pay, methods=["POST"]),
        Route("/3ds/{id}", pages.show_authentication, methods=["GET"]),
        Route("/3ds/{id}", pages.authenticate, methods=["POST"]),
    ]
