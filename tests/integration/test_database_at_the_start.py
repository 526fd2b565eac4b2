"""The payments database is asked for at the start, and its indexes are made: one that cannot be
made is named, one that takes long is waited for.
"""

import pytest
from pymongo.errors import AutoReconnect, NetworkTimeout, OperationFailure

from app.errors import DatabaseUnavailable, StartupError
from app.repositories.database import (
    PAYMENTS_DATABASE,
    Databases,
    connect,
    require_answer,
)
from app.repositories.indexes import INDEXES, PAYMENTS, create_indexes
from tests.support.database_faults import DatabaseFaults, faulty
from tests.support.proxy import proxied
from tests.support.shop import ShopOptions, settings_of
from tests.support.store import SERVER_URL, own_store, removed_afterwards


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OperationFailure("Authentication failed.", 18), "look at the user and the password in"),
        (OperationFailure("not authorized", 13), "look at the user and the password in"),
        (AutoReconnect("connection closed"), "no MongoDB answers at mongodb://db.internal"),
        (OperationFailure("stepped down", 189), "no MongoDB answers at mongodb://db.internal"),
    ],
    ids=str,
)
async def test_start_without_its_database_says_whether_it_is_away_or_does_not_let_us_in(
    error: Exception, says: str
) -> None:
    faults = DatabaseFaults()
    faults.add("find_one", collection=PAYMENTS, error=error)
    store = own_store()
    settings = settings_of(ShopOptions(), "http://127.0.0.1:1", store)
    async with removed_afterwards(store), faulty(faults)(settings) as databases:
        with pytest.raises(StartupError, match=says):
            await require_answer(
                databases.payments[PAYMENTS],
                PAYMENTS_DATABASE,
                setting="MONGODB_URL",
                address="mongodb://db.internal",
            )


async def made_with(error: Exception) -> None:
    """The start, with this answer to the first index of the payments."""
    faults = DatabaseFaults()
    faults.add("create_indexes", collection=PAYMENTS, error=error)
    store = own_store()
    settings = settings_of(ShopOptions(), "http://127.0.0.1:1", store)
    async with removed_afterwards(store), faulty(faults)(settings) as databases:
        await create_indexes(databases.payments)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (85, "another with its name or its keys is there"),
        (86, "another with its name or its keys is there"),
        (13, "no right to make indexes"),
        (11000, "documents that contradict it"),
        (67, "CannotCreateIndex"),
        (4711, "4711"),
    ],
)
async def test_index_that_cannot_be_made_is_named_with_the_reason(code: int, reason: str) -> None:
    details = {"codeName": "CannotCreateIndex"} if code == 67 else {}
    with pytest.raises(StartupError) as raised:
        await made_with(OperationFailure("the server's words, with pay_secret", code, details))
    assert f"index {INDEXES[PAYMENTS][0].document['name']} of {PAYMENTS}" in str(raised.value)
    assert reason in str(raised.value)
    assert "pay_secret" not in str(raised.value)


@pytest.mark.parametrize(
    "error", [AutoReconnect("connection closed"), OperationFailure("stepped down", 189)], ids=str
)
async def test_database_that_goes_away_meanwhile_is_away_and_nothing_else(
    error: Exception,
) -> None:
    with pytest.raises(DatabaseUnavailable):
        await made_with(error)


@pytest.mark.mongodb
async def test_index_that_takes_longer_to_make_than_a_query_may_is_waited_for() -> None:
    """A service that gave up would be started again by its platform, and again."""
    assert SERVER_URL is not None
    store = own_store()
    async with removed_afterwards(store), proxied(SERVER_URL) as (url, proxy):
        slow = {"mongodb_url": url, "auth_mongodb_url": url, "database_timeout_seconds": 0.2}
        settings = settings_of(ShopOptions(settings=slow), "http://127.0.0.1:1", store)
        async with connect(settings) as databases:
            proxy.slow = {b"aggregate": 0.5, b"createIndexes": 0.5}
            with pytest.raises(NetworkTimeout):
                await databases.payments[PAYMENTS].aggregate([]).to_list(1)
            await create_indexes(databases.payments)
            await assert_made(databases)


async def assert_made(databases: Databases) -> None:
    for collection, indexes in INDEXES.items():
        there = await databases.payments[collection].index_information()
        assert {index.document["name"] for index in indexes} <= there.keys()
