"""What a shopper does, in the words of the pages."""

from playwright.async_api import FrameLocator, Page, expect

GOOD = "4242 4242 4242 4242"
DECLINED = "4000 0000 0000 0002"
NO_FUNDS = "4000 0000 0000 9995"
THREE_D_SECURE = "4000 0027 6000 3184"


async def add_to_cart(page: Page, demo: str, *titles: str) -> None:
    await page.goto(demo)
    for title in titles or ("Owls at Midnight",):
        await page.get_by_role("button", name=f"Add {title} to the cart").click()


def payment_element(page: Page) -> FrameLocator:
    return page.frame_locator('iframe[title="Secure payment input frame"]')


def card_element(page: Page) -> FrameLocator:
    return page.frame_locator('iframe[title="Secure card payment input frame"]')


def bank_in_modal(page: Page) -> FrameLocator:
    return page.frame_locator('dialog iframe[title="3-D Secure"]')


async def open_card_form(page: Page) -> None:
    await page.get_by_role("button", name="Pay by card here").click()
    await expect(payment_element(page).get_by_label("Card number")).to_be_visible()


async def type_card(page: Page, number: str) -> None:
    """Key by key, so that what formats the fields takes part."""
    element = payment_element(page)
    for label, text in (
        ("Card number", number.replace(" ", "")),
        ("Expiration date", "1234"),
        ("Security code", "123"),
    ):
        field = element.get_by_label(label)
        await field.fill("")
        await field.press_sequentially(text)


async def pay_in_shop(page: Page, number: str) -> None:
    await type_card(page, number)
    await page.get_by_role("button", name="Pay $").click()


async def pay_on_hosted_page(
    page: Page, number: str, email: str | None = "ada@example.com"
) -> None:
    if email is not None:
        await page.get_by_label("Email").fill(email)
    await page.get_by_label("Card number").fill(number)
    await page.get_by_label("Expires").fill("12 / 34")
    await page.get_by_label("Security code").fill("123")
    await page.get_by_role("button", name="Pay $").click()


async def expect_order(page: Page, total: str) -> str:
    """The order on the page after paying; answers with its id."""
    await expect(page.get_by_role("heading", name="Thank you")).to_be_visible(timeout=20_000)
    order = page.get_by_role("region", name="Your order")
    await expect(order).to_contain_text(total)
    return await page.locator("#order-number").inner_text()
