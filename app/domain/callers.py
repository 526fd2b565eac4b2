"""Who is calling, and what they may touch."""

from dataclasses import dataclass
from typing import Final, Literal

from app.errors import Forbidden

Role = Literal["anonymous", "user", "service", "admin", "internal"]


@dataclass(frozen=True, slots=True)
class Caller:
    """``user_id`` is the token's ``sub`` in its canonical form; it is None for the anonymous and
    the internal caller. ``stored_as`` are other spellings of it, which earlier payments may hold.
    """

    user_id: str | None
    role: Role
    stored_as: tuple[str, ...] = ()

    @property
    def acts_for_anyone(self) -> bool:
        """An anonymous caller exists only in development, where it stands for anyone."""
        return self.role != "user"

    @property
    def scope(self) -> str:
        """Keeps the idempotency keys of different callers apart."""
        return self.role if self.user_id is None else f"{self.role}:{self.user_id}"

    def require_user(self, user_id: str) -> None:
        """Raises Forbidden when a user names another user in the path or the body."""
        if not self.may_see(user_id):
            raise Forbidden("You may only act for your own user id.")

    def may_see(self, owner_user_id: str) -> bool:
        return (
            self.acts_for_anyone or self.user_id == owner_user_id or owner_user_id in self.stored_as
        )

    def require_refund_permission(self, allow_user_refunds: bool) -> None:
        """Whether the payment is the caller's own is a separate question (``may_see``)."""
        if not (self.acts_for_anyone or allow_user_refunds):
            raise Forbidden("Refunds are made by support; ask them for one.")


ANONYMOUS: Final = Caller(user_id=None, role="anonymous")
INTERNAL: Final = Caller(user_id=None, role="internal")
