"""Databases that fail on demand: a wrapper around the real driver, or around the embedded store.

    faults = DatabaseFaults()
    options.connect = faulty(faults)
    faults.add("insert_one", collection="payments")           never reaches the server
    faults.add("update_one", collection="payments", when="after", times=2)   done, and not told
    faults.add(database="auth", times=None)                   the whole database is away, for ever
    faults.add("find", error=RuntimeError("a bug"))
    ...
    faults.clear()

    pause = faults.pause("find_one_and_update", database="auth")   the next one waits
    await pause.reached(); ...; pause.go_on()
    faults.distort("find_one", stale, database="auth")   what is read goes through stale()

A command is a method of a Motor collection (``find`` means reading the cursor) or ``command`` of a
database, which is what ``ping`` uses. ``shop.stored`` and its like suffer faults too: clear first.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from pymongo.errors import AutoReconnect

from app.dependencies import DatabaseConnector
from app.repositories.database import AUTH_DATABASE, PAYMENTS_DATABASE, Databases, connect
from app.settings import Settings

When = Literal["before", "after"]

_AWAITED = frozenset(
    """
    aggregate bulk_write count_documents create_index create_indexes delete_many delete_one distinct
    drop find_one find_one_and_delete find_one_and_replace find_one_and_update insert_many
    insert_one replace_one update_many update_one
    """.split()
)


@dataclass(slots=True, eq=False)
class DatabaseFault:
    """``times`` counts down; None means for ever. ``hits`` counts up."""

    command: str | None
    database: str | None
    collection: str | None
    when: When
    times: int | None
    error: Exception
    hits: int = 0

    def strikes(self, command: str, database: str, collection: str | None, when: When) -> bool:
        return (
            self.times != 0
            and self.when == when
            and self.command in (None, command)
            and self.database in (None, database)
            and self.collection in (None, collection)
        )


@dataclass(slots=True, eq=False)
class Pause:
    """A worker that stands still before a command is sent, or before it hears the answer."""

    command: str
    database: str
    collection: str | None
    when: When
    _reached: asyncio.Event = field(default_factory=asyncio.Event)
    _goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def reached(self) -> None:
        """Until a worker stands still."""
        async with asyncio.timeout(10):
            await self._reached.wait()

    def go_on(self) -> None:
        self._goes_on.set()

    async def wait(self) -> None:
        self._reached.set()
        await self._goes_on.wait()


class DatabaseFaults:
    def __init__(self) -> None:
        self._faults: list[DatabaseFault] = []
        self._pauses: list[Pause] = []
        self._distortions: dict[tuple[str, str], Callable[[Any], Any]] = {}

    def add(
        self,
        command: str | None = None,
        *,
        database: str | None = None,
        collection: str | None = None,
        when: When = "before",
        times: int | None = 1,
        error: Exception | None = None,
    ) -> DatabaseFault:
        """``database`` is ``payments`` or ``auth``; what is left out means any. By default the
        connection breaks (AutoReconnect).
        """
        fault = DatabaseFault(
            command,
            database,
            collection,
            when,
            times,
            error or AutoReconnect("connection closed (the test was told to)"),
        )
        self._faults.append(fault)
        return fault

    def pause(
        self,
        command: str,
        *,
        database: str = PAYMENTS_DATABASE,
        collection: str | None = None,
        when: When = "before",
    ) -> Pause:
        """Stops the next such command until ``go_on``; those after it pass."""
        pause = Pause(command, database, collection, when)
        self._pauses.append(pause)
        return pause

    def distort(
        self, command: str, answer: Callable[[Any], Any], *, database: str = PAYMENTS_DATABASE
    ) -> None:
        """From now on the command's answers are what ``answer`` makes of them."""
        self._distortions[database, command] = answer

    def clear(self) -> None:
        self._faults.clear()
        self._distortions.clear()

    async def meet(self, command: str, database: str, collection: str | None, when: When) -> None:
        for pause in self._pauses:
            stops = (pause.command, pause.database, pause.when) == (command, database, when)
            if stops and pause.collection in (None, collection):
                self._pauses.remove(pause)
                await pause.wait()
                return

    def distorted(self, command: str, database: str, answer: Any) -> Any:
        distort = self._distortions.get((database, command))
        return answer if distort is None else distort(answer)

    def strike(self, command: str, database: str, collection: str | None, when: When) -> None:
        """Raises the error of the first fault that is meant for this command."""
        for fault in self._faults:
            if fault.strikes(command, database, collection, when):
                fault.hits += 1
                if fault.times is not None:
                    fault.times -= 1
                raise fault.error


def faulty(faults: DatabaseFaults, connect: DatabaseConnector = connect) -> DatabaseConnector:
    """``connect``, with the faults between the application and the databases."""

    @contextlib.asynccontextmanager
    async def connect_faulty(settings: Settings) -> AsyncIterator[Databases]:
        async with connect(settings) as databases:
            payments: Any = _Database(databases.payments, PAYMENTS_DATABASE, faults)
            auth: Any = _Database(databases.auth, AUTH_DATABASE, faults)
            yield Databases(payments=payments, auth=auth)

    return connect_faulty


class _Database:
    def __init__(self, real: Any, name: str, faults: DatabaseFaults) -> None:
        self._real = real
        self._name = name
        self._faults = faults

    def __getitem__(self, collection: str) -> "_Collection":
        return _Collection(self._real[collection], self._name, collection, self._faults)

    async def command(self, *args: Any, **kwargs: Any) -> Any:
        await self._faults.meet("command", self._name, None, "before")
        self._faults.strike("command", self._name, None, "before")
        answer = await self._real.command(*args, **kwargs)
        self._faults.strike("command", self._name, None, "after")
        await self._faults.meet("command", self._name, None, "after")
        return self._faults.distorted("command", self._name, answer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Collection:
    def __init__(self, real: Any, database: str, name: str, faults: DatabaseFaults) -> None:
        self._real = real
        self._database = database
        self._name = name
        self._faults = faults

    def find(self, *args: Any, **kwargs: Any) -> "_Cursor":
        return _Cursor(self._real.find(*args, **kwargs), self._strike_find)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        if name not in _AWAITED:
            return attribute

        async def run(*args: Any, **kwargs: Any) -> Any:
            await self._faults.meet(name, self._database, self._name, "before")
            self._strike(name, "before")
            answer = await attribute(*args, **kwargs)
            self._strike(name, "after")
            await self._faults.meet(name, self._database, self._name, "after")
            return self._faults.distorted(name, self._database, answer)

        return run

    def _strike(self, command: str, when: When) -> None:
        self._faults.strike(command, self._database, self._name, when)

    def _strike_find(self) -> None:
        self._strike("find", "before")


class _Cursor:
    """Nothing is sent before the cursor is read."""

    def __init__(self, real: Any, strike: Callable[[], None]) -> None:
        self._real = real
        self._strike = strike

    def sort(self, *args: Any, **kwargs: Any) -> "_Cursor":
        return _Cursor(self._real.sort(*args, **kwargs), self._strike)

    def limit(self, *args: Any, **kwargs: Any) -> "_Cursor":
        return _Cursor(self._real.limit(*args, **kwargs), self._strike)

    def skip(self, *args: Any, **kwargs: Any) -> "_Cursor":
        return _Cursor(self._real.skip(*args, **kwargs), self._strike)

    async def to_list(self, *args: Any, **kwargs: Any) -> Any:
        self._strike()
        return await self._real.to_list(*args, **kwargs)

    async def __aiter__(self) -> AsyncIterator[Any]:
        self._strike()
        async for document in self._real:
            yield document
