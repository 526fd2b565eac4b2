"""Fixtures that every folder may use."""

import asyncio
import functools
import gc
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import stripe

from tests.support.shop import Shop, ShopOptions, open_shop
from tests.support.store import SERVER_URL

ssl.create_default_context = functools.cache(ssl.create_default_context)
"""Reading the certificates takes longer than most tests, whose Stripe clients each do it anew."""


def pytest_collection_finish() -> None:
    """What is there before the first test stays: the collector need not walk it again and again."""
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if SERVER_URL is None and item.get_closest_marker("mongodb"):
        pytest.skip("needs a real database server: make test-mongodb")


@pytest.fixture
def shop_options(request: pytest.FixtureRequest) -> ShopOptions:
    """Defaults, or what ``@pytest.mark.shop(settings=..., users=..., webhooks=...)`` says."""
    marker = request.node.get_closest_marker("shop")
    chosen: dict[str, Any] = dict(marker.kwargs) if marker else {}
    return ShopOptions(**chosen)


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Stripe is asked again, a twentieth of the SDK's and the gateway's back-off passes.

    Not for a test whose Stripe is slow rather than away: a retry would meet the first try there.
    """

    async def sleep(_client: stripe.AIOHTTPClient, seconds: float) -> None:
        await asyncio.sleep(seconds / 20)

    monkeypatch.setattr(stripe.AIOHTTPClient, "sleep_async", sleep)


@pytest.fixture
async def shop(shop_options: ShopOptions) -> AsyncIterator[Shop]:
    """A fresh shop: nobody has paid yet."""
    async with open_shop(shop_options) as opened:
        yield opened
