"""The demo shop with several tabs and an old page: one cart is charged once, an old one never."""

import asyncio
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, Route, expect

from tests.browser.conftest import Site
from tests.browser.steps import (
    GOOD,
    add_to_cart,
    expect_order,
    open_card_form,
    pay_in_shop,
    pay_on_hosted_page,
    payment_element,
)

OWLS = "Owls at Midnight"
CLOUDS = "A Field Guide to Clouds"
CHECKOUT = "/create-checkout-session"
INTENT = "/create-payment-intent"


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name).click()


async def opened(page: Page, path: str, button: str) -> dict[str, Any]:
    """What the service answers when the button is pressed.

    Read on its way: once the page has left, Chromium no longer has it.
    """
    answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def read(route: Route) -> None:
        response = await route.fetch()
        answered.set_result(await response.json())
        await route.fulfill(response=response)

    await page.route(f"**{path}", read, times=1)
    await press(page, button)
    return await asyncio.wait_for(answered, 10)


async def go_to_checkout(page: Page) -> dict[str, Any]:
    made = await opened(page, CHECKOUT, "Go to checkout")
    await page.wait_for_url(made["checkout_url"])
    return made


async def another_tab(context: BrowserContext, site: Site) -> Page:
    tab = await context.new_page()
    await tab.goto(site.demo)
    return tab


async def at_stripe(site: Site, path: str) -> Any:
    answer = await site.http.get(f"{site.stripe}/v1/{path}", auth=("sk_test_sandbox", ""))
    assert answer.status_code == 200, answer.text
    return answer.json()


async def charges(site: Site) -> set[str]:
    return {charge["id"] for charge in (await at_stripe(site, "charges?limit=100"))["data"]}


async def test_a_changed_cart_closes_the_page_that_is_open_in_another_tab(
    page: Page, context: BrowserContext, site: Site
) -> None:
    await add_to_cart(page, site.demo)
    session = await go_to_checkout(page)
    before = await charges(site)
    shop = await another_tab(context, site)
    closed = await opened(shop, "/cancel", f"One more of {OWLS}")
    assert (closed["payment_id"], closed["status"]) == (session["payment_id"], "canceled")
    assert (await at_stripe(site, f"checkout/sessions/{session['session_id']}"))[
        "status"
    ] == "expired"
    await pay_on_hosted_page(page, GOOD)
    await expect(page.get_by_role("heading", name="This checkout has expired")).to_be_visible()
    assert await charges(site) == before
    await go_to_checkout(shop)
    await pay_on_hosted_page(shop, GOOD)
    await expect_order(shop, "$31.98")
    assert len(await charges(site) - before) == 1


async def test_another_shopper_closes_the_page_of_the_one_before(
    page: Page, context: BrowserContext, site: Site
) -> None:
    await add_to_cart(page, site.demo)
    session = await go_to_checkout(page)
    shop = await another_tab(context, site)
    async with shop.expect_response("**/cancel"):
        await shop.get_by_label("Shopping as").select_option("user_456")
    payment = await site.api("GET", f"/payment/{session['payment_id']}")
    assert (payment["user_id"], payment["status"]) == ("user_123", "canceled")


@pytest.mark.parametrize("button", ["Pay by card here", "Pay with credits"])
async def test_another_way_to_pay_closes_the_page_before_it_opens(
    page: Page, context: BrowserContext, site: Site, button: str
) -> None:
    await add_to_cart(page, site.demo, CLOUDS)
    session = await go_to_checkout(page)
    shop = await another_tab(context, site)
    closed = await opened(shop, "/cancel", button)
    assert (closed["payment_id"], closed["status"]) == (session["payment_id"], "canceled")
    if button == "Pay by card here":
        await pay_in_shop(shop, GOOD)
    await expect_order(shop, "1 credit" if button == "Pay with credits" else "$8.99")


@pytest.mark.parametrize("back", ["the browser's button", "another tab"])
async def test_an_unchanged_cart_gets_the_page_that_is_open(
    page: Page, context: BrowserContext, site: Site, back: str
) -> None:
    await add_to_cart(page, site.demo)
    first = await go_to_checkout(page)
    if back == "another tab":
        shop = await another_tab(context, site)
    else:
        shop = page
        await page.go_back()
    again = await go_to_checkout(shop)
    assert again == first
    await pay_on_hosted_page(shop, GOOD)
    await expect_order(shop, "$15.99")


async def test_a_page_that_has_expired_is_replaced(page: Page, site: Site) -> None:
    await add_to_cart(page, site.demo)
    first = await go_to_checkout(page)
    await site.control("POST", f"/checkout/sessions/{first['session_id']}/expire")
    await page.go_back()
    await press(page, "Go to checkout")
    await page.wait_for_url(f"{site.stripe}/**")
    assert page.url != first["checkout_url"]
    await pay_on_hosted_page(page, GOOD)
    await expect_order(page, "$15.99")


@pytest.mark.parametrize(
    "next_click",
    ["Go to checkout", "Pay by card here", "Pay with credits", f"One more of {OWLS}"],
)
async def test_a_cart_that_was_paid_in_another_tab_leads_to_its_order(
    page: Page, context: BrowserContext, site: Site, next_click: str
) -> None:
    before = await charges(site)
    await add_to_cart(page, site.demo)
    session = await go_to_checkout(page)
    await page.go_back()
    other = await context.new_page()
    # As when it is closed at once: the shop's own page has not heard of the payment.
    await other.route("**/order.js", lambda route: route.abort())
    await other.goto(session["checkout_url"])
    await pay_on_hosted_page(other, GOOD)
    await other.wait_for_url("**/order.html*")
    await press(page, next_click)
    order_id = await expect_order(page, "$15.99")
    payment = await site.api("GET", f"/payment/{session['payment_id']}")
    assert payment["order_id"] == order_id
    assert len(await charges(site) - before) == 1
    paid = await site.api("GET", "/user/user_123/payments?limit=1")
    assert paid["payments"][0]["payment_id"] == session["payment_id"]
    await page.get_by_role("link", name="Back to the shop").click()
    # Of two, one was paid.
    left = [OWLS] if next_click.startswith("One more") else []
    await expect(page.locator("#cart-lines .grow")).to_have_text(left)
    if not left:
        await add_to_cart(page, site.demo)
    await expect(page.locator("#cart-total")).to_have_text("$15.99")
    assert (await go_to_checkout(page))["payment_id"] != session["payment_id"]


@pytest.mark.parametrize("next_click", ["Go to checkout", "Pay by card here"])
async def test_a_cart_that_was_submitted_to_the_bank_in_another_tab_is_not_paid_again(
    page: Page, site: Site, next_click: str
) -> None:
    await add_to_cart(page, site.demo)
    session = await go_to_checkout(page)
    await page.go_back()
    await site.control(
        "POST",
        f"/checkout/sessions/{session['session_id']}/complete",
        payment_method="pm_usBankAccount",
    )
    await press(page, next_click)
    await expect(page.get_by_role("heading", name="Your payment was submitted")).to_be_visible()
    await expect(page.get_by_text("Your order comes with the money")).to_be_visible()
    await page.get_by_role("link", name="Back to the shop").click()
    await expect(page.get_by_text("Nothing in it yet.")).to_be_visible()


async def test_the_card_form_of_a_changed_cart_is_canceled_at_stripe(
    page: Page, site: Site
) -> None:
    await add_to_cart(page, site.demo)
    old = await opened(page, INTENT, "Pay by card here")
    await expect(payment_element(page).get_by_label("Card number")).to_be_focused()
    await opened(page, "/cancel", f"One more of {OWLS}")
    new = await opened(page, INTENT, "Pay by card here")
    assert new["payment_id"] != old["payment_id"]
    assert new["amount_cents"] == 2 * old["amount_cents"]
    canceled = await at_stripe(site, f"payment_intents/{old['payment_intent_id']}")
    assert canceled["status"] == "canceled"
    await pay_in_shop(page, GOOD)
    await expect_order(page, "$31.98")


async def test_two_tabs_with_one_cart_share_one_payment(
    page: Page, context: BrowserContext, site: Site
) -> None:
    before = await charges(site)
    await add_to_cart(page, site.demo)
    first = await opened(page, INTENT, "Pay by card here")
    shop = await another_tab(context, site)
    second = await opened(shop, INTENT, "Pay by card here")
    assert second["payment_intent_id"] == first["payment_intent_id"]
    await pay_in_shop(shop, GOOD)
    await expect_order(shop, "$15.99")
    await expect(page.get_by_text("Nothing in it yet.")).to_be_visible()
    assert len(await charges(site) - before) == 1


async def test_a_card_form_that_was_paid_elsewhere_leads_to_its_order(
    page: Page, site: Site
) -> None:
    await add_to_cart(page, site.demo)
    intent = await opened(page, INTENT, "Pay by card here")
    before = await charges(site)
    paid = await site.api(
        "POST",
        "/confirm-payment",
        payment_intent_id=intent["payment_intent_id"],
        payment_method_id="pm_card_visa",
    )
    await pay_in_shop(page, GOOD)
    assert await expect_order(page, "$15.99") == paid["order_id"]
    assert len(await charges(site) - before) == 1


async def test_a_card_form_that_was_canceled_elsewhere_is_replaced(page: Page, site: Site) -> None:
    await add_to_cart(page, site.demo)
    intent = await opened(page, INTENT, "Pay by card here")
    await expect(payment_element(page).get_by_label("Card number")).to_be_focused()
    await site.api("POST", f"/payment/{intent['payment_id']}/cancel")
    await pay_in_shop(page, GOOD)
    await expect(page.get_by_role("alert")).to_contain_text("nothing was charged")
    await pay_in_shop(page, GOOD)
    await expect_order(page, "$15.99")


async def test_a_card_form_closes_when_another_tab_changes_the_cart(
    page: Page, context: BrowserContext, site: Site
) -> None:
    await add_to_cart(page, site.demo)
    await open_card_form(page)
    shop = await another_tab(context, site)
    await press(shop, f"One more of {OWLS}")
    await expect(page.get_by_role("button", name="Pay $")).to_be_hidden()
    await expect(page.locator("#cart-total")).to_have_text("$31.98")


@pytest.mark.parametrize(
    ("button", "path"), [("Go to checkout", CHECKOUT), ("Pay by card here", INTENT)]
)
async def test_what_opens_for_a_cart_that_has_changed_meanwhile_is_closed(
    page: Page, site: Site, button: str, path: str
) -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        waiting.set()
        await go_on.wait()
        await route.continue_()

    await add_to_cart(page, site.demo)
    await page.route(f"**{path}", hold)
    async with page.expect_response(f"**{path}") as answer:
        await press(page, button)
        await asyncio.wait_for(waiting.wait(), 10)
        await press(page, f"One more of {OWLS}")
        async with page.expect_response("**/cancel") as closing:
            go_on.set()
    made, closed = await (await answer.value).json(), await (await closing.value).json()
    assert (closed["payment_id"], closed["status"]) == (made["payment_id"], "canceled")
    await expect(page.get_by_role("button", name=button)).not_to_have_attribute(
        "aria-disabled", "true"
    )
    assert page.url == site.demo
    await expect(page.get_by_role("button", name="Pay $")).to_be_hidden()
    await expect(page.locator("#card-form iframe")).to_have_count(0)
    await expect(page.locator("#cart-total")).to_have_text("$31.98")


async def test_a_card_form_that_fails_for_a_cart_that_has_changed_meanwhile_says_nothing(
    page: Page, site: Site
) -> None:
    """Stripe refuses to show a form for what was canceled while the form was loading."""
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def refuse(route: Route) -> None:
        waiting.set()
        await go_on.wait()
        await route.fulfill(status=404, json={"error": {"message": "No such PaymentIntent."}})

    await add_to_cart(page, site.demo)
    await page.route("**/v1/payment_intents/*", refuse)
    await press(page, "Pay by card here")
    await asyncio.wait_for(waiting.wait(), 10)
    async with page.expect_response("**/cancel"):
        await press(page, f"One more of {OWLS}")
    go_on.set()
    await expect(page.locator("#card-form iframe")).to_have_count(0)
    await expect(page.locator("#error")).to_be_hidden()
    await expect(page.get_by_role("button", name="Pay by card here")).to_be_visible()
