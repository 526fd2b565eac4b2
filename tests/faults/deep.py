"""The deep set: everything that can be listed, then as many cases by chance as you have time for.

    python -m tests.faults.deep --cases 200000 --seed 1
    python -m tests.faults.deep --seed 1 --from 150000     goes on where a run was stopped
    python -m tests.faults.deep --from listed:12000        the same, among what is listed
    python -m tests.faults.deep --case 'history:42:'       one case alone, with its trace
    python -m tests.faults.deep --mutations                the table of docs/faults.md

The exit code is 0 when nothing broke, 1 when something did, 2 when it was stopped.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final, TextIO

from tests.faults import catalogue, mutations, races
from tests.faults.crashes import Outcome
from tests.faults.laboratory import listening

BATCH: Final = 40
BAR: Final = 30
SHOWN: Final = 5
"""Failures that are shown in full."""

LISTED: Final = "listed:"
"""Begins the place of a case among those that are listed; a number alone is one by chance."""

MANY: Final = {"every": races.every, "stops": races.stops}
"""Names that stand for all schedules of their kind of a race, which are found by running them."""

Failure = tuple[str, list[str]]


@dataclass(slots=True)
class Tally:
    """What was run, by kind, and what broke."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.counts.update(other.counts)
        self.failures.extend(other.failures)

    @property
    def total(self) -> int:
        return self.counts.total()

    def note(self, outcome: Outcome) -> None:
        self.counts[outcome.name.partition(":")[0]] += 1
        if outcome.broken:
            self.failures.append((outcome.name, [str(broken) for broken in outcome.broken]))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Libraries would warn of every fault."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with listening():
            yield
    finally:
        logging.disable(disabled)


async def run_names(names: Iterable[str]) -> Tally:
    tally = Tally()
    for name in names:
        try:
            kind, _, subject = name.partition(":")
            if kind in MANY:
                async for outcome in MANY[kind](subject):
                    tally.note(outcome)
            else:
                tally.note(await catalogue.run(name))
        except Exception as error:
            # A case that cannot even be judged is named like one that broke, and the rest is run.
            tally.failures.append((name, [f"{type(error).__name__}: {error}"]))
    return tally


def work(names: list[str]) -> Tally:
    """In a process of its own."""
    with quiet():
        return asyncio.run(run_names(names))


async def _listed() -> list[str]:
    listed = [name async for name in catalogue.exhaustive()]
    listed += [f"stops:{name}" for name in races.RACES]
    return [*listed, *(f"every:{name}" for name, race in races.RACES.items() if race.is_short)]


def _by_chance(seed: int, start: int, count: int) -> Iterator[str]:
    chance = catalogue.ByChance()
    asyncio.run(chance.measure())
    return (chance.name(seed, number) for number in range(start, start + count))


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for name in names:
        batch.append(name)
        if len(batch) == BATCH or name.partition(":")[0] in MANY:
            yield batch
            batch = []
    if batch:
        yield batch


class Progress:
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, title: str, total: int, out: TextIO) -> None:
        self._title = title
        self._total = max(total, 1)
        self._out = out
        self._started = time.monotonic()
        self._shown_at = 0.0

    def show(self, done: int, broken: int, *, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self._shown_at < (0.2 if self._out.isatty() else 30):
            return
        self._shown_at = now
        seconds = now - self._started
        share = min(1.0, done / self._total)
        rate = done / seconds if seconds else 0.0
        left = (self._total - done) / rate if rate and done < self._total else 0.0
        line = (
            f"{self._title}: {done:,} of {self._total:,} cases, {rate:.0f}/s, "
            f"{seconds:.0f} s, {left:.0f} s left, {broken} broken"
        )
        if self._out.isatty():
            filled = int(share * BAR)
            bar = "#" * filled + "-" * (BAR - filled)
            print(f"\r[{bar}] {line}", end="\n" if last else "", file=self._out, flush=True)
        else:
            print(line, file=self._out, flush=True)


class Stopped(Exception):
    """By Ctrl-C. ``done`` is how many of the names, from the first on, were run."""

    def __init__(self, done: int) -> None:
        super().__init__(done)
        self.done = done


def run_all(title: str, names: Iterable[str], total: int, jobs: int, tally: Tally) -> None:
    """Adds to the tally. Raises Stopped."""
    progress = Progress(title, total, sys.stdout)
    done = 0
    # Ctrl-C is for this process, which then lets the workers finish what they began.
    with ProcessPoolExecutor(
        jobs, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        running: dict[Future[Tally], tuple[int, int]] = {}
        first = 0

        def collect(finished: Iterable[Future[Tally]]) -> None:
            nonlocal done
            for future in finished:
                done += running.pop(future)[1]
                result = future.result()
                tally.add(result)
                for name, broken in result.failures:
                    print(f"\n{name}: {broken[0]}", flush=True)
            progress.show(done, len(tally.failures))

        try:
            for batch in _batches(names):
                running[pool.submit(work, batch)] = first, len(batch)
                first += len(batch)
                if len(running) >= 2 * jobs:
                    collect(wait(running, return_when=FIRST_COMPLETED).done)
            while running:
                collect(wait(running, return_when=FIRST_COMPLETED).done)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise Stopped(min((start for start, _ in running.values()), default=first)) from None
    progress.show(done, len(tally.failures), last=True)


async def _alone(name: str, *, shorten: bool) -> Outcome:
    outcome = await catalogue.run(name)
    return await catalogue.shortest(outcome) if shorten and outcome.broken else outcome


def show(name: str, out: TextIO) -> bool:
    """Runs one case and prints its trace; True when nothing broke."""
    outcome = asyncio.run(_alone(name, shorten=True))
    print(f"\n{outcome.name}", file=out)
    for line in outcome.trace:
        print(f"  {line}", file=out)
    for broken in outcome.broken:
        print(f"  BROKEN {broken}", file=out)
    print(f"  again: python -m tests.faults.deep --case '{outcome.name}'", file=out)
    return not outcome.broken


async def _show_mutations(out: TextIO) -> bool:
    """As the document has them; True when all were caught."""
    all_caught = True
    for name, mutation in mutations.MUTATIONS.items():
        caught, count = await mutations.first_catch(mutation)
        all_caught &= caught is not None
        by = "nobody" if caught is None else ", ".join(sorted(caught.promises))
        case = "" if caught is None else caught.name
        print(f"| {name.replace('_', ' ')} | {by} | {count} | `{case}` |", file=out)
    return all_caught


@dataclass(frozen=True, slots=True)
class Part:
    """``kind`` and a number name a place in it, as --from does; ``first`` is where it begins."""

    kind: str
    first: int
    count: int
    names: Iterable[str]


def _parts(seed: int, cases: int, start: str) -> Iterator[Part]:
    first = int(start.removeprefix(LISTED))
    if start.startswith(LISTED) or first == 0:
        listed = asyncio.run(_listed())[first:]
        yield Part(LISTED, first, len(listed), listed)
        first = 0
    yield Part("", first, cases - first, _by_chance(seed, first, cases - first))


def run(options: argparse.Namespace) -> int:
    """The whole set as the options cut it; the exit code."""
    tally, started, stopped_at = Tally(), time.monotonic(), None
    for part in _parts(options.seed, options.cases, options.start):
        title = part.kind.rstrip(":") or f"seed {options.seed}"
        try:
            run_all(title, part.names, part.count, options.jobs, tally)
        except Stopped as stopped:
            stopped_at = f"{part.kind}{part.first + stopped.done}"
            break
    counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(tally.counts.items()))
    print(f"{tally.total:,} cases ({counts}) in {time.monotonic() - started:.0f} s")
    alone = [name for name, _ in tally.failures if name.partition(":")[0] not in MANY][:SHOWN]
    for name in alone:
        show(name, sys.stdout)
    for name, broken in tally.failures:
        if name not in alone:
            print(f"{name}: {broken[0]}")
    if stopped_at is not None:
        print(f"stopped; go on: --seed {options.seed} --cases {options.cases} --from {stopped_at}")
        return 2
    return 1 if tally.failures else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.deep", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--cases", type=int, default=200_000, help="cases by chance")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", default="0", dest="start", help="go on from this case")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--case", help="run this one alone")
    parser.add_argument("--mutations", action="store_true", help="break the code on purpose")
    options = parser.parse_args(arguments)
    with quiet():
        if options.case:
            return 0 if show(options.case, sys.stdout) else 1
        if options.mutations:
            return 0 if asyncio.run(_show_mutations(sys.stdout)) else 1
        return run(options)


if __name__ == "__main__":
    sys.exit(main())
