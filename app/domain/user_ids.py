"""Which spellings name the same user: one canonical form of each id, so that one account has one
history whichever way a body, a path or a token's ``sub`` spells it.
"""

import re
from enum import StrEnum
from typing import Final

from app.errors import ValidationFailed

_OBJECT_ID: Final = re.compile("[0-9a-f]{24}", re.IGNORECASE | re.ASCII)
_UUID: Final = re.compile(
    "([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})",
    re.IGNORECASE | re.ASCII,
)


class UserIdType(StrEnum):
    """What ``_id`` of the auth service's users is. ``AUTO``: 24 hex digits are an ObjectId,
    anything else is text.
    """

    AUTO = "auto"
    STRING = "string"
    OBJECTID = "objectid"
    UUID = "uuid"

    def canonical(self, text: str) -> str:
        """24 hex digits and UUIDs (with or without hyphens) in lower case, a UUID with its hyphens;
        text as it is.

        Raises ValidationFailed for an id that is not of this type, and for one that no URL can
        hold: clients and proxies resolve the segments ``.`` and ``..`` of a path, escaped or not
        (https://url.spec.whatwg.org/#double-dot-path-segment).
        """
        if self is UserIdType.UUID:
            if (found := _UUID.fullmatch(text)) is None:
                raise ValidationFailed.of_field("user_id", "This user id must be a UUID")
            return "-".join(found.groups()).lower()
        if self is not UserIdType.STRING and is_object_id(text):
            return text.lower()
        if self is UserIdType.OBJECTID:
            raise ValidationFailed.of_field("user_id", "This user id must be 24 hex digits")
        if not {".", ".."}.isdisjoint(text.split("/")):
            raise ValidationFailed.of_field(
                "user_id", "This user id cannot be part of a URL: it has a segment of dots only"
            )
        return text

    def spellings(self, canonical: str) -> tuple[str, ...]:
        """``canonical``, and how payments may have stored it before ids had one form."""
        has_case = is_object_id(canonical) and self is not UserIdType.STRING
        if has_case or self is UserIdType.UUID:
            return tuple(dict.fromkeys((canonical, canonical.upper())))
        return (canonical,)


def is_object_id(text: str) -> bool:
    return _OBJECT_ID.fullmatch(text) is not None


def is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None
