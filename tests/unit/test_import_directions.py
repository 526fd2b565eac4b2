"""Which part of the application may import which, as docs/architecture.md draws it."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

# folder below app/: (what it may not import, the accident that this prevents)
RULES: Final = {
    "domain": (
        (
            "app.services",
            "app.repositories",
            "app.gateways",
            "app.routers",
            "app.schemas",
            "app.settings",
            "fastapi",
            "starlette",
            "pydantic",
            "stripe",
            "motor",
            "pymongo",
            "bson",
        ),
        "a rule about money could then only be tested with a database, Stripe or HTTP beside it",
    ),
    "services": (
        ("app.routers", "app.schemas", "app.problems", "fastapi", "starlette", "pydantic"),
        "the reconciler and the commands could then not use a service without a request",
    ),
    "services and gateways": (
        ("motor", "pymongo", "bson"),
        "an upgrade of the driver would then not end at repositories/",
    ),
    "services and repositories": (
        ("stripe", "app.gateways.stripe"),
        "an upgrade of Stripe's SDK would then not end at gateways/",
    ),
    "repositories": (
        ("app.services", "app.routers", "app.schemas", "app.gateways"),
        "a query could then ask Stripe, or be in the way of another order of steps",
    ),
    "gateways": (
        ("app.services", "app.repositories", "app.routers", "app.schemas"),
        "reading Stripe's answer could then change a payment behind its service's back",
    ),
    "routers": (
        ("app.repositories", "app.gateways", "motor", "pymongo", "stripe"),
        "a route could then change a payment without the one writer",
    ),
}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_below(module: str, forbidden: str) -> bool:
    return module == forbidden or module.startswith(f"{forbidden}.")


@pytest.mark.parametrize("folders", RULES)
def test_imports_point_the_way_that_the_architecture_draws(folders: str) -> None:
    forbidden, accident = RULES[folders]
    for folder in folders.split(" and "):
        files = sorted((ROOT / "app" / folder).glob("*.py"))
        assert files, f"app/{folder} is gone: this rule holds nothing"
        for path in files:
            wrong = {m for m in imported(path) for f in forbidden if is_below(m, f)}
            assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}: {accident}"


@pytest.mark.parametrize(
    ("program", "other"), [("app", "stripe_sandbox"), ("stripe_sandbox", "app")]
)
def test_the_service_and_its_sandbox_know_nothing_of_each_other(program: str, other: str) -> None:
    for path in sorted((ROOT / program).rglob("*.py")):
        wrong = {module for module in imported(path) if is_below(module, other)}
        assert not wrong, (
            f"{path.relative_to(ROOT)} imports {sorted(wrong)}: a mistake that both share would "
            "then be right by the sandbox, and wrong at Stripe"
        )
