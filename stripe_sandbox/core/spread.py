"""How long something takes: fixed, drawn from a range, or sampled from what was measured."""

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds, written ``0.5`` (fixed), ``0.2..1.5`` (any between) or ``0.2,0.3,2`` (samples)."""

    values: Sequence[float]
    evenly: bool = False

    def __post_init__(self) -> None:
        if not self.values or any(not 0 <= value < 86_400 for value in self.values):
            raise ValueError("seconds are between 0 and a day")
        if self.evenly and (len(self.values) != 2 or self.values[0] > self.values[1]):
            raise ValueError("a range of seconds goes from low to high")

    @classmethod
    def of(cls, given: "Spread | float | str") -> "Spread":
        if isinstance(given, Spread):
            return given
        if not isinstance(given, str):
            return cls((float(given),))
        low, dots, high = given.partition("..")
        try:
            if dots:
                return cls((float(low), float(high)), evenly=True)
            return cls(tuple(float(part) for part in given.split(",")))
        except ValueError as error:
            raise ValueError(
                f"seconds are written 0.5, 0.2..1.5 or 0.2,0.3,2 (samples), not {given!r}"
            ) from error

    def draw(self, chance: random.Random) -> float:
        if len(self.values) == 1:
            return self.values[0]
        if self.evenly:
            return chance.uniform(*self.values)
        return chance.choice(self.values)

    def as_json(self) -> float | str:
        if len(self.values) == 1:
            return self.values[0]
        return ("..".join if self.evenly else ",".join)(f"{value:g}" for value in self.values)


def seeded(seed: int | None, purpose: str) -> random.Random:
    """A stream of chance of its own: what one part draws does not change what another gets."""
    if seed is None:
        return random.Random()  # noqa: S311 - decides when a test goes wrong, protects nothing
    return random.Random(f"{seed}:{purpose}")  # noqa: S311 - likewise
