"""Trouble written in one line, as the command line takes it.

``KIND=CHANCE[:SECONDS][/STATUS[/CODE[/PARAM]]][@REGEX]``:
``error_after=0.05`` fails one request in twenty after doing its work, ``latency=0.1:2..5`` slows
one in ten down, ``rate_limit=0.02@^/v1/refunds`` limits some refunds, and
``error_before=1/400/amount_too_large/amount`` refuses everything for good. A ``webhook_`` kind is
about deliveries, and its expression is looked for in the event's type:
``webhook_duplicate=0.1@^payment_intent``.
"""

import re
from typing import cast

from stripe_sandbox.trouble.faults import FaultKind, FaultPlan
from stripe_sandbox.trouble.webhook_faults import WebhookFaultKind, WebhookFaultPlan

_WRITTEN = re.compile(
    r"(?P<kind>[a-z_]+)=(?P<chance>[0-9.]+)(?::(?P<seconds>[0-9.,]+))?"
    r"(?:/(?P<status>[0-9]{3})(?:/(?P<code>\w+)(?:/(?P<param>[\w\[\]]+))?)?)?"
    r"(?:@(?P<where>.+))?"
)
_WEBHOOK = "webhook_"
TROUBLE_SYNTAX = "KIND=CHANCE[:SECONDS][/STATUS[/CODE[/PARAM]]][@REGEX]"


def add_trouble(text: str, faults: FaultPlan, deliveries: WebhookFaultPlan) -> None:
    """For ever, to those whom chance picks. What makes no sense is a ValueError."""
    written = _WRITTEN.fullmatch(text)
    if written is None:
        raise ValueError(f"trouble is written {TROUBLE_SYNTAX}, not {text!r}")
    kind, where = written["kind"], written["where"] or ""
    seconds = written["seconds"] or 1.0
    try:
        chance = float(written["chance"])
        if kind.startswith(_WEBHOOK):
            if written["status"] is not None:
                raise ValueError("a delivery has no status of its own")
            name = cast("WebhookFaultKind", kind.removeprefix(_WEBHOOK))
            deliveries.add(name, type=where, times=None, chance=chance, seconds=seconds)
        else:
            plain = cast("FaultKind", kind)
            faults.add(
                plain,
                path=where,
                times=None,
                chance=chance,
                seconds=seconds,
                status=int(written["status"] or 500),
                code=written["code"],
                param=written["param"],
            )
    except (ValueError, re.error) as error:
        raise ValueError(f"{text!r}: {error}") from error
