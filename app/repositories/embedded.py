"""The embedded store behind ``mongomock://``: mongomock that gives way as a server would.

mongomock answers without ever yielding to the event loop, so that two coroutines could never meet
between a read and a write, as they do on a server. Here every command yields before and after it.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from mongomock_motor import (
    AsyncMongoMockClient,
    AsyncMongoMockCollection,
    AsyncMongoMockDatabase,
)

_COMMANDS: Final = frozenset(
    """
    bulk_write count_documents create_index create_indexes delete_many delete_one distinct drop
    drop_index drop_indexes estimated_document_count find_one find_one_and_delete
    find_one_and_replace find_one_and_update index_information insert_many insert_one replace_one
    update_many update_one
    """.split()
)


class EmbeddedClient(AsyncMongoMockClient):  # type: ignore[misc]  # mongomock-motor has no types
    """One store in memory, gone with the process."""

    def get_database(self, name: str, **options: Any) -> Any:
        return _EmbeddedDatabase(self, super().get_database(name, **options).delegate)


class _EmbeddedDatabase(AsyncMongoMockDatabase):  # type: ignore[misc]  # as above
    def get_collection(self, name: str, **options: Any) -> Any:
        return _EmbeddedCollection(self, self.delegate.get_collection(name, **options))


class _EmbeddedCollection(AsyncMongoMockCollection):  # type: ignore[misc]  # as above
    def __getattribute__(self, name: str) -> Any:
        attribute = super().__getattribute__(name)
        return _giving_way(attribute) if name in _COMMANDS else attribute


def _giving_way(command: Callable[..., Any]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        try:
            return await command(*args, **kwargs)
        finally:
            await asyncio.sleep(0)

    return run
