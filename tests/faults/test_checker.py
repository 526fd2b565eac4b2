"""The checker is checked: code that is broken on purpose is caught."""

import pytest

from tests.faults.mutations import MUTATIONS, first_catch, names
from tests.support.store import only_embedded

pytestmark = [
    pytest.mark.timeout(600),
    only_embedded("its schedules count on commands that never wait"),
]


@pytest.mark.parametrize("name", names())
async def test_mutation_is_caught(name: str) -> None:
    caught, count = await first_catch(MUTATIONS[name])
    assert caught is not None, f"{count} cases did not notice {name}"
    assert caught.promises & MUTATIONS[name].promises


def test_there_are_enough_mutations_and_each_promise_is_among_them() -> None:
    assert len(MUTATIONS) >= 12
    named = set().union(*(mutation.promises for mutation in MUTATIONS.values()))
    assert named >= {"1", "2", "3", "4", "5", "6", "7", "8", "rest", "answer"}
