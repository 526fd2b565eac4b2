"""The hosted checkout page, driven as a browser without scripts would."""

import html
import re
from html.parser import HTMLParser
from typing import Any

import pytest

GOOD = {
    "method": "card",
    "email": "jenny@example.com",
    "number": "4242 4242 4242 4242",
    "expiry": "12 / 44",
    "cvc": "123",
    "name": "Jenny Rosen",
}


class _Fields(HTMLParser):
    """The labels, inputs and described-by references of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.labels: set[str] = set()
        self.wrapped: int = 0
        self.inputs: list[dict[str, str | None]] = []
        self.ids: set[str] = set()
        self.alerts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.add(found["id"] or "")
        if tag == "label" and found.get("for"):
            self.labels.add(found["for"] or "")
        if tag == "input":
            self.inputs.append(found)
        self.alerts += found.get("role") == "alert"


async def submit(rig: Any, session: Any, **changes: str) -> Any:
    return await rig.http.post(f"/c/pay/{session.id}", data={**GOOD, **changes})


async def test_the_page_shows_what_is_bought_and_that_it_is_a_sandbox(rig: Any) -> None:
    session = await rig.session()
    page = await rig.http.get(f"/c/pay/{session.id}")
    text = html.unescape(page.text)
    assert page.status_code == 200
    for shown in (
        "Sandbox",
        "A tale of two cities",
        "Unabridged",
        "Qty 2, $15.00 each",
        "$30.00",
        "4242 4242 4242 4242",
        "https://shop.example/cart",
        "Bank debit",
    ):
        assert shown in text
    assert page.headers["Cache-Control"] == "no-store"
    assert "script" not in text.lower().replace("description", "")


async def test_every_field_has_a_label_and_every_reference_exists(rig: Any) -> None:
    session = await rig.session()
    for page in (
        await rig.http.get(f"/c/pay/{session.id}"),
        await submit(rig, session, email="", number="", expiry="", cvc=""),
    ):
        fields = _Fields(page.text)
        typed = [field for field in fields.inputs if field["type"] != "radio"]
        assert {field["id"] for field in typed} <= fields.labels
        for field in typed:
            for reference in (field.get("aria-describedby") or "").split():
                assert reference in fields.ids
        assert '<html lang="en">' in page.text
        assert 'name="viewport"' in page.text


async def test_paying_redirects_to_success_with_the_session_id(rig: Any) -> None:
    session = await rig.session()
    answer = await submit(rig, session)
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"https://shop.example/ok?session_id={session.id}"
    paid = rig.data(session.id)
    assert (paid["status"], paid["payment_status"]) == ("complete", "paid")
    assert paid["customer_details"]["email"] == "jenny@example.com"
    assert paid["customer_details"]["name"] == "Jenny Rosen"


async def test_submitting_twice_charges_once(rig: Any) -> None:
    session = await rig.session()
    first, second = await submit(rig, session), await submit(rig, session)
    assert first.headers["Location"] == second.headers["Location"]
    assert len(rig.sandbox.events.all("charge.succeeded")) == 1


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("4000000000000002", "Your card was declined."),
        ("4000000000009995", "Your card has insufficient funds."),
        ("4000000000000069", "Your card has expired."),
    ],
)
async def test_a_decline_is_shown_in_place_and_another_card_pays(
    rig: Any, number: str, message: str
) -> None:
    session = await rig.session()
    declined = await submit(rig, session, number=number)
    assert declined.status_code == 402
    assert _Fields(declined.text).alerts == 1
    assert message in html.unescape(declined.text)
    assert 'value="jenny@example.com"' in declined.text
    assert "123" not in re.findall(r'name="cvc"[^>]*value="([^"]*)"', declined.text)
    assert rig.data(session.id)["status"] == "open"
    assert (await submit(rig, session)).status_code == 303


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"email": ""}, "email", "Enter your email."),
        ({"email": "jenny"}, "email", "Your email is not complete."),
        ({"number": ""}, "number", "Enter your card number."),
        ({"number": "4242"}, "number", "Your card number is incomplete."),
        ({"number": "4242424242424241"}, "number", "Your card number is invalid."),
        ({"number": "4929939187355598"}, "number", "This is not one of the test cards"),
        (
            {"number": "\uff14\uff12" * 8},
            "number",
            "Your card number is incomplete.",
        ),
        ({"expiry": ""}, "expiry", "Enter your card's expiration date."),
        ({"expiry": "12"}, "expiry", "Your card's expiration date is incomplete."),
        ({"expiry": "13/44"}, "expiry", "Your card's expiration month is invalid."),
        ({"expiry": "12/20"}, "expiry", "Your card's expiration date is in the past."),
        ({"cvc": ""}, "cvc", "Enter the security code."),
        ({"cvc": "99"}, "cvc", "Your card's security code has 3 digits."),
        (
            {"number": "378282246310005", "cvc": "123"},
            "cvc",
            "Your card's security code has 4 digits.",
        ),
    ],
)
async def test_a_mistake_is_told_at_its_field(
    rig: Any, changes: dict[str, str], field: str, message: str
) -> None:
    session = await rig.session()
    page = await submit(rig, session, **changes)
    assert page.status_code == 422
    text = html.unescape(page.text)
    assert f'id="{field}-error">{message}' in text
    fields = _Fields(page.text)
    invalid = [f["id"] for f in fields.inputs if f.get("aria-invalid") == "true"]
    assert invalid == [field]
    assert fields.alerts == 1
    assert rig.sandbox.events.all() == []


@pytest.mark.parametrize("expiry", ["12/44", "12 / 2044", "1244", "122044", "1/44"])
async def test_expiry_is_read_as_people_write_it(rig: Any, expiry: str) -> None:
    session = await rig.session()
    assert (await submit(rig, session, expiry=expiry)).status_code == 303


async def test_the_card_as_typed_is_on_the_method(rig: Any) -> None:
    session = await rig.session()
    await submit(rig, session, number="5555-5555-5555-4444", expiry="03/33")
    intent = rig.data(rig.data(session.id)["payment_intent"])
    card = rig.data(intent["payment_method"])["card"]
    assert (card["brand"], card["last4"], card["exp_month"], card["exp_year"]) == (
        "mastercard",
        "4444",
        3,
        2033,
    )


@pytest.mark.parametrize("number", ["4000002760003184", "4000000000003220"])
async def test_a_three_d_secure_card_goes_by_way_of_the_bank(rig: Any, number: str) -> None:
    session = await rig.session()
    answer = await submit(rig, session, number=number)
    intent_id = rig.data(session.id)["payment_intent"]
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"{rig.url}/3ds/{intent_id}"
    approved = await rig.http.post(f"/3ds/{intent_id}", data={"decision": "approve"})
    assert approved.headers["Location"] == f"https://shop.example/ok?session_id={session.id}"
    assert rig.data(session.id)["payment_status"] == "paid"


async def test_a_refusal_at_the_bank_leads_back_with_the_reason(rig: Any) -> None:
    session = await rig.session()
    await submit(rig, session, number="4000000000003220")
    intent_id = rig.data(session.id)["payment_intent"]
    refused = await rig.http.post(f"/3ds/{intent_id}", data={"decision": "refuse"})
    assert refused.headers["Location"] == f"/c/pay/{session.id}"
    page = await rig.http.get(refused.headers["Location"])
    assert "unable to authenticate your payment method" in page.text
    assert (await submit(rig, session)).status_code == 303


async def test_a_decision_the_bank_does_not_know_asks_again(rig: Any) -> None:
    session = await rig.session()
    await submit(rig, session, number="4000000000003220")
    intent_id = rig.data(session.id)["payment_intent"]
    answer = await rig.http.post(f"/3ds/{intent_id}", data={"decision": "maybe"})
    assert answer.status_code == 422
    assert rig.data(intent_id)["status"] == "requires_action"


@pytest.mark.parametrize(
    ("outcome", "status"), [("succeeds", "succeeded"), ("fails", "requires_payment_method")]
)
async def test_a_bank_debit_completes_now_and_settles_later(
    start: Any, outcome: str, status: str
) -> None:
    rig = await start(delayed_payment_seconds=60)
    session = await rig.session()
    answer = await submit(rig, session, method="bank", bank_outcome=outcome)
    assert answer.status_code == 303
    paid = rig.data(session.id)
    assert (paid["status"], paid["payment_status"]) == ("complete", "unpaid")
    rig.sandbox.clock.advance(60)
    assert rig.data(paid["payment_intent"])["status"] == status


async def test_a_bank_debit_needs_a_name(rig: Any) -> None:
    session = await rig.session()
    page = await submit(rig, session, method="bank", name="")
    assert page.status_code == 422
    assert 'id="name-error"' in page.text


async def test_a_free_order_asks_for_no_card(rig: Any, line_item: Any) -> None:
    session = await rig.session(line_items=[line_item(0, 1)])
    page = await rig.http.get(f"/c/pay/{session.id}")
    assert 'name="number"' not in page.text
    answer = await rig.http.post(f"/c/pay/{session.id}", data={"email": "jenny@example.com"})
    assert answer.status_code == 303
    assert rig.data(session.id)["payment_status"] == "no_payment_required"


async def test_other_currencies_have_their_own_figures_and_no_debit(
    rig: Any, line_item: Any
) -> None:
    session = await rig.session(line_items=[line_item(1500, 1, "jpy")])
    page = html.unescape((await rig.http.get(f"/c/pay/{session.id}")).text)
    assert "¥1,500" in page
    assert "Bank debit" not in page


async def test_an_email_given_by_the_merchant_is_kept(rig: Any) -> None:
    session = await rig.session(customer_email="fixed@example.com")
    page = await rig.http.get(f"/c/pay/{session.id}")
    assert re.search(r'value="fixed@example.com"[^>]*readonly', page.text)
    await submit(rig, session, email="other@example.com")
    assert rig.data(session.id)["customer_details"]["email"] == "fixed@example.com"


async def test_a_complete_session_shows_that_and_the_way_on(rig: Any) -> None:
    session = await rig.session()
    rig.sandbox.pay_session(session.id)
    page = html.unescape((await rig.http.get(f"/c/pay/{session.id}")).text)
    assert "You're all done here" in page
    assert f"https://shop.example/ok?session_id={session.id}" in page


async def test_an_expired_session_shows_that_and_takes_no_payment(rig: Any) -> None:
    session = await rig.session()
    rig.sandbox.expire_session(session.id)
    for page in (await rig.http.get(f"/c/pay/{session.id}"), await submit(rig, session)):
        assert "This checkout has expired" in page.text
    assert rig.sandbox.events.types() == ["checkout.session.expired"]


async def test_an_unknown_session_is_a_page_of_its_own(rig: Any) -> None:
    for page in (
        await rig.http.get("/c/pay/cs_test_unknown"),
        await rig.http.post("/c/pay/cs_test_unknown"),
    ):
        assert page.status_code == 404
        assert "There is no such page" in page.text


async def test_what_merchants_and_customers_write_is_escaped(rig: Any, line_item: Any) -> None:
    item = line_item()
    item["price_data"]["product_data"]["name"] = "<script>alert(1)</script>"
    session = await rig.session(line_items=[item])
    page = await submit(rig, session, email='"><script>alert(2)</script>')
    assert "<script" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
