"""``expand``: ids replaced by the objects they name (https://docs.stripe.com/api/expanding_objects)."""

from collections.abc import Callable, Mapping, Sequence

from stripe_sandbox.core.api_objects import StripeObject
from stripe_sandbox.protocol.errors import ApiError

Resolver = Callable[[StripeObject], StripeObject | None]
"""Given the object that holds the property, the object to put there (None: leave it as it is)."""

_MAX_LEVELS = 4


class Expander:
    def __init__(self, resolvers: Mapping[tuple[str, str], Resolver]) -> None:
        self._resolvers = resolvers

    def expand(self, answer: StripeObject, paths: Sequence[str]) -> StripeObject:
        """A copy along the expanded paths: the stored objects keep their ids."""
        for path in paths:
            parts = path.split(".")
            levels = len(parts) - (1 if parts[0] == "data" else 0)
            if levels > _MAX_LEVELS:
                raise _refusal(
                    f"You cannot expand more than {_MAX_LEVELS} levels of a property ({path})."
                )
            answer = self._follow(answer, parts, path)
        return answer

    def _follow(self, holder: StripeObject, parts: list[str], path: str) -> StripeObject:
        name, *rest = parts
        if holder.get("object") == "list":
            if name != "data":
                raise _refusal(f"This property cannot be expanded ({path}).")
            if not rest:
                raise _refusal("You cannot expand `data` itself.")
            return {**holder, "data": [self._follow(item, rest, path) for item in holder["data"]]}
        resolver = self._resolvers.get((holder.get("object", ""), name))
        current = holder.get(name)
        if resolver is None and not isinstance(current, dict):
            raise _refusal(f"This property cannot be expanded ({path}).")
        expanded = current if isinstance(current, dict) or resolver is None else resolver(holder)
        if expanded is None:
            return holder
        if rest:
            expanded = self._follow(expanded, rest, path)
        return {**holder, name: expanded}


def _refusal(message: str) -> ApiError:
    return ApiError(400, message, param="expand")
