"""What browsers may ask of the sandbox, and what they may not."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from stripe_sandbox import Sandbox, SandboxConfig, WebhookEndpointConfig, serve

SHOP = "http://shop.example"
PUBLISHABLE = {"Authorization": "Bearer pk_test_x"}


async def test_stripe_js_may_call_from_any_page(rig: Any) -> None:
    asked = await rig.http.options(
        "/v1/payment_methods",
        headers={
            "Origin": SHOP,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        },
    )
    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == "*"
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    made = await rig.http.post(
        "/v1/payment_methods",
        headers={**PUBLISHABLE, "Origin": SHOP},
        data={
            "type": "card",
            "card[number]": "4242424242424242",
            "card[exp_month]": "12",
            "card[exp_year]": "44",
        },
    )
    assert made.status_code == 200
    assert made.headers["Access-Control-Allow-Origin"] == "*"


async def test_an_error_can_be_read_by_the_page_too(rig: Any) -> None:
    answer = await rig.http.get("/v1/charges", headers={**PUBLISHABLE, "Origin": SHOP})
    assert answer.json()["error"]["code"] == "secret_key_required"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


async def test_no_page_may_read_what_a_secret_key_is_answered(rig: Any) -> None:
    answer = await rig.http.get("/v1/charges", headers={"Origin": SHOP})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": SHOP},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site"},
        {"Origin": "http://[bad"},
    ],
)
async def test_another_sites_page_cannot_use_the_control_api(
    rig: Any, headers: dict[str, str]
) -> None:
    answer = await rig.http.post("/_sandbox/webhooks/pause", headers=headers)
    assert answer.status_code == 403
    assert not rig.sandbox.webhooks.paused
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_name_that_somebody_else_points_here_is_not_ours(rig: Any) -> None:
    """DNS rebinding: Host and Origin agree, and yet it is another site."""
    answer = await rig.http.post(
        "/_sandbox/webhooks/pause",
        headers={"Host": "evil.example", "Origin": "http://evil.example"},
    )
    assert answer.status_code == 403


async def test_the_sandboxs_own_pages_may_use_it_with_json_only(rig: Any) -> None:
    own = {"Origin": rig.url, "Sec-Fetch-Site": "same-origin"}
    form = await rig.http.post("/_sandbox/clock/advance", headers=own, data={"seconds": "1"})
    assert form.status_code == 415
    paused = await rig.http.post("/_sandbox/webhooks/pause", headers=own)
    assert paused.status_code == 200
    advanced = await rig.http.post("/_sandbox/clock/advance", headers=own, json={"seconds": 1})
    assert advanced.status_code == 200


async def test_the_control_api_expires_a_session(rig: Any) -> None:
    session = await rig.session()
    answer = await rig.http.post(f"/_sandbox/checkout/sessions/{session.id}/expire")
    assert answer.json()["status"] == "expired"
    again = await rig.http.post(f"/_sandbox/checkout/sessions/{session.id}/expire")
    assert again.status_code == 400


async def test_an_attempt_keeps_the_beginning_of_the_answer_only() -> None:
    endpoint = WebhookEndpointConfig(url="http://app.test/hook", secret="whsec_x")
    talker = httpx.MockTransport(lambda _: httpx.Response(200, text="x" * 5_000))
    sandbox = Sandbox(SandboxConfig(webhook_endpoints=[endpoint]), webhook_transport=talker)
    async with sandbox:
        sandbox.events.emit("customer.created", {"id": "cus_1", "object": "customer"})
        await sandbox.webhooks.drain()
    assert [len(attempt.body) for attempt in sandbox.webhooks.attempts] == [1_000]


@pytest.mark.parametrize("path", ["/v3/", "/v3", "/v3/stripe.js", "/clover/stripe.js"])
async def test_stripe_js_is_served_to_every_page(rig: Any, path: str) -> None:
    script = await rig.http.get(path)
    assert script.headers["Content-Type"].startswith("text/javascript")
    assert script.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "window.Stripe" in script.text


async def test_any_shop_may_frame_elements_and_the_bank_but_no_other_page(rig: Any) -> None:
    session = await rig.session()
    intent = await rig.intent("pm_card_threeDSecure2Required")
    for path, framed in (
        ("/elements/card", True),
        (f"/3ds/{intent.id}", True),
        (f"/c/pay/{session.id}", False),
        ("/", False),
    ):
        policy = (await rig.http.get(path)).headers["Content-Security-Policy"]
        assert ("frame-ancestors 'none'" not in policy) == framed, path
        assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]


def test_pages_load_nothing_from_elsewhere() -> None:
    folder = Path(__file__).resolve().parents[2] / "stripe_sandbox" / "pages"
    pages = [*folder.glob("templates/*.html"), *folder.glob("static/*")]
    assert len(pages) > 10
    for page in pages:
        loaded = re.findall(
            r"""(?:src|href|url)\s*[=(]\s*["']?https?://[^"')\s]+""", page.read_text()
        )
        assert loaded == [], page


async def test_the_dashboards_stream_tells_of_a_change_and_of_nothing_else(
    rig: Any,
) -> None:
    async with rig.http.stream("GET", "/dashboard/live", timeout=5) as stream:
        lines = stream.aiter_lines()

        async def next_change() -> None:
            async for line in lines:
                if line == "data: changed":
                    return
            raise AssertionError("the stream ended")

        await next_change()
        waiting = asyncio.create_task(next_change())
        await asyncio.sleep(0.5)
        assert not waiting.done(), "it speaks although nothing happened"
        await rig.intent()
        await waiting


async def test_a_page_that_is_open_does_not_hold_up_the_end() -> None:
    loop = asyncio.get_running_loop()
    async with serve(Sandbox(SandboxConfig())) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"GET /dashboard/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"data: changed")
        began = loop.time()
    assert loop.time() - began < 1.0
    writer.close()
    await writer.wait_closed()
