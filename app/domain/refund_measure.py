"""How much a refund gives back: in money, and for a credits payment in credits."""

from dataclasses import dataclass

from app.domain.money import display, require_valid_amount
from app.errors import PaymentNotRefundable, RefundExceedsRemaining


@dataclass(frozen=True, slots=True)
class Refundable:
    """A paid payment, and what no refund of it has reserved yet; amounts in minor units.

    ``credits`` is 0 for a card payment.
    """

    amount: int
    credits: int
    currency: str
    remaining_amount: int
    remaining_credits: int

    def measure(self, *, amount: int | None, credits: int | None) -> tuple[int, int]:
        """The (amount, credits) of a refund that is asked for by either, or of all that remains.

        Raises PaymentNotRefundable, InvalidAmountForCurrency or RefundExceedsRemaining.
        """
        if self.credits:
            return self._in_credits(amount, credits)
        if credits is not None:
            raise PaymentNotRefundable("A card payment is refunded by amount, not in credits.")
        return self._in_money(amount), 0

    def _in_money(self, amount: int | None) -> int:
        if amount is None:
            return self.remaining_amount
        require_valid_amount(amount, self.currency)
        if amount > self.remaining_amount:
            raise RefundExceedsRemaining(
                f"{self._shown(amount)} cannot be refunded: "
                f"{self._shown(self.remaining_amount)} of {self._shown(self.amount)} remain.",
                remaining=self.remaining_amount,
            )
        return amount

    def _in_credits(self, amount: int | None, credits: int | None) -> tuple[int, int]:
        """The last refund takes the odd cents."""
        if credits is None and amount is not None:
            if amount > self.remaining_amount:
                raise RefundExceedsRemaining(
                    f"{self._shown(amount)} cannot be refunded: "
                    f"{self._shown(self.remaining_amount)} of {self._shown(self.amount)} remain, "
                    f"which are {self.remaining_credits} credits.",
                    remaining=self.remaining_credits,
                )
            credits = self._credits_worth(amount)
        if credits is None:
            credits = self.remaining_credits
        if credits > self.remaining_credits:
            raise RefundExceedsRemaining(
                f"{credits} credits cannot be refunded: {self.remaining_credits} of "
                f"{self.credits} remain.",
                remaining=self.remaining_credits,
            )
        if credits == self.remaining_credits:
            return self.remaining_amount, credits
        return self.remaining_amount * credits // self.remaining_credits, credits

    def _shown(self, amount: int) -> str:
        return display(amount, self.currency)

    def _credits_worth(self, amount: int) -> int:
        if amount == self.remaining_amount:
            return self.remaining_credits
        credits, remainder = divmod(amount * self.credits, self.amount) if self.amount else (0, 1)
        if remainder or not credits:
            raise PaymentNotRefundable(
                f"{self._shown(amount)} is not worth a whole number of credits of this payment "
                f"({self.credits} credits for {self._shown(self.amount)}); refund it by `credits`."
            )
        return credits
