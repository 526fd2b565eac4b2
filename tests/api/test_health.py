"""What probes are told, and that they are told it whatever else is going on."""

import asyncio
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from app import __version__
from app.routers import BASE_PATH
from tests.support.database_faults import DatabaseFaults, faulty
from tests.support.production import PRODUCTION, connect_embedded
from tests.support.shop import Shop, ok, refused

faults = DatabaseFaults()


@pytest.fixture(autouse=True)
def no_faults() -> None:
    faults.clear()


async def test_health_tells_version_service_and_stripe_mode(shop: Shop) -> None:
    reply = ok(await shop.get("/health/"))
    assert reply == {
        "status": "healthy",
        "version": __version__,
        "service": "audiobooker-payment",
        "stripe_mode": "sandbox",
    }


@pytest.mark.shop(settings=PRODUCTION, connect=connect_embedded, webhooks=False)
async def test_health_tells_a_live_service_from_a_sandbox(shop: Shop) -> None:
    assert ok(await shop.get("/health/"))["stripe_mode"] == "live"
    key = ok(await shop.get("/config/publishable-key"))
    assert key == {"publishable_key": "pk_live_suite", "mode": "live"}


async def test_liveness_says_alive(shop: Shop) -> None:
    assert ok(await shop.get("/health/live")) == {"status": "alive"}


PROBES = ["/", *(f"{BASE_PATH}/health{path}" for path in ("", "/", "/live", "/ready"))]


@pytest.mark.shop(connect=faulty(faults))
@pytest.mark.parametrize("path", PROBES)
@pytest.mark.parametrize("away", [False, True], ids=["well", "without databases"])
async def test_head_is_answered_as_get_without_the_body(shop: Shop, path: str, away: bool) -> None:
    if away:
        faults.add("find_one", times=None)
    headers = {"X-Request-ID": "of-a-monitor"}
    got = await shop.client.get(path, headers=headers)
    asked = await shop.client.head(path, headers=headers)
    assert asked.status_code == got.status_code == (503 if away and "ready" in path else 200)
    assert dict(asked.headers) == dict(got.headers)
    assert int(asked.headers["content-length"]) == len(got.content) > 0
    assert asked.content == b""


async def test_refusal_of_a_head_has_no_body_either(shop: Shop) -> None:
    response = await shop.client.head(f"{BASE_PATH}/refund")
    assert (response.status_code, response.content) == (405, b"")
    assert response.headers["allow"] == "POST"


async def test_readiness_names_every_check(shop: Shop) -> None:
    assert ok(await shop.get("/health/ready")) == {
        "status": "ready",
        "checks": {"payments_database": "ok", "auth_database": "ok"},
    }


@pytest.mark.shop(connect=faulty(faults))
@pytest.mark.parametrize(
    ("away", "checks"),
    [
        ("payments", {"payments_database": "unavailable", "auth_database": "ok"}),
        ("auth", {"payments_database": "ok", "auth_database": "unavailable"}),
        (None, {"payments_database": "unavailable", "auth_database": "unavailable"}),
    ],
)
async def test_readiness_names_the_database_that_does_not_answer_and_recovers(
    shop: Shop, away: str | None, checks: dict[str, str]
) -> None:
    faults.add("find_one", database=away, times=None)
    response = await shop.get("/health/ready")
    problem = refused(response, 503, "database_unavailable")
    assert problem["checks"] == checks
    for name, result in checks.items():
        assert (name in problem["detail"]) == (result == "unavailable")
    assert int(response.headers["retry-after"]) > 0

    faults.clear()
    ok(await shop.get("/health/ready"))


@pytest.mark.shop(connect=faulty(faults))
@pytest.mark.parametrize(
    "error",
    [
        OperationFailure("Authentication failed.", 18),
        OperationFailure("not authorized on audiobooker_auth to execute command", 13),
    ],
    ids=["no such user", "no right to it"],
)
async def test_database_that_does_not_let_us_in_is_not_ready_either(
    shop: Shop, error: OperationFailure
) -> None:
    """MongoDB answers a ping to everybody, so what is served is read."""
    faults.add("find_one", database="auth", collection="users", error=error)
    problem = refused(await shop.get("/health/ready"), 503, "database_unavailable")
    assert problem["checks"] == {"payments_database": "ok", "auth_database": "unavailable"}
    assert "auth" not in problem["detail"].replace("auth_database", "")


@pytest.mark.shop(connect=faulty(faults))
async def test_probes_that_come_while_one_waits_send_nothing_of_their_own(shop: Shop) -> None:
    """Or one that does not answer would hold a thread of the driver for each of them."""
    reads = 0

    def count(answer: Any) -> Any:
        nonlocal reads
        reads += 1
        return answer

    faults.distort("find_one", count, database="auth")
    pause = faults.pause("find_one", database="auth")
    probing = asyncio.gather(*(shop.services.health.check() for _ in range(20)))
    await pause.reached()
    pause.go_on()
    assert all(checks["auth_database"] == "ok" for checks in await probing)
    assert reads == 1

    ok(await shop.get("/health/ready"))
    assert reads == 2, "a later probe asks anew"


@pytest.mark.shop(connect=faulty(faults))
async def test_liveness_touches_no_dependency(shop: Shop) -> None:
    away = faults.add(times=None)
    asked = len(shop.stripe.requests)
    assert ok(await shop.get("/health/live")) == {"status": "alive"}
    ok(await shop.get("/health/"))
    assert away.hits == 0
    assert len(shop.stripe.requests) == asked
