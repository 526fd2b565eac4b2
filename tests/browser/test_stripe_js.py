"""Stripe.js as a frontend uses it: the documented calls, from a page of another origin."""

import json
import re
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from tests.browser.conftest import Site
from tests.browser.steps import bank_in_modal, card_element, payment_element


@pytest_asyncio.fixture(loop_scope="session")
async def shop(page: Page, site: Site) -> Page:
    """The frontend's page, of an origin of its own."""
    await page.goto(site.frontend)
    await page.evaluate("window.stripe = Stripe('pk_test_sandbox')")
    return page


async def mount(page: Page, type: str, secret: str | None = None, **options: Any) -> None:
    await page.evaluate(
        """async ([type, secret, options]) => {
            window.changes = [];
            window.elements = stripe.elements(secret ? {clientSecret: secret} : {});
            window.element = elements.create(type, options);
            element.on('change', (event) => changes.push(event));
            const ready = new Promise((resolve) => element.on('ready', resolve));
            element.mount('#place');
            await ready;
        }""",
        [type, secret, options],
    )


async def type_into_card(page: Page, number: str) -> None:
    element = card_element(page)
    for label, text in (
        ("Credit or debit card number", number),
        ("Credit or debit card expiration date", "1234"),
        ("Credit or debit card CVC/CVV", "123"),
        ("ZIP or postal code", "94103"),
    ):
        await element.get_by_label(label).fill(text)


async def type_into_payment(page: Page, number: str) -> None:
    element = payment_element(page)
    await element.get_by_label("Card number").fill(number)
    await element.get_by_label("Expiration date").fill("1234")
    await element.get_by_label("Security code").fill("123")


CONFIRM_CARD = """(secret) => stripe.confirmCardPayment(
    secret, {payment_method: {card: element, billing_details: {name: 'Ada'}}})"""
CONFIRM_IN_PAGE = "() => stripe.confirmPayment({elements, redirect: 'if_required'})"


@pytest.mark.parametrize("path", ["/v3/", "/v3", "/v3/stripe.js", "/basil/stripe.js"])
async def test_the_script_is_at_the_real_ones_addresses(page: Page, site: Site, path: str) -> None:
    await page.goto(site.demo)
    await page.add_script_tag(url=site.stripe + path)
    found = await page.evaluate("[typeof Stripe, typeof Stripe('pk_test_x').elements]")
    assert found == ["function", "function"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "publishable key"),
        ("sk_test_x", "secret key"),
        ("rk_test_x", "secret key"),
        ("pk_live_x", "pk_test_"),
    ],
)
async def test_a_wrong_key_is_told_at_once(shop: Page, key: str, message: str) -> None:
    said = await shop.evaluate(
        "(key) => { try { Stripe(key) } catch (e) { return e.message } }", key
    )
    assert message in said


async def test_confirm_card_payment_pays(shop: Page, site: Site) -> None:
    intent = await site.intent()
    await mount(shop, "card")
    await type_into_card(shop, "4242424242424242")
    result = await shop.evaluate(CONFIRM_CARD, intent["client_secret"])
    assert result["paymentIntent"]["status"] == "succeeded"
    assert result["paymentIntent"]["id"] == intent["payment_intent_id"]
    assert "error" not in result


async def test_confirm_card_payment_takes_the_id_of_a_payment_method(
    shop: Page, site: Site
) -> None:
    intent = await site.intent()
    result = await shop.evaluate(
        "(secret) => stripe.confirmCardPayment(secret, {payment_method: 'pm_card_visa'})",
        intent["client_secret"],
    )
    assert result["paymentIntent"]["status"] == "succeeded"


@pytest.mark.parametrize(
    ("number", "code"),
    [("4000000000000002", "generic_decline"), ("4000000000009995", "insufficient_funds")],
)
async def test_a_decline_is_an_error_with_its_payment_intent(
    shop: Page, site: Site, number: str, code: str
) -> None:
    intent = await site.intent()
    await mount(shop, "card")
    await type_into_card(shop, number)
    error = (await shop.evaluate(CONFIRM_CARD, intent["client_secret"]))["error"]
    assert (error["type"], error["code"]) == ("card_error", "card_declined")
    assert error["decline_code"] == code
    assert error["payment_intent"]["status"] == "requires_payment_method"
    await type_into_card(shop, "4242424242424242")
    again = await shop.evaluate(CONFIRM_CARD, intent["client_secret"])
    assert again["paymentIntent"]["status"] == "succeeded"


@pytest.mark.parametrize("approve", [True, False])
async def test_confirm_card_payment_asks_the_bank_in_the_page(
    shop: Page, site: Site, approve: bool
) -> None:
    intent = await site.intent()
    await mount(shop, "card")
    await type_into_card(shop, "4000002760003184")
    await shop.evaluate(
        f"(secret) => {{ window.result = ({CONFIRM_CARD})(secret) }}", intent["client_secret"]
    )
    name = "Approve payment" if approve else "Refuse payment"
    await bank_in_modal(shop).get_by_role("button", name=name).click()
    result = await shop.evaluate("result")
    if approve:
        assert result["paymentIntent"]["status"] == "succeeded"
    else:
        assert result["error"]["code"] == "payment_intent_authentication_failure"
        assert result["error"]["payment_intent"]["status"] == "requires_payment_method"
    assert await shop.locator("dialog").count() == 0


@pytest.mark.parametrize(
    ("number", "brand"), [("36227206271667", "diners"), ("6205500000000000004", "unionpay")]
)
async def test_cards_of_other_lengths_pay(shop: Page, site: Site, number: str, brand: str) -> None:
    await mount(shop, "card")
    await type_into_card(shop, number)
    method = await shop.evaluate("stripe.createPaymentMethod({type: 'card', card: element})")
    assert method["paymentMethod"]["card"]["brand"] == brand


async def test_confirm_payment_stays_in_the_page_when_no_redirect_is_needed(
    shop: Page, site: Site
) -> None:
    intent = await site.intent()
    await mount(shop, "payment", intent["client_secret"])
    await type_into_payment(shop, "5555555555554444")
    result = await shop.evaluate(CONFIRM_IN_PAGE)
    assert result["paymentIntent"]["status"] == "succeeded"


@pytest.mark.parametrize(
    ("number", "decision", "status"),
    [
        ("4242424242424242", None, "succeeded"),
        ("4000002760003184", "Approve payment", "succeeded"),
        ("4000002760003184", "Refuse payment", "failed"),
    ],
)
async def test_confirm_payment_goes_to_the_return_url(
    shop: Page, site: Site, number: str, decision: str | None, status: str
) -> None:
    intent = await site.intent()
    await mount(shop, "payment", intent["client_secret"])
    await type_into_payment(shop, number)
    return_url = f"{site.frontend}/done?step=done"
    await shop.evaluate(
        "(url) => { stripe.confirmPayment({elements, confirmParams: {return_url: url}}) }",
        return_url,
    )
    if decision is not None:
        await shop.get_by_role("button", name=decision).click()
    await shop.wait_for_url("**/done?step=done&*")
    query = await shop.evaluate("Object.fromEntries(new URLSearchParams(location.search))")
    assert query == {
        "step": "done",
        "payment_intent": intent["payment_intent_id"],
        "payment_intent_client_secret": intent["client_secret"],
        "redirect_status": status,
    }


async def test_incomplete_fields_are_told_at_the_field_and_cost_no_request(
    shop: Page, site: Site
) -> None:
    intent = await site.intent()
    await mount(shop, "payment", intent["client_secret"])
    sent: list[str] = []
    shop.on("request", lambda request: sent.append(request.method))
    await payment_element(shop).get_by_label("Card number").fill("4242")
    error = (await shop.evaluate(CONFIRM_IN_PAGE))["error"]
    assert (error["type"], error["code"]) == ("validation_error", "incomplete_number")
    number = payment_element(shop).get_by_label("Card number")
    await expect(number).to_be_focused()
    await expect(number).to_have_attribute("aria-invalid", "true")
    await expect(number).to_have_accessible_description(
        re.compile("^Your card number is incomplete.")
    )
    assert sent == []


@pytest.mark.parametrize(
    ("label", "text", "message"),
    [
        ("Card number", "4242424242424241", "Your card number is invalid."),
        ("Expiration date", "0120", "Your card's expiration year is in the past."),
        ("Expiration date", "1399", "Your card's expiration date is invalid."),
        ("Security code", "12", "Your card's security code is incomplete."),
    ],
)
async def test_a_mistake_is_told_when_the_field_is_left(
    shop: Page, site: Site, label: str, text: str, message: str
) -> None:
    await mount(shop, "payment", (await site.intent())["client_secret"])
    field = payment_element(shop).get_by_label(label)
    await field.fill(text)
    await field.blur()
    await expect(field).to_have_accessible_description(re.compile(f"^{re.escape(message)}"))


async def test_fields_are_formatted_while_typing(shop: Page, site: Site) -> None:
    await mount(shop, "payment", (await site.intent())["client_secret"])
    element = payment_element(shop)
    number = element.get_by_label("Card number")
    await number.press_sequentially("4242424242424242999")
    await expect(number).to_have_value("4242 4242 4242 4242")
    await number.fill("378282246310005")
    await expect(number).to_have_value("3782 822463 10005")
    await number.fill("36227206271667")
    await expect(number).to_have_value("3622 720627 1667")
    await number.fill("6205500000000000004")
    await expect(number).to_have_value("6205 5000 0000 0000 004")
    await number.fill("378282246310005")
    code = element.get_by_label("Security code")
    await code.press_sequentially("12345")
    await expect(code).to_have_value("1234")
    date = element.get_by_label("Expiration date")
    await date.press_sequentially("634")
    await expect(date).to_have_value("06 / 34")
    await date.fill("12/2034")
    await expect(date).to_have_value("12 / 34")


async def test_the_page_learns_what_is_complete_and_never_what_is_typed(
    shop: Page, site: Site
) -> None:
    await mount(shop, "card")
    await type_into_card(shop, "4242424242424242")
    await shop.wait_for_function("changes.at(-1)?.complete")
    changes = await shop.evaluate("changes")
    assert changes[-1]["brand"] == "visa"
    assert changes[-1]["empty"] is False
    assert "4242" not in json.dumps(changes)
    readable = "document.querySelector('iframe').contentDocument"
    assert await shop.evaluate(readable) is None
    assert await shop.locator("#place.StripeElement--complete").count() == 1


async def test_create_payment_method_tells_the_cards_last_digits(shop: Page) -> None:
    await mount(shop, "card", hidePostalCode=True)
    element = card_element(shop)
    await expect(element.get_by_label("ZIP or postal code")).to_be_hidden()
    await element.get_by_label("Credit or debit card number").fill("4242424242424242")
    await element.get_by_label("Credit or debit card expiration date").fill("1234")
    await element.get_by_label("Credit or debit card CVC/CVV").fill("123")
    result = await shop.evaluate(
        """() => stripe.createPaymentMethod(
            {type: 'card', card: element, billing_details: {email: 'ada@example.com'}})"""
    )
    method = result["paymentMethod"]
    assert method["card"]["last4"] == "4242"
    assert method["billing_details"]["email"] == "ada@example.com"


async def test_retrieve_payment_intent_needs_the_secret(shop: Page, site: Site) -> None:
    intent = await site.intent()
    ask = "(secret) => stripe.retrievePaymentIntent(secret)"
    found = await shop.evaluate(ask, intent["client_secret"])
    assert found["paymentIntent"]["amount"] == 1299
    guessed = intent["payment_intent_id"] + "_secret_guessed"
    refused = await shop.evaluate(ask, guessed)
    assert refused["error"]["type"] == "invalid_request_error"


async def test_handle_next_action_goes_to_the_bank_and_back(shop: Page, site: Site) -> None:
    intent = await site.intent()
    answer = await site.api(
        "POST",
        "/confirm-payment",
        payment_intent_id=intent["payment_intent_id"],
        payment_method_id="pm_card_threeDSecure2Required",
    )
    assert answer["requires_action"]
    await shop.evaluate(
        "(secret) => { stripe.handleNextAction({clientSecret: secret}) }", answer["client_secret"]
    )
    await shop.get_by_role("button", name="Approve payment").click()
    await expect(shop.get_by_role("heading", name="Thank you")).to_be_visible()


async def test_elements_can_be_cleared_locked_unmounted_and_mounted_again(shop: Page) -> None:
    await mount(shop, "card")
    await type_into_card(shop, "4242424242424242")
    number = card_element(shop).get_by_label("Credit or debit card number")
    await shop.evaluate("element.clear()")
    await expect(number).to_have_value("")
    await shop.evaluate("element.update({disabled: true})")
    await expect(number).to_be_disabled()
    await shop.evaluate("element.update({disabled: false}); element.focus()")
    await expect(number).to_be_focused()
    await shop.evaluate("element.unmount()")
    assert await shop.locator("iframe").count() == 0
    await shop.evaluate("element.mount('#place')")
    await expect(number).to_be_visible()
    await shop.evaluate("element.destroy()")
    assert await shop.evaluate("elements.getElement('card')") is None


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("stripe.elements({clientSecret: 'nonsense'})", "client secret should look like"),
        ("stripe.elements().create('payment')", "clientSecret or a mode"),
        ("stripe.elements().create('iban')", 'does not simulate the "iban" Element'),
        ("stripe.elements().create('card').mount('#nowhere')", "#nowhere"),
        ("stripe.createToken()", "does not simulate stripe.createToken()"),
        ("(() => { const e = stripe.elements(); e.create('card'); e.create('card') })()", "one"),
    ],
)
async def test_a_mistake_in_the_pages_code_throws(shop: Page, code: str, message: str) -> None:
    said = await shop.evaluate(f"() => {{ try {{ {code} }} catch (e) {{ return e.message }} }}")
    assert message in (said or "nothing was thrown")


async def test_a_page_of_another_host_may_use_it_too(page: Page, site: Site) -> None:
    """The frontend's development server has an origin of its own."""
    await page.goto(site.frontend.replace("localhost", "127.0.0.1"))
    await page.evaluate("window.stripe = Stripe('pk_test_sandbox')")
    intent = await site.intent()
    await mount(page, "card")
    await type_into_card(page, "4242424242424242")
    result = await page.evaluate(CONFIRM_CARD, intent["client_secret"])
    assert result["paymentIntent"]["status"] == "succeeded"


async def test_a_page_cannot_read_what_only_a_secret_key_may(shop: Page, site: Site) -> None:
    ask = """async ([url, key]) => {
        return (await fetch(url, {headers: {Authorization: `Bearer ${key}`}})).status;
    }"""
    url = f"{site.stripe}/v1/charges"
    assert await shop.evaluate(ask, [url, "pk_test_sandbox"]) == 401
    refused = await site.http.get(
        url, headers={"Authorization": "Bearer sk_test_sandbox", "Origin": site.service}
    )
    assert refused.status_code == 200
    assert "access-control-allow-origin" not in refused.headers


async def test_appearance_reaches_the_fields(shop: Page, site: Site) -> None:
    intent = await site.intent()
    await shop.evaluate(
        """async (secret) => {
            const look = {theme: 'night', variables: {colorText: 'rgb(1, 2, 3)'}};
            const elements = stripe.elements({clientSecret: secret, appearance: look});
            elements.create('payment').mount('#place');
        }""",
        intent["client_secret"],
    )
    number = payment_element(shop).get_by_label("Card number")
    await expect(number).to_have_css("color", "rgb(1, 2, 3)")


async def test_focus_does_not_take_the_cursor_from_a_field_of_the_same_element(
    shop: Page, site: Site
) -> None:
    intent = await site.intent()
    await mount(shop, "payment", intent["client_secret"])
    await type_into_payment(shop, "4242424242424242")
    await payment_element(shop).get_by_label("Security code").press("End")
    await shop.evaluate("element.focus()")
    # Answered in turn: by then the call above has been heard.
    assert "error" not in await shop.evaluate("elements.submit()")
    await expect(payment_element(shop).get_by_label("Security code")).to_be_focused()
