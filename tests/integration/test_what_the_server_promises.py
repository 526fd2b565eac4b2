"""What docs/money.md takes for granted of a database: a command changes one document in one step,
and of several at once each sees the others' work whole or not at all.

They fail on a server that only speaks MongoDB's language; do not run the service on such a one.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

import pytest
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from app.repositories.database import Client, Collection, Document
from tests.support.store import SERVER_URL, own_store, removed_afterwards

pytestmark = pytest.mark.mongodb

AT_ONCE: Final = 50
ROUNDS: Final = 20
LINES: Final = 100


@pytest.fixture
async def collection() -> AsyncIterator[Collection]:
    store = own_store()
    # A read whose connection breaks is not read again behind our back.
    client = Client(SERVER_URL, retryReads=False)
    async with removed_afterwards(store):
        yield client[store["mongodb_db_name"]]["documents"]
    client.close()


async def test_of_updates_that_expect_the_same_revision_one_wins(collection: Collection) -> None:
    await collection.insert_one({"_id": "payment", "revision": 0, "changes": []})

    async def change(who: int, revision: int) -> bool:
        won = await collection.find_one_and_update(
            {"_id": "payment", "revision": revision},
            {"$inc": {"revision": 1}, "$push": {"changes": who}},
            return_document=ReturnDocument.AFTER,
        )
        return won is not None

    for revision in range(ROUNDS):
        won = await asyncio.gather(*(change(who, revision) for who in range(AT_ONCE)))
        assert won.count(True) == 1

    document = await collection.find_one({"_id": "payment"})
    assert document is not None
    assert document["revision"] == len(document["changes"]) == ROUNDS


async def test_of_guarded_withdrawals_no_more_pass_than_the_balance_covers(
    collection: Collection,
) -> None:
    await collection.insert_one({"_id": "user", "credits": 3 * ROUNDS})

    async def withdraw() -> bool:
        done = await collection.update_one(
            {"_id": "user", "credits": {"$gte": 3}}, {"$inc": {"credits": -3}}
        )
        return done.modified_count == 1

    passed = await asyncio.gather(*(withdraw() for _ in range(AT_ONCE)))

    assert passed.count(True) == ROUNDS
    assert await collection.find_one({"_id": "user"}) == {"_id": "user", "credits": 0}


async def test_of_twins_with_one_id_one_is_inserted(collection: Collection) -> None:
    async def insert(number: int, who: int) -> str:
        try:
            await collection.insert_one({"_id": f"order-{number}", "who": who})
        except DuplicateKeyError:
            return "refused"
        return "inserted"

    for number in range(ROUNDS):
        results = Counter(await asyncio.gather(*(insert(number, who) for who in range(AT_ONCE))))
        assert results == {"inserted": 1, "refused": AT_ONCE - 1}


async def test_document_that_is_being_changed_is_never_read_half_changed(
    collection: Collection,
) -> None:
    """Read while it grows and shrinks, field by field and list by list. A server that writes its
    own copy of the document to the wire shows a mixture, or hangs up in the middle.
    """
    lines = [{"number": 0, "line": line} for line in range(LINES)]
    await collection.insert_one({"_id": "payment", "first": 0, "lines": lines, "last": 0})
    finished = False

    async def change() -> None:
        nonlocal finished
        for number in range(1, 10 * ROUNDS):
            lines = [{"number": number, "line": line} for line in range(LINES - number % 2)]
            update: Document = {"$set": {"first": number, "lines": lines, "last": number}}
            if number % 2:
                update["$set"]["more"] = {"number": number}
            else:
                update["$unset"] = {"more": ""}
            await collection.update_one({"_id": "payment"}, update)
        finished = True

    async def read() -> int:
        reads = 0
        while not finished:
            document = await collection.find_one({"_id": "payment"})
            assert document is not None
            number = document["first"]
            assert document["last"] == number
            assert {line["number"] for line in document["lines"]} == {number}
            assert len(document["lines"]) == LINES - number % 2
            assert ("more" in document) == (number % 2 == 1)
            reads += 1
        return reads

    *reads, _ = await asyncio.gather(*(read() for _ in range(4)), change())
    assert all(reads)
