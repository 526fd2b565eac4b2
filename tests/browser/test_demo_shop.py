"""The demo shop: three ways to pay, each to an order that one can see."""

import asyncio
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page, Route, expect

from tests.browser.conftest import DESKTOP, PHONE, Site
from tests.browser.steps import (
    DECLINED,
    GOOD,
    NO_FUNDS,
    THREE_D_SECURE,
    add_to_cart,
    bank_in_modal,
    expect_order,
    open_card_form,
    pay_in_shop,
    pay_on_hosted_page,
    payment_element,
    type_card,
)

on_desktop_and_phone = pytest.mark.parametrize(
    "context", [DESKTOP, PHONE], indirect=True, ids=["desktop", "phone"]
)


async def orders(site: Site, user: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await site.api("GET", f"/user/{user}/orders"))["orders"]
    return found


async def test_the_demo_shop_is_the_first_thing_that_is_printed(
    program: tuple[int, int, str],
) -> None:
    port, _, printed = program
    assert printed.split()[:3] == ["Demo", "shop", f"http://localhost:{port}/demo/"]


@on_desktop_and_phone
async def test_elements_pay_in_the_shop_itself(page: Page, site: Site) -> None:
    await add_to_cart(page, site.demo, "Owls at Midnight", "Salt and Paper")
    await open_card_form(page)
    await pay_in_shop(page, GOOD)
    order_id = await expect_order(page, "$26.98")
    assert order_id in [order["order_id"] for order in await orders(site, "user_123")]
    await expect(page.get_by_role("table")).to_contain_text(order_id)


@on_desktop_and_phone
async def test_hosted_checkout_comes_back_to_an_order(page: Page, site: Site) -> None:
    await add_to_cart(page, site.demo, "The Night Ferry")
    await page.get_by_role("button", name="Go to checkout").click()
    await pay_on_hosted_page(page, GOOD)
    order_id = await expect_order(page, "$14.50")
    assert "session_id=cs_test_" in page.url
    assert order_id in [order["order_id"] for order in await orders(site, "user_123")]


@on_desktop_and_phone
async def test_credits_pay_at_once(page: Page, site: Site) -> None:
    user = "64b7f8c2e4b0a1d2c3e4f506"
    await add_to_cart(page, site.demo, "The Lighthouse Clock")
    await page.get_by_label("Shopping as").select_option(user)
    await expect(page.locator("#credits")).to_contain_text("left")
    before = int((await page.locator("#credits").inner_text()).split()[0])
    await page.get_by_role("button", name="Pay with credits").click()
    order_id = await expect_order(page, "2 credits")
    assert order_id in [order["order_id"] for order in await orders(site, user)]
    await page.get_by_role("link", name="Back to the shop").click()
    await expect(page.locator("#credits")).to_have_text(f"{before - 2} credits left")
    await expect(page.get_by_text("Nothing in it yet.")).to_be_visible()


async def test_too_few_credits_are_said_in_words(page: Page, site: Site) -> None:
    await add_to_cart(page, site.demo, "Owls at Midnight")
    await page.get_by_label("Shopping as").select_option("user_456")
    await page.get_by_role("button", name="Pay with credits").click()
    await expect(page.get_by_role("alert")).to_contain_text("3 credits")
    await expect(page.get_by_role("alert")).to_be_focused()
    assert await orders(site, "user_456") == []


@pytest.mark.parametrize(
    ("number", "message"),
    [(DECLINED, "Your card was declined."), (NO_FUNDS, "Your card has insufficient funds.")],
)
async def test_a_declined_card_can_be_followed_by_a_good_one(
    page: Page, site: Site, number: str, message: str
) -> None:
    await add_to_cart(page, site.demo)
    await open_card_form(page)
    await pay_in_shop(page, number)
    await expect(page.get_by_role("alert")).to_have_text(message)
    await pay_in_shop(page, GOOD)
    await expect_order(page, "$15.99")


async def test_three_d_secure_is_approved_in_the_page(page: Page, site: Site) -> None:
    await add_to_cart(page, site.demo)
    await open_card_form(page)
    await pay_in_shop(page, THREE_D_SECURE)
    bank = bank_in_modal(page)
    await expect(bank.get_by_text("$15.99")).to_be_visible()
    await bank.get_by_role("button", name="Approve payment").click()
    await expect_order(page, "$15.99")


async def test_three_d_secure_refused_takes_no_money_and_another_try_pays(
    page: Page, site: Site
) -> None:
    await add_to_cart(page, site.demo)
    await open_card_form(page)
    await pay_in_shop(page, THREE_D_SECURE)
    await bank_in_modal(page).get_by_role("button", name="Refuse payment").click()
    await expect(page.get_by_role("alert")).to_contain_text("authentication")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await pay_in_shop(page, GOOD)
    await expect_order(page, "$15.99")


async def test_escape_at_the_bank_is_a_refusal(page: Page, site: Site) -> None:
    await add_to_cart(page, site.demo)
    await open_card_form(page)
    await pay_in_shop(page, THREE_D_SECURE)
    await expect(bank_in_modal(page).locator("html.framed")).to_be_visible()
    await bank_in_modal(page).get_by_role("button", name="Approve payment").focus()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("alert")).to_contain_text("authentication")


async def test_leaving_the_checkout_comes_back_to_the_full_cart(page: Page, site: Site) -> None:
    await add_to_cart(page, site.demo, "Salt and Paper")
    await page.get_by_role("button", name="Go to checkout").click()
    await page.get_by_role("link", name="Cancel and go back").click()
    await expect(
        page.get_by_text("Nothing was charged, and your cart is still here.")
    ).to_be_visible()
    await expect(page.locator("#cart-total")).to_have_text("$10.99")


async def test_a_click_repeated_after_a_lost_answer_pays_once(
    page: Page, site: Site, context: BrowserContext
) -> None:
    """The service has done the work, the answer is lost, and the shop asks again by itself."""
    user = "user_123"
    before = len(await orders(site, user))
    await add_to_cart(page, site.demo, "A Field Guide to Clouds")
    keys: list[str | None] = []

    async def lose_the_first_answer(route: Any) -> None:
        keys.append(await route.request.header_value("idempotency-key"))
        if len(keys) == 1:
            await route.fetch()
            await route.abort()
        else:
            await route.continue_()

    await page.route("**/pay-with-credits", lose_the_first_answer)
    await page.get_by_role("button", name="Pay with credits").click()
    await expect_order(page, "1 credit")
    assert len(keys) == 2
    assert keys[0] == keys[1] is not None
    assert len(await orders(site, user)) == before + 1


async def test_a_key_survives_until_the_answer_is_known_and_no_longer(
    page: Page, site: Site
) -> None:
    await add_to_cart(page, site.demo, "Owls at Midnight")
    await page.get_by_label("Shopping as").select_option("user_456")
    keys: list[str | None] = []
    down = True

    async def watch(route: Any) -> None:
        keys.append(await route.request.header_value("idempotency-key"))
        await (route.abort() if down else route.continue_())

    await page.route("**/pay-with-credits", watch)
    button = page.get_by_role("button", name="Pay with credits")
    await button.click()
    await expect(page.get_by_role("alert")).to_have_text(
        "No connection to the shop.", timeout=15_000
    )
    down = False
    await button.click()
    await expect(page.get_by_role("alert")).to_contain_text("3 credits")
    await button.click()
    await expect(button).not_to_have_attribute("aria-disabled", "true")
    first, *others, refused, asked_anew = keys
    assert {first, *others} == {refused}
    assert asked_anew != refused


async def test_a_changed_cart_closes_the_card_form_of_the_old_amount(
    page: Page, site: Site
) -> None:
    await add_to_cart(page, site.demo, "Salt and Paper")
    await open_card_form(page)
    await page.get_by_role("button", name="One more of Salt and Paper").click()
    await expect(page.get_by_role("button", name="Pay $")).to_be_hidden()
    await open_card_form(page)
    await pay_in_shop(page, GOOD)
    await expect_order(page, "$21.98")


async def test_a_bank_debit_waits_and_becomes_an_order_when_the_money_comes(
    page: Page, context: BrowserContext, site: Site
) -> None:
    await add_to_cart(page, site.demo)
    await open_card_form(page)
    await payment_element(page).get_by_label("Bank debit").check()
    await page.get_by_role("button", name="Pay $").click()
    await expect(page.get_by_role("heading", name="Your payment was submitted")).to_be_visible()
    intent = page.url.partition("payment_intent=")[2].partition("&")[0]
    shop = await context.new_page()
    await shop.goto(site.demo)
    await expect(shop.get_by_text("Nothing in it yet.")).to_be_visible()
    await site.control("POST", f"/payment_intents/{intent}/settle", outcome="succeeded")
    await expect_order(page, "$15.99")


async def test_the_client_secret_does_not_stay_in_the_address(page: Page, site: Site) -> None:
    intent = await site.intent()
    await site.api(
        "POST",
        "/confirm-payment",
        payment_intent_id=intent["payment_intent_id"],
        payment_method_id="pm_card_visa",
    )
    await page.goto(
        f"{site.demo}order.html?payment_intent={intent['payment_intent_id']}"
        f"&payment_intent_client_secret={intent['client_secret']}&redirect_status=succeeded"
    )
    await expect_order(page, "$12.99")
    assert "secret" not in page.url


async def test_nothing_can_be_typed_or_paid_before_the_card_form_is_ready(
    page: Page, site: Site
) -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        waiting.set()
        await go_on.wait()
        await route.continue_()

    await page.route("**/v1/payment_intents/*", hold)
    await add_to_cart(page, site.demo)
    await page.get_by_role("button", name="Pay by card here").click()
    await asyncio.wait_for(waiting.wait(), 10)
    number = payment_element(page).get_by_label("Card number")
    await expect(number).to_be_disabled()
    await expect(page.get_by_role("button", name="Pay $")).to_be_disabled()
    go_on.set()
    await expect(number).to_be_focused()
    await pay_in_shop(page, GOOD)
    await expect_order(page, "$15.99")


async def test_the_keyboard_alone_pays(page: Page, site: Site) -> None:
    await add_to_cart(page, site.demo)
    await page.get_by_role("button", name="Pay by card here").focus()
    await page.keyboard.press("Enter")
    number = payment_element(page).get_by_label("Card number")
    await expect(number).to_be_focused()
    for text in ("4242424242424242", "1234", "123"):
        await page.keyboard.type(text)
        await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Pay $")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect_order(page, "$15.99")


@on_desktop_and_phone
async def test_no_page_is_wider_than_its_window(page: Page, site: Site) -> None:
    await add_to_cart(page, site.demo, "Small Engines, Large Hearts")
    await open_card_form(page)
    assert await _sideways(page) == 0
    await type_card(page, GOOD)
    await page.get_by_role("button", name="Pay $").click()
    await expect_order(page, "$7.50")
    assert await _sideways(page) == 0


async def _sideways(page: Page) -> int:
    return int(
        await page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
    )
