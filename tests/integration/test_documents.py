"""README.md and .env.example say what the code does: nothing is left out, nothing is made up."""

import re
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example() -> str:
    return (ROOT / ".env.example").read_text(encoding="utf-8")


def words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z0-9_]+", text))


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


@pytest.mark.parametrize(("method", "path"), routes())
def test_readme_lists_every_route(readme: str, method: str, path: str) -> None:
    short = path.removeprefix(BASE_PATH)
    mentions = [line for line in readme.splitlines() if short in line]
    assert mentions, f"README.md does not mention {short}"
    assert any(re.search(rf"\b{method}\b", line) for line in mentions), f"{method} {short}"


def test_readme_names_no_route_that_is_not_there(readme: str) -> None:
    known = {path for _, path in routes()}
    templates = [re.sub(r"\\{\w+\\}", "[^/ ]+", re.escape(path)) for path in known]
    named = set(re.findall(rf"{BASE_PATH}/[\w/{{}}-]+", readme))
    unknown = {path for path in named if not any(re.fullmatch(t, path) for t in templates)}
    assert unknown == set()


@pytest.mark.parametrize("field", FIELDS)
def test_readme_explains_every_setting(readme: str, field: str) -> None:
    assert field in words(readme)


@pytest.mark.parametrize("code", sorted(codes()))
def test_readme_lists_every_problem_code(readme: str, code: str) -> None:
    assert code in words(readme)


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
