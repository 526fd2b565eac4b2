"""The dashboard: what happens is seen at once, and its buttons do what they say."""

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import DESKTOP, PHONE, Site

on_desktop_and_phone = pytest.mark.parametrize(
    "context", [DESKTOP, PHONE], indirect=True, ids=["desktop", "phone"]
)


async def open_payment(page: Page, site: Site) -> dict[str, Any]:
    """The dashboard's page of a fresh payment, of which the service has heard."""
    paid: dict[str, Any] = await site.paid()
    await site.control("POST", "/webhooks/drain")
    await page.goto(f"{site.stripe}/dashboard/payments/{paid['payment_intent_id']}")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    return paid


async def payment(site: Site, paid: dict[str, Any]) -> dict[str, Any]:
    await site.control("POST", "/webhooks/drain")
    found: dict[str, Any] = await site.api("GET", f"/payment/{paid['payment_id']}")
    return found


@on_desktop_and_phone
async def test_a_payment_appears_by_itself(page: Page, site: Site) -> None:
    await page.goto(site.stripe)
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    await page.evaluate("window.notReloaded = true")
    paid = await site.paid()
    row = page.get_by_role("row").filter(
        has=page.get_by_role("link", name=paid["payment_intent_id"])
    )
    await expect(row.filter(has_text="$12.99").first).to_contain_text("Succeeded")
    events = page.get_by_role("region", name="Events")
    await expect(events.get_by_text("200 delivered").first).to_be_visible()
    assert await page.evaluate("window.notReloaded")
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await page.evaluate(wide) == 0


async def test_resend_delivers_the_event_again_and_shows_the_answer(page: Page, site: Site) -> None:
    await open_payment(page, site)
    await page.get_by_role("link", name="payment_intent.succeeded").click()
    attempts = page.locator("#attempts tbody tr")
    await expect(attempts).to_have_count(1)
    await expect(attempts.first).to_contain_text('"result":"processed"')
    await page.get_by_role("button", name="Resend").click()
    await expect(page.get_by_role("status")).to_have_text("Resend: done.")
    await expect(attempts).to_have_count(2)
    await expect(attempts.first).to_contain_text('"result":"duplicate"')
    await expect(attempts.first).to_contain_text("200")


async def test_resend_is_there_in_the_list_too(page: Page, site: Site) -> None:
    await open_payment(page, site)
    row = page.get_by_role("row").filter(
        has=page.get_by_role("link", name="payment_intent.succeeded")
    )
    await row.get_by_role("button", name="Resend payment_intent.succeeded").click()
    await expect(row).to_contain_text("2 attempts")


async def test_a_dashboard_refund_reaches_the_service(page: Page, site: Site) -> None:
    paid = await open_payment(page, site)
    refund = page.locator("form", has=page.get_by_role("button", name="Refund"))
    await expect(refund.get_by_label("Amount")).to_have_value("12.99")
    await refund.get_by_label("Amount").fill("2.00")
    await refund.get_by_role("button", name="Refund").click()
    await expect(page.get_by_text("Partly refunded")).to_be_visible()
    seen = await payment(site, paid)
    assert (seen["status"], seen["refunded_cents"]) == ("partially_refunded", 200)
    await expect(refund.get_by_label("Amount")).to_have_attribute("value", "10.99")


async def test_a_refund_of_too_much_is_refused_in_words(page: Page, site: Site) -> None:
    paid = await open_payment(page, site)
    await page.get_by_label("Amount").fill("99")
    await page.get_by_role("button", name="Refund").click()
    await expect(page.get_by_role("status")).to_contain_text("greater than unrefunded amount")
    await page.get_by_label("Amount").fill("a lot")
    await page.get_by_role("button", name="Refund").click()
    await expect(page.get_by_role("status")).to_have_text("a lot is not an amount.")
    assert (await payment(site, paid))["refunded_cents"] == 0


async def test_a_failed_refund_takes_the_money_back(page: Page, site: Site) -> None:
    paid = await open_payment(page, site)
    await page.get_by_role("button", name="Refund").click()
    await page.get_by_role("link", name="re_").first.click()
    await page.get_by_role("button", name="Fail refund").click()
    await expect(page.locator("#title")).to_contain_text("Failed")
    seen = await payment(site, paid)
    assert (seen["status"], seen["refunded_cents"]) == ("succeeded", 0)


async def test_a_dispute_is_opened_and_closed(page: Page, site: Site) -> None:
    paid = await open_payment(page, site)
    await page.get_by_role("button", name="Open dispute").click()
    await expect(page.locator("#title")).to_contain_text("Disputed")
    [dispute] = (await payment(site, paid))["disputes"]
    await page.get_by_role("link", name=dispute["dispute_id"]).first.click()
    await page.get_by_role("button", name="Close as lost").click()
    await expect(page.locator("#title")).to_contain_text("Lost")
    assert (await payment(site, paid))["disputes"][0]["status"] == "lost"


async def test_a_session_is_expired(page: Page, site: Site) -> None:
    session = await site.session()
    await page.goto(f"{site.stripe}/dashboard/sessions/{session['session_id']}")
    await page.get_by_role("button", name="Expire").click()
    await expect(page.locator("#title")).to_contain_text("Expired")
    found = await site.api("GET", f"/checkout-session/{session['session_id']}")
    assert found["status"] == "expired"


async def test_paused_webhooks_wait_and_arrive_later(page: Page, site: Site) -> None:
    paid = await site.intent()
    await page.goto(site.stripe)
    await page.get_by_role("button", name="Pause webhooks").click()
    resume = page.get_by_role("button", name="Resume webhooks")
    await expect(resume).to_be_visible()
    try:
        await site.api(
            "POST",
            "/confirm-payment",
            payment_intent_id=paid["payment_intent_id"],
            payment_method_id="pm_card_visa",
        )
        controls = page.get_by_role("complementary", name="Controls")
        await expect(controls).to_contain_text("waiting")
        await expect(page.get_by_text("Waiting", exact=True).first).to_be_visible()
    finally:
        await resume.click()
    await expect(page.get_by_text("Delivering. Nothing is waiting.")).to_be_visible()


async def test_a_fault_is_added_seen_and_cleared(page: Page, site: Site) -> None:
    await page.goto(site.stripe)
    await page.get_by_text("Add a fault").click()
    await page.get_by_label("Kind").select_option("rate_limit")
    await page.get_by_label("Path").fill("^/v1/balance$")
    await page.get_by_role("button", name="Add fault").click()
    await expect(page.locator("#faults")).to_contain_text("rate_limit")
    key = {"Authorization": "Bearer sk_test_x"}
    assert (await site.http.get(f"{site.stripe}/v1/balance", headers=key)).status_code == 429
    await expect(page.get_by_text("None: the API answers as it should.")).to_be_visible()
    await page.goto(f"{site.stripe}/dashboard/requests")
    row = page.get_by_role("row").filter(has_text="/v1/balance").first
    await expect(row).to_contain_text("429")
    await expect(row).to_contain_text("fault: rate_limit")


async def test_what_is_being_typed_survives_an_update(page: Page, site: Site) -> None:
    await open_payment(page, site)
    amount = page.get_by_label("Amount")
    await amount.fill("1.23")
    await page.get_by_text("PaymentIntent as JSON").click()
    requests = page.get_by_role("row").filter(has_text="payment_intent.succeeded")
    await requests.get_by_role("button", name="Resend").click()
    await expect(requests).to_contain_text("2 attempts")
    await expect(amount).to_have_value("1.23")
    await expect(page.locator("pre").first).to_be_visible()


async def test_a_page_of_another_origin_cannot_press_its_buttons(page: Page, site: Site) -> None:
    """A form can post across origins without asking; the answer must be no."""
    session = await site.session()
    target = f"{site.stripe}/_sandbox/checkout/sessions/{session['session_id']}/expire"
    await page.goto(site.demo)
    async with page.expect_response(target) as answered:
        await page.evaluate(
            """(target) => {
                const form = document.createElement('form');
                form.method = 'post';
                form.action = target;
                document.body.append(form);
                form.submit();
            }""",
            target,
        )
    assert (await answered.value).status == 403
    found = await site.api("GET", f"/checkout-session/{session['session_id']}")
    assert found["status"] == "open"


async def test_markup_in_data_stays_text(page: Page, site: Site) -> None:
    title = "</pre><script>document.title='taken over'</script>"
    items = [{"book_id": "b", "title": title, "price_cents": 500}]
    session = await site.session(items=items)
    await page.goto(f"{site.stripe}/dashboard/sessions/{session['session_id']}")
    await page.get_by_text("Line items as JSON").click()
    await expect(page.locator("pre").last).to_contain_text("<script>document.title")
    assert await page.title() == "$5.00 · Stripe sandbox"


async def test_every_section_opens_and_an_unknown_page_says_so(page: Page, site: Site) -> None:
    await site.paid()
    await page.goto(site.stripe)
    for name in ("Payments", "Checkout sessions", "Refunds", "Disputes", "Events", "API requests"):
        await page.get_by_role("navigation").get_by_role("link", name=name).click()
        await expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    answer = await page.goto(f"{site.stripe}/dashboard/payments/pi_unknown")
    assert answer is not None
    assert answer.status == 404
    await expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
