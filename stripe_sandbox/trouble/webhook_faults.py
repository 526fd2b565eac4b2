"""What befalls deliveries on their way: lost, sent twice, late, out of order.

https://docs.stripe.com/webhooks#best-practices: at least once, in no guaranteed order.
"""

import itertools
import random
import re
from dataclasses import dataclass
from typing import Literal, get_args

from stripe_sandbox.core.api_objects import StripeObject
from stripe_sandbox.core.spread import Spread

WebhookFaultKind = Literal["drop", "duplicate", "twin", "delay", "reorder"]
WEBHOOK_FAULT_KINDS: tuple[WebhookFaultKind, ...] = get_args(WebhookFaultKind)


@dataclass(slots=True, eq=False)
class WebhookFault:
    """``times`` counts down, None means for ever; ``chance`` is of striking an event at all.

    ``drop``: never sent, and not counted as delivered. ``duplicate``: sent once more under the
    same id. ``twin``: told once more under an id of its own. ``delay``: sent ``seconds`` later.
    ``reorder``: put anywhere in the queue.
    """

    id: int
    kind: WebhookFaultKind
    type: re.Pattern[str]
    times: int | None
    chance: float
    seconds: Spread
    hits: int = 0

    def as_json(self) -> StripeObject:
        return {
            "id": self.id,
            "kind": self.kind,
            "type": self.type.pattern,
            "times": self.times,
            "chance": self.chance,
            "seconds": self.seconds.as_json(),
            "hits": self.hits,
        }


class WebhookFaultPlan:
    def __init__(self, chance: random.Random) -> None:
        self._faults: list[WebhookFault] = []
        self._ids = itertools.count(1)
        self.chance = chance

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(
        self,
        kind: WebhookFaultKind,
        *,
        type: str = "",
        times: int | None = 1,
        chance: float = 1.0,
        seconds: Spread | float | str = 1.0,
    ) -> WebhookFault:
        """Let the next ``times`` events suffer whose type the regular expression finds."""
        if kind not in WEBHOOK_FAULT_KINDS:
            known = ", ".join(WEBHOOK_FAULT_KINDS)
            raise ValueError(f"a webhook fault is one of {known}, not {kind!r}")
        if times is not None and times < 1:
            raise ValueError("times is at least 1, or None for ever")
        if not 0 < chance <= 1:
            raise ValueError("chance is more than 0 and at most 1")
        fault = WebhookFault(
            next(self._ids), kind, re.compile(type), times, float(chance), Spread.of(seconds)
        )
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        self._faults.clear()

    def all(self) -> list[WebhookFault]:
        """Faults that still have an effect to come."""
        return list(self._faults)

    def strike(self, type: str) -> dict[WebhookFaultKind, WebhookFault]:
        """The faults of one event, at most one of a kind, which are thereby used up once."""
        struck: dict[WebhookFaultKind, WebhookFault] = {}
        for fault in list(self._faults):
            if fault.kind in struck or not fault.type.search(type):
                continue
            if fault.chance < 1 and self.chance.random() >= fault.chance:
                continue
            struck[fault.kind] = fault
            fault.hits += 1
            if fault.times is not None:
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
        return struck
