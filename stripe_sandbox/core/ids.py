"""Identifiers shaped like Stripe's."""

import random
import string

_ALPHABET = string.ascii_letters + string.digits


class IdFactory:
    """Random, or reproducible when seeded."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)  # noqa: S311 - names of pretend objects

    def token(self, length: int) -> str:
        return "".join(self._random.choices(_ALPHABET, k=length))

    def new(self, prefix: str, *, family: str = "1") -> str:
        """``pi_3...``, ``evt_1...``: objects of one payment carry a 3, others a 1."""
        return f"{prefix}_{family}{self.token(23)}"

    def session(self) -> str:
        return f"cs_test_a1{self.token(56)}"

    def request(self) -> str:
        return f"req_{self.token(14)}"

    def client_secret(self, payment_intent_id: str) -> str:
        return f"{payment_intent_id}_secret_{self.token(25)}"

    def digits(self, length: int) -> str:
        return "".join(self._random.choices(string.digits, k=length))
