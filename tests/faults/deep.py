"""The deep set: everything that can be listed, then as many cases by chance as you have time for.

    python -m tests.faults.deep --cases 200000 --seed 1
    python -m tests.faults.deep --seed 1 --from 150000     goes on where a run was stopped
    python -m tests.faults.deep --case 'history:42:'       one case alone, with its trace

The exit code is 0 when nothing broke, 1 when something did, 2 when it was stopped.
"""

import argparse
import asyncio
import contextlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final, TextIO

import structlog

from tests.faults import catalogue, races
from tests.faults.crashes import Outcome

BATCH: Final = 40
BAR: Final = 30
SHOWN: Final = 5
"""Failures that are shown in full."""

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
    """The application's log tells nothing here: faults are the rule."""
    disabled, structured = logging.root.manager.disable, structlog.get_config()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        logging.disable(disabled)
        structlog.configure(**structured)


async def run_names(names: Iterable[str]) -> Tally:
    tally = Tally()
    for name in names:
        if name.startswith("every:"):
            async for outcome in races.every(name.removeprefix("every:")):
                tally.note(outcome)
        else:
            tally.note(await catalogue.run(name))
    return tally


def work(names: list[str]) -> Tally:
    """In a process of its own."""
    with quiet():
        return asyncio.run(run_names(names))


async def _listed() -> list[str]:
    every = [f"every:{name}" for name, race in races.RACES.items() if race.is_short]
    return [*[name async for name in catalogue.exhaustive()], *every]


def _by_chance(seed: int, start: int, count: int) -> Iterator[str]:
    chance = catalogue.ByChance()
    asyncio.run(chance.measure())
    return (chance.name(seed, number) for number in range(start, start + count))


def _batches(names: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for name in names:
        batch.append(name)
        if len(batch) == BATCH or name.startswith("every:"):
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


def run_all(title: str, names: Iterable[str], total: int, jobs: int, out: TextIO) -> Tally:
    tally, progress = Tally(), Progress(title, total, out)
    waiting = _batches(names)
    with ProcessPoolExecutor(jobs) as pool:
        running: set[Future[Tally]] = set()
        for batch in waiting:
            running.add(pool.submit(work, batch))
            if len(running) < 2 * jobs:
                continue
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                tally.add(future.result())
            progress.show(tally.total, len(tally.failures))
        for future in running:
            tally.add(future.result())
            progress.show(tally.total, len(tally.failures))
    progress.show(tally.total, len(tally.failures), last=True)
    return tally


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


def run(options: argparse.Namespace) -> int:
    """The whole set as the options cut it; the exit code."""
    tally = Tally()
    started = time.monotonic()
    try:
        if not options.start:
            listed = asyncio.run(_listed())
            tally.add(run_all("listed", listed, len(listed), options.jobs, sys.stdout))
        names = _by_chance(options.seed, options.start, options.cases - options.start)
        tally.add(
            run_all(
                f"seed {options.seed}",
                names,
                options.cases - options.start,
                options.jobs,
                sys.stdout,
            )
        )
    except KeyboardInterrupt:
        print(f"\nstopped after {tally.total:,} cases", file=sys.stderr)
        return 2
    counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(tally.counts.items()))
    print(f"{tally.total:,} cases ({counts}) in {time.monotonic() - started:.0f} s")
    for name, _ in tally.failures[:SHOWN]:
        show(name, sys.stdout)
    for name, broken in tally.failures[SHOWN:]:
        print(f"{name}: {broken[0]}")
    return 1 if tally.failures else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.deep", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--cases", type=int, default=200_000, help="cases by chance")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", type=int, default=0, dest="start", help="go on from this case")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--case", help="run this one alone")
    options = parser.parse_args(arguments)
    with quiet():
        if options.case:
            return 0 if show(options.case, sys.stdout) else 1
        return run(options)


if __name__ == "__main__":
    sys.exit(main())
