"""The API's interactive description."""

from playwright.async_api import Page, expect

from tests.browser.conftest import Site


async def test_the_description_is_shown_without_the_internet(page: Page, site: Site) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{site.service}/docs")
    await expect(page.get_by_text("Audiobooker payment service").first).to_be_visible()
    await expect(page.get_by_text("/api/v1/payment/pay-with-credits")).to_be_visible()
    assert [url for url in asked if not url.startswith((site.service, "data:"))] == []
