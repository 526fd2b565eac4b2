"""One canonical form of each user id."""

import pytest

from app.domain.user_ids import UserIdType
from app.errors import ValidationFailed

AUTO, STRING, OBJECTID, UUID = UserIdType
HEX = "64B7f8c2e4b0a1d2c3e4f5AB"
ID = "7d4e8c1a-0b2f-4c3d-9e5a-6f7b8c9d0eab"


@pytest.mark.parametrize(
    ("kind", "text", "canonical"),
    [
        (AUTO, HEX, HEX.lower()),
        (AUTO, ID.upper(), ID.upper()),
        (AUTO, "User_123", "User_123"),
        (AUTO, "ab " * 8, "ab " * 8),
        (AUTO, "\u0661" * 24, "\u0661" * 24),
        (STRING, HEX, HEX),
        (OBJECTID, HEX, HEX.lower()),
        (UUID, ID.upper(), ID),
        (UUID, ID.replace("-", ""), ID),
    ],
)
def test_canonical_form_is_its_own_canonical_form(
    kind: UserIdType, text: str, canonical: str
) -> None:
    assert kind.canonical(text) == canonical
    assert kind.canonical(canonical) == canonical
    assert kind.spellings(canonical)[0] == canonical


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((OBJECTID, text) for text in ("user_123", HEX[:-1], HEX + "0", "ab " * 8, HEX + "\n")),
        *((UUID, text) for text in (HEX, ID[:-1], f"{{{ID}}}", f"urn:uuid:{ID}", ID + "\n")),
        (UUID, "+" + ID.replace("-", "")[1:]),
        *((kind, "a/..") for kind in UserIdType),
    ],
)
def test_id_that_is_not_of_the_type_is_refused(kind: UserIdType, text: str) -> None:
    with pytest.raises(ValidationFailed) as refusal:
        kind.canonical(text)
    assert refusal.value.facts["errors"][0]["field"] == "user_id"  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "canonical", "stored"),
    [
        (AUTO, HEX.lower(), {HEX.lower(), HEX.upper()}),
        (OBJECTID, HEX.lower(), {HEX.lower(), HEX.upper()}),
        (UUID, ID, {ID, ID.upper()}),
        (STRING, HEX.lower(), {HEX.lower()}),
        (AUTO, "user_123", {"user_123"}),
    ],
)
def test_other_spellings_are_looked_for_only_where_they_name_the_same_user(
    kind: UserIdType, canonical: str, stored: set[str]
) -> None:
    assert set(kind.spellings(canonical)) == stored
