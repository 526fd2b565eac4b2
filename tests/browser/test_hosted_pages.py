"""The hosted checkout page and the bank's page, in the hands of a person."""

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import DESKTOP, PHONE, Site
from tests.browser.steps import (
    DECLINED,
    GOOD,
    NO_FUNDS,
    THREE_D_SECURE,
    expect_order,
    pay_on_hosted_page,
)

on_desktop_and_phone = pytest.mark.parametrize(
    "context", [DESKTOP, PHONE], indirect=True, ids=["desktop", "phone"]
)


async def open_checkout(page: Page, site: Site, **changes: Any) -> str:
    session = await site.session(**changes)
    await page.goto(session["checkout_url"])
    return str(session["session_id"])


@on_desktop_and_phone
async def test_a_good_card_pays(page: Page, site: Site) -> None:
    session_id = await open_checkout(page, site)
    await expect(page.get_by_role("region", name="Your order")).to_contain_text("$25.98")
    await expect(page.get_by_text("This is a stand-in for Stripe.")).to_be_visible()
    await pay_on_hosted_page(page, GOOD)
    await expect_order(page, "$25.98")
    assert f"session_id={session_id}" in page.url


@pytest.mark.parametrize(
    ("number", "message"),
    [(DECLINED, "Your card was declined."), (NO_FUNDS, "Your card has insufficient funds.")],
)
async def test_a_declined_card_can_be_followed_by_a_good_one(
    page: Page, site: Site, number: str, message: str
) -> None:
    await open_checkout(page, site)
    await pay_on_hosted_page(page, number)
    await expect(page.get_by_role("alert")).to_have_text(message)
    await expect(page.get_by_role("alert")).to_be_focused()
    await expect(page.get_by_label("Card number")).to_have_value(number)
    await expect(page.get_by_label("Security code")).to_have_value("")
    await pay_on_hosted_page(page, GOOD, email=None)
    await expect_order(page, "$25.98")


@on_desktop_and_phone
async def test_three_d_secure_approved_pays(page: Page, site: Site) -> None:
    await open_checkout(page, site)
    await pay_on_hosted_page(page, THREE_D_SECURE)
    await expect(page.get_by_role("heading", name="Confirm it is you")).to_be_visible()
    await expect(page.get_by_text("3184")).to_be_visible()
    await page.get_by_role("button", name="Approve payment").click()
    await expect_order(page, "$25.98")


async def test_three_d_secure_refused_comes_back_to_the_form(page: Page, site: Site) -> None:
    await open_checkout(page, site)
    await pay_on_hosted_page(page, THREE_D_SECURE)
    await page.get_by_role("button", name="Refuse payment").click()
    await expect(page.get_by_role("alert")).to_contain_text("unable to authenticate")
    await pay_on_hosted_page(page, GOOD)
    await expect_order(page, "$25.98")


async def test_cancel_goes_back_to_the_shop(page: Page, site: Site) -> None:
    await open_checkout(page, site)
    await page.get_by_role("link", name="Cancel and go back").click()
    await expect(page).to_have_url(f"{site.demo}?canceled=1")


async def test_a_session_that_expires_under_the_shopper_takes_no_payment(
    page: Page, site: Site
) -> None:
    session_id = await open_checkout(page, site)
    await site.control("POST", f"/checkout/sessions/{session_id}/expire")
    await pay_on_hosted_page(page, GOOD)
    await expect(page.get_by_role("heading", name="This checkout has expired")).to_be_visible()
    await expect(page.get_by_role("link", name="Back to the shop")).to_be_visible()
    await site.control("POST", "/webhooks/drain")
    state = await site.api("GET", f"/checkout-session/{session_id}")
    assert (state["status"], state["payment_status"], state["order_id"]) == (
        "expired",
        "unpaid",
        None,
    )


async def test_a_paid_session_opened_again_charges_nothing(page: Page, site: Site) -> None:
    session = await site.session()
    await page.goto(session["checkout_url"])
    await pay_on_hosted_page(page, GOOD)
    await expect_order(page, "$25.98")
    await page.goto(session["checkout_url"])
    await expect(page.get_by_role("heading", name="You're all done here")).to_be_visible()
    await page.get_by_role("link", name="Continue to the shop").click()
    await expect_order(page, "$25.98")


async def test_mistakes_are_told_at_their_fields_and_linked_from_a_summary(
    page: Page, site: Site
) -> None:
    await open_checkout(page, site)
    await page.get_by_role("button", name="Pay $").click()
    summary = page.get_by_role("alert")
    await expect(summary).to_be_focused()
    await summary.get_by_role("link", name="Enter your card number.").click()
    number = page.get_by_label("Card number")
    await expect(number).to_be_focused()
    await expect(number).to_have_accessible_description("Enter your card number.")


async def test_the_keyboard_alone_pays(page: Page, site: Site) -> None:
    await open_checkout(page, site, customer_email="ada@example.com")
    await page.get_by_label("Card number").focus()
    for text in ("4242424242424242", "12/34", "123"):
        await page.keyboard.type(text)
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect_order(page, "$25.98")


@on_desktop_and_phone
async def test_long_titles_do_not_widen_the_page(page: Page, site: Site) -> None:
    title = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3
    items = [{"book_id": "b", "title": title[:250], "price_cents": 99_999_900}]
    await open_checkout(page, site, items=items)
    await page.get_by_role("button", name="Pay $").click()
    width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await page.evaluate(width) == 0


async def test_markup_in_a_title_stays_text(page: Page, site: Site) -> None:
    title = "<img src=x onerror=\"document.title='taken over'\">"
    items = [{"book_id": "b", "title": title, "price_cents": 500}]
    await open_checkout(page, site, items=items)
    await expect(page.get_by_text(title)).to_be_visible()
    assert await page.title() == "Pay $5.00 (sandbox)"
