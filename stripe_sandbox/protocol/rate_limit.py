"""A limit on API requests per second (https://docs.stripe.com/rate-limits)."""

import time

from stripe_sandbox.protocol.errors import rate_limited


class RateLimiter:
    """Real seconds, not the sandbox's clock: what is limited is how fast a caller calls."""

    def __init__(self, per_second: int | None) -> None:
        if per_second is not None and per_second < 1:
            raise ValueError("a rate limit is at least 1 request per second")
        self._per_second = per_second
        self._second = 0
        self._admitted = 0

    def admit(self) -> None:
        """Count a request, or refuse it with a 429."""
        if self._per_second is None:
            return
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._admitted = second, 0
        if self._admitted >= self._per_second:
            raise rate_limited("global-rate")
        self._admitted += 1
