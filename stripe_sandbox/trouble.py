"""Trouble written in one line, as the command line takes it: ``KIND=CHANCE[:SECONDS][@REGEX]``.

``error_after=0.05`` fails one request in twenty after doing its work, ``latency=0.1:2..5`` slows
one in ten down, ``rate_limit=0.02@^/v1/refunds`` limits some refunds. A ``webhook_`` kind is about
deliveries, and its expression is looked for in the event's type:
``webhook_duplicate=0.1@^payment_intent``.
"""

import re
from typing import cast

from stripe_sandbox.faults import FaultKind, FaultPlan
from stripe_sandbox.webhook_faults import WebhookFaultKind, WebhookFaultPlan

_WRITTEN = re.compile(
    r"^(?P<kind>[a-z_]+)=(?P<chance>[0-9.]+)(?::(?P<seconds>[0-9.,]+))?(?:@(?P<where>.+))?$"
)
_WEBHOOK = "webhook_"


def add_trouble(text: str, faults: FaultPlan, deliveries: WebhookFaultPlan) -> None:
    """For ever, to those whom chance picks. What makes no sense is a ValueError."""
    written = _WRITTEN.match(text)
    if written is None:
        raise ValueError(f"trouble is written KIND=CHANCE[:SECONDS][@REGEX], not {text!r}")
    kind, where = written["kind"], written["where"] or ""
    seconds = written["seconds"] or 1.0
    try:
        chance = float(written["chance"])
        if kind.startswith(_WEBHOOK):
            name = cast("WebhookFaultKind", kind.removeprefix(_WEBHOOK))
            deliveries.add(name, type=where, times=None, chance=chance, seconds=seconds)
        else:
            plain = cast("FaultKind", kind)
            faults.add(plain, path=where, times=None, chance=chance, seconds=seconds)
    except (ValueError, re.error) as error:
        raise ValueError(f"{text!r}: {error}") from error
