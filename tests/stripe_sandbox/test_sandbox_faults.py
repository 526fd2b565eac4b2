"""Bad days on demand."""

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import stripe

from stripe_sandbox import ConnectionDropped, Sandbox, create_app

INTENT = {"amount": 1000, "currency": "usd"}


@pytest.fixture(params=["aiohttp", "httpx"])
async def client(request: Any, rig: Any) -> AsyncIterator[stripe.StripeClient]:
    http: Any = stripe.AIOHTTPClient() if request.param == "aiohttp" else stripe.HTTPXClient()
    if request.param == "httpx":
        # Its way of sending a body is deprecated, and a warning here becomes a connection error.
        request.node.add_marker(pytest.mark.filterwarnings("default"))
    yield stripe.StripeClient("sk_test_1", base_addresses={"api": rig.url}, http_client=http)
    await http.close_async()


@pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning")
@pytest.mark.parametrize(("kind", "made"), [("drop_before", 0), ("drop_after", 1)])
async def test_a_dropped_connection_is_a_connection_error_to_both_http_clients(
    rig: Any, client: Any, kind: Any, made: int
) -> None:
    fault = rig.sandbox.faults.add(kind, path="^/v1/payment_intents$")
    with pytest.raises(stripe.APIConnectionError) as failed:
        await client.v1.payment_intents.create_async(INTENT)
    assert failed.value.http_status is None
    assert len(rig.sandbox.events.all()) == made
    assert fault.hits == 1
    record = rig.sandbox.requests[-1]
    assert (record.status, record.fault) == (None, kind)
    assert (await client.v1.payment_intents.create_async(INTENT)).status


async def test_error_before_does_nothing(rig: Any) -> None:
    rig.sandbox.faults.add("error_before", status=503)
    with pytest.raises(stripe.APIError) as failed:
        await rig.client.v1.payment_intents.create_async(INTENT)
    error: Any = failed.value.error
    assert (failed.value.http_status, error.type) == (503, "api_error")
    assert rig.sandbox.events.all() == []


async def test_error_after_does_the_work(rig: Any) -> None:
    rig.sandbox.faults.add("error_after")
    with pytest.raises(stripe.APIError):
        await rig.client.v1.payment_intents.create_async(INTENT)
    assert rig.sandbox.events.types() == ["payment_intent.created"]


async def test_a_rate_limit_says_why_and_not_when(rig: Any) -> None:
    rig.sandbox.faults.add("rate_limit", reason="endpoint-rate")
    with pytest.raises(stripe.RateLimitError) as limited:
        await rig.client.v1.payment_intents.create_async(INTENT)
    error: Any = limited.value.error
    headers: Any = limited.value.headers
    assert (limited.value.http_status, error.code) == (429, "rate_limit")
    assert headers["stripe-rate-limited-reason"] == "endpoint-rate"
    assert "retry-after" not in headers


async def test_a_lock_timeout_is_a_429_of_its_own_code(rig: Any) -> None:
    rig.sandbox.faults.add("lock_timeout")
    with pytest.raises(stripe.RateLimitError) as limited:
        await rig.client.v1.payment_intents.create_async(INTENT)
    error: Any = limited.value.error
    assert (error.code, error.type) == ("lock_timeout", "invalid_request_error")


async def test_latency_delays_and_then_works(rig: Any) -> None:
    rig.sandbox.faults.add("latency", seconds=0.05)
    started = time.perf_counter()
    await rig.client.v1.balance.retrieve_async()
    slow = time.perf_counter() - started
    started = time.perf_counter()
    await rig.client.v1.balance.retrieve_async()
    assert slow >= 0.05 > time.perf_counter() - started


async def test_latency_and_a_failure_can_befall_one_request(rig: Any) -> None:
    rig.sandbox.faults.add("latency", seconds=0.05)
    rig.sandbox.faults.add("error_after")
    started = time.perf_counter()
    with pytest.raises(stripe.APIError):
        await rig.client.v1.payment_intents.create_async(INTENT)
    assert time.perf_counter() - started >= 0.05


async def test_faults_strike_what_they_match_as_often_as_told(rig: Any) -> None:
    faults = rig.sandbox.faults
    faults.add("error_before", path=r"^/v1/refunds", method="post", times=2)
    assert (await rig.http.get("/v1/refunds")).status_code == 200
    assert (await rig.http.post("/v1/payment_intents", data=INTENT)).status_code == 200
    answers = [await rig.http.post("/v1/refunds", data={"charge": "ch_1"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [500, 500, 404]
    assert faults.all() == []


async def test_a_fault_for_ever_lasts_until_cleared(rig: Any) -> None:
    rig.sandbox.faults.add("error_before", times=None)
    assert [(await rig.http.get("/v1/balance")).status_code for _ in range(4)] == [500] * 4
    rig.sandbox.faults.clear()
    assert (await rig.http.get("/v1/balance")).status_code == 200


async def test_faults_strike_one_after_another(rig: Any) -> None:
    rig.sandbox.faults.add("rate_limit")
    rig.sandbox.faults.add("error_before", status=503)
    statuses = [(await rig.http.get("/v1/balance")).status_code for _ in range(3)]
    assert statuses == [429, 503, 200]


async def test_without_a_socket_a_dropped_connection_is_an_exception() -> None:
    sandbox = Sandbox()
    transport = httpx.ASGITransport(app=create_app(sandbox))
    async with (
        sandbox,
        httpx.AsyncClient(transport=transport, base_url="http://stripe.test") as http,
    ):
        http.headers["Authorization"] = "Bearer sk_test_1"
        sandbox.faults.add("drop_after")
        with pytest.raises(ConnectionDropped):
            await http.post("/v1/payment_intents", data=INTENT)
        assert sandbox.events.types() == ["payment_intent.created"]


def test_nonsense_is_not_a_fault() -> None:
    faults = Sandbox().faults
    with pytest.raises(ValueError, match="a fault is one of"):
        faults.add("meteor")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="times is at least 1"):
        faults.add("latency", times=0)
