"""The documents say what the code does: nothing is left out, nothing is made up."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from app.application import create_app
from app.errors import ConfigurationError, PaymentServiceError
from app.routers import BASE_PATH
from app.settings import Settings, load_settings

ROOT: Final = Path(__file__).parents[2]
FIELDS: Final = sorted(name.upper() for name in Settings.model_fields)
# Read by sandbox mode, and not a setting of the service.
ELSEWHERE: Final = {"STRIPE_SANDBOX_PORT"}
README: Final = "README.md"
API: Final = "docs/api.md"
SETTINGS: Final = "docs/settings.md"
DOCUMENTS: Final = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
)


@pytest.fixture(scope="module")
def example() -> str:
    return (ROOT / ".env.example").read_text(encoding="utf-8")


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z0-9_]+", text))


@cache
def routes() -> list[tuple[str, str]]:
    paths = create_app(Settings(_env_file=None)).openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def codes() -> set[str]:
    def kinds(kind: type[PaymentServiceError]) -> Iterator[type[PaymentServiceError]]:
        for each in kind.__subclasses__():
            yield each
            yield from kinds(each)

    # What has subclasses is a heading, and its code is answered by nothing.
    return {kind.code for kind in kinds(PaymentServiceError) if not kind.__subclasses__()}


@pytest.mark.parametrize("document", [README, API])
@pytest.mark.parametrize(("method", "path"), routes())
def test_every_route_is_listed(document: str, method: str, path: str) -> None:
    short = path.removeprefix(BASE_PATH)
    mentions = [line for line in read(document).splitlines() if f"`{short}`" in line]
    assert mentions, f"{document} does not mention {short}"
    assert any(re.search(rf"\b{method}\b", line) for line in mentions), f"{method} {short}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_route_is_named_that_is_not_there(document: str) -> None:
    known = {path for _, path in routes()}
    templates = [re.sub(r"\\{\w+\\}", "[^/ ]+", re.escape(path)) for path in known]
    named = set(re.findall(rf"{BASE_PATH}/[\w/{{}}-]+", read(document)))
    unknown = {path for path in named if not any(re.fullmatch(t, path) for t in templates)}
    assert unknown == set()


@pytest.mark.parametrize("field", FIELDS)
def test_every_setting_has_its_row_with_its_default(field: str) -> None:
    [default] = re.findall(rf"^\| `{field}` \| (.*?) \|", read(SETTINGS), re.MULTILINE)
    value = "" if default == "empty" else default.strip("`")
    assert load_settings(_env_file=None, **{field.lower(): value}) == load_settings(_env_file=None)


@pytest.mark.parametrize("code", sorted(codes()))
def test_every_problem_code_is_listed(code: str) -> None:
    assert code in words(read(API))


def anchors(document: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", without_code(read(document)), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}


def without_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(document: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(read(document)))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / document).parent / path).resolve() if path else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(str(target.relative_to(ROOT))), link


def test_every_file_that_contributing_names_is_there() -> None:
    named = re.findall(
        r"`((?:app|docs|scripts|tests)/[\w./-]+|[\w.]+\.(?:md|py|toml))`", read("CONTRIBUTING.md")
    )
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("field", FIELDS)
def test_env_example_mentions_every_setting(example: str, field: str) -> None:
    assert re.search(rf"^#?\s*{field}=", example, re.MULTILINE)


def test_env_example_has_no_setting_that_is_not_read(example: str) -> None:
    assigned = set(re.findall(r"^#?\s*([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))
    assert assigned - set(FIELDS) - ELSEWHERE == set()


STRIPE_KEYS: Final = ("STRIPE_SECRET_KEY", "STRIPE_PUBLISHABLE_KEY", "STRIPE_WEBHOOK_SECRET")


def test_env_example_shows_the_defaults_as_they_are(example: str, tmp_path: Path) -> None:
    edited = tmp_path / ".env"
    lines = [line for line in example.splitlines() if not line.startswith(STRIPE_KEYS)]
    edited.write_text("\n".join(lines), encoding="utf-8")
    assert load_settings(_env_file=edited) == load_settings(_env_file=None)


def test_env_example_as_it_is_stops_the_start_and_names_what_to_edit() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_settings(_env_file=ROOT / ".env.example")
    problems = "\n".join(raised.value.problems)
    assert [name for name in STRIPE_KEYS if name not in problems] == []


def test_env_example_holds_nothing_that_could_be_a_key(example: str) -> None:
    found = re.findall(r"\b(?:[sr]k_(?:test|live)_|whsec_)(\w+)", example)
    assert [value for value in found if len(value) > 20 and not value.startswith("your_")] == []
