"""The API requests that arrived, so that a test can say what Stripe was asked and what not."""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from stripe_sandbox.core.api_objects import StripeObject

_SECRET = frozenset(("number", "cvc", "client_secret"))


@dataclass(slots=True)
class RequestRecord:
    """``status`` is None while it runs, and for good when the connection was dropped."""

    request_id: str
    method: str
    path: str
    params: dict[str, Any]
    idempotency_key: str | None
    created: float
    status: int | None = None
    replayed: bool = False
    fault: str | None = None

    def as_json(self) -> StripeObject:
        return asdict(self)


def _without_secrets(params: Any) -> Any:
    if not isinstance(params, dict):
        return params
    return {
        key: "***" if key in _SECRET else _without_secrets(value) for key, value in params.items()
    }


class RequestLog:
    """The last requests, oldest first."""

    def __init__(self, capacity: int) -> None:
        self._records: deque[RequestRecord] = deque(maxlen=capacity)

    def __iter__(self) -> Iterator[RequestRecord]:
        return iter(list(self._records))

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, position: int) -> RequestRecord:
        return self._records[position]

    def matching(self, method: str | None = None, path: str = "") -> list[RequestRecord]:
        """Those of a method whose path the regular expression finds."""
        pattern = re.compile(path)
        return [
            record
            for record in self._records
            if (method is None or record.method == method.upper()) and pattern.search(record.path)
        ]

    def clear(self) -> None:
        self._records.clear()

    def add(
        self,
        *,
        request_id: str,
        method: str,
        path: str,
        params: dict[str, Any],
        idempotency_key: str | None,
        created: float,
    ) -> RequestRecord:
        record = RequestRecord(
            request_id, method, path, _without_secrets(params), idempotency_key, created
        )
        self._records.append(record)
        return record
