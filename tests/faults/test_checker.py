"""The checker is checked: code that is broken on purpose is caught."""

import re
from pathlib import Path

import pytest

from tests.faults.mutations import MUTATIONS, first_catch, names
from tests.support.store import only_embedded

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
ROW = re.compile(r"^\| ([a-z0-9 ]+) \| ([\w, ]+) \| \d+ \| `", re.MULTILINE)

pytestmark = [
    pytest.mark.timeout(600),
    only_embedded("its schedules count on commands that never wait"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
async def test_mutation_is_caught(name: str) -> None:
    caught, count = await first_catch(MUTATIONS[name])
    assert caught is not None, f"{count} cases did not notice {name}"
    assert caught.promises & MUTATIONS[name].promises
    if "unforeseen" not in MUTATIONS[name].promises:
        assert "unforeseen" not in caught.promises, "a mutation that only crashes shows nothing"


def test_document_lists_every_mutation_with_what_reported_it() -> None:
    rows = ROW.findall(DOCUMENT.read_text())
    assert [name.replace(" ", "_") for name, _ in rows] == list(MUTATIONS)
    for name, reported in rows:
        assert set(reported.split(", ")) & MUTATIONS[name.replace(" ", "_")].promises, name


def test_document_has_the_number_of_mutations() -> None:
    assert f"{len(MUTATIONS)} mistakes, all caught" in DOCUMENT.read_text()


def test_there_are_enough_mutations_and_each_promise_is_among_them() -> None:
    assert len(MUTATIONS) >= 12
    named = set().union(*(mutation.promises for mutation in MUTATIONS.values()))
    assert named >= {"1", "2", "3", "4", "5", "6", "7", "8", "rest", "answer"}
