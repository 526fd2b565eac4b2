"""Fixtures that every folder may use."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.shop import Shop, ShopOptions, open_shop


@pytest.fixture
def shop_options(request: pytest.FixtureRequest) -> ShopOptions:
    """Defaults, or what ``@pytest.mark.shop(settings=..., users=..., webhooks=...)`` says."""
    marker = request.node.get_closest_marker("shop")
    chosen: dict[str, Any] = dict(marker.kwargs) if marker else {}
    return ShopOptions(**chosen)


@pytest.fixture
async def shop(shop_options: ShopOptions) -> AsyncIterator[Shop]:
    """A fresh shop: nobody has paid yet."""
    async with open_shop(shop_options) as opened:
        yield opened
