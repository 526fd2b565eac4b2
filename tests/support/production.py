"""The shop with the settings of production; no test asks Stripe there."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from pydantic import SecretStr

from app.repositories.database import Databases, connect
from app.settings import Settings

INTERNAL_KEY: Final = "internal-key-of-the-suite"
PRODUCTION: Final[dict[str, Any]] = {
    "environment": "production",
    "stripe_secret_key": "sk_live_suite",
    "stripe_publishable_key": "pk_live_suite",
    "stripe_api_base": "",
    "internal_service_key": INTERNAL_KEY,
    "mongodb_url": "mongodb://127.0.0.1:1",
    "auth_mongodb_url": "mongodb://127.0.0.1:1",
}


@contextlib.asynccontextmanager
async def connect_embedded(settings: Settings) -> AsyncIterator[Databases]:
    """The embedded store, which production's settings refuse."""
    embedded = SecretStr("mongomock://")
    urls = {"mongodb_url": embedded, "auth_mongodb_url": embedded}
    async with connect(settings.model_copy(update=urls)) as databases:
        yield databases
