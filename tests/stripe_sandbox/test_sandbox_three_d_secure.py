"""https://docs.stripe.com/payments/3d-secure"""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import stripe

ALWAYS = ["pm_card_threeDSecure2Required", "pm_card_authenticationRequired"]
ON_SESSION = [*ALWAYS, "pm_card_authenticationRequiredOnSetup"]


@pytest.mark.parametrize("method", ON_SESSION)
async def test_with_a_return_url_the_customer_is_redirected(rig: Any, method: str) -> None:
    intent = await rig.intent(method)
    assert intent.status == "requires_action"
    assert intent.latest_charge is None
    assert intent.next_action.type == "redirect_to_url"
    assert intent.next_action.redirect_to_url.return_url == "https://shop.example/return"
    assert intent.next_action.redirect_to_url.url == f"{rig.url}/3ds/{intent.id}"
    assert rig.sandbox.events.types() == [
        "payment_intent.requires_action",
        "payment_intent.created",
    ]


async def test_without_a_return_url_stripe_js_is_to_act(rig: Any) -> None:
    intent = await rig.client.v1.payment_intents.create_async(
        {
            "amount": 1000,
            "currency": "usd",
            "payment_method": "pm_card_authenticationRequired",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        }
    )
    assert intent.next_action.type == "use_stripe_sdk"
    assert rig.sandbox.authenticate(intent.id)["status"] == "succeeded"


@pytest.mark.parametrize("method", ON_SESSION)
async def test_off_session_such_cards_are_declined(rig: Any, method: str) -> None:
    with pytest.raises(stripe.CardError) as declined:
        await rig.intent(method, off_session=True)
    error: Any = declined.value.error
    assert (error.code, error.decline_code) == ("authentication_required",) * 2
    assert rig.data(error.payment_intent.id)["status"] == "requires_payment_method"


async def test_a_card_set_up_for_off_session_use_pays_off_session(rig: Any) -> None:
    intent = await rig.intent("pm_card_authenticationRequiredSetupForOffSession", off_session=True)
    assert intent.status == "succeeded"


async def test_error_on_requires_action_declines_instead(rig: Any) -> None:
    with pytest.raises(stripe.CardError) as declined:
        await rig.intent(
            "pm_card_authenticationRequired",
            automatic_payment_methods={"enabled": True, "allow_redirects": "never"},
            error_on_requires_action=True,
        )
    assert declined.value.code == "authentication_required"


async def decide(rig: Any, intent_id: str, decision: str) -> tuple[str, dict[str, list[str]]]:
    page = await rig.http.get(f"/3ds/{intent_id}")
    assert page.status_code == 200
    assert "Approve payment" in page.text
    answer = await rig.http.post(f"/3ds/{intent_id}", data={"decision": decision})
    assert answer.status_code == 303
    parts = urlsplit(answer.headers["location"])
    return f"{parts.scheme}://{parts.netloc}{parts.path}", parse_qs(parts.query)


async def test_approving_pays_and_returns_with_the_status(rig: Any) -> None:
    intent = await rig.intent(
        "pm_card_threeDSecure2Required", return_url="https://shop.example/return?cart=7"
    )
    address, query = await decide(rig, intent.id, "approve")
    assert address == "https://shop.example/return"
    assert query == {
        "cart": ["7"],
        "payment_intent": [intent.id],
        "payment_intent_client_secret": [intent.client_secret],
        "redirect_status": ["succeeded"],
    }
    paid = rig.data(intent.id)
    assert (paid["status"], paid["next_action"]) == ("succeeded", None)
    secure = rig.data(paid["latest_charge"])["payment_method_details"]["card"]["three_d_secure"]
    assert secure["result"] == "authenticated"
    assert rig.sandbox.events.types()[-2:] == ["charge.succeeded", "payment_intent.succeeded"]


async def test_refusing_returns_to_requires_payment_method(rig: Any) -> None:
    intent = await rig.intent("pm_card_threeDSecure2Required")
    _, query = await decide(rig, intent.id, "refuse")
    assert query["redirect_status"] == ["failed"]
    failed = rig.data(intent.id)
    assert (failed["status"], failed["payment_method"]) == ("requires_payment_method", None)
    error = failed["last_payment_error"]
    assert error["code"] == "payment_intent_authentication_failure"
    assert error["type"] == "invalid_request_error"
    assert rig.sandbox.events.types()[-1] == "payment_intent.payment_failed"


@pytest.mark.parametrize(
    ("method", "decline_code"),
    [
        ("pm_card_threeDSecureRequiredChargeDeclined", "generic_decline"),
        (
            "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",
            "insufficient_funds",
        ),
    ],
)
async def test_a_card_may_be_declined_after_authentication(
    rig: Any, method: str, decline_code: str
) -> None:
    intent = await rig.intent(method)
    assert intent.status == "requires_action"
    _, query = await decide(rig, intent.id, "approve")
    assert query["redirect_status"] == ["failed"]
    failed = rig.data(intent.id)
    assert failed["status"] == "requires_payment_method"
    assert failed["last_payment_error"]["decline_code"] == decline_code


async def test_a_second_answer_of_the_bank_changes_nothing(rig: Any) -> None:
    intent = await rig.intent("pm_card_threeDSecure2Required")
    await decide(rig, intent.id, "approve")
    events = rig.sandbox.events.types()
    again = await rig.http.post(f"/3ds/{intent.id}", data={"decision": "refuse"})
    assert again.status_code == 200
    assert "Payment approved" in again.text
    assert rig.sandbox.events.types() == events


async def test_an_intent_waiting_for_the_bank_can_be_confirmed_with_another_card(rig: Any) -> None:
    intent = await rig.intent("pm_card_threeDSecure2Required")
    paid = await rig.client.v1.payment_intents.confirm_async(
        intent.id, {"payment_method": "pm_card_visa", "return_url": "https://shop.example"}
    )
    assert (paid.status, paid.next_action) == ("succeeded", None)
    late = await rig.http.post(f"/3ds/{intent.id}", data={"decision": "refuse"})
    assert late.status_code == 200
    assert rig.data(intent.id)["status"] == "succeeded"


async def test_the_banks_page_of_an_unknown_intent_is_404(rig: Any) -> None:
    assert (await rig.http.get("/3ds/pi_unknown")).status_code == 404
    assert (await rig.http.post("/3ds/pi_unknown")).status_code == 404
